//! The root: look ahead, read once, apply the row scope.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};
use tokio::sync::watch;

use super::asker::{Asker, Noted, coded};
use super::catalog::{self, ProductConnection};
use super::cost::{CostEstimate, cost, free, list_size};
use super::item::Product;
use super::journey::{self, Asked, By, DimensionInput, Journey, JourneyProduct};
use super::lookahead::wanted;
use super::scalars::{DateTime, Json};
use super::usage::Usage;
use super::viewer::Viewer;
use crate::db::Db;
use crate::error::Code;
use crate::feature::{FeatureStore, Found, Read};
use crate::metering::{Mode, Shipped};
use crate::operation::{Documents, LIST_MAX};

/// What the resolvers read from.
#[derive(Clone)]
pub struct Services {
    /// Features.
    pub features: Arc<dyn FeatureStore>,
    /// What test keys see in their place.
    pub sample: Arc<dyn FeatureStore>,
    /// Documents that were seen.
    pub documents: Arc<Documents>,
    /// The ledger.
    pub db: Db,
    /// How far the ledger has this replica's usage.
    pub shipped: watch::Receiver<Shipped>,
}

/// Where queries begin.
pub struct Query;

impl Services {
    /// What `asker` reads from.
    pub(super) fn features(&self, asker: &Asker) -> &dyn FeatureStore {
        match asker.credential.mode {
            Mode::Live => &*self.features,
            Mode::Test => &*self.sample,
        }
    }
}

/// Live data, as your plan has it. What an answer costs stands in its extensions; `estimateCost` tells before.
#[Object(directive = cost::apply(free()))]
impl Query {
    /// One product; null for an unknown SKU and for one outside of your scope. A test key sees the sample set: `catalog` lists it,
    /// with stock at BER-1 and MUC-1 and prices in DE and CH.
    async fn product(&self, ctx: &Context<'_>, #[graphql(desc = "The SKU.")] sku: ID) -> Option<async_graphql::Result<Product>> {
        one(ctx, &sku).await.transpose()
    }

    /// Products in the order asked; null for an unknown SKU and for one outside of your scope.
    #[graphql(directive = list_size::apply(None, Some(vec!["skus".to_owned()]), None, true))]
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100 SKUs.")] skus: Vec<ID>,
    ) -> Option<async_graphql::Result<Vec<Option<Product>>>> {
        Some(many(ctx, &skus).await)
    }

    /// All products in your scope, ascending by SKU: a connection as Relay has it.
    #[graphql(directive = list_size::apply(
        Some(catalog::PAGE_DEFAULT),
        Some(vec!["first".to_owned()]),
        Some(vec!["edges".to_owned(), "nodes".to_owned()]),
        false
    ))]
    async fn catalog(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many: 1 to 100; 20 when left out.")] first: Option<i32>,
        #[graphql(desc = "Behind this cursor.")] after: Option<String>,
    ) -> Option<async_graphql::Result<ProductConnection>> {
        Some(catalog::page(ctx, first.unwrap_or(catalog::PAGE_DEFAULT), after.as_deref()).await)
    }

    /// Shoppers' journeys: sessions, funnel, paths, carts and retention, in whole cells of the range. A test key sees the product
    /// `sample`, from 5 to 18 January 2026.
    #[graphql(directive = list_size::apply(
        Some(journey::CELLS_DEFAULT),
        Some(vec!["first".to_owned()]),
        Some(vec!["cells".to_owned(), "retention".to_owned()]),
        false
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the field")]
    async fn journey(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its name: `journeyProducts` lists them.")] product: ID,
        #[graphql(desc = "Cells begin then or later.")] from: DateTime,
        #[graphql(desc = "Cells end then or before.")] to: DateTime,
        #[graphql(desc = "How long cells are.")] by: By,
        #[graphql(desc = "Cells at most, and retention periods: 1 to 1000; 31 when left out. More in the range are an error.")]
        first: Option<i32>,
        #[graphql(desc = "A value of each dimension; the total when left out, or the one slice that you may see.")] slice: Option<
            Vec<DimensionInput>,
        >,
    ) -> Option<async_graphql::Result<Journey>> {
        let first = first.unwrap_or(journey::CELLS_DEFAULT);
        Some(Asked { product: product.0, from: from.0, to: to.0, by, first, slice }.answer(ctx).await)
    }

    /// Journey products, and what of each you may ask for.
    #[graphql(directive = list_size::apply(Some(20), None, None, false))]
    async fn journey_products(&self, ctx: &Context<'_>) -> Option<async_graphql::Result<Vec<JourneyProduct>>> {
        Some(journey::products(ctx).await)
    }

    /// What a query would cost you at most. Free, but for one unit of the rate.
    async fn estimate_cost(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The document; one operation alone.")] query: String,
        #[graphql(desc = "Its variables, as an object.")] variables: Option<Json>,
    ) -> Option<async_graphql::Result<CostEstimate>> {
        Some(CostEstimate::of(ctx, &query, variables.map(|variables| variables.0)))
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
    let wanted = wanted(ctx.field().selection_set())?;
    Ok(read(ctx, vec![Read { sku: sku.to_owned(), wanted }]).await?.pop().flatten())
}

async fn many(ctx: &Context<'_>, skus: &[ID]) -> async_graphql::Result<Vec<Option<Product>>> {
    if skus.len() > LIST_MAX {
        return Err(coded(Code::BadUserInput, format!("skus has {} values, but may have {LIST_MAX}. Ask in parts.", skus.len())));
    }
    let wanted = wanted(ctx.field().selection_set())?;
    read(ctx, skus.iter().map(|sku| Read { sku: sku.to_string(), wanted: wanted.clone() }).collect()).await
}

/// Answers in the order asked; what is unknown and what is out of scope look alike.
pub(super) async fn read(ctx: &Context<'_>, reads: Vec<Read>) -> async_graphql::Result<Vec<Option<Product>>> {
    let asker = Asker::of(ctx)?;
    Noted::of(ctx)?.take_rows(reads.len())?;
    let found = ctx.data::<Services>()?.features(asker).get_many(&reads, asker.scope(), asker.now).await;
    let found = found.map_err(|error| unreadable(asker, &error))?;
    reads.into_iter().zip(found).map(|(read, found)| known(read, found)).collect()
}

/// What a client may know of a store that fails.
pub(super) fn unreadable(asker: &Asker, error: &anyhow::Error) -> async_graphql::Error {
    tracing::error!(request.id = %asker.request, error = format!("{error:#}"), "features cannot be read");
    coded(Code::Unavailable, "Features cannot be read for now. Try again.")
}

fn known(read: Read, found: Found) -> async_graphql::Result<Option<Product>> {
    let Some(as_of) = found.as_of else {
        return Err(coded(Code::Unavailable, "This product's data is still being loaded. Try again."));
    };
    Ok(found.product.map(|product| Product { read, found: product, as_of }))
}
