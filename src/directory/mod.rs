//! The control plane: partners, their keys and subscriptions, and producers; and the picture of it that the gate holds in
//! memory.

pub mod admin;
pub mod key;

mod picture;
mod scope;
pub mod store;

pub use picture::{Account, Credential, Directory, Picture, ProducerCredential};
pub use scope::Scope;
pub use store::Partner;
