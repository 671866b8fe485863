//! Metering: one usage record for each executed answer, in a journal that survives the process, shipped to the ledger once.
//!
//! ```text
//! gate ─► journal (group commit, hash chain) ─► shipper ─► ledger: usage_cell + watermark, one transaction
//! ```

mod journal;
mod meter;
mod offer;
mod record;
mod shipper;
mod store;

pub use journal::{Header, Journal, parse_frame};
pub use meter::{Meter, Product};
pub use offer::{Deniable, Tally, Terms, Weighted};
pub use record::{Mode, UsageRecord};
pub use shipper::{Shipped, Shipper};
pub(crate) use store::begin_epoch;
