//! Valid random operations over a schema, by seed.
//!
//! Within a document the same response key of a type always means the same field with the same arguments, so that whatever
//! selections come together can be merged, as validation wants.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value as Json};

use super::{Condition, Field, Fragment, Operation, Request, Selection, Value, Variable};
use crate::support::schema::{Argument, Schema, Type, is_required, named, nullable};

/// What arguments may name: what is there, and what is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) skus: Vec<String>,
    pub(crate) locations: Vec<String>,
    pub(crate) markets: Vec<String>,
    /// For `after`.
    pub(crate) cursors: Vec<String>,
}

/// Fields that are not asked here: they take an operation of their own.
const LEFT_OUT: [&str; 3] = ["estimateCost", "journey", "journeyProducts"];
/// What is asked now and then.
const RARE: [&str; 2] = ["viewer", "usage"];
/// Fields of a document, more or less.
const FIELDS: usize = 40;
/// What keeps a request well within what a document may hold: fields of an operation with what it spreads, its root's weight,
/// directives, bytes.
const EXPANDED_MAX: usize = 400;
const ROOT_MAX: usize = 800;
const DIRECTIVES_MAX: usize = 40;
const BYTES_MAX: usize = 12 * 1024;

/// A request over `schema`.
pub(crate) fn generate(rng: &mut impl Rng, schema: &Schema, world: &World) -> Request {
    loop {
        let request =
            Generator { rng: &mut *rng, schema, world, left: FIELDS, keys: BTreeMap::new(), request: empty() }.request();
        let small = |it: &Operation| {
            expanded(&request, &it.selections) <= EXPANDED_MAX && root_weight(&request, &it.selections) <= ROOT_MAX
        };
        let text = request.text();
        if request.operations.iter().all(small) && text.matches('@').count() <= DIRECTIVES_MAX && text.len() <= BYTES_MAX {
            return request;
        }
    }
}

fn empty() -> Request {
    Request { operations: vec![], fragments: vec![], variables: vec![], chosen: 0, named: false, values: Map::new() }
}

/// A field and its arguments.
type Meaning = (String, Vec<(String, Value)>);

struct Generator<'a, R> {
    rng: &'a mut R,
    schema: &'a Schema,
    world: &'a World,
    /// How many fields more.
    left: usize,
    /// What a type's response key means.
    keys: BTreeMap<(String, String), Meaning>,
    request: Request,
}

