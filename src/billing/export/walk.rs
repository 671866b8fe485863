//! A listing of any length in little memory: chunk by chunk, each read from the database when the one before was taken, and no
//! connection held in between, however slow the reader is.

use std::collections::VecDeque;

use super::store::{self, Place};
use super::{csv, json};
use crate::db::Db;

/// Documents read at a time.
const CHUNK: usize = 64;

/// How several documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Rows.
    Csv,
    /// An array.
    Json,
}

/// Documents on their way out. Which ones was settled when they were listed; a draft that is gone by now is left out.
pub struct Walk {
    listing: Listing,
    places: VecDeque<Place>,
    begun: bool,
    /// Whether the array has an element.
    any: bool,
    ended: bool,
}

impl Walk {
    /// Through these, in order.
    pub fn new(listing: Listing, places: Vec<Place>) -> Self {
        Self { listing, places: places.into(), begun: false, any: false, ended: false }
    }

    /// The next chunk of the file; none at its end.
    pub async fn next(&mut self, db: &Db) -> anyhow::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            match self.listing {
                Listing::Csv => csv::heading(&mut out)?,
                Listing::Json => out.push(b'['),
            }
        }
        let mut connection = db.read().await?;
        for place in self.places.drain(..CHUNK.min(self.places.len())) {
            for document in store::at(&mut connection, &place).await? {
                match self.listing {
                    Listing::Csv => csv::rows(&mut out, &document)?,
                    Listing::Json => {
                        out.extend_from_slice(if self.any { b",\n" } else { b"\n" });
                        out.extend(json::item(&document)?);
                    }
                }
                self.any = true;
            }
        }
        if self.places.is_empty() {
            self.ended = true;
            if self.listing == Listing::Json {
                out.extend_from_slice(b"\n]\n");
            }
        }
        Ok(Some(out))
    }
}
