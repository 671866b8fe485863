//! Invoices and credit notes on paper (A4): what a person signs off, posts, or pays by.
//!
//! The same document and state give the same bytes: no clock, no randomness. It is PDF/A-3b, for archives, and the hashed JSON is
//! attached to it. No text makes it fail.

mod credit_note;
mod finish;
mod invoice;
mod lines;
mod parts;
mod sheet;
mod text;
mod words;

use super::stored::Stored;
use text::Fonts;

/// Prints documents: the fonts are read once.
pub struct Printer(Fonts);

impl Printer {
    /// One with the built-in fonts.
    pub fn new() -> anyhow::Result<Self> {
        Fonts::load().map(Self)
    }

    /// A document as a PDF file.
    pub fn print(&self, document: &Stored) -> anyhow::Result<Vec<u8>> {
        match document {
            Stored::Invoice(stored) => invoice::print(&self.0, stored),
            Stored::CreditNote(stored) => credit_note::print(&self.0, stored),
        }
    }
}