impl<R: Rng> Generator<'_, R> {
    fn request(mut self) -> Request {
        // Each may spread those that were made before it: no circles.
        let kinds =
            ["Query", "Product", "Product", "Inventory", "Price", "PricePoint", "ProductConnection", "ProductEdge", "PageInfo"];
        for n in 0..self.rng.random_range(0..5) {
            let on = *kinds.choose(self.rng).unwrap();
            if self.schema.objects().any(|(name, _)| name == on) {
                let selections = self.set(on, 0);
                self.request.fragments.push(Fragment { name: format!("F{n}"), on: on.to_owned(), selections });
            }
        }
        let several = self.chance(15);
        for n in 0..if several { self.rng.random_range(2..4) } else { 1 } {
            self.left = self.left.max(FIELDS / 2);
            let name = (several || self.chance(40)).then(|| format!("Q{n}"));
            let selections = self.set(&self.schema.query.clone(), 0);
            self.request.operations.push(Operation { name, selections });
        }
        self.request.chosen = self.rng.random_range(0..self.request.operations.len());
        self.request.named = several || (self.request.operation().name.is_some() && self.chance(50));
        self.request.variables.sort_by(|a, b| a.name.cmp(&b.name));
        self.request
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    /// A selection set of a type, `nested` in so many inline fragments.
    fn set(&mut self, kind: &str, nested: usize) -> Vec<Selection> {
        let mut set = Vec::new();
        for _ in 0..self.rng.random_range(1..=4) {
            let spreads: Vec<String> = self
                .request
                .fragments
                .iter()
                .filter(|fragment| fragment.on == kind)
                .map(|fragment| fragment.name.clone())
                .collect();
            let selection = match self.rng.random_range(0..100) {
                0..12 if nested < 3 => {
                    let on = self.chance(60).then(|| kind.to_owned());
                    Selection::Inline { on, conditions: self.conditions(), selections: self.set(kind, nested + 1) }
                }
                12..30 if !spreads.is_empty() => {
                    let fragment = spreads.choose(self.rng).unwrap().clone();
                    Selection::Spread { fragment, conditions: self.conditions() }
                }
                _ => Selection::Field(self.field(kind)),
            };
            // The same response key again, with what else is asked below it.
            if let Selection::Field(field) = &selection
                && self.left > 0
                && self.chance(15)
            {
                let conditions = self.conditions();
                let again = Field { conditions, selections: self.below(kind, &field.name), ..field.clone() };
                let place = self.rng.random_range(0..=set.len());
                set.insert(place, Selection::Field(again));
            }
            set.push(selection);
        }
        set
    }

    fn field(&mut self, kind: &str) -> Field {
        self.left = self.left.saturating_sub(1);
        let name = self.name(kind);
        // An alias may well be the name of another field.
        let others: Vec<&str> = self.schema.object(kind).fields.iter().map(|field| field.name.as_str()).collect();
        let key = match self.rng.random_range(0..100) {
            0..10 => (*["a", "b", "c"].choose(self.rng).unwrap()).to_owned(),
            10..14 => (*others.choose(self.rng).unwrap()).to_owned(),
            _ => name.clone(),
        };
        let place = (kind.to_owned(), key.clone());
        if !self.keys.contains_key(&place) {
            let arguments = self.arguments(kind, &name);
            self.keys.insert(place.clone(), (name, arguments));
        }
        let (name, arguments) = self.keys[&place].clone();
        let selections = self.below(kind, &name);
        let conditions = self.conditions();
        Field { alias: (key != name).then_some(key), name, arguments, conditions, selections }
    }

    fn name(&mut self, kind: &str) -> String {
        let fields = self.schema.object(kind).fields.iter();
        let mut names: Vec<&str> = fields.map(|field| field.name.as_str()).filter(|name| !LEFT_OUT.contains(name)).collect();
        if !self.chance(10) {
            names.retain(|name| !RARE.contains(name));
        }
        // Once enough is asked, what has nothing below it.
        if self.left == 0 {
            names.retain(|name| !self.schema.is_object(named(&self.schema.field(kind, name).kind)));
        } else if self.chance(50) {
            // What is sold is asked more often than its place in the schema would have it.
            names.extend(
                ["inventory", "price", "priceHistory", "nodes", "products"]
                    .into_iter()
                    .filter(|sold| names.contains(sold))
                    .collect::<Vec<_>>(),
            );
        }
        if names.is_empty() || self.chance(8) { "__typename".to_owned() } else { (*names.choose(self.rng).unwrap()).to_owned() }
    }

    /// Something of what is below a field.
    fn below(&mut self, kind: &str, field: &str) -> Vec<Selection> {
        if field == "__typename" {
            return Vec::new();
        }
        let inner = named(&self.schema.field(kind, field).kind).to_owned();
        if self.schema.is_object(&inner) { self.set(&inner, 0) } else { Vec::new() }
    }

    fn conditions(&mut self) -> Vec<Condition> {
        let count = match self.rng.random_range(0..100) {
            0..13 => 1,
            13..15 => 2,
            _ => return Vec::new(),
        };
        // Each may stand once.
        let first: bool = self.rng.random();
        let kind = Type::NonNullType(Box::new(Type::NamedType("Boolean".to_owned())));
        let argument = Argument { name: "if".to_owned(), kind };
        (0..count).map(|n| Condition { include: first ^ (n == 1), on: self.required(&argument) }).collect()
    }

    fn arguments(&mut self, kind: &str, field: &str) -> Vec<(String, Value)> {
        if field == "__typename" {
            return Vec::new();
        }
        let arguments = self.schema.field(kind, field).arguments.clone();
        let mut given = Vec::new();
        for argument in arguments {
            let value = match self.rng.random_range(0..100) {
                _ if is_required(&argument.kind) => self.required(&argument),
                0..30 => continue,
                30..38 => Value::Null,
                38..70 => self.literal(&argument.name),
                _ => self.variable(&argument),
            };
            given.push((argument.name, value));
        }
        // The order of arguments means nothing.
        if self.chance(20) {
            given.reverse();
        }
        given
    }

    fn required(&mut self, argument: &Argument) -> Value {
        if self.chance(45) {
            return self.variable(argument);
        }
        let literal = self.literal(&argument.name);
        match literal {
            // Variables within a list; one value in place of a list of one.
            Value::List(mut skus) if !skus.is_empty() && self.chance(30) => {
                if skus.len() == 1 && self.chance(50) {
                    return skus.remove(0);
                }
                let place = self.rng.random_range(0..skus.len());
                let kind = Type::NonNullType(Box::new(Type::NamedType("ID".to_owned())));
                skus[place] = self.variable(&Argument { name: "sku".to_owned(), kind });
                Value::List(skus)
            }
            other => other,
        }
    }

    /// A constant for the argument of this name.
    fn literal(&mut self, argument: &str) -> Value {
        let one_of = |rng: &mut R, texts: &[String]| {
            let unknown = texts.is_empty() || rng.random_ratio(1, 8);
            Value::Text(if unknown { "nowhere".to_owned() } else { texts.choose(rng).unwrap().clone() })
        };
        match argument {
            "if" => Value::Boolean(self.rng.random()),
            "sku" => one_of(self.rng, &self.world.skus),
            "skus" => {
                let count = if self.chance(70) { self.rng.random_range(0..6) } else { self.rng.random_range(0..=30) };
                Value::List((0..count).map(|_| one_of(self.rng, &self.world.skus)).collect())
            }
            "location" => one_of(self.rng, &self.world.locations),
            "market" => one_of(self.rng, &self.world.markets),
            "after" if self.world.cursors.is_empty() => Value::Null,
            "after" => Value::Text(self.world.cursors.choose(self.rng).unwrap().clone()),
            "first" => Value::Int(match self.rng.random_range(0..100) {
                0..65 => self.rng.random_range(1..=12),
                65..85 => self.rng.random_range(0..=120),
                85..92 => self.rng.random_range(-5..0),
                92..98 => *[0, 1, 99, 100, 101].choose(self.rng).unwrap(),
                _ => 100_000,
            }),
            // Never a range whose end is before its start.
            "from" => Value::Text((*["2025-01-01T00:00:00Z", "2026-01-05T08:00:00.000Z"].choose(self.rng).unwrap()).to_owned()),
            "to" => {
                Value::Text((*["2026-01-05T08:00:02.500Z", "2026-06-01T00:00:00+02:00"].choose(self.rng).unwrap()).to_owned())
            }
            "period" => Value::Text("2026-01".to_owned()),
            other => panic!("the generator does not know what to pass for {other}: teach it"),
        }
    }

    /// A variable for an argument, old or new: given, null, left out or by its default, as far as the argument's type lets it.
    fn variable(&mut self, argument: &Argument) -> Value {
        let prefix = format!("{}_", argument.name);
        let known = self.request.variables.iter().map(|it| &it.name).filter(|it| it.starts_with(&prefix));
        let known: Vec<String> = known.cloned().collect();
        if !known.is_empty() && self.chance(35) {
            return Value::Variable(known.choose(self.rng).unwrap().clone());
        }
        let name = format!("{prefix}{}", self.request.variables.len());
        let required = is_required(&argument.kind);
        let default = match self.rng.random_range(0..10) {
            0..4 => Some(self.literal(&argument.name)),
            4 if !required => Some(Value::Null),
            _ => None,
        };
        // A default that is not null makes a nullable variable good enough for what is required.
        let open = !required || matches!(default, Some(Value::Text(_) | Value::Int(_) | Value::Boolean(_) | Value::List(_)));
        let strict = if required { !open || self.chance(60) } else { default != Some(Value::Null) && self.chance(20) };
        let kind = nullable(&argument.kind);
        let kind = if strict { format!("{kind}!") } else { kind.to_string() };
        let may_be_absent = default.is_some() || !strict;
        let may_be_null = !strict && !required;
        match self.rng.random_range(0..100) {
            0..30 if may_be_absent => {}
            30..40 if may_be_null => {
                self.request.values.insert(name.clone(), Json::Null);
            }
            _ => {
                let value = self.literal(&argument.name);
                let value = self.request.value(&value).unwrap();
                self.request.values.insert(name.clone(), value);
            }
        }
        self.request.variables.push(Variable { name: name.clone(), kind, default });
        Value::Variable(name)
    }
}

/// Fields once each spread is replaced by what it spreads.
fn expanded(request: &Request, selections: &[Selection]) -> usize {
    let each = selections.iter().map(|selection| match selection {
        Selection::Field(field) => 1 + expanded(request, &field.selections),
        Selection::Spread { fragment, .. } => expanded(request, &request.fragment(fragment).selections),
        Selection::Inline { selections, .. } => expanded(request, selections),
    });
    each.sum()
}

/// The root's fields, each for itself: about the rows that it reads, and enough that there are not too many.
fn root_weight(request: &Request, selections: &[Selection]) -> usize {
    let each = selections.iter().map(|selection| match selection {
        Selection::Field(field) => match field.name.as_str() {
            "catalog" | "usage" => 250,
            "products" => 30,
            _ => 20,
        },
        Selection::Spread { fragment, .. } => root_weight(request, &request.fragment(fragment).selections),
        Selection::Inline { selections, .. } => root_weight(request, selections),
    });
    each.sum()
}
