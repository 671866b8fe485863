//! The selections of a document as written: each once, however often a fragment is spread.

use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

/// Shows `visit` every selection of every operation and fragment.
pub(super) fn selections<'a>(document: &'a ExecutableDocument, visit: &mut dyn FnMut(&'a Selection)) {
    let operations = document.operations.iter().map(|(_, it)| &it.node.selection_set.node);
    let fragments = document.fragments.values().map(|it| &it.node.selection_set.node);
    operations.chain(fragments).for_each(|set| below(set, visit));
}

fn below<'a>(set: &'a SelectionSet, visit: &mut dyn FnMut(&'a Selection)) {
    for selection in set.items.iter().map(|item| &item.node) {
        visit(selection);
        match selection {
            Selection::Field(field) => below(&field.node.selection_set.node, visit),
            Selection::InlineFragment(fragment) => below(&fragment.node.selection_set.node, visit),
            Selection::FragmentSpread(_) => {}
        }
    }
}
