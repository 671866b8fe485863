//! Variables stand where their types fit (GraphQL, 5.8.5). The engine has this rule and does not run it: its chain of visitors does
//! not pass on the values that the rule looks at. And literals of custom scalars are what these can have.

use std::collections::HashMap;

use async_graphql::Name;
use async_graphql::parser::types::{
    BaseType, Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet, Type, VariableDefinition,
};
use async_graphql::{Pos, Positioned, Value as Const};
use async_graphql_value::Value;

use super::model::{Input, Model, Object};
use super::variables;
use crate::error::{Code, Refusal};

/// Refuses a validated document in which a variable stands where its type does not fit.
pub(super) fn check(model: &Model, document: &ExecutableDocument) -> Result<(), Refusal> {
    document.operations.iter().try_for_each(|(_, operation)| {
        let definitions = &operation.node.variable_definitions;
        let variables = definitions.iter().map(|it| (&it.node.name.node, &it.node)).collect();
        let check = Check { model, document, variables, boolean: Type::new("Boolean!") };
        check.operation(&operation.node)
    })
}

struct Check<'a> {
    model: &'a Model,
    document: &'a ExecutableDocument,
    variables: HashMap<&'a Name, &'a VariableDefinition>,
    boolean: Option<Type>,
}

impl Check<'_> {
    fn operation(&self, operation: &OperationDefinition) -> Result<(), Refusal> {
        self.model.query().map_or(Ok(()), |query| self.set(query, &operation.selection_set.node))
    }

    fn set(&self, of: &Object, set: &SelectionSet) -> Result<(), Refusal> {
        set.items.iter().try_for_each(|item| {
            self.directives(item.node.directives())?;
            match &item.node {
                Selection::Field(field) => {
                    let Some(definition) = of.field(&field.node.name.node) else { return Ok(()) };
                    for (name, value) in &field.node.arguments {
                        if let Some((ty, has_default)) = definition.arguments.get(&name.node) {
                            self.value(&value.node, ty, *has_default, value.pos)?;
                        }
                    }
                    let below = definition.object.as_ref().and_then(|object| self.model.object(object));
                    below.map_or(Ok(()), |below| self.set(below, &field.node.selection_set.node))
                }
                Selection::InlineFragment(fragment) => self.set(of, &fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                    fragment.map_or(Ok(()), |fragment| self.set(of, &fragment.node.selection_set.node))
                }
            }
        })
    }

    fn directives(&self, directives: &[Positioned<Directive>]) -> Result<(), Refusal> {
        let conditions = directives.iter().filter_map(|directive| directive.node.get_argument("if"));
        conditions.zip(self.boolean.iter().cycle()).try_for_each(|(value, ty)| self.value(&value.node, ty, false, value.pos))
    }

    fn value(&self, value: &Value, wanted: &Type, has_default: bool, at: Pos) -> Result<(), Refusal> {
        match (value, &wanted.base) {
            (Value::Variable(name), _) => match self.variables.get(name) {
                Some(variable) if !fits(variable, wanted, has_default) => Err(refused(variable, wanted, at)),
                _ => Ok(()),
            },
            (Value::List(values), BaseType::List(item)) => values.iter().try_for_each(|value| self.value(value, item, false, at)),
            (value, BaseType::List(item)) => self.value(value, item, false, at),
            (value, BaseType::Named(name)) if matches!(self.model.inputs.get(name), Some(Input::Scalar)) => {
                // The engine would find out in each field by itself.
                match value.clone().into_const() {
                    Some(value) if value != Const::Null && !variables::is_of_scalar(name, &value) => {
                        let value = variables::told(&value);
                        let what =
                            format!("{value} is no {name} as the schema describes it (line {}, column {})", at.line, at.column);
                        Err(Refusal::new(Code::GraphqlValidationFailed, what).at(at.line, at.column))
                    }
                    _ => Ok(()),
                }
            }
            (Value::Object(fields), BaseType::Named(name)) => match self.model.inputs.get(name) {
                Some(Input::Object(types)) => fields.iter().try_for_each(|(field, value)| match types.get(field) {
                    Some((ty, optional)) => self.value(value, ty, *optional && !ty.nullable, at),
                    None => Ok(()),
                }),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn fits(variable: &VariableDefinition, wanted: &Type, has_default: bool) -> bool {
    let ty = &variable.var_type.node;
    let defaulted = has_default || variable.default_value().is_some_and(|value| *value != Const::Null);
    (wanted.nullable || !ty.nullable || defaulted) && same(&ty.base, &wanted.base)
}

/// Nullability of the outermost type is looked at already.
fn same(given: &BaseType, wanted: &BaseType) -> bool {
    match (given, wanted) {
        (BaseType::Named(given), BaseType::Named(wanted)) => given == wanted,
        (BaseType::List(given), BaseType::List(wanted)) => {
            (wanted.nullable || !given.nullable) && same(&given.base, &wanted.base)
        }
        _ => false,
    }
}

fn refused(variable: &VariableDefinition, wanted: &Type, at: Pos) -> Refusal {
    let (name, ty) = (&variable.name.node, &variable.var_type.node);
    let message =
        format!("The variable ${name} of type {ty} stands where {wanted} is wanted (line {}, column {})", at.line, at.column);
    Refusal::new(Code::GraphqlValidationFailed, message).at(at.line, at.column)
}
