//! What an operation costs, by the rule of docs/cost.md: an estimate from the operation and its variables, the actual from
//! the answer.
//!
//! Both count objects of weighted types (type cost). What the terms do not include counts nothing, in either.

use std::collections::HashSet;

use async_graphql::parser::types::{BaseType, OperationDefinition};
use async_graphql::{Name, Value, Variables};
use async_graphql_value::Value as Written;

use super::flatten::{NOTHING, Selected};
use super::model::{Field, ListSize, Model, Object};
use crate::metering::{Deniable, Product, Tally, Terms, Weighted};

/// A field of the flattened operation, with all that its cost depends on.
pub(super) struct Node {
    key: Name,
    weighted: Option<Weighted>,
    deniable: Option<Deniable>,
    is_typename: bool,
    size: Size,
    children: Vec<Node>,
    hollow: bool,
}

/// How many values a field has for each of its parents, at most.
enum Size {
    /// It is no list, or nothing says how many: then as many as the schema assumes.
    Assumed(u64),
    /// As a slicing argument says.
    Given(u64),
    Variable {
        name: Name,
        default: u64,
        assumed: u64,
        of_list: bool,
    },
}

/// What running an operation may come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Units by product.
    pub units: Tally,
    /// Fields of the answer, at most.
    pub fields: u64,
}

/// What stands in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Units by product, the waived ones too.
    pub units: Tally,
    /// Those of objects that are staler than promised.
    pub waived: Tally,
}

/// The tree of a flattened operation.
pub(super) fn tree(model: &Model, operation: &OperationDefinition, selected: &[Selected]) -> Vec<Node> {
    model.query().map(|query| nodes(model, operation, query, selected, None)).unwrap_or_default()
}

fn nodes(
    model: &Model,
    operation: &OperationDefinition,
    of: &Object,
    selected: &[Selected],
    above: Option<(&Selected, &Field, &ListSize)>,
) -> Vec<Node> {
    let node = |it: &Selected| {
        let name = &it.field.node.name.node;
        let field = of.field(name);
        let object = field.and_then(|field| model.object(field.object.as_ref()?));
        let own = field.and_then(|field| field.size.as_ref());
        let size = match (own, above) {
            (Some(size), _) if size.sized_fields.is_empty() => sliced(operation, it, field, size),
            (_, Some((parent, above, size))) if size.sized_fields.contains(name) => sliced(operation, parent, Some(above), size),
            _ => Size::Assumed(1),
        };
        Node {
            key: it.key.clone(),
            weighted: object.and_then(|object| object.weighted),
            deniable: field.and_then(|field| field.deniable),
            is_typename: name == "__typename",
            size,
            children: object
                .map(|object| {
                    nodes(model, operation, object, &it.children, field.zip(own).map(|(field, size)| (it, field, size)))
                })
                .unwrap_or_default(),
            hollow: it.hollow,
        }
    };
    selected.iter().map(node).collect()
}

fn sliced(operation: &OperationDefinition, selected: &Selected, field: Option<&Field>, size: &ListSize) -> Size {
    let slicing = size.slicing.iter().find_map(|name| Some((name, selected.field.node.get_argument(name)?)));
    let Some((argument, written)) = slicing else { return Size::Assumed(size.assumed) };
    let of_list =
        field.and_then(|field| field.arguments.get(argument)).is_some_and(|(ty, _)| matches!(ty.base, BaseType::List(_)));
    let length = |value: &Value| length(value, of_list, size.assumed);
    match &written.node {
        Written::Variable(name) => {
            let definition = operation.variable_definitions.iter().find(|it| it.node.name.node == *name);
            let default = definition.and_then(|it| it.node.default_value()).map_or(size.assumed, length);
            Size::Variable { name: name.clone(), default, assumed: size.assumed, of_list }
        }
        // Its items may be variables: each is one all the same.
        Written::List(values) => Size::Given(values.len() as u64),
        value => Size::Given(value.clone().into_const().map_or(size.assumed, |value| length(&value))),
    }
}

/// The size that a slicing argument's value stands for. One value stands for the list that has it alone.
fn length(value: &Value, of_list: bool, assumed: u64) -> u64 {
    match value {
        Value::Null => assumed,
        Value::List(values) => values.len() as u64,
        _ if of_list => 1,
        Value::Number(number) => number.as_u64().unwrap_or(0),
        _ => 1,
    }
}

impl Size {
    fn with(&self, variables: &Variables) -> u64 {
        match self {
            Self::Assumed(size) | Self::Given(size) => *size,
            Self::Variable { name, default, assumed, of_list } => {
                variables.get(name).map_or(*default, |value| length(value, *of_list, *assumed))
            }
        }
    }
}

impl Node {
    fn product(&self) -> Option<Product> {
        self.weighted.map(Weighted::product)
    }

