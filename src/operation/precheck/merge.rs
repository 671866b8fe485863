//! What it takes to check that fields under one name can be merged.
//!
//! For each selection set, async-graphql's rule (`OverlappingFieldsCanBeMerged`) goes through all that
//! is merged there, and holds each field against the first of its name: it looks each argument of the
//! first up among those of the later one, compares their values, and writes an error for each that
//! differs. What is in an inline fragment is merged into the set around it, and then by itself again.

use super::expand::Definition;

/// The largest of its kind in a document, not all of one field.
#[derive(Clone, Copy, Default)]
pub(super) struct Largest {
    /// Arguments of one field, or of one directive in a selection.
    pub(super) arguments: usize,
    /// Tokens of such arguments, from bracket to bracket.
    pub(super) tokens: usize,
    /// Bytes of the name of a field or of an argument, or of an alias.
    pub(super) name: usize,
}

/// No fewer than the rule makes, in definitions that are expanded already.
///
/// All fields are taken for fields of one name that have the most arguments, and a fragment that two
/// ways spread into one set for two fragments.
pub(super) fn comparisons(definitions: &[Definition<'_>], largest: Largest) -> u64 {
    let [arguments, tokens, name] = [largest.arguments, largest.tokens, largest.name].map(|it| it as u64);
    let merged = definitions.iter().fold(0_u64, |sum, it| sum.saturating_add(it.merged));
    // A look-up passes all arguments of the later field, and an error repeats names: a hundred or so
    // of arguments, or of bytes, cost as much as the error itself.
    let price = 1 + (arguments + name) / 128;
    // Values are compared once for the field, however many arguments they are divided among. The
    // slowest of them, which are empty strings, take a fifth of an error each; most are far quicker.
    let values = tokens / 16;
    let field = (1 + arguments).saturating_mul(price).saturating_add(values);
    merged.saturating_mul(field)
}
