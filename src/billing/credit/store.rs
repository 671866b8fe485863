//! Credit notes in the database.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::clock::Micros;
use crate::ids::{CreditNoteId, InvoiceId};

/// A credit note as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see document::CreditNote and migrations/0004_invoices.sql")]
pub struct Note {
    pub id: CreditNoteId,
    pub number: String,
    pub invoice: InvoiceId,
    pub body: String,
    pub sha256: String,
    pub net: i64,
    pub tax: i64,
    pub total: i64,
    pub created_at: Micros,
}

const NOTE: &str = "select id, number, invoice_id, body, sha256, net, tax, total, created_at from credit_note";

fn note(row: &AnyRow) -> anyhow::Result<Note> {
    Ok(Note {
        id: row.try_get::<String, _>(0)?.into(),
        number: row.try_get(1)?,
        invoice: row.try_get::<String, _>(2)?.into(),
        body: row.try_get(3)?,
        sha256: row.try_get(4)?,
        net: row.try_get(5)?,
        tax: row.try_get(6)?,
        total: row.try_get(7)?,
        created_at: Micros(row.try_get(8)?),
    })
}

/// Both parts are constants of this file.
fn select(rest: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{NOTE}{rest}"))
}

/// Those of an invoice, in the order of their numbers.
pub async fn of_invoice(connection: &mut AnyConnection, invoice: &InvoiceId) -> anyhow::Result<Vec<Note>> {
    let rows = sqlx::query(select(" where invoice_id = $1 order by created_at, number"))
        .bind(invoice.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(note).collect()
}

/// All of them, in the order of their numbers.
pub async fn list(connection: &mut AnyConnection) -> anyhow::Result<Vec<Note>> {
    let rows = sqlx::query(select(" order by created_at, number")).fetch_all(connection).await?;
    rows.iter().map(note).collect()
}

/// The one of an id, or of a number.
pub async fn find(connection: &mut AnyConnection, text: &str) -> anyhow::Result<Option<Note>> {
    let row = sqlx::query(select(" where id = $1 or number = $1")).bind(text).fetch_optional(connection).await?;
    row.as_ref().map(note).transpose()
}

/// Stores one.
pub async fn insert(connection: &mut AnyConnection, note: &Note) -> anyhow::Result<()> {
    sqlx::query(
        "insert into credit_note (id, number, invoice_id, body, sha256, net, tax, total, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(note.id.as_str())
    .bind(note.number.as_str())
    .bind(note.invoice.as_str())
    .bind(note.body.as_str())
    .bind(note.sha256.as_str())
    .bind(note.net)
    .bind(note.tax)
    .bind(note.total)
    .bind(note.created_at.0)
    .execute(connection)
    .await?;
    Ok(())
}
