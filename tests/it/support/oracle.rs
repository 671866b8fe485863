//! What an operation must cost, by the published rule (docs/cost.md), and what its answer must look like, by GraphQL's
//! execution: worked out again from the tests' own tree, deliberately slow and simple.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::answer::Answer;
use super::operations::{Field, Request, Selection};
use super::schema::{self, Schema, Type, is_list, is_required, named, nullable};

/// What the oracle must know of a plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) products: &'static [&'static str],
    /// As `denied_fields` has them.
    pub(crate) denied: &'static [&'static str],
    /// As `weights` has them.
    pub(crate) weights: &'static [(&'static str, u64)],
}

/// Units by product; what is zero is left out.
pub(crate) type Units = BTreeMap<&'static str, u64>;

/// A field error that must stand in the answer: its path, and the codes that it may have.
pub(crate) type Expected = (String, Vec<&'static str>);

/// One request under one plan.
pub(crate) struct Oracle<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) request: &'a Request,
    pub(crate) plan: &'a Plan,
}

/// CollectFields: the response keys of a selection set in their order, each with every field that stands under it.
type Collected<'a> = Vec<(&'a str, Vec<&'a Field>)>;

/// The number that a field's own list, and the lists of its `sizedFields`, may have.
struct Size<'a> {
    most: u64,
    of: &'a schema::ListSize,
}

impl<'a> Oracle<'a> {
    /// The estimate.
    pub(crate) fn requested(&self) -> Units {
        let mut units = Units::new();
        self.estimate(&self.schema.query, &self.root(), 1, None, &mut units);
        units
    }

    /// The actual of an answer's `data`, whose shape was found right.
    pub(crate) fn actual(&self, data: &Answer) -> Units {
        let mut units = Units::new();
        self.count(&self.schema.query, &self.root(), data, &mut units);
        units
    }

    /// Whether `data` has what was asked, all of it and in its order. Tells the field errors that must come with it.
    pub(crate) fn shape(&self, data: &Answer) -> Result<Vec<Expected>, String> {
        let mut errors = Vec::new();
        self.object(&self.schema.query, &self.root(), data, None, "", &mut errors)?;
        Ok(errors)
    }

