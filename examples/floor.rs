//! The floor that `scripts/bench` holds the gateway against: axum and async-graphql as their guides have them, over the
//! same feature store, with look-ahead and one read a request. No keys, no limits, no metering.
//!
//! It answers the benchmark's operations with the gateway's data, and promises nothing else: `floor DATA_DIR ADDRESS`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use async_graphql::{
    Context, EmptyMutation, EmptySubscription, ID, InputValueError, InputValueResult, Object, Request, Response, Result, Scalar,
    ScalarType, SelectionField, SimpleObject, Value,
};
use axum::{Json, Router, extract::State, routing::post};
use tollgate::clock::{Clock, Micros};
use tollgate::config::Settings;
use tollgate::data_dir::DataDir;
use tollgate::db::Db;
use tollgate::engine::Engine;
use tollgate::feature::{self, FeatureStore, Found, Read, Scope, Wanted};

// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Schema = async_graphql::Schema<Query, EmptyMutation, EmptySubscription>;

struct Features {
    store: Arc<dyn FeatureStore>,
    clock: Clock,
}

/// What travels as a string.
macro_rules! text_scalar {
    ($name:ident, $inner:ty) => {
        #[derive(Clone, Copy)]
        struct $name($inner);

        #[Scalar]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                Err(InputValueError::expected_type(value))
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.to_string())
            }
        }
    };
}

text_scalar!(BigInt, i64);
text_scalar!(DateTime, Micros);
text_scalar!(Decimal, rust_decimal::Decimal);

#[derive(Clone, Copy, SimpleObject)]
struct Freshness {
    as_of: DateTime,
    lag_ms: i32,
}

#[derive(SimpleObject)]
struct Inventory {
    location: String,
    on_hand: BigInt,
    reserved: BigInt,
    available: BigInt,
    updated_at: DateTime,
    freshness: Freshness,
}

#[derive(SimpleObject)]
struct Price {
    market: String,
    currency: &'static str,
    amount: Decimal,
    updated_at: DateTime,
    freshness: Freshness,
}

struct Product {
    read: Read,
    found: feature::Product,
    freshness: Freshness,
}

#[Object]
impl Product {
    async fn sku(&self) -> ID {
        ID(self.read.sku.clone())
    }

    async fn title(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.title.as_str())
    }

    async fn brand(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.brand.as_str())
    }

    async fn category(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.category.as_str())
    }

    async fn inventory(&self, location: String) -> Option<Inventory> {
        let place = self.read.wanted.locations.iter().position(|read| *read == location)?;
        let level = self.found.stock.get(place).copied().flatten()?;
        Some(Inventory {
            location,
            on_hand: BigInt(level.on_hand),
            reserved: BigInt(level.reserved),
            available: BigInt(level.on_hand.saturating_sub(level.reserved)),
            updated_at: DateTime(level.updated_at),
            freshness: self.freshness,
        })
    }

    async fn price(&self, market: String) -> Option<Price> {
        let place = self.read.wanted.markets.iter().position(|read| *read == market)?;
        let price = self.found.prices.get(place).copied().flatten()?;
        Some(Price {
            market,
            currency: price.currency.code(),
            amount: Decimal(price.amount),
            updated_at: DateTime(price.updated_at),
            freshness: self.freshness,
        })
    }
}

struct Query;

#[Object]
impl Query {
    async fn product(&self, ctx: &Context<'_>, sku: ID) -> Result<Option<Product>> {
        Ok(read(ctx, vec![sku]).await?.pop().flatten())
    }

    async fn products(&self, ctx: &Context<'_>, skus: Vec<ID>) -> Result<Vec<Option<Product>>> {
        read(ctx, skus).await
    }
}

/// One read for all SKUs and all that is asked of them.
async fn read(ctx: &Context<'_>, skus: Vec<ID>) -> Result<Vec<Option<Product>>> {
    let locations = asked(ctx.look_ahead().field("inventory").selection_fields(), "location")?;
    let markets = asked(ctx.look_ahead().field("price").selection_fields(), "market")?;
    let wanted = Arc::new(Wanted { locations, markets, ..Wanted::default() });
    let read = |sku: ID| Read { sku: sku.0, wanted: wanted.clone() };
    let reads: Vec<Read> = skus.into_iter().map(read).collect();
    let features = ctx.data::<Features>()?;
    let now = features.clock.now();
    let found = features.store.get_many(&reads, &Scope::all(), now).await?;
    let product = |(read, found): (Read, Found)| {
        let as_of = found.as_of?;
        let lag_ms = i32::try_from(now.since(as_of).as_millis()).unwrap_or(i32::MAX);
        Some(Product { read, found: found.product?, freshness: Freshness { as_of: DateTime(as_of), lag_ms } })
    };
    Ok(reads.into_iter().zip(found).map(product).collect())
}

/// The values of the fields' argument `name`.
fn asked(fields: Vec<SelectionField<'_>>, name: &str) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for field in fields {
        for (argument, value) in field.arguments()? {
            match value {
                Value::String(value) if argument == name && !values.contains(&value) => values.push(value),
                _ => {}
            }
        }
    }
    Ok(values)
}

async fn graphql(State(schema): State<Schema>, Json(request): Json<Request>) -> Json<Response> {
    Json(schema.execute(request).await)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(address)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: floor DATA_DIR ADDRESS");
    };
    let folder = Path::new(&folder);
    let data_dir = DataDir::lock(folder)?;
    let clock = Clock::system();
    let settings = Settings::defaults(folder)?;
    let db = Db::open(&settings.database_url(), 1, folder).await?;
    let engine = Arc::new(Engine::open(&settings, &data_dir, &db, clock.clone(), Arc::default()).await?);
    let store = engine.features();
    // Never told to stop: freshness goes on, as in the gateway, until the process ends.
    let (_stop, stop) = tokio::sync::watch::channel(false);
    tokio::spawn(async move { engine.run(stop).await });

    let schema = Schema::build(Query, EmptyMutation, EmptySubscription).data(Features { store, clock }).finish();
    let listener = tokio::net::TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    eprintln!("listening on {}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/graphql", post(graphql)).with_state(schema)).await?;
    Ok(())
}
