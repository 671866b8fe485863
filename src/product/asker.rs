//! What a request carries through the resolvers: who asks, and what has been answered so far.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_graphql::{Context, Error, ErrorExtensions, QueryPathNode, Value};
use parking_lot::Mutex;

use crate::clock::Micros;
use crate::directory::{Account, Credential, Scope};
use crate::error::Code;
use crate::metering::Product;

/// Rows that one request may read; also bounds what duplicated fields cost, which the engine resolves once each.
const ROWS_MAX: usize = 1000;

/// Who asks, when.
#[derive(Clone)]
pub struct Asker {
    /// The key that was presented.
    pub credential: Credential,
    /// Admission time; prices in force and freshness are told as of it.
    pub now: Micros,
}

impl Asker {
    pub(super) fn of<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a Self> {
        ctx.data::<Self>()
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.credential.account
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.account().partner.scope
    }

    /// Refuses a field of a product that the plan does not have, from the plan alone.
    pub(super) fn entitled(&self, product: Product) -> async_graphql::Result<()> {
        match &self.account().plan {
            Some(plan) if plan.products.contains(&product) => Ok(()),
            _ => Err(coded(Code::NotEntitled, format!("Your plan does not include {product}. Ask for a plan that does."))),
        }
    }
}

/// A field's error with its code.
pub(super) fn coded(code: Code, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code.as_str()))
}

/// What has been answered: one unit for each value, by its place in the answer.
#[derive(Default)]
pub struct Metered {
    /// A response key that stands twice in a selection set is resolved twice and answered once.
    answered: Mutex<HashSet<(Product, String)>>,
    rows: AtomicUsize,
}

impl Metered {
    pub(super) fn of<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a Self> {
        Ok(ctx.data::<Arc<Self>>()?)
    }

    /// Counts the value at `path`.
    pub(super) fn count(&self, product: Product, path: Option<&QueryPathNode<'_>>) {
        let path = path.map(ToString::to_string).unwrap_or_default();
        self.answered.lock().insert((product, path));
    }

    /// Takes `rows` more to be read, or refuses.
    pub(super) fn take_rows(&self, rows: usize) -> async_graphql::Result<()> {
        if self.rows.fetch_add(rows, Ordering::Relaxed).saturating_add(rows) > ROWS_MAX {
            return Err(coded(
                Code::QueryTooComplex,
                format!(
                    "One request may read {ROWS_MAX} products, a page of the catalogue counting for more. Ask for less at a time."
                ),
            ));
        }
        Ok(())
    }

    /// Units by product of what stands in the answer. The engine writes null for a value whose every field was skipped, and
    /// drops some that it merges: what is not there is not billed.
    pub fn units(&self, data: &Value) -> BTreeMap<Product, u64> {
        let mut units = BTreeMap::new();
        for (product, path) in self.answered.lock().iter() {
            let answered = path.split('.').try_fold(data, |value, segment| match value {
                Value::Object(fields) => fields.get(segment),
                Value::List(items) => items.get(segment.parse::<usize>().ok()?),
                _ => None,
            });
            if answered.is_some_and(|value| *value != Value::Null) {
                *units.entry(*product).or_default() += 1;
            }
        }
        units
    }
}

/// Whether execution began: only then is there an answer to meter.
#[derive(Clone, Default)]
pub struct Executed(Arc<AtomicBool>);

impl Executed {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it began.
    pub fn began(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
