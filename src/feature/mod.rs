//! The feature store: what is true now of every SKU, folded from the event log, with the position kept in the same step.
//!
//! It promises (the seam's contract, whatever the backend): a batch is applied with its last offset or not at all; an event
//! whose `source` and `id` it has seen within the dedup bounds changes nothing; the state is a function of the log alone.

mod checkpoints;
mod embedded;
mod index;
mod journeys;
mod redis;
mod scope;
mod snapshot;
mod state;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rust_decimal::Decimal;

use crate::clock::Micros;
use crate::event::{Event, Identity};
use crate::journey::{self, VisitorKey};
use crate::money::Currency;

pub use self::redis::{RedisStore, Seal};
pub use checkpoints::{Checkpoints, Encoded, ObjectCheckpoints};
pub use embedded::EmbeddedStore;
pub use journeys::{Answered, JourneyStore, Passing};
pub use scope::Scope;

/// The bounds of what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an id is remembered, in append time.
    pub dedup_window: Duration,
    /// How many ids a partition remembers.
    pub dedup_ids_max: usize,
    /// How many values each (sku, location) and (sku, market) keeps.
    pub history_kept: usize,
}

/// What the fold goes by, beside the log.
#[derive(Clone)]
pub struct Bounds {
    /// What is remembered.
    pub limits: Limits,
    /// What visitors are told apart by.
    pub visitors: VisitorKey,
    /// Journey products that are sold.
    pub products: Vec<Arc<journey::product::Product>>,
}

impl From<Limits> for Bounds {
    /// Without journeys.
    fn from(limits: Limits) -> Self {
        Self { limits, visitors: VisitorKey::new(&[0; 32]), products: Vec::new() }
    }
}

/// One event of the log, ready to be applied.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its offset.
    pub offset: u64,
    /// When the log took it.
    pub appended: Micros,
    /// What it says; none where it is not an event of the contract, and only the position moves.
    pub event: Option<Event>,
    /// As it stands in the log.
    pub payload: Bytes,
}

/// Changes of one partition, in the order of the log.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The last offset that must be applied when this batch arrives.
    pub after: Option<u64>,
    /// At least one.
    pub changes: Vec<Change>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that took effect, or were kept for later use.
    pub applied: u64,
    /// Events that the store had seen.
    pub duplicates: u64,
    /// Compensations that cannot be carried out, by their place in the log.
    pub refused: Vec<RefusedChange>,
}

/// A change that the store could not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedChange {
    /// Its offset.
    pub offset: u64,
    /// One sentence.
    pub reason: String,
    /// As it stands in the log.
    pub payload: Bytes,
}

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else was here, or the reader was rewound: begin again from the store's own position.
    #[error("the feature store stands at {stands:?}, not at {expected:?}")]
    Moved {
        /// Where it stands.
        stands: Option<u64>,
        /// Where the batch thought that it stands.
        expected: Option<u64>,
    },
    /// The store could not be reached, or failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What is asked of each SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Stock levels at these locations.
    pub locations: Vec<String>,
    /// Prices in these markets.
    pub markets: Vec<String>,
    /// Prices of the past.
    pub histories: Vec<PriceHistory>,
}

/// Which prices of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceHistory {
    /// In this market,
    pub market: String,
    /// in force from this instant on,
    pub from: Option<Micros>,
    /// and before this one;
    pub to: Option<Micros>,
    /// the latest ones, at most.
    pub limit: usize,
}

/// What is asked of one SKU.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The SKU.
    pub sku: String,
    /// The same for all SKUs of a request.
    pub wanted: Arc<Wanted>,
}

/// What is known of a product as such.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "contract.md, Events")]
pub struct Details {
    pub title: String,
    pub brand: String,
    pub category: String,
    pub supplier: String,
}

/// A stock level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "contract.md, Events")]
pub struct StockLevel {
    pub on_hand: i64,
    pub reserved: i64,
    pub updated_at: Micros,
}

/// A price in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "contract.md, Events")]
pub struct Price {
    pub currency: Currency,
    pub amount: Decimal,
    pub list_amount: Option<Decimal>,
    pub updated_at: Micros,
}

/// What the store answers for one SKU.
#[derive(Clone, Debug)]
pub struct Product {
    /// None until its first `catalog.product.upserted`.
    pub details: Option<Details>,
    /// In the order asked; none where the location is unknown.
    pub stock: Vec<Option<StockLevel>>,
    /// In the order asked; none where the market is unknown, or no price is in force yet.
    pub prices: Vec<Option<Price>>,
    /// In the order asked; none where the market is unknown. The newest first, of those that are kept.
    pub histories: Vec<Option<Vec<PastPrice>>>,
}

/// A price that came into force at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastPrice {
    /// When.
    pub valid_from: Micros,
    /// What it was.
    pub price: Price,
}

/// An answer and how fresh it is.
#[derive(Clone, Debug)]
pub struct Found {
    /// None for an unknown SKU, and for one outside of the scope.
    pub product: Option<Product>,
    /// The instant up to which the SKU's partition is fully applied. None where it has no position yet: the answer is not
    /// known.
    pub as_of: Option<Micros>,
}

/// How one partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last offset applied.
    pub applied: Option<u64>,
    /// The instant up to which it is fully applied.
    pub as_of: Option<Micros>,
    /// Event ids remembered.
    pub ids: usize,
}

/// Where features are kept. One caller at a time applies and commits a partition.
#[async_trait]
pub trait FeatureStore: JourneyStore {
    /// The offset of `partition` behind which changes are to be applied next; takes hold of the partition, where this store shares it
    /// with other processes.
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>>;

    /// Applies a batch and its last offset, or nothing. Who reads may see it only after [`Self::commit`].
    async fn apply(&self, partition: u16, batch: ChangeBatch) -> Result<Applied, ApplyError>;

    /// All that was applied to the partition is seen from now on, with its offset, in one step. `complete_to`: everything appended to it
    /// up to then is applied.
    async fn commit(&self, partition: u16, complete_to: Option<Micros>) -> Result<(), ApplyError>;

    /// Lets go of a partition that is another process's from now on.
    async fn release(&self, partition: u16);

    /// How each partition stands.
    async fn standings(&self) -> anyhow::Result<Vec<Standing>>;

    /// Answers in the order asked; prices are those in force at `now`. What is outside of `scope` looks like what is not there: a
    /// product of other details; stock and prices elsewhere; a product that is only known by these.
    async fn get_many(&self, reads: &[Read], scope: &Scope, now: Micros) -> anyhow::Result<Vec<Found>>;

    /// The first `limit` SKUs of `scope` behind `after`, ascending by bytes. Looks at the products of the narrowest column of the
    /// scope alone, however many others there are.
    async fn scan(&self, after: Option<&str>, limit: usize, scope: &Scope) -> anyhow::Result<Vec<Arc<str>>>;

    /// Whether the id is remembered, so that another copy appended at `now` would change nothing.
    fn has_seen(&self, partition: u16, identity: Identity, now: Micros) -> bool;

    /// The canonical dump: one JSON line an entity, sorted; the same from every backend for the same events.
    async fn dump(&self) -> anyhow::Result<String>;
}
