//! Billing: plans, periods, rating, previews. Knows nothing of HTTP, GraphQL or payments.
//!
//! It owns what a plan may say and how usage becomes money; the ledger's cells come from `metering`. Rating is pure:
//! (usage, plan versions, period) → lines.

pub mod books;
pub mod budget_store;
pub mod calendar;
pub mod credit;
pub mod document;
pub mod export;
pub mod invoice;
pub mod plan;
pub mod preview;
pub mod rating;
pub mod store;
pub mod verify;

mod period;

pub use period::Period;
