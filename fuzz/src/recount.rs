//! What the check before the parser promises, held against what the parser then saw: a text that the two divide differently
//! must not slip past a bound.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};
use tollgate::operation::precheck::Bounds;

/// Fields, aliases and directives of a selection set.
#[derive(Clone, Copy, Default)]
struct Counts {
    aliases: usize,
    directives: usize,
    /// Fields, those of spread fragments included.
    expanded: u64,
    /// The same without what is below them.
    root_fields: u64,
    depth: usize,
}

struct Recount<'a> {
    document: &'a ExecutableDocument,
    /// `expanded` and `root_fields` of each fragment.
    fragments: HashMap<&'a str, (u64, u64)>,
}

/// # Panics
///
/// `document` is past a bound, or a fragment spreads itself.
pub fn recount(document: &ExecutableDocument, bounds: &Bounds) {
    let mut recount = Recount { document, fragments: HashMap::new() };
    let operations = document.operations.iter().map(|(_, it)| (&it.node.selection_set.node, &it.node.directives, true));
    let fragments = document.fragments.values().map(|it| (&it.node.selection_set.node, &it.node.directives, false));
    let mut all = Counts::default();
    for (set, directives, is_operation) in operations.chain(fragments) {
        let found = recount.set(set, 0);
        assert!(found.expanded <= bounds.expanded_selections_max, "{} expanded selections", found.expanded);
        assert!(!is_operation || found.root_fields <= bounds.root_fields_max as u64, "{} root fields", found.root_fields);
        assert!(found.depth < bounds.nesting_max, "selections nest {} deep", found.depth);
        all.aliases += found.aliases;
        all.directives += found.directives + directives.len();
    }
    let definitions = document.operations.iter().count() + document.fragments.len();
    assert!(definitions <= bounds.definitions_max, "{definitions} definitions");
    assert!(all.aliases <= bounds.aliases_max, "{} aliases", all.aliases);
    assert!(all.directives <= bounds.directives_max, "{} directives", all.directives);
}

impl<'a> Recount<'a> {
    fn set(&mut self, set: &'a SelectionSet, around: usize) -> Counts {
        let depth = if set.items.is_empty() { 0 } else { around };
        let mut counts = Counts { depth, ..Counts::default() };
        for selection in set.items.iter().map(|item| &item.node) {
            counts.directives += selection.directives().len();
            let below = match selection {
                Selection::Field(field) => {
                    counts.aliases += usize::from(field.node.alias.is_some());
                    counts.root_fields += 1;
                    let below = self.set(&field.node.selection_set.node, around + 1);
                    Counts { expanded: below.expanded + 1, root_fields: 0, ..below }
                }
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node, around + 1),
                Selection::FragmentSpread(spread) => {
                    let (expanded, root_fields) = self.fragment(&spread.node.fragment_name.node);
                    Counts { expanded, root_fields, ..Counts::default() }
                }
            };
            counts.aliases += below.aliases;
            counts.directives += below.directives;
            counts.expanded = counts.expanded.saturating_add(below.expanded);
            counts.root_fields = counts.root_fields.saturating_add(below.root_fields);
            counts.depth = counts.depth.max(below.depth);
        }
        counts
    }

    fn fragment(&mut self, name: &str) -> (u64, u64) {
        let Some((name, fragment)) = self.document.fragments.get_key_value(name) else { return (0, 0) };
        if let Some(known) = self.fragments.get(name.as_str()) {
            assert_ne!(known.0, u64::MAX, "{name} spreads itself");
            return *known;
        }
        self.fragments.insert(name, (u64::MAX, 0));
        let found = self.set(&fragment.node.selection_set.node, 0);
        self.fragments.insert(name, (found.expanded, found.root_fields));
        (found.expanded, found.root_fields)
    }
}
