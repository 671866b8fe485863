//! Invoices, their lines and cuts, and the series of numbers, in the database.

use std::collections::HashMap;
use std::fmt;

use anyhow::Context;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::Cut;
use super::lines::{Billed, Key, Keyed};
use crate::billing::Period;
use crate::billing::document::Kind;
use crate::clock::Micros;
use crate::db::dialect::Dialect;
use crate::ids::{InvoiceId, PartnerId, ReplicaId};
use crate::metering::Meter;

/// Rows an insert: below the databases' parameter limits.
const ROWS_MAX: usize = 500;

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// May be made anew.
    Draft,
    /// It has its number, and never changes.
    Finalized,
    /// Nothing is open any more.
    Paid,
    /// It does not count; its number is kept.
    Void,
}

impl State {
    /// As the database and listings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Finalized => "finalized",
            Self::Paid => "paid",
            Self::Void => "void",
        }
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Draft, Self::Finalized, Self::Paid, Self::Void].into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An invoice as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see document::Invoice and migrations/0004_invoices.sql")]
pub struct Stored {
    pub id: InvoiceId,
    pub partner: PartnerId,
    pub period: Period,
    pub currency: String,
    pub state: State,
    pub number: Option<String>,
    pub cut: String,
    pub body: String,
    pub sha256: String,
    pub subtotal: i64,
    pub tax: i64,
    pub total: i64,
    pub created_at: Micros,
    pub finalized_at: Option<Micros>,
    pub paid_at: Option<Micros>,
    pub voided_at: Option<Micros>,
    pub void_reason: Option<String>,
}

const INVOICE: &str = "select id, partner_id, period, currency, state, number, cut_id, body, sha256, subtotal, tax, total, \
     created_at, finalized_at, paid_at, voided_at, void_reason from invoice";

fn period(row: &AnyRow, column: usize) -> anyhow::Result<Period> {
    row.try_get::<String, _>(column)?.parse().map_err(|wrong: String| anyhow::anyhow!(wrong))
}

fn state(row: &AnyRow, column: usize) -> anyhow::Result<State> {
    let state: String = row.try_get(column)?;
    State::from_name(&state).with_context(|| format!("an invoice has the unknown state \"{state}\""))
}

fn stored(row: &AnyRow) -> anyhow::Result<Stored> {
    let instant = |column: usize| -> anyhow::Result<Option<Micros>> { Ok(row.try_get::<Option<i64>, _>(column)?.map(Micros)) };
    Ok(Stored {
        id: row.try_get::<String, _>(0)?.into(),
        partner: row.try_get::<String, _>(1)?.into(),
        period: period(row, 2)?,
        currency: row.try_get(3)?,
        state: state(row, 4)?,
        number: row.try_get(5)?,
        cut: row.try_get(6)?,
        body: row.try_get(7)?,
        sha256: row.try_get(8)?,
        subtotal: row.try_get(9)?,
        tax: row.try_get(10)?,
        total: row.try_get(11)?,
        created_at: Micros(row.try_get(12)?),
        finalized_at: instant(13)?,
        paid_at: instant(14)?,
        voided_at: instant(15)?,
        void_reason: row.try_get(16)?,
    })
}

/// Both parts are constants of this file.
fn select(rest: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{INVOICE}{rest}"))
}

/// The invoice of an id, or of a number.
pub async fn find(connection: &mut AnyConnection, text: &str) -> anyhow::Result<Option<Stored>> {
    let row = sqlx::query(select(" where id = $1 or number = $1")).bind(text).fetch_optional(connection).await?;
    row.as_ref().map(stored).transpose()
}

/// Which invoices are listed; what is none is not looked at.
#[derive(Clone, Debug, Default)]
pub struct Filter<'a> {
    /// Of a month.
    pub period: Option<Period>,
    /// Of a partner.
    pub partner: Option<&'a PartnerId>,
    /// In a state.
    pub state: Option<State>,
}

