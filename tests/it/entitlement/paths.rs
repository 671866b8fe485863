//! Every reading path of the schema, found in its SDL: from Query down to each leaf, with its arguments as variables.

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, FieldDefinition, Type, TypeKind, TypeSystemDefinition};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::shop::Target;

/// Fields from the root to a leaf.
const DEPTH_MAX: usize = 5;

/// One field on the way.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The type that has it.
    pub(super) parent: String,
    pub(super) field: String,
    /// Name and type of each argument.
    arguments: Vec<(String, String)>,
    /// Whether the schema allows null there.
    pub(super) nullable: bool,
}

/// From Query to a leaf.
#[derive(Clone, Debug)]
pub(super) struct Path(pub(super) Vec<Step>);

/// What rows a path reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// Those that its arguments name.
    Named,
    /// Whatever is there.
    Listed,
    /// None.
    Nothing,
}

/// Every path of the committed schema. Panics at what it does not understand: a walk that skips is no proof.
pub(super) fn all() -> Vec<Path> {
    let sdl = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap();
    let mut types: BTreeMap<String, Vec<FieldDefinition>> = BTreeMap::new();
    let mut leaves: Vec<String> = ["Boolean", "Float", "ID", "Int", "String"].map(str::to_owned).into();
    for definition in parse_schema(sdl).unwrap().definitions {
        let TypeSystemDefinition::Type(definition) = definition else { continue };
        let name = definition.node.name.node.to_string();
        match definition.node.kind {
            TypeKind::Object(object) => {
                types.insert(name, object.fields.into_iter().map(|field| field.node).collect());
            }
            TypeKind::Scalar | TypeKind::Enum(_) => leaves.push(name),
            TypeKind::InputObject(_) => {}
            TypeKind::Interface(_) | TypeKind::Union(_) => panic!("{name} is abstract: teach the walk to choose a type"),
        }
    }
    let mut found = Vec::new();
    descend("Query", &types, &leaves, &mut Vec::new(), &mut found);
    found
}

fn descend(
    parent: &str,
    types: &BTreeMap<String, Vec<FieldDefinition>>,
    leaves: &[String],
    way: &mut Vec<Step>,
    found: &mut Vec<Path>,
) {
    if way.len() == DEPTH_MAX {
        return;
    }
    // Journeys are of another world, with slices in the place of rows: tests/it/journeys/sold.rs walks them.
    let is_of_rows = |field: &&FieldDefinition| !field.name.node.starts_with("journey");
    for field in types[parent].iter().filter(is_of_rows) {
        let arguments = field.arguments.iter().map(|a| (a.node.name.node.to_string(), a.node.ty.node.to_string()));
        way.push(Step {
            parent: parent.to_owned(),
            field: field.name.node.to_string(),
            arguments: arguments.collect(),
            nullable: field.ty.node.nullable,
        });
        let returns = named(&field.ty.node);
        if leaves.contains(&returns) {
            found.push(Path(way.clone()));
        } else {
            descend(&returns, types, leaves, way, found);
        }
        way.pop();
    }
}

fn named(of: &Type) -> String {
    match &of.base {
        BaseType::Named(name) => name.to_string(),
        BaseType::List(of) => named(of),
    }
}

impl Path {
    /// Such as `product.price.amount`.
    pub(super) fn name(&self) -> String {
        self.0.iter().map(|step| step.field.as_str()).collect::<Vec<_>>().join(".")
    }

    pub(super) fn reads(&self) -> Reads {
        match self.0[0].field.as_str() {
            "catalog" => Reads::Listed,
            _ if self.takes("sku") => Reads::Named,
            _ => Reads::Nothing,
        }
    }

    /// Whether what it reads depends on a target's `sku`, `location` or `market`.
    pub(super) fn takes(&self, part: &str) -> bool {
        let names = |argument: &str| match argument {
            // The text of estimateCost names all three.
            "query" => true,
            "skus" => part == "sku",
            name => name == part,
        };
        self.0.iter().flat_map(|step| &step.arguments).any(|(name, _)| names(name))
    }

    /// As an operation with variables.
    pub(super) fn operation(&self) -> String {
        let mut variables = Vec::new();
        let mut text = String::new();
        for step in &self.0 {
            text.push_str(" { ");
            text.push_str(&step.field);
            let mut given = Vec::new();
            for (name, kind) in &step.arguments {
                variables.push(format!("${}_{name}: {kind}", step.field));
                given.push(format!("{name}: ${}_{name}", step.field));
            }
            if !given.is_empty() {
                text.push_str(&format!("({})", given.join(", ")));
            }
        }
        text.push_str(&" }".repeat(self.0.len()));
        if variables.is_empty() { format!("query{text}") } else { format!("query({}){text}", variables.join(", ")) }
    }

    /// The variables of [`Path::operation`] that ask for `target`.
    pub(super) fn variables(&self, target: &Target, period: &str) -> Value {
        let mut filled = Map::new();
        for step in &self.0 {
            for (name, kind) in &step.arguments {
                filled.insert(format!("{}_{name}", step.field), fill(&step.field, name, kind, target, period));
            }
        }
        filled.into()
    }
}

fn fill(field: &str, argument: &str, kind: &str, target: &Target, period: &str) -> Value {
    match (field, argument) {
        (_, "sku") => json!(target.sku),
        (_, "skus") => json!([target.sku]),
        (_, "location") => json!(target.location),
        (_, "market") => json!(target.market),
        ("catalog", "first") => json!(100),
        // Fewer than there are: the size of a list is its argument's.
        (_, "first") => json!(2),
        // Cursors are walked for themselves.
        (_, "after") => Value::Null,
        (_, "from") => json!("2020-01-01T00:00:00.000Z"),
        (_, "to") => json!("2099-01-01T00:00:00.000Z"),
        (_, "period") => json!(period),
        ("estimateCost", "query") => json!(format!(
            "{{ product(sku: \"{}\") {{ inventory(location: \"{}\") {{ onHand }} price(market: \"{}\") {{ amount }} }} }}",
            target.sku, target.location, target.market
        )),
        ("estimateCost", "variables") => json!({}),
        _ => panic!("{field}({argument}: {kind}) is new: say here what the walk asks for"),
    }
}
