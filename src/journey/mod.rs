//! Journeys: sessions, funnels, paths, carts and retention, counted once, in the projector, and released so that no answer, and no
//! difference of answers, tells of a few visitors (docs/journeys.md).
//!
//! In the order of the flow: an event comes to its visitor's [`share`] of a product in its partition, which counts what closes; it tells the
//! product's [`home`] partition, through the log; there cells come together and are decided on.

pub mod admin;
mod answer;
pub mod calendar;
pub mod cell;
pub mod dump;
mod funnel;
mod home;
pub mod message;
mod partition;
pub mod product;
pub mod reading;
mod revision;
mod share;
pub mod store;
pub mod tally;
mod tree;
mod visitor;
mod visitors;

pub use answer::Answer;
pub use dump::Dump;
pub use home::{Cohorts, Entry, Progress};
pub use partition::{Journey, Journeys, Size, VisitorKey};
pub use share::Apart;
