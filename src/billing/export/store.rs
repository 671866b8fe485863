//! Stored documents, read one by one so that a listing of any length takes little memory.

use anyhow::Context;
use futures_util::TryStreamExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::stored::{Stored, StoredCreditNote, StoredInvoice};
use crate::billing::Period;
use crate::billing::invoice::store::State;

/// Where an invoice stands in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its month.
    pub period: String,
    /// Its id.
    id: String,
    number: Option<String>,
    /// How many credit notes follow it.
    credit_notes: i64,
}

/// The invoices of a month, or of all; in a state, or all but drafts. By month, then number; drafts come last.
pub(super) async fn list(
    connection: &mut AnyConnection,
    period: Option<Period>,
    state: Option<State>,
) -> anyhow::Result<Vec<Place>> {
    let rows = sqlx::query(
        "select period, id, number, (select count(*) from credit_note where invoice_id = invoice.id) from invoice \
         where ($1 = '' or period = $1) and (state = $2 or ($2 = '' and state <> 'draft'))",
    )
    .bind(period.map(|period| period.to_string()).unwrap_or_default())
    .bind(state.map(State::as_str).unwrap_or_default())
    .fetch_all(connection)
    .await?;
    let place = |row: &AnyRow| -> anyhow::Result<Place> {
        Ok(Place { period: row.try_get(0)?, id: row.try_get(1)?, number: row.try_get(2)?, credit_notes: row.try_get(3)? })
    };
    let mut places = rows.iter().map(place).collect::<anyhow::Result<Vec<_>>>()?;
    // Not in SQL: databases sort text by rules of their own.
    // A series that has outgrown its zeros goes on in order too.
    let length = |place: &Place| place.number.as_ref().map(String::len);
    places.sort_by_cached_key(|place| {
        (place.period.clone(), place.number.is_none(), length(place), place.number.clone(), place.id.clone())
    });
    Ok(places)
}

/// The documents of a place: the invoice, unless it was a draft and is gone, and its credit notes.
pub async fn at(connection: &mut AnyConnection, place: &Place) -> anyhow::Result<Vec<Stored>> {
    let row = sqlx::query("select state, sha256, body from invoice where id = $1")
        .bind(place.id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(Vec::new()) };
    let mut documents = vec![invoice(&row)?];
    if place.credit_notes > 0 {
        let rows = sqlx::query("select sha256, body from credit_note where invoice_id = $1 order by created_at, number")
            .bind(place.id.as_str())
            .fetch_all(connection)
            .await?;
        for row in &rows {
            documents.push(credit_note(row)?);
        }
    }
    Ok(documents)
}

/// The invoice or credit note of an id or a number.
pub(super) async fn find(connection: &mut AnyConnection, which: &str) -> anyhow::Result<Option<Stored>> {
    // PostgreSQL takes no text with it, and nothing is called so.
    if which.contains('\0') {
        return Ok(None);
    }
    let row = sqlx::query("select state, sha256, body from invoice where id = $1 or number = $1")
        .bind(which)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(row) = row {
        return invoice(&row).map(Some);
    }
    let row = sqlx::query("select sha256, body from credit_note where id = $1 or number = $1")
        .bind(which)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(credit_note).transpose()
}

fn invoice(row: &AnyRow) -> anyhow::Result<Stored> {
    let state: String = row.try_get(0)?;
    let state = State::from_name(&state).with_context(|| format!("an invoice has the unknown state \"{state}\""))?;
    Ok(Stored::Invoice(Box::new(StoredInvoice::read(state, row.try_get(1)?, row.try_get(2)?)?)))
}

fn credit_note(row: &AnyRow) -> anyhow::Result<Stored> {
    Ok(Stored::CreditNote(Box::new(StoredCreditNote::read(row.try_get(0)?, row.try_get(1)?)?)))
}

/// Money of one kind of line.
#[derive(Debug)]
pub(super) struct Earned {
    pub(super) currency: String,
    pub(super) plan: String,
    pub(super) product: String,
    pub(super) kind: String,
    pub(super) amount: i64,
}

/// What the lines of a month's finalized and paid invoices come to.
pub(super) async fn earned(connection: &mut AnyConnection, period: Period) -> anyhow::Result<Vec<Earned>> {
    let rows = sqlx::query(
        "select invoice.currency, plan_id, product, kind, cast(sum(amount) as bigint) \
         from invoice join invoice_line on invoice_id = invoice.id \
         where invoice.period = $1 and state in ('finalized', 'paid') and kind not in ('trial', 'waived') \
         group by invoice.currency, plan_id, product, kind",
    )
    .bind(period.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Earned {
                currency: row.try_get(0)?,
                plan: row.try_get(1)?,
                product: row.try_get(2)?,
                kind: row.try_get(3)?,
                amount: row.try_get(4)?,
            })
        })
        .collect()
}

/// A credit note on an invoice of the month.
#[derive(Debug)]
pub(super) struct Credited {
    pub(super) invoice: String,
    pub(super) currency: String,
    pub(super) net: i64,
    pub(super) note: StoredCreditNote,
}

/// The credit notes on a month's finalized and paid invoices.
pub(super) async fn credited(connection: &mut AnyConnection, period: Period) -> anyhow::Result<Vec<Credited>> {
    let mut rows = sqlx::query(
        "select credit_note.sha256, credit_note.body, invoice.id, invoice.currency, credit_note.net \
         from credit_note join invoice on invoice.id = credit_note.invoice_id \
         where invoice.period = $1 and state in ('finalized', 'paid') order by credit_note.number",
    )
    .bind(period.to_string())
    .fetch(connection);
    let mut notes = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let note = StoredCreditNote::read(row.try_get(0)?, row.try_get(1)?)?;
        notes.push(Credited { invoice: row.try_get(2)?, currency: row.try_get(3)?, net: row.try_get(4)?, note });
    }
    Ok(notes)
}

/// What a line of an invoice is for.
pub(super) struct Purpose {
    pub(super) plan: String,
    pub(super) product: String,
    pub(super) kind: String,
}

/// What the lines of an invoice are for, by their number.
pub(super) async fn purposes(connection: &mut AnyConnection, invoice: &str) -> anyhow::Result<Vec<(u64, Purpose)>> {
    let rows = sqlx::query("select line, plan_id, product, kind from invoice_line where invoice_id = $1 order by line")
        .bind(invoice)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let purpose = Purpose { plan: row.try_get(1)?, product: row.try_get(2)?, kind: row.try_get(3)? };
            Ok((u64::try_from(row.try_get::<i64, _>(0)?)?, purpose))
        })
        .collect()
}
