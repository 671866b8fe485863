//! Variables against their definitions (GraphQL, 6.1.2): what a document's validation, done once, cannot see. And how much the
//! engine copies to put them where they are mentioned.

use std::collections::HashMap;

use async_graphql::parser::types::{BaseType, ExecutableDocument, OperationDefinition, Selection, Type};
use async_graphql::{Name, Value, Variables};
use async_graphql_value::Value as Written;

use super::model::{Input, Model};
use super::walk;
use crate::error::{Code, Refusal};

/// How much of a wrong value is told.
const TOLD_CHARS_MAX: usize = 40;
/// Values in all copies of the variables: the engine makes one wherever the document mentions one. 72 bytes each, and more for
/// an object.
const COPIED_VALUES_MAX: u64 = 100_000;

/// Refuses values that their variables cannot have, and required ones that are not there. Variables that the operation does
/// not define are nobody's business.
pub(super) fn check(model: &Model, operation: &OperationDefinition, given: &Variables) -> Result<(), Refusal> {
    for definition in operation.variable_definitions.iter().map(|it| &it.node) {
        let (name, ty) = (&definition.name.node, &definition.var_type.node);
        match given.get(name) {
            None if ty.nullable || definition.default_value.is_some() => {}
            None => return Err(refused(format!("The variable ${name} of type {ty} is missing. Send it in variables."))),
            Some(value) => fits(model, value, ty).map_err(|wrong| {
                let Wrong { value, ty: expected } = wrong;
                refused(format!("The variable ${name} of type {ty} cannot be {value}: {expected} is wanted there."))
            })?,
        }
    }
    Ok(())
}

/// How often a document mentions each variable in its arguments, as written.
pub(super) type Mentions = HashMap<Name, u64>;

/// Refuses variables that come to too much once they stand wherever they are mentioned: 1,000 times one list of 1,000 values is
/// 10 KB to send, and 72 MB to run.
pub(super) fn copies(mentions: &Mentions, operation: &OperationDefinition, given: &Variables) -> Result<(), Refusal> {
    let copied = |(name, times): (&Name, &u64)| {
        let default = || operation.variable_definitions.iter().find(|it| it.node.name.node == *name)?.node.default_value();
        times.saturating_mul(given.get(name).or_else(default).map_or(0, values))
    };
    let found = mentions.iter().map(copied).fold(0, u64::saturating_add);
    if found > COPIED_VALUES_MAX {
        let what = format!(
            "The document mentions variables so often that it has {found} values with them, where {COPIED_VALUES_MAX} are allowed: mention lists and objects less often."
        );
        return Err(Refusal::new(Code::QueryTooComplex, what));
    }
    Ok(())
}

fn values(value: &Value) -> u64 {
    match value {
        Value::List(items) => items.iter().map(values).fold(1, u64::saturating_add),
        Value::Object(fields) => fields.values().map(values).fold(1, u64::saturating_add),
        _ => 1,
    }
}

/// Counts the mentions in a document.
pub(super) fn mentions(document: &ExecutableDocument) -> Mentions {
    let mut found = Mentions::new();
    walk::selections(document, &mut |selection| {
        let of_directives = selection.directives().iter().flat_map(|directive| &directive.node.arguments);
        of_directives.for_each(|(_, value)| mentioned(&value.node, &mut found));
        if let Selection::Field(field) = selection {
            field.node.arguments.iter().for_each(|(_, value)| mentioned(&value.node, &mut found));
        }
    });
    found
}

fn mentioned(value: &Written, found: &mut Mentions) {
    match value {
        Written::Variable(name) => *found.entry(name.clone()).or_default() += 1,
        Written::List(values) => values.iter().for_each(|value| mentioned(value, found)),
        Written::Object(fields) => fields.values().for_each(|value| mentioned(value, found)),
        _ => {}
    }
}

fn refused(message: String) -> Refusal {
    Refusal::document(message)
}

struct Wrong {
    value: String,
    ty: String,
}

fn fits(model: &Model, value: &Value, ty: &Type) -> Result<(), Wrong> {
    let wrong = || Wrong { value: told(value), ty: ty.to_string() };
    match (&ty.base, value) {
        (_, Value::Null) if ty.nullable => Ok(()),
        (_, Value::Null) => Err(wrong()),
        (BaseType::List(item), Value::List(values)) => values.iter().try_for_each(|value| fits(model, value, item)),
        // A value stands for the list that has it alone.
        (BaseType::List(item), value) => fits(model, value, item),
        (BaseType::Named(name), value) => {
            if named(model, name, value)? {
                Ok(())
            } else {
                Err(wrong())
            }
        }
    }
}

fn named(model: &Model, name: &Name, value: &Value) -> Result<bool, Wrong> {
    let fits_there = match (name.as_str(), value) {
        ("Int", Value::Number(number)) => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        ("Float", Value::Number(_))
        | ("String", Value::String(_))
        | ("Boolean", Value::Boolean(_))
        | ("ID", Value::String(_)) => true,
        ("ID", Value::Number(number)) => !number.is_f64(),
        _ => match (model.inputs.get(name), value) {
            (Some(Input::Scalar), value) => is_of_scalar(name, value),
            (Some(Input::Enum(values)), Value::String(text)) => values.iter().any(|value| value == text),
            (Some(Input::Enum(values)), Value::Enum(text)) => values.contains(text),
            (Some(Input::Object(fields)), Value::Object(given)) => {
                for (field, (ty, optional)) in fields {
                    match given.get(field) {
                        None if !*optional => return Ok(false),
                        None => {}
                        Some(value) => fits(model, value, ty)?,
                    }
                }
                given.keys().all(|field| fields.contains_key(field))
            }
            _ => false,
        },
    };
    Ok(fits_there)
}

/// Whether a custom scalar can have a value: so that it fails once, not in each field that has it.
pub(super) fn is_of_scalar(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("JSON", _) => true,
        ("DateTime", Value::String(text)) => text.parse::<jiff::Timestamp>().is_ok(),
        ("Decimal", Value::String(text)) => text.parse::<rust_decimal::Decimal>().is_ok(),
        ("BigInt", Value::String(text)) => text.parse::<i64>().is_ok(),
        _ => false,
    }
}

pub(super) fn told(value: &Value) -> String {
    match value {
        Value::List(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(TOLD_CHARS_MAX) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}
