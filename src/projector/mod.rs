//! The projector: reads the event log, and applies it to the feature store with its position in the same step.

mod fold;
mod run;

pub use fold::fold;
pub use run::{Projector, Step, advance};
