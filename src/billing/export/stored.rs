//! A document as it is stored: its bytes, their hash, and what they say.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::billing::document::{CreditNote, Invoice};

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may still change.
    Draft,
    /// It never changes again.
    Finalized,
    /// And was paid.
    Paid,
    /// And was withdrawn.
    Void,
}

impl State {
    const ALL: [Self; 4] = [Self::Draft, Self::Finalized, Self::Paid, Self::Void];

    /// As it stands in the database and outside.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Finalized => "finalized",
            Self::Paid => "paid",
            Self::Void => "void",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| format!("\"{}\" is no state: give draft, finalized, paid or void", text.escape_default()))
    }
}

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
    let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(
        hash == sha256,
        "the {what} hashes to {hash}, but was stored with {sha256}: it was altered, find out where with tollgate usage verify"
    );
    Ok(())
}
