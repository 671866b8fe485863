//! A request to `POST /graphql`, from its text to its answer: check, parse, validate, run without data.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};
use tollgate::gate::admit;
use tollgate::gate::precheck::Bounds;
use tollgate::product::{self, Executed, Schema};

const REFUSAL_BYTES_MAX: usize = 20 * 1024;

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not past the check before the parser.
    Refused,
    /// Not GraphQL, not of this schema, or its variables are not of their types.
    Invalid,
    /// It ran.
    Ran,
}

/// Takes what comes before the first byte 0xFF (which UTF-8 never has) for the query, and what comes after it for the JSON of its
/// variables.
///
/// # Panics
///
/// - A refusal is not one line of text.
pub fn operation(data: &[u8]) -> Outcome {
    let (query, variables) = match data.iter().position(|&byte| byte == 0xFF) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    // Bytes that are not UTF-8 do not get past the reader of JSON, so nothing is lost by replacing them.
    let query = String::from_utf8_lossy(query);
    run(&query, serde_json::from_slice(variables).unwrap_or_default())
}

/// The one place that knows how the library takes an operation.
fn run(query: &str, variables: Map<String, Value>) -> Outcome {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| product::schema(None));
    // Everything on this thread: its processor time is what is measured.
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("no runtime"));
    let body = json!({ "query": query, "variables": variables }).to_string();
    let request = match admit::operation(body.as_bytes(), &Bounds::default()) {
        Ok(request) => request,
        Err(refusal) => {
            let words = &refusal.message;
            assert!(!words.is_empty() && !words.contains(['\n', '\r']), "not one line: {words:?}");
            assert!(words.len() <= REFUSAL_BYTES_MAX, "{} bytes of refusal: {words:.200}…", words.len());
            return if refusal.code.as_str() == "QUERY_TOO_COMPLEX" { Outcome::Refused } else { Outcome::Invalid };
        }
    };
    let executed = Executed::default();
    drop(RUNTIME.block_on(SCHEMA.execute(request.data(executed.clone()))));
    if executed.began() { Outcome::Ran } else { Outcome::Invalid }
}
