//! The control plane: partners, their keys and subscriptions, and producers; and the picture of it that the gate holds in
//! memory.

pub mod admin;
mod details;
pub mod key;
pub mod key_store;
mod last_used;
mod picture;
pub mod store;
pub mod terms;

pub use crate::feature::Scope;
pub use details::{Details, plain};
pub use last_used::LastUsed;
pub use picture::{Account, Credential, Directory, Picture, ProducerCredential};
pub use store::Partner;
pub use terms::{KeyBudget, KeyTerms};