/// Invoices by month, then by number; drafts last, by their partner's name.
pub async fn list(connection: &mut AnyConnection, filter: &Filter<'_>) -> anyhow::Result<Vec<Stored>> {
    let rest = " where ($1 = '' or period = $1) and ($2 = '' or partner_id = $2) and ($3 = '' or state = $3) \
                order by period, case when number is null then 1 else 0 end, finalized_at, number, \
                (select name from partner where partner.id = invoice.partner_id), currency, id";
    let rows = sqlx::query(select(rest))
        .bind(filter.period.map(|period| period.to_string()).unwrap_or_default())
        .bind(filter.partner.map_or("", |partner| partner.as_str()))
        .bind(filter.state.map_or("", State::as_str))
        .fetch_all(connection)
        .await?;
    rows.iter().map(stored).collect()
}

/// A partner's invoices that count: neither void nor of a later month than `before`, itself included.
pub async fn counting(connection: &mut AnyConnection, partner: &PartnerId, before: Period) -> anyhow::Result<Vec<Stored>> {
    let rows = sqlx::query(select(
        " where partner_id = $1 and period <= $2 and state <> 'void' order by period, finalized_at, number, id",
    ))
    .bind(partner.as_str())
    .bind(before.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter().map(stored).collect()
}

/// The invoices of a month that count, by partner: where each stands.
pub async fn counting_of(connection: &mut AnyConnection, of: Period) -> anyhow::Result<HashMap<PartnerId, Vec<State>>> {
    let rows = sqlx::query("select partner_id, state from invoice where period = $1 and state <> 'void'")
        .bind(of.to_string())
        .fetch_all(connection)
        .await?;
    let mut states: HashMap<PartnerId, Vec<State>> = HashMap::new();
    for row in &rows {
        states.entry(row.try_get::<String, _>(0)?.into()).or_default().push(state(row, 1)?);
    }
    Ok(states)
}

/// A partner's finalized invoices of later months than `after` that count; a draft is only held against them when it is finalized.
pub async fn later(connection: &mut AnyConnection, partner: &PartnerId, after: Period) -> anyhow::Result<Vec<Stored>> {
    let rows =
        sqlx::query(select(" where partner_id = $1 and period > $2 and state in ('finalized', 'paid') order by period desc, id"))
            .bind(partner.as_str())
            .bind(after.to_string())
            .fetch_all(connection)
            .await?;
    rows.iter().map(stored).collect()
}

/// The lines of a partner's finalized invoices, in the order of their numbers: of those that were finalized before `as_of` and
/// counted then.
pub async fn billed(connection: &mut AnyConnection, partner: &PartnerId, as_of: Micros) -> anyhow::Result<Vec<Billed>> {
    let rows = sqlx::query(
        "select invoice.number, invoice_line.kind, invoice_line.period, invoice_line.plan_id, invoice_line.plan_version, \
         invoice_line.meter, invoice_line.units, invoice_line.amount \
         from invoice join invoice_line on invoice_line.invoice_id = invoice.id \
         where invoice.partner_id = $1 and invoice.number is not null and invoice.finalized_at < $2 \
         and (invoice.voided_at is null or invoice.voided_at > $2) \
         order by invoice.finalized_at, invoice.number, invoice_line.line",
    )
    .bind(partner.as_str())
    .bind(as_of.0)
    .fetch_all(connection)
    .await?;
    let line = |row: &AnyRow| {
        let (kind, meter): (String, String) = (row.try_get(1)?, row.try_get(5)?);
        let key = Key {
            kind: Kind::from_name(&kind).with_context(|| format!("a line has the unknown kind \"{kind}\""))?,
            period: period(row, 2)?,
            plan: (row.try_get::<String, _>(3)?.into(), row.try_get(4)?),
            meter: Meter::from_name(&meter),
        };
        let units = row.try_get::<Option<i64>, _>(6)?.map(u64::try_from).transpose()?;
        Ok(Billed { invoice: row.try_get(0)?, key, units, amount: row.try_get(7)? })
    };
    rows.iter().map(line).collect()
}

/// Stores an invoice and its lines. False when the partner has one for this month already.
pub async fn insert(connection: &mut AnyConnection, dialect: Dialect, invoice: &Stored, lines: &[Keyed]) -> anyhow::Result<bool> {
    let inserted = sqlx::query(
        "insert into invoice (id, partner_id, period, currency, state, cut_id, body, sha256, subtotal, tax, total, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing",
    )
    .bind(invoice.id.as_str())
    .bind(invoice.partner.as_str())
    .bind(invoice.period.to_string())
    .bind(invoice.currency.as_str())
    .bind(invoice.state.as_str())
    .bind(invoice.cut.as_str())
    .bind(invoice.body.as_str())
    .bind(invoice.sha256.as_str())
    .bind(invoice.subtotal)
    .bind(invoice.tax)
    .bind(invoice.total)
    .bind(invoice.created_at.0)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() != 1 {
        return Ok(false);
    }
    for (chunk_number, chunk) in lines.chunks(ROWS_MAX).enumerate() {
        let text = format!(
            "insert into invoice_line (invoice_id, line, kind, period, plan_id, plan_version, product, meter, units, amount) values {}",
            dialect.values(chunk.len(), 10)
        );
        // Made of this file's own words and numbered placeholders only.
        let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for (place, line) in chunk.iter().enumerate() {
            insert = insert
                .bind(invoice.id.as_str())
                .bind(i64::try_from(chunk_number * ROWS_MAX + place + 1)?)
                .bind(line.key.kind.as_str())
                .bind(line.key.period.to_string())
                .bind(line.key.plan.0.as_str())
                .bind(line.key.plan.1)
                .bind(line.key.meter.and_then(Meter::product).map_or("", |product| product.as_str()))
                .bind(line.key.meter.map_or("", Meter::as_str))
                .bind(line.line.units.map(i64::try_from).transpose()?)
                .bind(line.amount.minor);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(true)
}

/// Removes the drafts of a partner's month. False when there was none.
pub async fn remove_drafts(connection: &mut AnyConnection, partner: &PartnerId, period: Period) -> anyhow::Result<bool> {
    let mut removed = 0;
    let drafts = "partner_id = $1 and period = $2 and state = 'draft'";
    for text in [
        format!("delete from invoice_line where invoice_id in (select id from invoice where {drafts})"),
        format!("delete from invoice where {drafts}"),
    ] {
        // Made of this file's own words.
        let delete = sqlx::query(AssertSqlSafe(text)).bind(partner.as_str()).bind(period.to_string());
        removed = delete.execute(&mut *connection).await?.rows_affected();
    }
    Ok(removed > 0)
}

/// Says that a run found nothing to bill of a partner's month. False when that is known, or the month has an invoice.
pub async fn close_empty(
    connection: &mut AnyConnection,
    partner: &PartnerId,
    period: Period,
    cut: &str,
    now: Micros,
) -> anyhow::Result<bool> {
    let inserted = sqlx::query(
        "insert into month_closed (partner_id, period, cut_id, closed_at) select $1, $2, $3, $4 \
         where not exists (select 1 from invoice where partner_id = $1 and period = $2 and state <> 'void') \
         on conflict (partner_id, period) do nothing",
    )
    .bind(partner.as_str())
    .bind(period.to_string())
    .bind(cut)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The last month that a run found nothing to bill of; not later than `before`.
pub async fn closed_empty(connection: &mut AnyConnection, partner: &PartnerId, before: Period) -> anyhow::Result<Option<Period>> {
    let row = sqlx::query("select max(period) from month_closed where partner_id = $1 and period <= $2")
        .bind(partner.as_str())
        .bind(before.to_string())
        .fetch_one(connection)
        .await?;
    let last: Option<String> = row.try_get(0)?;
    last.map(|last| last.parse().map_err(|wrong: String| anyhow::anyhow!(wrong))).transpose()
}

/// Takes the next number of a series. The row is locked until the caller's transaction ends, so that a number whose
/// transaction fails is taken by the next one: there are no gaps.
pub async fn take_number(connection: &mut AnyConnection, series: &str) -> anyhow::Result<i64> {
    sqlx::query("insert into number_series (id, taken) values ($1, 0) on conflict do nothing")
        .bind(series)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("update number_series set taken = taken + 1 where id = $1 returning taken")
        .bind(series)
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}

/// Finalizes a draft: from here on it never changes. False when it is no draft any more.
pub async fn finalize(
    connection: &mut AnyConnection,
    id: &InvoiceId,
    number: &str,
    body: &str,
    sha256: &str,
    now: Micros,
) -> anyhow::Result<bool> {
    let updated = sqlx::query(
        "update invoice set state = 'finalized', number = $2, body = $3, sha256 = $4, finalized_at = $5 where id = $1 and state = 'draft'",
    )
    .bind(id.as_str())
    .bind(number)
    .bind(body)
    .bind(sha256)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Voids a finalized invoice. False when it is not finalized.
pub async fn void(connection: &mut AnyConnection, id: &InvoiceId, reason: &str, now: Micros) -> anyhow::Result<bool> {
    let updated =
        sqlx::query("update invoice set state = 'void', voided_at = $2, void_reason = $3 where id = $1 and state = 'finalized'")
            .bind(id.as_str())
            .bind(now.0)
            .bind(reason)
            .execute(connection)
            .await?;
    Ok(updated.rows_affected() == 1)
}

/// Says that a finalized invoice is paid. False when it is not finalized.
pub async fn pay(connection: &mut AnyConnection, id: &InvoiceId, now: Micros) -> anyhow::Result<bool> {
    let updated = sqlx::query("update invoice set state = 'paid', paid_at = $2 where id = $1 and state = 'finalized'")
        .bind(id.as_str())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

/// How far a replica has reported.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Which.
    pub id: ReplicaId,
    /// All that it admitted before this instant is in the ledger.
    pub watermark: Micros,
    /// It holds back nothing any more.
    pub retired: bool,
}

/// Every replica that ever was.
pub async fn replicas(connection: &mut AnyConnection) -> anyhow::Result<Vec<Reported>> {
    let rows = sqlx::query("select id, watermark, case when retired_at is null then 0 else 1 end from replica order by id")
        .fetch_all(connection)
        .await?;
    let replica = |row: &AnyRow| {
        let retired: i64 = row.try_get(2)?;
        let retired = retired != 0;
        Ok(Reported { id: row.try_get::<String, _>(0)?.into(), watermark: Micros(row.try_get(1)?), retired })
    };
    rows.iter().map(replica).collect()
}

/// How far each journal is in the archive.
pub async fn archived(connection: &mut AnyConnection) -> anyhow::Result<Cut> {
    let rows = sqlx::query(
        "select replica_id, epoch, cast(max(first_sequence + records - 1) as bigint) from archived_segment \
         group by replica_id, epoch",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(position).collect()
}

/// How far the journals of retired replicas are in the ledger: their disks may be gone, and with them what was not archived.
pub async fn shipped_by_retired(connection: &mut AnyConnection) -> anyhow::Result<Cut> {
    let rows = sqlx::query(
        "select journal_watermark.replica_id, journal_watermark.epoch, journal_watermark.sequence from journal_watermark \
         join replica on replica.id = journal_watermark.replica_id where replica.retired_at is not null",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(position).collect()
}

fn position(row: &AnyRow) -> anyhow::Result<((ReplicaId, i64), u64)> {
    let journal = (row.try_get::<String, _>(0)?.into(), row.try_get(1)?);
    Ok((journal, u64::try_from(row.try_get::<i64, _>(2)?)?))
}

/// Keeps a cut under an id of its own.
pub async fn insert_cut(connection: &mut AnyConnection, dialect: Dialect, id: &str, cut: &Cut) -> anyhow::Result<()> {
    for chunk in cut.iter().collect::<Vec<_>>().chunks(ROWS_MAX) {
        let text = format!("insert into journal_cut (id, replica_id, epoch, sequence) values {}", dialect.values(chunk.len(), 4));
        let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for ((replica, epoch), sequence) in chunk {
            insert = insert.bind(id).bind(replica.as_str()).bind(*epoch).bind(i64::try_from(**sequence)?);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// The cut of an id.
pub async fn cut(connection: &mut AnyConnection, id: &str) -> anyhow::Result<Cut> {
    let rows =
        sqlx::query("select replica_id, epoch, sequence from journal_cut where id = $1").bind(id).fetch_all(connection).await?;
    rows.iter().map(position).collect()
}
