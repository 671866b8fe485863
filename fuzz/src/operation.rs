//! A request to `POST /graphql`, from its body to its answer, without data: check, parse, validate, estimate, run, count.

use std::sync::LazyLock;

use async_graphql::parser::parse_query;
use async_graphql::{EmptyMutation, EmptySubscription, Schema, ValidationMode};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};
use tollgate::error::{Code, Refusal};
use tollgate::gate::request;
use tollgate::metering::{Product, Terms, Weighted};
use tollgate::operation::precheck::{Bounds, precheck};
use tollgate::operation::{Documents, Method, Rules};
use tollgate::product::{self, Query};

use super::recount::recount;

/// A refusal may name what was written.
const REFUSAL_BYTES_MAX: usize = 20 * 1024;
/// As in config.default.toml.
const RULES: Rules = Rules { answer_fields_max: 50_000, query_units_max: 1_000, introspection: true };

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Too complex or too dear, known before it runs.
    Refused,
    /// Not GraphQL, not of this schema, or its variables are not of their types.
    Invalid,
    /// It ran.
    Ran,
}

/// Takes what comes before the first byte 0xFF (which UTF-8 never has) for the query, and what comes after it for the JSON of its
/// variables; `operationName` among them names the operation.
///
/// # Panics
///
/// - A refusal is not one line of text.
/// - An answer costs more than its estimate.
/// - The parser sees a document past a bound that the check before it saw kept.
pub fn operation(data: &[u8]) -> Outcome {
    let (query, variables) = match data.iter().position(|&byte| byte == 0xFF) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    // Bytes that are not UTF-8 do not get past the reader of JSON, so nothing is lost by replacing them.
    let query = String::from_utf8_lossy(query);
    let bounds = Bounds::default();
    if precheck(&query, &bounds).is_ok()
        && let Ok(document) = parse_query(&*query)
    {
        recount(&document, &bounds);
    }
    match run(&query, serde_json::from_slice(variables).unwrap_or_default()) {
        Ok(()) => Outcome::Ran,
        Err(refusal) => {
            let words = &refusal.message;
            assert!(!words.is_empty() && !words.contains(['\n', '\r']), "not one line: {words:?}");
            assert!(words.len() <= REFUSAL_BYTES_MAX, "{} bytes of refusal: {words:.200}…", words.len());
            match refusal.code {
                Code::QueryTooComplex | Code::CostEstimatedTooExpensive => Outcome::Refused,
                _ => Outcome::Invalid,
            }
        }
    }
}

/// The one place that knows how the library takes an operation.
fn run(query: &str, mut variables: Map<String, Value>) -> Result<(), Refusal> {
    // Without data every field that reads some fails; introspection answers in full.
    static SCHEMA: LazyLock<Schema<Query, EmptyMutation, EmptySubscription>> =
        LazyLock::new(|| Schema::build(Query, EmptyMutation, EmptySubscription).validation_mode(ValidationMode::Fast).finish());
    // Everything on this thread: its processor time is what is measured.
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("no runtime"));
    // No room, so that every input is prepared.
    static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
        Documents::new(&product::sdl(), product::validator(true), Bounds::default(), 0).expect("the schema does not say its cost")
    });
    let name = variables.remove("operationName").filter(Value::is_string);
    let body = json!({ "query": query, "operationName": name, "variables": variables }).to_string();
    let parameters = request::of_body(body.as_bytes())?;
    let variables = parameters.variables.unwrap_or_default();
    let mut ready = DOCUMENTS.ready(&parameters.query, parameters.operation_name.as_deref(), variables, Method::Post)?;
    let terms = Terms::new(Product::ALL, [], |_: Weighted| 1);
    let (estimate, within) = ready.check(&terms, &RULES);
    within?;
    let mut response = RUNTIME.block_on(SCHEMA.execute(ready.request()));
    ready.tidy(&mut response.data);
    let actual = ready.actual(&response.data, &terms, &Default::default());
    assert!(actual.units.total() <= estimate.units.total(), "{actual:?} is more than {estimate:?}");
    drop(serde_json::to_vec(&response));
    Ok(())
}
