//! The demo: a lifelike shop on one machine, with plans, two partners and their keys.

mod feed;
pub mod history;
mod setup;

pub mod shop;

pub use feed::{Feed, opening};
pub use setup::{Example, Ready, set_up};
