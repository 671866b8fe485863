//! Variables against their definitions (GraphQL, 6.1.2): what a document's validation, done once, cannot see.

use async_graphql::parser::types::{BaseType, OperationDefinition, Type};
use async_graphql::{Name, Value, Variables};

use super::model::{Input, Model};
use crate::error::Refusal;

/// How much of a wrong value is told.
const TOLD_CHARS_MAX: usize = 40;

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
            // What is in it is the field's to judge.
            (Some(Input::Scalar), _) => true,
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

fn told(value: &Value) -> String {
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
