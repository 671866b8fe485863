//! Metering: one usage record for each executed answer, in a journal that survives the process, shipped to the ledger once.
//!
//! ```text
//! gate ─► journal (group commit, hash chain) ─► shipper ─► ledger: usage_cell + watermark, one transaction
//! ```

mod aggregate;
mod archive;
pub mod archive_store;
pub mod bundle;
pub mod evidence;
mod in_flight;
mod journal;
pub mod merkle;
mod meter;
mod offer;
pub mod reading;
mod record;
pub mod recount;
pub mod replica_store;
mod shipper;
mod shipping;
mod store;

pub use archive::{Archive, OtherBytes};
pub use archive_store::ArchivedSegment;
pub use in_flight::{Admission, InFlight};
pub(crate) use journal::hex;
pub use journal::{Header, Journal, parse_frame};
pub use meter::{Meter, Product};
pub use offer::{Deniable, Tally, Terms, Weighted};
pub use record::{Mode, UsageRecord};
pub use shipper::{Shipped, Shipper};