    fn root(&self) -> Collected<'a> {
        let mut collected = Vec::new();
        self.collect(&self.request.operation().selections, &mut collected);
        collected
    }

    fn collect(&self, selections: &'a [Selection], into: &mut Collected<'a>) {
        for selection in selections {
            match selection {
                Selection::Field(field) if self.request.seen(&field.conditions) => {
                    match into.iter_mut().find(|(key, _)| *key == field.key()) {
                        Some((_, group)) => group.push(field),
                        None => into.push((field.key(), vec![field])),
                    }
                }
                Selection::Spread { fragment, conditions } if self.request.seen(conditions) => {
                    self.collect(&self.request.fragment(fragment).selections, into);
                }
                // Every type is an object type: a type condition that is valid always holds.
                Selection::Inline { conditions, selections, .. } if self.request.seen(conditions) => {
                    self.collect(selections, into);
                }
                _ => {}
            }
        }
    }

    /// MergeSelectionSets.
    fn below(&self, group: &[&'a Field]) -> Collected<'a> {
        let mut collected = Vec::new();
        group.iter().for_each(|field| self.collect(&field.selections, &mut collected));
        collected
    }

    fn estimate(&self, kind: &str, fields: &Collected<'a>, times: u64, sizes: Option<&Size<'_>>, units: &mut Units) {
        self.add(kind, fields, times, units);
        for (_, group) in fields {
            let name = &group[0].name;
            if name == "__typename" || self.denied(kind, name) {
                continue;
            }
            let field = self.schema.field(kind, name);
            if !self.schema.is_object(named(&field.kind)) {
                continue;
            }
            let size = self.size(kind, group[0]);
            let most = if is_list(&field.kind) { most(name, sizes, size.as_ref()).expect("a list has a bound") } else { 1 };
            self.estimate(named(&field.kind), &self.below(group), times.checked_mul(most).unwrap(), size.as_ref(), units);
        }
    }

    fn count(&self, kind: &str, fields: &Collected<'a>, value: &Answer, units: &mut Units) {
        match value {
            Answer::List(items) => items.iter().for_each(|item| self.count(kind, fields, item, units)),
            Answer::Object(entries) => {
                self.add(kind, fields, 1, units);
                for ((_, group), (_, value)) in fields.iter().zip(entries) {
                    let name = &group[0].name;
                    if name != "__typename" {
                        let inner = named(&self.schema.field(kind, name).kind);
                        self.count(inner, &self.below(group), value, units);
                    }
                }
            }
            Answer::Null | Answer::Leaf(_) => {}
        }
    }

    /// `times` objects of a type, unless all that is asked of it is what the plan does not have.
    fn add(&self, kind: &str, fields: &Collected<'a>, times: u64, units: &mut Units) {
        let asked: Vec<&String> = fields.iter().map(|(_, group)| &group[0].name).filter(|name| *name != "__typename").collect();
        if !asked.is_empty() && asked.iter().all(|name| self.denied(kind, name)) {
            return;
        }
        // The Cost Directives Specification: an object type that says nothing weighs one.
        let published = self.schema.object(kind).weight.unwrap_or(1);
        let weight = self.plan.weights.iter().find(|(of, _)| *of == kind).map_or(published, |(_, weight)| *weight);
        let more = times.checked_mul(weight).unwrap();
        if more > 0 {
            *units.entry(product_of(kind)).or_default() += more;
        }
    }

    /// Whether the plan does not have a field.
    fn denied(&self, kind: &str, field: &str) -> bool {
        let (group, product) = match (kind, field) {
            ("Product", "inventory") => ("catalog", Some("inventory")),
            ("Product", "price" | "priceHistory") => ("catalog", Some("pricing")),
            ("Product", _) => ("catalog", None),
            ("Inventory", _) => ("inventory", None),
            ("Price" | "PricePoint", _) => ("pricing", None),
            _ => return false,
        };
        product.is_some_and(|product| !self.plan.products.contains(&product))
            || self.plan.denied.contains(&format!("{group}.{field}").as_str())
    }

    /// `@listSize` of a field as it is asked.
    fn size(&self, kind: &str, asked: &Field) -> Option<Size<'a>> {
        let of = self.schema.field(kind, &asked.name).list_size.as_ref()?;
        let given = of.slicing.iter().filter_map(|name| {
            let (_, value) = asked.arguments.iter().find(|(argument, _)| argument == name)?;
            match self.request.value(value)? {
                Json::Null => None,
                Json::Number(number) => Some(u64::try_from(number.as_i64().unwrap()).unwrap_or(0)),
                Json::Array(items) => Some(items.len() as u64),
                // One value in place of a list is a list of it.
                Json::String(_) => Some(1),
                other => panic!("{name} is {other}, which gives no size"),
            }
        });
        let most = given.max().or(of.assumed).unwrap_or_else(|| panic!("{kind}.{} has no bound", asked.name));
        Some(Size { most, of })
    }

    fn object(
        &self,
        kind: &str,
        fields: &Collected<'a>,
        value: &Answer,
        sizes: Option<&Size<'_>>,
        path: &str,
        errors: &mut Vec<Expected>,
    ) -> Result<(), String> {
        let Answer::Object(entries) = value else { return Err(format!("{path:?} is {value:?}, not an object")) };
        let found: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        let expected: Vec<&str> = fields.iter().map(|(key, _)| *key).collect();
        if found != expected {
            return Err(format!("{path:?} has the keys {found:?}, not {expected:?}"));
        }
        for ((key, group), (_, value)) in fields.iter().zip(entries) {
            let path = if path.is_empty() { (*key).to_owned() } else { format!("{path}.{key}") };
            let name = &group[0].name;
            if name == "__typename" {
                if value.text() != Some(kind) {
                    return Err(format!("{path:?} is {value:?}, not {kind:?}"));
                }
                continue;
            }
            let codes = self.refused(kind, group[0]);
            if !codes.is_empty() {
                if *value != Answer::Null {
                    return Err(format!("{path:?} is {value:?}, but must be refused with {codes:?}"));
                }
                errors.push((path, codes));
                continue;
            }
            let field = self.schema.field(kind, name);
            let size = self.size(kind, group[0]);
            if let Some(most) = most(name, sizes, size.as_ref())
                && value.items().len() as u64 > most
            {
                return Err(format!("{path:?} has {} items, but was estimated at {most}", value.items().len()));
            }
            self.value(&field.kind, group, value, size.as_ref(), &path, errors)?;
            // These are never unknown, only refused.
            if kind == self.schema.query && ["products", "catalog"].contains(&name.as_str()) && *value == Answer::Null {
                return Err(format!("{path:?} is null without a reason"));
            }
        }
        Ok(())
    }

    fn value(
        &self,
        kind: &Type,
        group: &[&'a Field],
        value: &Answer,
        size: Option<&Size<'_>>,
        path: &str,
        errors: &mut Vec<Expected>,
    ) -> Result<(), String> {
        match (nullable(kind), value) {
            (_, Answer::Null) if is_required(kind) => Err(format!("{path:?} is null, but may not be")),
            (_, Answer::Null) => Ok(()),
            (Type::ListType(item), Answer::List(items)) => {
                let mut items = items.iter().enumerate();
                items.try_for_each(|(place, value)| self.value(item, group, value, size, &format!("{path}.{place}"), errors))
            }
            (Type::NamedType(name), _) if self.schema.is_object(name) => {
                self.object(name, &self.below(group), value, size, path, errors)
            }
            (Type::NamedType(_), Answer::Leaf(_)) => Ok(()),
            _ => Err(format!("{path:?} is {value:?}, not {kind}")),
        }
    }

    /// The codes with which a field must be refused; none when it is answered. The plan and the range of `first` may each
    /// be looked at before the other.
    fn refused(&self, kind: &str, asked: &Field) -> Vec<&'static str> {
        let mut codes = Vec::new();
        if self.denied(kind, &asked.name) {
            codes.push("NOT_ENTITLED");
        }
        let first = asked.arguments.iter().find(|(name, _)| name == "first");
        let first = first.and_then(|(_, value)| self.request.value(value)).and_then(|first| first.as_i64());
        if first.is_some_and(|first| !(1..=100).contains(&first)) {
            codes.push("BAD_USER_INPUT");
        }
        codes
    }
}

/// The most that a list may have: by the connection that it is a part of, else by its own directive.
fn most(name: &str, sizes: Option<&Size<'_>>, own: Option<&Size<'_>>) -> Option<u64> {
    let of_parent = sizes.filter(|size| size.of.sized_fields.iter().any(|sized| sized == name));
    let own = own.filter(|size| size.of.sized_fields.is_empty());
    of_parent.or(own).map(|size| size.most)
}

/// Which product's units a type's are.
fn product_of(kind: &str) -> &'static str {
    match kind {
        "Inventory" => "inventory",
        "Price" | "PricePoint" => "pricing",
        other => panic!("{other} weighs something, but belongs to no product"),
    }
}
