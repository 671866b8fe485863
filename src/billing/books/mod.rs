//! The books: double entry for money, append-only, in minor units. Debits are positive; each transaction sums to zero
//! (docs/billing.md, Books).

pub mod store;

use anyhow::ensure;

use crate::clock::Micros;
use crate::ids::PartnerId;

/// What an amount is booked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// What partners owe.
    Receivable,
    /// What was earned, before tax.
    Revenue,
    /// What was credited, before tax.
    Credits,
    /// What is owed to the tax office.
    Tax,
    /// What was paid.
    Cash,
}

impl Account {
    /// As the database and exports name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receivable => "receivable",
            Self::Revenue => "revenue",
            Self::Credits => "credits",
            Self::Tax => "tax",
            Self::Cash => "cash",
        }
    }
}

/// What is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An invoice was finalized.
    Invoice,
    /// It was voided.
    Void,
    /// A credit note was issued.
    CreditNote,
    /// An invoice was paid.
    Payment,
}

impl Event {
    /// As the database names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::Void => "void",
            Self::CreditNote => "credit_note",
            Self::Payment => "payment",
        }
    }
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    /// What happened,
    pub event: Event,
    /// to which invoice, or with which credit note: once each.
    pub document: &'a str,
    /// Whose.
    pub partner: &'a PartnerId,
    /// ISO 4217.
    pub currency: &'a str,
    /// When.
    pub at: Micros,
    /// In minor units; those that are zero are left out.
    pub entries: Vec<(Account, i64)>,
}

impl Transaction<'_> {
    /// Its id: an event happens to a document once.
    pub fn id(&self) -> String {
        format!("{}:{}", self.event.as_str(), self.document)
    }

    fn check(&self) -> anyhow::Result<()> {
        let sum: i128 = self.entries.iter().map(|(_, amount)| i128::from(*amount)).sum();
        ensure!(sum == 0, "the transaction {} is out by {sum} minor units of {}", self.id(), self.currency);
        Ok(())
    }
}
