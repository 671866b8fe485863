//! The check that a GraphQL document passes before any parser sees it.
//!
//! The parser behind the gate calls itself once for each open bracket, some of its visitors walk a
//! fragment once for each way that leads to it, and one of its rules reports a mistake once for each
//! argument in each selection set around it: a few kilobytes of text are enough to overflow its
//! stack, to keep it busy for minutes, or to fill the memory. So the text is measured first, by code
//! that nothing in the text can make recurse, in time linear in its length.
//!
//! What [`precheck`] promises of a document that it lets pass:
//!
//! - Its brackets nest no deeper than the bound, whether or not it is GraphQL.
//! - If the parser accepts it, then it is within every other bound too, and no fragment spreads
//!   itself.
//!
//! It does not promise that the document is GraphQL: saying what is wrong, and where, is the parser's
//! business. The one mistake that it refuses itself is a string that does not end, since there
//! lexers do not agree on where the text goes on.
//!
//! Where the parser (async-graphql-parser 7, a PEG without a lexer) sees other brackets, definitions
//! or selections than the specification does, this file follows the parser.
//!
//! The text becomes tokens ([`lexer`]), the tokens become what is written ([`document`]), and that is
//! put together with what it spreads ([`expand`]), from which follows what merging takes ([`merge`]).
//! Here the bounds are held against each in turn.

mod document;
mod expand;
mod lexer;
mod merge;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fmt;

/// What one document may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of text, comments and white space included.
    pub bytes_max: usize,
    /// Names, numbers, strings and punctuators, divided as the specification has it: the parser
    /// takes `00` and `truetrue` for two values each, which is left to [`Self::bytes_max`].
    pub tokens_max: usize,
    /// Brackets open at the same time, `{`, `[` and `(` together.
    pub nesting_max: usize,
    /// Fields with an alias, as written: a fragment's count once, however often it is spread.
    pub aliases_max: usize,
    /// Fields at the root of any one operation, those of fragments included.
    pub root_fields_max: usize,
    /// Operations and fragments.
    pub definitions_max: usize,
    /// Directives, as written.
    pub directives_max: usize,
    /// Fields of any one operation or fragment, once what it spreads is put in its place.
    pub expanded_selections_max: u64,
    /// Comparisons of fields and their arguments, to check that fields under one name can be merged:
    /// for each selection set, the fields, spreads and inline fragments that are merged there, times
    /// one more than the most arguments of any one field. Names beyond 100 bytes, fields with dozens
    /// of arguments and long values weigh more. At the default the dearest documents that were found
    /// to pass kept the rule busy for about 10 ms, with 15 MB of errors.
    pub comparisons_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes_max: 16 * 1024,
            tokens_max: 4_000,
            nesting_max: 32,
            aliases_max: 100,
            root_fields_max: 50,
            definitions_max: 50,
            directives_max: 50,
            expanded_selections_max: 5_000,
            comparisons_max: 30_000,
        }
    }
}

