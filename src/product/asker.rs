//! What a request carries through the resolvers: who asks, and what they notice for settling.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Context, Error, ErrorExtensions, QueryPathNode};
use parking_lot::Mutex;

use crate::clock::Micros;
use crate::directory::{Account, Credential, Scope};
use crate::error::Code;
use crate::ids::RequestId;
use crate::metering::{Deniable, Mode, Product, Terms};
use crate::operation::Rules;

/// Rows that one request may read: the weightless ones are bounded too.
const ROWS_MAX: usize = 1000;

/// Who asks, when.
#[derive(Clone)]
pub struct Asker {
    /// The key that was presented.
    pub credential: Arc<Credential>,
    /// What its plan, and the key itself, allow to be read.
    pub terms: Terms,
    /// What no traffic would admit.
    pub rules: Rules,
    /// Admission time; prices in force and freshness are told as of it.
    pub now: Micros,
    /// Finds the log lines.
    pub request: RequestId,
}

impl Asker {
    pub(super) fn of<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a Self> {
        ctx.data::<Self>()
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.credential.account
    }

    /// Which rows it may see. The sample set is nobody's data: a test key sees all of it.
    pub(super) fn scope(&self) -> &Scope {
        static ALL: Scope = Scope::all();
        match self.credential.mode {
            Mode::Live => &self.account().partner.scope,
            Mode::Test => &ALL,
        }
    }

    /// Refuses a field of a product that the plan, or the key, does not have; from these alone.
    pub(super) fn entitled(&self, product: Product) -> async_graphql::Result<()> {
        if self.terms.sells(product) {
            return Ok(());
        }
        let by_plan = self.account().plan.as_ref().is_some_and(|plan| plan.products.contains(&product));
        let message = if by_plan {
            format!("This key is not for {product}. Use another of your keys, or ask your provider.")
        } else {
            format!("Your plan does not include {product}. Ask for a plan that does.")
        };
        Err(coded(Code::NotEntitled, message))
    }

    /// The value of a field, unless the plan leaves the field out.
    pub(super) fn allowed<T>(&self, field: Deniable, value: T) -> async_graphql::Result<T> {
        if !self.terms.denies(field) {
            return Ok(value);
        }
        let message = format!("Your plan does not include {}. Ask for a plan that does.", field.as_str());
        Err(coded(Code::NotEntitled, message))
    }
}

/// A field's error with its code.
pub(super) fn coded(code: Code, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code.as_str()))
}

/// What the resolvers notice, for settling.
#[derive(Default)]
pub struct Noted {
    rows: AtomicUsize,
    stale: Mutex<HashSet<String>>,
}

impl Noted {
    pub(super) fn of<'a>(ctx: &Context<'a>) -> async_graphql::Result<&'a Self> {
        Ok(ctx.data::<Arc<Self>>()?)
    }

    /// The object at `path`, or the item of the list there, is staler than the plan promises.
    pub(super) fn is_stale(&self, path: Option<&QueryPathNode<'_>>, item: Option<usize>) {
        let path = path.map(ToString::to_string).unwrap_or_default();
        let path = item.map_or(path.clone(), |item| format!("{path}.{item}"));
        self.stale.lock().insert(path);
    }

    /// The paths of what is staler than the plan promises.
    pub fn stale(&self) -> HashSet<String> {
        std::mem::take(&mut *self.stale.lock())
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
}
