//! Operations: from a document's text to what may run, and what it costs.
//!
//! ```text
//! text ─► precheck ─► parse ─► validate ─► flatten ─► tree ──┐ once a document, in a bounded cache
//!                                            variables ─► check ─► estimate ─► run ─► actual   (each request)
//! ```
//!
//! What depends on the text alone is done once for each text. What depends on variables is checked on every request.

mod cost;
mod flatten;
mod model;
mod positions;
pub mod precheck;
mod rules;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod variables;
mod walk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use async_graphql::parser::types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, SelectionSet};
use async_graphql::parser::{self, parse_query};
use async_graphql::{Name, Positioned, Request, Value, Variables};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

pub use cost::{Actual, Estimate, LIST_MAX};
pub use rules::Rules;

use crate::error::{Code, Refusal};
use crate::metering::Terms;
use cost::Node;
use model::Model;
use precheck::{Bounds, precheck};

/// What a parsed document takes, for each byte of its text, and a flattened operation, for each of its fields.
const BYTES_FOR_EACH: u64 = 100;
const BYTES_A_FIELD: u64 = 1_200;

/// Refuses a document that the schema does not allow.
pub type Validate = Box<dyn Fn(ExecutableDocument) -> Result<(), Refusal> + Send + Sync>;

/// Documents that were seen, prepared to run.
pub struct Documents {
    model: Arc<Model>,
    bounds: Bounds,
    validate: Validate,
    cache: Cache<Arc<str>, Arc<Prepared>, ByText>,
    variants: Cache<VariantKey, Arc<Variant>, ByFields>,
    next: AtomicU64,
}

/// The document's id, the operation's place in it, and the values of its conditions.
type VariantKey = (u64, usize, Box<[bool]>);

#[derive(Clone)]
struct ByFields;

impl Weighter<VariantKey, Arc<Variant>> for ByFields {
    fn weight(&self, _: &VariantKey, variant: &Arc<Variant>) -> u64 {
        BYTES_A_FIELD * (1 + cost::count(&variant.nodes))
    }
}

#[derive(Clone)]
struct ByText;

impl Weighter<Arc<str>, Arc<Prepared>> for ByText {
    fn weight(&self, text: &Arc<str>, _: &Arc<Prepared>) -> u64 {
        BYTES_FOR_EACH * (text.len() as u64 + 100)
    }
}

/// What a document's text comes to.
struct Prepared {
    /// Never given twice.
    id: u64,
    document: ExecutableDocument,
    /// Variables that `@skip` and `@include` read.
    conditions: Vec<Name>,
    mentions: variables::Mentions,
}

/// An operation with its conditions decided.
struct Variant {
    document: ExecutableDocument,
    nodes: Vec<Node>,
    hollow: bool,
    introspects: bool,
}

/// An operation with its variables, checked: it can run.
pub struct Ready {
    variant: Arc<Variant>,
    variables: Variables,
}

/// How a request came: GET is for queries only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

impl Documents {
    /// For the schema that `sdl` prints; keeps prepared documents in about `bytes_max` of memory.
    pub fn new(sdl: &str, validate: Validate, bounds: Bounds, bytes_max: u64) -> anyhow::Result<Self> {
        let model = Arc::new(Model::read(sdl).context("the schema does not say what it costs")?);
        let cache = Cache::with_weighter(1_000, bytes_max / 2, ByText);
        let variants = Cache::with_weighter(1_000, bytes_max / 2, ByFields);
        Ok(Self { model, bounds, validate, cache, variants, next: AtomicU64::new(0) })
    }

    /// What is to run, or why it cannot.
    pub fn ready(&self, text: &str, name: Option<&str>, variables: Variables, method: Method) -> Result<Ready, Refusal> {
        let prepared = match self.cache.get(text) {
            Some(prepared) => prepared,
            None => {
                let prepared = Arc::new(self.prepare(text, name, method)?);
                self.cache.insert(text.into(), prepared.clone());
                prepared
            }
        };
        let (place, operation) = choose(&prepared.document, name)?;
        variables::check(&self.model, &operation.node, &variables)?;
        variables::copies(&prepared.mentions, &operation.node, &variables)?;
        let variant = self.variant(&prepared, place, operation, &variables)?;
        Ok(Ready { variant, variables })
    }

    fn prepare(&self, text: &str, name: Option<&str>, method: Method) -> Result<Prepared, Refusal> {
        precheck(text, &self.bounds).map_err(|refusal| Refusal::new(Code::QueryTooComplex, refusal.to_string()))?;
        let document = parse_query(text).map_err(|error| not_graphql(&error))?;
        let (_, chosen) = choose(&document, name)?;
        if method == Method::Get && chosen.node.ty != OperationType::Query {
            return Err(Refusal::method_not_allowed(
                "POST",
                "GET is for queries only. Send a mutation by POST, as JSON in the body.",
            ));
        }
        (self.validate)(flatten::with_conditions_seen(&document))?;
        positions::check(&self.model, &document)?;
        let conditions = flatten::condition_variables(&document);
        let mentions = variables::mentions(&document);
        Ok(Prepared { id: self.next.fetch_add(1, Ordering::Relaxed), document, conditions, mentions })
    }

