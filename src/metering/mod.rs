//! Metering: one usage record for each executed answer, in a journal that survives the process, shipped to the ledger once.
//!
//! ```text
//! gate ─► journal (group commit, hash chain) ─► shipper ──► ledger: usage_cell + watermark, one transaction
//!           sealed segments, once shipped ────► archiver ─► archive: the evidence; only then off this disk
//! ```

mod aggregate;
mod archive;
pub mod archive_store;
mod archiver;
pub mod at_rest;
pub mod bundle;
pub mod evidence;
mod in_flight;
mod journal;
mod keeper;
pub mod merkle;
mod meter;
mod offer;
pub mod reading;
mod record;
pub mod recount;
pub mod replica_store;
pub mod retention;
mod shipper;
mod shipping;
mod store;

pub use archive::{Archive, OtherBytes};
pub use archive_store::ArchivedSegment;
pub use archiver::{Archived, Archiver};
pub use in_flight::{Admission, InFlight};
pub(crate) use journal::hex;
pub use journal::{Header, Journal, parse_frame};
pub use meter::{Meter, Product};
pub use offer::{Deniable, Tally, Terms, Weighted};
pub use record::{Mode, UsageRecord};
pub use shipper::{Shipped, Shipper};