/// Why a document is refused; its `Display` is one sentence that whoever sent it may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Past [`Bounds::bytes_max`].
    TooLong { found: usize, allowed: usize },
    /// Past [`Bounds::tokens_max`].
    TooManyTokens { found: usize, allowed: usize },
    /// Past [`Bounds::nesting_max`], first at this line (from 1).
    NestedTooDeep { line: usize, allowed: usize },
    /// Past [`Bounds::aliases_max`].
    TooManyAliases { found: usize, allowed: usize },
    /// Past [`Bounds::root_fields_max`].
    TooManyRootFields { found: usize, allowed: usize },
    /// Past [`Bounds::definitions_max`].
    TooManyDefinitions { found: usize, allowed: usize },
    /// Past [`Bounds::directives_max`].
    TooManyDirectives { found: usize, allowed: usize },
    /// Past [`Bounds::expanded_selections_max`]; `found` stops at the largest number there is.
    ExpandsTooFar { found: u64, allowed: u64 },
    /// Past [`Bounds::comparisons_max`]; `found` stops at the largest number there is.
    TooManyComparisons { found: u64, allowed: u64 },
    /// This fragment spreads itself, directly or through others.
    FragmentCycle { name: String },
    /// The string that starts at this line (from 1) does not end.
    Unterminated { line: usize },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = "ask for less, or in several requests";
        let unused = "leave out what is not used";
        let rarer = "spread fragments less often";
        let defined = "operations and fragments";
        let fewer = "pass fewer arguments, spread fragments less often, or nest inline fragments less deeply";
        let roots = "fields at the root of one operation";
        let expanded = "fields in one operation or fragment, with what it spreads,";
        let compared = "comparisons of fields and their arguments to make";
        match self {
            Self::TooLong { found, allowed } => over(f, found, "bytes", allowed, split),
            Self::TooManyTokens { found, allowed } => over(f, found, "tokens", allowed, split),
            Self::TooManyAliases { found, allowed } => over(f, found, "aliases", allowed, split),
            Self::TooManyRootFields { found, allowed } => over(f, found, roots, allowed, split),
            Self::TooManyDefinitions { found, allowed } => over(f, found, defined, allowed, unused),
            Self::TooManyDirectives { found, allowed } => over(f, found, "directives", allowed, split),
            Self::ExpandsTooFar { found, allowed } => over(f, found, expanded, allowed, rarer),
            Self::TooManyComparisons { found, allowed } => over(f, found, compared, allowed, fewer),
            Self::NestedTooDeep { line, allowed } => {
                write!(f, "More than {allowed} brackets are open at line {line}: nest fields and values less deeply.")
            }
            Self::FragmentCycle { name } => {
                write!(f, "The fragment `{name:.80}` spreads itself, directly or through others: break the circle.")
            }
            Self::Unterminated { line } => {
                write!(f, "The string that starts at line {line} does not end: close it with the quotes that open it.")
            }
        }
    }
}

fn over<N: fmt::Display>(f: &mut fmt::Formatter<'_>, found: N, what: &str, allowed: N, mend: &str) -> fmt::Result {
    write!(f, "The document has {found} {what} where {allowed} are allowed: {mend}.")
}

impl std::error::Error for Refusal {}

/// Refuses a document that it would be unsafe, or too dear, to parse.
///
/// # Errors
///
/// The first bound found to be passed, a circle of fragments, or a string that does not end.
pub fn precheck(document: &str, bounds: &Bounds) -> Result<(), Refusal> {
    if document.len() > bounds.bytes_max {
        return Err(Refusal::TooLong { found: document.len(), allowed: bounds.bytes_max });
    }
    let tokens = lexer::lex(document)?;
    let mut document = document::read(document, &tokens, bounds.nesting_max)?;

    let (found, allowed) = (tokens.len(), bounds.tokens_max);
    if found > allowed {
        return Err(Refusal::TooManyTokens { found, allowed });
    }
    let (found, allowed) = (document.definitions, bounds.definitions_max);
    if found > allowed {
        return Err(Refusal::TooManyDefinitions { found, allowed });
    }
    let (found, allowed) = (document.directives, bounds.directives_max);
    if found > allowed {
        return Err(Refusal::TooManyDirectives { found, allowed });
    }
    let (found, allowed) = (document.aliases, bounds.aliases_max);
    if found > allowed {
        return Err(Refusal::TooManyAliases { found, allowed });
    }

    document.graph.expand()?;
    let definitions = &document.graph.definitions;
    for definition in definitions {
        let (found, allowed) = (definition.selections, bounds.expanded_selections_max);
        if found > allowed {
            return Err(Refusal::ExpandsTooFar { found, allowed });
        }
    }
    for operation in definitions.iter().filter(|it| it.is_operation) {
        let (found, allowed) = (operation.root_fields, bounds.root_fields_max);
        if found > allowed {
            return Err(Refusal::TooManyRootFields { found, allowed });
        }
    }
    let (found, allowed) = (merge::comparisons(definitions, document.largest), bounds.comparisons_max);
    if found > allowed {
        return Err(Refusal::TooManyComparisons { found, allowed });
    }
    Ok(())
}