    fn variant(
        &self,
        prepared: &Prepared,
        place: usize,
        operation: &Positioned<OperationDefinition>,
        variables: &Variables,
    ) -> Result<Arc<Variant>, Refusal> {
        let default = |name: &Name| {
            let definitions = &operation.node.variable_definitions;
            definitions.iter().find(|it| it.node.name.node == *name).and_then(|it| it.node.default_value())
        };
        let is_met = |name: &Name| matches!(variables.get(name).or_else(|| default(name)), Some(Value::Boolean(true)));
        let key = (prepared.id, place, prepared.conditions.iter().map(is_met).collect());
        if let Some(variant) = self.variants.get(&key) {
            return Ok(variant);
        }
        let variant = Arc::new(Variant::new(&self.model, &prepared.document, operation, &is_met)?);
        self.variants.insert(key, variant.clone());
        Ok(variant)
    }
}

/// The operation that is meant (GraphQL, 6.1), and its place among those of its document.
fn choose<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<(usize, &'a Positioned<OperationDefinition>), Refusal> {
    let mut operations = document.operations.iter().enumerate().map(|(place, (of, operation))| (of, (place, operation)));
    let Some(name) = name else {
        return match (operations.next(), operations.next()) {
            (Some((_, it)), None) => Ok(it),
            (None, _) => Err(Refusal::document("The document has no operation. Send a query.")),
            (Some(_), Some(_)) => Err(Refusal::document("The document has several operations. Say which in operationName.")),
        };
    };
    let named = operations.find(|(of, _)| of.is_some_and(|of| of.as_str() == name));
    named.map(|(_, it)| it).ok_or_else(|| {
        let what =
            format!("The document has no operation named \"{name:.80}\". Send the operationName of one of its operations.");
        Refusal::document(what)
    })
}

impl Variant {
    fn new(
        model: &Model,
        document: &ExecutableDocument,
        operation: &Positioned<OperationDefinition>,
        conditions: &dyn Fn(&Name) -> bool,
    ) -> Result<Self, Refusal> {
        let selected = flatten::flatten(document, &operation.node.selection_set.node, conditions)?;
        let nodes = cost::tree(model, &operation.node, &selected);
        let hollow = selected.is_empty() || cost::is_hollow_somewhere(&nodes);
        let set = flatten::selection_set(&selected, selected.is_empty());
        let introspects = selected.iter().any(|it| matches!(it.field.node.name.node.as_str(), "__schema" | "__type"));
        let definition = OperationDefinition {
            ty: operation.node.ty,
            variable_definitions: operation.node.variable_definitions.clone(),
            directives: Vec::new(),
            selection_set: Positioned::<SelectionSet>::new(set, operation.node.selection_set.pos),
        };
        let operations = DocumentOperations::Single(Positioned::new(definition, operation.pos));
        Ok(Self { document: ExecutableDocument { operations, fragments: HashMap::new() }, nodes, hollow, introspects })
    }
}

impl Ready {
    /// What it costs at most.
    pub fn estimate(&self, terms: &Terms) -> Estimate {
        cost::estimate(&self.variant.nodes, &self.variables, terms)
    }

    /// What its answer comes to; objects at the paths of `stale` are waived.
    pub fn actual(&self, data: &Value, terms: &Terms, stale: &HashSet<String>) -> Actual {
        cost::actual(&self.variant.nodes, data, terms, stale)
    }

    /// Whether it asks for the schema itself.
    pub fn introspects(&self) -> bool {
        self.variant.introspects
    }

    /// For the engine, once: each response key once, without fragments and conditions.
    pub fn request(&mut self) -> Request {
        let mut request = Request::new(String::new()).variables(std::mem::take(&mut self.variables));
        request.set_parsed_query(self.variant.document.clone());
        request
    }

    /// The engine's data as the specification wants it.
    pub fn tidy(&self, data: &mut Value) {
        cost::tidy(&self.variant.nodes, data, self.variant.hollow);
    }
}

fn not_graphql(error: &parser::Error) -> Refusal {
    let (mut positions, message) = (error.positions(), error.to_string());
    let refusal = Refusal::new(Code::GraphqlParseFailed, format!("The query is not GraphQL: {}", one_line(&message)));
    match positions.next() {
        Some(position) => refusal.at(position.line, position.column),
        None => refusal,
    }
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
