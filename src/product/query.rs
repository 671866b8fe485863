//! The root: look ahead, read once, apply the row scope.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};
use tokio::sync::watch;

use super::asker::{Asker, Metered, coded};
use super::catalog::{self, ProductConnection};
use super::item::Product;
use super::lookahead::Wanted;
use super::usage::Usage;
use super::viewer::Viewer;
use crate::db::Db;
use crate::error::Code;
use crate::feature::{FeatureStore, Found, Read};
use crate::metering::Shipped;

/// SKUs that one `products` may name.
const SKUS_MAX: usize = 100;

/// What the resolvers read from.
#[derive(Clone)]
pub struct Services {
    /// Features.
    pub features: Arc<dyn FeatureStore>,
    /// The ledger.
    pub db: Db,
    /// How far the ledger has this replica's usage.
    pub shipped: watch::Receiver<Shipped>,
}

/// Where queries begin.
pub struct Query;

/// Live data, as your plan has it. One unit for each `inventory` and each `price` that is answered; the rest is free.
#[Object]
impl Query {
    /// One product; null for an unknown SKU and for one outside of your scope.
    async fn product(&self, ctx: &Context<'_>, #[graphql(desc = "The SKU.")] sku: ID) -> Option<async_graphql::Result<Product>> {
        one(ctx, &sku).await.transpose()
    }

    /// Products in the order asked; null for an unknown SKU and for one outside of your scope.
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100 SKUs.")] skus: Vec<ID>,
    ) -> Option<async_graphql::Result<Vec<Option<Product>>>> {
        Some(many(ctx, &skus).await)
    }

    /// All products in your scope, ascending by SKU: a connection as Relay has it.
    async fn catalog(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many: 1 to 100; 20 when left out.")] first: Option<i32>,
        #[graphql(desc = "Behind this cursor.")] after: Option<String>,
    ) -> Option<async_graphql::Result<ProductConnection>> {
        Some(catalog::page(ctx, first.unwrap_or(20), after.as_deref()).await)
    }

    /// You: partner, key, plan and scope.
    async fn viewer(&self, ctx: &Context<'_>) -> async_graphql::Result<Viewer> {
        Ok(Viewer(Asker::of(ctx)?.clone()))
    }

    /// What you used in a month of your time zone, and what it costs so far.
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Such as \"2026-11\"; the current month when left out.")] period: Option<String>,
    ) -> Option<async_graphql::Result<Usage>> {
        Some(Usage::read(ctx, period.as_deref()).await)
    }
}

async fn one(ctx: &Context<'_>, sku: &str) -> async_graphql::Result<Option<Product>> {
    let wanted = Wanted::of(ctx.field().selection_set())?;
    Ok(read(ctx, vec![wanted.read(sku)]).await?.pop().flatten())
}

async fn many(ctx: &Context<'_>, skus: &[ID]) -> async_graphql::Result<Vec<Option<Product>>> {
    if skus.len() > SKUS_MAX {
        return Err(coded(Code::BadUserInput, format!("skus has {} values, but may have {SKUS_MAX}. Ask in parts.", skus.len())));
    }
    let wanted = Wanted::of(ctx.field().selection_set())?;
    read(ctx, skus.iter().map(|sku| wanted.read(sku)).collect()).await
}

/// Answers in the order asked; what is unknown and what is out of scope look alike.
pub(super) async fn read(ctx: &Context<'_>, reads: Vec<Read>) -> async_graphql::Result<Vec<Option<Product>>> {
    let asker = Asker::of(ctx)?;
    Metered::of(ctx)?.take_rows(reads.len())?;
    let found = ctx.data::<Services>()?.features.get_many(&reads, asker.now).await.map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "features cannot be read");
        coded(Code::Unavailable, "Features cannot be read for now. Try again.")
    })?;
    reads.into_iter().zip(found).map(|(read, found)| admit(asker, read, found)).collect()
}

fn admit(asker: &Asker, read: Read, found: Found) -> async_graphql::Result<Option<Product>> {
    let Some(as_of) = found.as_of else {
        return Err(coded(Code::Unavailable, "This product's data is still being loaded. Try again."));
    };
    let in_scope = found.product.filter(|product| asker.scope().has_product(product.details.as_ref()));
    Ok(in_scope.map(|product| Product { read, found: product, as_of }))
}
