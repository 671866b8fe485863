//! Selection sets as execution collects them (GraphQL, 6.3.2): fragments in their place, fields of one response key merged,
//! `@skip` and `@include` decided.
//!
//! The engine then sees each response key once. As written, it would resolve a key that stands twice once for each, and drop
//! the second where the first is an object whose every field is skipped.

use std::collections::HashMap;

use async_graphql::parser::types::{
    Directive, DocumentOperations, ExecutableDocument, Field, InlineFragment, Selection, SelectionSet,
};
use async_graphql::{Name, Pos, Positioned};
use async_graphql_value::Value;

use super::walk;
use crate::error::{Code, Refusal};

/// The response key that stands in a selection set of which everything is skipped: the engine would answer null for it, where
/// the specification wants an object without fields.
pub(super) const NOTHING: &str = "__tollgate_nothing";

/// A field, with all that is selected of it.
pub(super) struct Selected {
    pub(super) key: Name,
    /// Without its selections and directives.
    pub(super) field: Positioned<Field>,
    pub(super) children: Vec<Selected>,
    /// It has selections, and all of them are skipped.
    pub(super) hollow: bool,
}

struct Flattening<'a> {
    document: &'a ExecutableDocument,
    conditions: &'a dyn Fn(&Name) -> bool,
}

/// The root fields of `set`, whose variables in conditions have the values of `conditions`. The document is validated, so that
/// no fragment spreads itself, and fields of one key agree.
///
/// # Errors
///
/// Two fields of one response key are not the same field with the same arguments (GraphQL, 5.3.2). The engine's own rule misses
/// those that stand under different type conditions, or below two fields that are merged.
pub(super) fn flatten(
    document: &ExecutableDocument,
    set: &SelectionSet,
    conditions: &dyn Fn(&Name) -> bool,
) -> Result<Vec<Selected>, Refusal> {
    let mut fields = Fields::default();
    Flattening { document, conditions }.gather(set, &mut fields)?;
    fields.settle();
    Ok(fields.order)
}

/// Fields in the order of their first occurrence.
#[derive(Default)]
struct Fields {
    order: Vec<Selected>,
    places: HashMap<Name, (usize, Fields)>,
}

