//! Which documents somebody wants, as commands and HTTP ask for them.

use sqlx::AnyConnection;

use super::csv;
use super::pdf::Printer;
use super::store::{self, Place};
use super::stored::Stored;
use crate::billing::Period;
use crate::billing::invoice::store::State;

/// How documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Rows.
    Csv,
    /// What was hashed.
    Json,
    /// Paper.
    Pdf,
}

impl Format {
    /// How a file's name ends.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Pdf => "pdf",
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Invoices of this month.
    pub period: Option<Period>,
    /// The one invoice or credit note of this id or number.
    pub document: Option<String>,
    /// Invoices in this state; all but drafts where it is not said.
    pub state: Option<State>,
}

/// What was found.
pub enum Found {
    /// The one document that was named.
    One(Stored),
    /// Those of a listing; one at least.
    Several(Vec<Place>),
}

/// Why there is nothing to write.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// It does not exist, in these words.
    #[error("{0}")]
    Nothing(String),
    /// It could not be looked up.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Looks it up. A document that is named is found in every state, unless a state is asked for.
pub async fn select(connection: &mut AnyConnection, wanted: &Selection) -> Result<Found, Missing> {
    let Some(which) = &wanted.document else {
        let places = store::list(connection, wanted.period, wanted.state).await?;
        if places.is_empty() {
            return Err(Missing::Nothing(nothing(wanted)));
        }
        return Ok(Found::Several(places));
    };
    let shown = which.escape_default();
    let found = store::find(connection, which).await?;
    let found = found.ok_or_else(|| Missing::Nothing(format!("There is no invoice or credit note \"{shown}\".")))?;
    if let Stored::Invoice(invoice) = &found {
        let (period, state) = (&invoice.document.period.month, invoice.state);
        if let Some(wanted) = wanted.period.filter(|wanted| wanted.to_string() != *period) {
            return Err(Missing::Nothing(format!("The invoice \"{shown}\" is one of {period}, not of {wanted}.")));
        }
        if let Some(wanted) = wanted.state.filter(|wanted| *wanted != state) {
            return Err(Missing::Nothing(format!("The invoice \"{shown}\" is {state}, not {wanted}.")));
        }
    }
    Ok(Found::One(found))
}

fn nothing(wanted: &Selection) -> String {
    let of = wanted.period.map(|period| format!(" of {period}")).unwrap_or_default();
    match wanted.state {
        Some(state) => format!("There is no {state} invoice{of}."),
        None => format!("There is no invoice{of}, or there are drafts only: ask for those by their state."),
    }
}

impl Stored {
    /// The document as a file of its own. Many PDFs are better printed by one [`Printer`].
    pub fn write(&self, format: Format) -> anyhow::Result<Vec<u8>> {
        match format {
            Format::Json => Ok(self.body().as_bytes().to_vec()),
            Format::Pdf => Printer::new()?.print(self),
            Format::Csv => {
                let mut out = Vec::new();
                csv::heading(&mut out)?;
                csv::rows(&mut out, self)?;
                Ok(out)
            }
        }
    }
}
