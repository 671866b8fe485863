//! Several documents as one JSON array. Each body stands in it byte for byte, so that it still hashes to its `sha256`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::stored::Stored;

#[derive(Serialize)]
#[serde(tag = "document", rename_all = "snake_case")]
enum Item<'a> {
    Invoice {
        state: &'a str,
        sha256: &'a str,
        invoice: &'a RawValue,
    },
    CreditNote {
        sha256: &'a str,
        #[serde(rename = "creditNote")]
        credit_note: &'a RawValue,
    },
}

/// A document as an element of the array.
pub(super) fn item(document: &Stored) -> anyhow::Result<Vec<u8>> {
    let item = match document {
        Stored::Invoice(stored) => {
            Item::Invoice { state: stored.state.as_str(), sha256: &stored.sha256, invoice: serde_json::from_str(&stored.body)? }
        }
        Stored::CreditNote(stored) => {
            Item::CreditNote { sha256: &stored.sha256, credit_note: serde_json::from_str(&stored.body)? }
        }
    };
    Ok(serde_json::to_vec(&item)?)
}