impl Flattening<'_> {
    fn gather(&self, set: &SelectionSet, into: &mut Fields) -> Result<(), Refusal> {
        for selection in set.items.iter().map(|item| &item.node) {
            if self.is_skipped(selection.directives()) {
                continue;
            }
            match selection {
                Selection::Field(field) => {
                    let key = &field.node.response_key().node;
                    let next = into.order.len();
                    let (place, below) = into.places.entry(key.clone()).or_insert_with(|| (next, Fields::default()));
                    if *place == next {
                        into.order.push(Selected { key: key.clone(), field: bare(field), children: Vec::new(), hollow: false });
                    }
                    let first = &into.order[*place].field.node;
                    if first.name.node != field.node.name.node || !same(&first.arguments, &field.node.arguments) {
                        return Err(conflict(key, field.pos));
                    }
                    into.order[*place].hollow |= !field.node.selection_set.node.items.is_empty();
                    self.gather(&field.node.selection_set.node, below)?;
                }
                // Without interfaces and unions a type condition that is valid holds.
                Selection::InlineFragment(fragment) => self.gather(&fragment.node.selection_set.node, into)?,
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.document.fragments.get(&spread.node.fragment_name.node) {
                        self.gather(&fragment.node.selection_set.node, into)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_skipped(&self, directives: &[Positioned<Directive>]) -> bool {
        directives.iter().map(|directive| &directive.node).any(|directive| {
            let met = match directive.get_argument("if").map(|value| &value.node) {
                Some(Value::Boolean(value)) => *value,
                Some(Value::Variable(name)) => (self.conditions)(name),
                _ => return false,
            };
            match directive.name.node.as_str() {
                "skip" => met,
                "include" => !met,
                _ => false,
            }
        })
    }
}

impl Fields {
    fn settle(&mut self) {
        for (_, (place, mut below)) in self.places.drain() {
            below.settle();
            let selected = &mut self.order[place];
            selected.children = below.order;
            selected.hollow &= selected.children.is_empty();
        }
    }
}

type Arguments = [(Positioned<Name>, Positioned<Value>)];

fn same(one: &Arguments, other: &Arguments) -> bool {
    let value_of = |name: &Name| other.iter().find(|(it, _)| it.node == *name).map(|(_, value)| &value.node);
    one.len() == other.len() && one.iter().all(|(name, value)| value_of(&name.node) == Some(&value.node))
}

fn conflict(key: &Name, at: Pos) -> Refusal {
    let message = format!(
        "The response key \"{key:.80}\" stands for different fields, or for one with different arguments: give one of them an alias (line {}, column {})",
        at.line, at.column
    );
    Refusal::new(Code::GraphqlValidationFailed, message).at(at.line, at.column)
}

fn bare(field: &Positioned<Field>) -> Positioned<Field> {
    let node = Field {
        alias: field.node.alias.clone(),
        name: field.node.name.clone(),
        arguments: field.node.arguments.clone(),
        directives: Vec::new(),
        selection_set: Positioned::new(SelectionSet::default(), field.node.selection_set.pos),
    };
    Positioned::new(node, field.pos)
}

/// As the engine runs them.
pub(super) fn selection_set(selected: &[Selected], hollow: bool) -> SelectionSet {
    let mut items: Vec<_> = selected
        .iter()
        .map(|it| {
            let mut field = it.field.clone();
            field.node.selection_set.node = selection_set(&it.children, it.hollow);
            let pos = field.pos;
            Positioned::new(Selection::Field(field), pos)
        })
        .collect();
    if hollow {
        let named = |name: &str| Positioned::new(Name::new(name), Default::default());
        let field = Field {
            alias: Some(named(NOTHING)),
            name: named("__typename"),
            arguments: Vec::new(),
            directives: Vec::new(),
            selection_set: Default::default(),
        };
        items.push(Positioned::new(Selection::Field(Positioned::new(field, Default::default())), Default::default()));
    }
    SelectionSet { items }
}

/// The document for the engine's validation, which does not look at `__typename` and would call a variable that only its directives
/// read unused: they stand on an inline fragment around it instead.
pub(super) fn with_conditions_seen(document: &ExecutableDocument) -> ExecutableDocument {
    let mut document = document.clone();
    match &mut document.operations {
        DocumentOperations::Single(operation) => wrap(&mut operation.node.selection_set.node),
        DocumentOperations::Multiple(operations) => {
            operations.values_mut().for_each(|operation| wrap(&mut operation.node.selection_set.node));
        }
    }
    document.fragments.values_mut().for_each(|fragment| wrap(&mut fragment.node.selection_set.node));
    document
}

fn wrap(set: &mut SelectionSet) {
    for item in &mut set.items {
        let pos = item.pos;
        match &mut item.node {
            Selection::Field(field) if field.node.name.node == "__typename" && !field.node.directives.is_empty() => {
                let directives = std::mem::take(&mut field.node.directives);
                let items = vec![Positioned::new(Selection::Field(field.clone()), pos)];
                let selection_set = Positioned::new(SelectionSet { items }, pos);
                let fragment = InlineFragment { type_condition: None, directives, selection_set };
                item.node = Selection::InlineFragment(Positioned::new(fragment, pos));
            }
            Selection::Field(field) => wrap(&mut field.node.selection_set.node),
            Selection::InlineFragment(fragment) => wrap(&mut fragment.node.selection_set.node),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// The variables that conditions in `document` read.
pub(super) fn condition_variables(document: &ExecutableDocument) -> Vec<Name> {
    let mut found = Vec::new();
    walk::selections(document, &mut |selection| {
        for directive in selection.directives() {
            if let Some(Value::Variable(name)) = directive.node.get_argument("if").map(|value| &value.node) {
                found.push(name.clone());
            }
        }
    });
    found.sort_unstable();
    found.dedup();
    found
}
