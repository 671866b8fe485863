//! Operators: those who run the house. Who they are (a token), and what they may do (a role).
//!
//! A handler that takes [`Viewer`], [`Finance`] or [`Admin`] cannot be called without that role: the extractor is the proof.

mod key;
mod permission;
mod role;
mod token;

pub use permission::{Admin, Finance, Viewer};
pub use role::Role;
pub use token::{Issuer, Operator, Untrusted};
