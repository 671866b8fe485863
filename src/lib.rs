//! Tollgate sells live data: a stream of events in, a metered GraphQL API out, invoices that add up.
pub mod billing;
pub mod clock;
pub mod config;
pub mod db;
pub mod directory;
pub mod error;
pub mod event;
pub mod feature;
pub mod ids;
pub mod metering;
pub mod money;
pub mod product;
pub mod projector;
pub mod segment;
pub mod telemetry;
