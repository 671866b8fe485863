//! Admit: what may run. The byte-level check comes before the parser, because nesting would overflow its stack and chained
//! fragments would keep it busy for minutes.

use async_graphql::parser::parse_query;
use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, Variables};
use serde::Deserialize;

use crate::error::{Code, Refusal};
use crate::operation::precheck::{Bounds, precheck};

/// A request as GraphQL over HTTP has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    query: String,
    operation_name: Option<String>,
    variables: Option<serde_json::Map<String, serde_json::Value>>,
    /// Allowed by the specification; nothing here reads it.
    #[serde(rename = "extensions")]
    _extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The parsed operation of a body.
pub fn operation(body: &[u8], bounds: &Bounds) -> Result<Request, Refusal> {
    // serde would take a list for the fields of one request.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::new(
            Code::BadUserInput,
            "The body is a list, but batches are not taken. Send one request at a time.",
        ));
    }
    let parameters: Parameters = serde_json::from_slice(body).map_err(|error| {
        let what = format!("The body is not a GraphQL request: {error}. Send {{\"query\": \"…\", \"variables\": {{…}}}}.");
        Refusal::new(Code::BadUserInput, what)
    })?;
    precheck(&parameters.query, bounds).map_err(|refusal| Refusal::new(Code::QueryTooComplex, refusal.to_string()))?;
    let document = parse_query(&parameters.query).map_err(|error| {
        // The parser's message draws the place over several lines; its first says what.
        Refusal::new(Code::GraphqlParseFailed, format!("The query is not GraphQL: {}", one_line(&error.to_string())))
    })?;
    required(&document, parameters.operation_name.as_deref(), parameters.variables.as_ref())?;
    let variables = Variables::from_json(serde_json::Value::Object(parameters.variables.unwrap_or_default()));
    let mut request = Request::new(parameters.query).variables(variables);
    if let Some(name) = parameters.operation_name {
        request = request.operation_name(name);
    }
    request.set_parsed_query(document);
    Ok(request)
}

/// Refuses an operation whose required variables are not all there (GraphQL, 6.1.2), before anything runs.
fn required(
    document: &ExecutableDocument,
    name: Option<&str>,
    given: Option<&serde_json::Map<String, serde_json::Value>>,
) -> Result<(), Refusal> {
    let mut operations = document.operations.iter();
    let chosen = match name {
        Some(name) => operations.find(|(of, _)| of.is_some_and(|of| of.as_str() == name)),
        None => operations.next(),
    };
    for definition in chosen.iter().flat_map(|(_, operation)| &operation.node.variable_definitions) {
        let (name, kind) = (definition.node.name.node.as_str(), &definition.node.var_type.node);
        let there = given.and_then(|given| given.get(name)).is_some_and(|value| !value.is_null());
        if !kind.nullable && definition.node.default_value.is_none() && !there {
            return Err(Refusal::new(
                Code::BadUserInput,
                format!("The variable ${name} of type {kind} is missing. Send it in variables."),
            ));
        }
    }
    Ok(())
}

/// Without the drawing of the place that the parser adds.
fn one_line(message: &str) -> String {
    let told: Vec<&str> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|') && !line.chars().all(|c| c == '-'))
        .collect();
    let place = told.iter().find_map(|line| line.strip_prefix("-->"));
    match (place, told.last()) {
        (Some(place), Some(what)) => format!("{} at {}", what.trim_start_matches("= "), place.trim()),
        (None, Some(what)) => what.trim_start_matches("= ").to_owned(),
        (_, None) => "it cannot be read".to_owned(),
    }
}
