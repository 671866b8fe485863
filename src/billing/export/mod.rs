//! Documents for those who keep the books: stored invoices and credit notes as JSON, CSV and PDF, and what came in by plan and
//! product.
//!
//! Nothing is computed here but sums: what is written is what was stored, and a document that does not hash to what was stored
//! with it is not written at all.
//!
//! - JSON of one document: exactly the bytes that were hashed. Of several: an array of `{document, state, sha256, invoice}` and
//!   `{document, sha256, creditNote}`, a credit note after its invoice.
//! - CSV (RFC 4180, UTF-8): a row for each line, with its document's columns. No cell is one that a spreadsheet would run.
//! - PDF (A4, PDF/A-3 with the JSON inside): one document each.

mod csv;
mod json;
mod revenue;
mod select;
mod store;
mod stored;
mod walk;

pub mod pdf;

pub use crate::billing::invoice::store::State;
pub use revenue::{Revenue, Share, Total, revenue};
pub use select::{Format, Found, Missing, Selection, select};
pub use store::{Place, at};
pub use stored::{Stored, StoredCreditNote, StoredInvoice};
pub use walk::{Listing, Walk};