    /// What one object at this place counts.
    fn units(&self, terms: &Terms) -> Option<(Product, u64)> {
        let weighted = self.weighted?;
        let denied = |child: &Self| child.deniable.is_some_and(|field| terms.denies(field));
        let in_vain = self.children.iter().any(denied) && self.children.iter().all(|child| child.is_typename || denied(child));
        (terms.sells(weighted.product()) && !in_vain).then(|| (weighted.product(), terms.weight(weighted)))
    }
}

/// At most so much, whatever the data.
pub(super) fn estimate(nodes: &[Node], variables: &Variables, terms: &Terms) -> Estimate {
    let mut estimate = Estimate::default();
    add(&mut estimate, nodes, variables, terms, 1);
    estimate
}

/// An error takes as long to make as so many fields.
const FIELDS_OF_AN_ERROR: u64 = 20;
/// What no slicing argument goes past: more, or nothing, is refused where it stands.
pub const LIST_MAX: usize = 100;

fn add(estimate: &mut Estimate, nodes: &[Node], variables: &Variables, terms: &Terms, parents: u64) {
    for node in nodes {
        let size = node.size.with(variables);
        let is_refused = node.deniable.is_some_and(|field| terms.denies(field))
            || node.product().is_some_and(|product| !terms.sells(product))
            || (!matches!(node.size, Size::Assumed(_)) && !(1..=LIST_MAX as u64).contains(&size));
        let fields = if is_refused { FIELDS_OF_AN_ERROR } else { 1 };
        estimate.fields = estimate.fields.saturating_add(parents.saturating_mul(fields));
        if node.children.is_empty() && node.weighted.is_none() {
            continue;
        }
        // A product that is not sold is refused before anything below is read.
        if node.product().is_some_and(|product| !terms.sells(product)) {
            continue;
        }
        let values = parents.saturating_mul(size);
        if let Some((product, weight)) = node.units(terms) {
            estimate.units.add(product, weight.saturating_mul(values));
        }
        add(estimate, &node.children, variables, terms, values);
    }
}

/// What stands in `data`; the objects at the paths of `stale` are waived.
pub(super) fn actual(nodes: &[Node], data: &Value, terms: &Terms, stale: &HashSet<String>) -> Actual {
    let mut count = Count { terms, stale, path: String::new(), actual: Actual::default() };
    count.children(nodes, data);
    count.actual
}

struct Count<'a> {
    terms: &'a Terms,
    stale: &'a HashSet<String>,
    /// Kept only while something is stale.
    path: String,
    actual: Actual,
}

impl Count<'_> {
    fn children(&mut self, nodes: &[Node], data: &Value) {
        let Value::Object(fields) = data else { return };
        for (place, node) in nodes.iter().enumerate() {
            if node.children.is_empty() && node.weighted.is_none() {
                continue;
            }
            // As a rule the answer has the fields in the order of the operation.
            let in_order = fields.get_index(place).filter(|(key, _)| **key == node.key).map(|(_, value)| value);
            if let Some(value) = in_order.or_else(|| fields.get(&node.key)) {
                self.below(&node.key, |count| count.value(node, value));
            }
        }
    }

    fn value(&mut self, node: &Node, value: &Value) {
        match value {
            Value::List(values) => {
                for (place, value) in values.iter().enumerate() {
                    self.below(place, |count| count.value(node, value));
                }
            }
            Value::Object(_) => {
                if let Some((product, weight)) = node.units(self.terms) {
                    self.actual.units.add(product, weight);
                    if self.stale.contains(&self.path) {
                        self.actual.waived.add(product, weight);
                    }
                }
                self.children(&node.children, value);
            }
            _ => {}
        }
    }

    fn below(&mut self, segment: impl std::fmt::Display, walk: impl FnOnce(&mut Self)) {
        if self.stale.is_empty() {
            return walk(self);
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(&segment.to_string());
        walk(self);
        self.path.truncate(length);
    }
}

/// How many fields `nodes` have, those below them included.
pub(super) fn count(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| 1 + count(&node.children)).sum()
}

/// Whether an object of `nodes` has all of its fields skipped.
pub(super) fn is_hollow_somewhere(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| node.hollow || is_hollow_somewhere(&node.children))
}

/// Takes out of `data` what stood for "everything is skipped", and puts the root's fields into the order of the operation:
/// the engine answers in the order in which they were done.
pub(super) fn tidy(nodes: &[Node], data: &mut Value, hollow: bool) {
    if hollow {
        empty(data);
    }
    let Value::Object(fields) = data else { return };
    if fields.keys().ne(nodes.iter().map(|node| &node.key)) {
        let place = |key: &Name| nodes.iter().position(|node| node.key == *key);
        fields.sort_by(|one, _, other, _| place(one).cmp(&place(other)));
    }
}

fn empty(data: &mut Value) {
    match data {
        Value::Object(fields) => {
            fields.shift_remove(NOTHING);
            fields.values_mut().for_each(empty);
        }
        Value::List(values) => values.iter_mut().for_each(empty),
        _ => {}
    }
}
