//! What the operator's verification reads of the database.

use futures_util::TryStreamExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::clock::Micros;
use crate::ids::InvoiceId;

/// A transaction with its entries, and what its document says.
pub(super) struct Booked {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) document_id: String,
    pub(super) partner: String,
    pub(super) currency: String,
    pub(super) posted_at: Micros,
    pub(super) entries: Vec<(String, i64)>,
    /// None when it is not there.
    pub(super) document: Option<Document>,
}

/// The invoice, or the credit note, of a transaction.
pub(super) struct Document {
    pub(super) partner: String,
    pub(super) currency: String,
    pub(super) net: i64,
    pub(super) tax: i64,
    pub(super) total: i64,
    /// When it became what the transaction is about; none when it did not.
    pub(super) happened_at: Option<Micros>,
    /// What had been credited of the invoice when it was paid.
    pub(super) credited: i64,
}

/// Gives each transaction to `each`.
pub(super) async fn booked(connection: &mut AnyConnection, mut each: impl FnMut(Booked)) -> anyhow::Result<()> {
    let mut rows = sqlx::query(
        "select t.id, t.kind, t.document_id, t.partner_id, t.currency, t.posted_at, e.account, e.amount, \
         case when c.id is null then i.partner_id else ci.partner_id end, \
         case when c.id is null then i.currency else ci.currency end, \
         case when c.id is null then i.subtotal else c.net end, \
         case when c.id is null then i.tax else c.tax end, \
         case when c.id is null then i.total else c.total end, \
         case t.kind when 'invoice' then i.finalized_at when 'void' then i.voided_at when 'payment' then i.paid_at \
         else c.created_at end, \
         (select cast(coalesce(sum(n.total), 0) as bigint) from credit_note n \
         where n.invoice_id = i.id and n.created_at <= i.paid_at) \
         from money_transaction t \
         left join money_entry e on e.transaction_id = t.id \
         left join invoice i on i.id = t.document_id and t.kind <> 'credit_note' \
         left join credit_note c on c.id = t.document_id and t.kind = 'credit_note' \
         left join invoice ci on ci.id = c.invoice_id \
         order by t.id, e.account",
    )
    .fetch(connection);
    let mut open: Option<Booked> = None;
    while let Some(row) = rows.try_next().await? {
        let id: String = row.try_get(0)?;
        if open.as_ref().is_none_or(|open| open.id != id)
            && let Some(whole) = open.replace(of_row(id, &row)?)
        {
            each(whole);
        }
        let entry = row.try_get::<Option<String>, _>(6)?.zip(row.try_get::<Option<i64>, _>(7)?);
        if let (Some(open), Some(entry)) = (&mut open, entry) {
            open.entries.push(entry);
        }
    }
    open.into_iter().for_each(each);
    Ok(())
}

fn of_row(id: String, row: &AnyRow) -> anyhow::Result<Booked> {
    let partner: Option<String> = row.try_get(8)?;
    let document = match partner {
        None => None,
        Some(partner) => Some(Document {
            partner,
            currency: row.try_get(9)?,
            net: row.try_get(10)?,
            tax: row.try_get(11)?,
            total: row.try_get(12)?,
            happened_at: row.try_get::<Option<i64>, _>(13)?.map(Micros),
            credited: row.try_get(14)?,
        }),
    };
    Ok(Booked {
        id,
        kind: row.try_get(1)?,
        document_id: row.try_get(2)?,
        partner: row.try_get(3)?,
        currency: row.try_get(4)?,
        posted_at: Micros(row.try_get(5)?),
        entries: Vec::new(),
        document,
    })
}

/// Entries whose transaction is not there: transaction, account, amount.
pub(super) async fn entries_of_nothing(connection: &mut AnyConnection) -> anyhow::Result<Vec<(String, String, i64)>> {
    let rows = sqlx::query(
        "select e.transaction_id, e.account, e.amount from money_entry e \
         where not exists (select 1 from money_transaction t where t.id = e.transaction_id) order by e.transaction_id, e.account",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

/// Documents without their transaction: what happened, and the document's id.
pub(super) async fn unbooked(connection: &mut AnyConnection) -> anyhow::Result<Vec<(String, String)>> {
    let rows = sqlx::query(
        "select d.kind, d.id from (\
         select 'invoice' as kind, id from invoice where number is not null \
         union all select 'void', id from invoice where state = 'void' \
         union all select 'payment', id from invoice where state = 'paid' \
         union all select 'credit_note', id from credit_note) d \
         where not exists (select 1 from money_transaction t where t.kind = d.kind and t.document_id = d.id) order by d.kind, d.id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// A row of invoice_line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineRow {
    pub(super) line: i64,
    pub(super) kind: String,
    pub(super) period: String,
    pub(super) plan: String,
    pub(super) product: String,
    pub(super) meter: String,
    pub(super) units: Option<i64>,
    pub(super) amount: i64,
}

/// An invoice's lines as the database has them, in order.
pub(super) async fn lines(connection: &mut AnyConnection, invoice: &InvoiceId) -> anyhow::Result<Vec<LineRow>> {
    let rows = sqlx::query(
        "select line, kind, period, plan_id, plan_version, product, meter, units, amount from invoice_line \
         where invoice_id = $1 order by line",
    )
    .bind(invoice.as_str())
    .fetch_all(connection)
    .await?;
    let line = |row: &AnyRow| {
        Ok(LineRow {
            line: row.try_get(0)?,
            kind: row.try_get(1)?,
            period: row.try_get(2)?,
            plan: format!("{}@{}", row.try_get::<String, _>(3)?, row.try_get::<i64, _>(4)?),
            product: row.try_get(5)?,
            meter: row.try_get(6)?,
            units: row.try_get(7)?,
            amount: row.try_get(8)?,
        })
    };
    rows.iter().map(line).collect()
}

/// How many numbers each series gave out.
pub(super) async fn series(connection: &mut AnyConnection) -> anyhow::Result<Vec<(String, i64)>> {
    let rows = sqlx::query("select id, taken from number_series order by id").fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The numbers of invoices, void ones among them, and of credit notes.
pub(super) async fn numbers(connection: &mut AnyConnection) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let invoices = sqlx::query("select number from invoice where number is not null").fetch_all(&mut *connection).await?;
    let notes = sqlx::query("select number from credit_note").fetch_all(connection).await?;
    let number = |row: &AnyRow| Ok(row.try_get(0)?);
    Ok((invoices.iter().map(number).collect::<anyhow::Result<_>>()?, notes.iter().map(number).collect::<anyhow::Result<_>>()?))
}

/// The months that have invoices, in order.
pub(super) async fn periods(connection: &mut AnyConnection) -> anyhow::Result<Vec<String>> {
    let rows = sqlx::query("select distinct period from invoice order by period").fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
