//! Tollgate
pub mod clock;
pub mod config;
pub mod error;
pub mod ids;
pub mod money;
pub mod segment;
