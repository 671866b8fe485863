//! A document as it is stored: its bytes, their hash, and what they say.

use anyhow::{Context, ensure};

use crate::billing::document::{CreditNote, Invoice};
use crate::billing::invoice::{self, store::State};

/// An invoice as it is stored.
#[derive(Clone, Debug)]
pub struct StoredInvoice {
    /// Where it stands: not part of what is hashed.
    pub state: State,
    /// The SHA-256 of the body, in hex.
    pub sha256: String,
    /// Exactly the bytes that were hashed.
    pub body: String,
    /// What they say.
    pub document: Invoice,
}

/// A credit note as it is stored.
#[derive(Clone, Debug)]
pub struct StoredCreditNote {
    /// The SHA-256 of the body, in hex.
    pub sha256: String,
    /// Exactly the bytes that were hashed.
    pub body: String,
    /// What they say.
    pub document: CreditNote,
}

/// Either of them.
#[derive(Clone, Debug)]
pub enum Stored {
    /// An invoice.
    Invoice(Box<StoredInvoice>),
    /// A credit note.
    CreditNote(Box<StoredCreditNote>),
}

impl StoredInvoice {
    /// Reads a stored invoice, and checks its hash.
    pub fn read(state: State, sha256: String, body: String) -> anyhow::Result<Self> {
        let document: Invoice = serde_json::from_str(&body).context("a stored invoice cannot be read")?;
        let id = document.number.as_deref().unwrap_or(document.id.as_str());
        check(&format!("invoice {id}"), &sha256, &body)?;
        Ok(Self { state, sha256, body, document })
    }

    /// Its number; its id while it has none.
    pub fn name(&self) -> &str {
        self.document.number.as_deref().unwrap_or(self.document.id.as_str())
    }
}

impl StoredCreditNote {
    /// Reads a stored credit note, and checks its hash.
    pub fn read(sha256: String, body: String) -> anyhow::Result<Self> {
        let document: CreditNote = serde_json::from_str(&body).context("a stored credit note cannot be read")?;
        check(&format!("credit note {}", document.number), &sha256, &body)?;
        Ok(Self { sha256, body, document })
    }
}

impl Stored {
    /// What it is called: a number, or a draft's id.
    pub fn name(&self) -> &str {
        match self {
            Self::Invoice(invoice) => invoice.name(),
            Self::CreditNote(note) => &note.document.number,
        }
    }

    /// What was hashed.
    pub fn body(&self) -> &str {
        match self {
            Self::Invoice(invoice) => &invoice.body,
            Self::CreditNote(note) => &note.body,
        }
    }

    /// A file's name without its ending: the document's name, with nothing in it that a file system or a header would read.
    pub fn file_stem(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let stem: String = self.name().chars().take(100).map(plain).collect();
        let stem = stem.trim_start_matches(['.', '-']);
        if stem.is_empty() { "document".to_owned() } else { stem.to_owned() }
    }
}

fn check(what: &str, sha256: &str, body: &str) -> anyhow::Result<()> {
    let hash = invoice::sha256(body);
    ensure!(
        hash == sha256,
        "the {what} hashes to {hash}, but was stored with {sha256}: it was altered, find out where with tollgate usage verify"
    );
    Ok(())
}
