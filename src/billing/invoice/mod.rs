//! Invoices: from what is due for a month to a document that never changes.
//!
//! ```text
//! run: usage ─► lines ─► draft ─► finalize: number, hash, books ─► paid | void ─► credit notes
//! ```
//!
//! `run` makes drafts of a month that is over everywhere, and may be repeated. From `finalize` on the database itself refuses
//! changes; what was wrong is put right by a credit note, or by voiding the partner's newest invoice and running its month again.

pub mod draft;
pub mod evidence;
pub mod finalize;
pub mod run;
pub mod store;

mod lines;

use sha2::{Digest, Sha256};

pub use crate::metering::evidence::Cut;
pub use lines::{Basis, Billed, Key, Keyed, MonthUsage, Plans, lines, total};

/// The hash of a document's bytes, as hex.
pub fn sha256(body: &str) -> String {
    crate::metering::hex(&Sha256::digest(body.as_bytes()))
}
