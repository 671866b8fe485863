//! Documents written by hand, read by another parser than the gateway's.

use graphql_parser::query::{self as syntax, Definition, OperationDefinition, TypeCondition, parse_query};
use serde_json::Value as Json;

use super::{Condition, Field, Fragment, Operation, Request, Selection, Value, Variable};

/// A document of queries, the first of which runs with these variables.
pub(crate) fn read(text: &str, variables: Json) -> Request {
    let values = variables.as_object().cloned().unwrap_or_default();
    let mut request = Request { operations: vec![], fragments: vec![], variables: vec![], chosen: 0, named: false, values };
    for definition in parse_query::<String>(text).unwrap().definitions {
        match definition {
            Definition::Operation(OperationDefinition::SelectionSet(set)) => {
                request.operations.push(Operation { name: None, selections: selections(set) });
            }
            Definition::Operation(OperationDefinition::Query(query)) => {
                for definition in query.variable_definitions {
                    let variable = Variable {
                        name: definition.name,
                        kind: definition.var_type.to_string(),
                        default: definition.default_value.map(value),
                    };
                    if !request.variables.contains(&variable) {
                        request.variables.push(variable);
                    }
                }
                request.operations.push(Operation { name: query.name, selections: selections(query.selection_set) });
            }
            Definition::Fragment(fragment) => {
                let TypeCondition::On(on) = fragment.type_condition;
                let selections = selections(fragment.selection_set);
                request.fragments.push(Fragment { name: fragment.name, on, selections });
            }
            Definition::Operation(other) => panic!("{other:?} is no query"),
        }
    }
    request.variables.sort_by(|a, b| a.name.cmp(&b.name));
    request
}

fn selections(set: syntax::SelectionSet<'_, String>) -> Vec<Selection> {
    let read = |selection| match selection {
        syntax::Selection::Field(field) => Selection::Field(Field {
            alias: field.alias,
            name: field.name,
            arguments: field.arguments.into_iter().map(|(name, it)| (name, value(it))).collect(),
            conditions: conditions(field.directives),
            selections: selections(field.selection_set),
        }),
        syntax::Selection::FragmentSpread(spread) => {
            Selection::Spread { fragment: spread.fragment_name, conditions: conditions(spread.directives) }
        }
        syntax::Selection::InlineFragment(inline) => Selection::Inline {
            on: inline.type_condition.map(|TypeCondition::On(on)| on),
            conditions: conditions(inline.directives),
            selections: selections(inline.selection_set),
        },
    };
    set.items.into_iter().map(read).collect()
}

fn conditions(directives: Vec<syntax::Directive<'_, String>>) -> Vec<Condition> {
    let read = |mut directive: syntax::Directive<'_, String>| {
        assert!(["skip", "include"].contains(&directive.name.as_str()), "{directive:?}");
        Condition { include: directive.name == "include", on: value(directive.arguments.remove(0).1) }
    };
    directives.into_iter().map(read).collect()
}

fn value(value: syntax::Value<'_, String>) -> Value {
    match value {
        syntax::Value::Variable(name) => Value::Variable(name),
        syntax::Value::Int(int) => Value::Int(int.as_i64().unwrap()),
        syntax::Value::String(text) => Value::Text(text),
        syntax::Value::Boolean(boolean) => Value::Boolean(boolean),
        syntax::Value::Null => Value::Null,
        syntax::Value::List(items) => Value::List(items.into_iter().map(self::value).collect()),
        other => panic!("{other:?} is no value that these tests use"),
    }
}
