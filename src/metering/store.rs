//! The ledger's side of shipping.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::meter::{Meter, Product};
use super::record::{Mode, UsageRecord};
use crate::clock::Micros;
use crate::db::dialect::Dialect;
use crate::ids::ReplicaId;

/// Usage is kept in cells of 15 minutes UTC.
pub(super) const CELL_MICROS: i64 = 15 * 60 * 1_000_000;
/// Rows an insert: below the databases' parameter limits.
const ROWS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CellKey {
    partner: String,
    cell_start: i64,
    product: &'static str,
    meter: &'static str,
    plan: String,
    plan_version: i64,
    key: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CellSum {
    units: i64,
    waived_units: i64,
    records: i64,
    first_sequence: i64,
    last_sequence: i64,
}

/// Records of one epoch on their way into the ledger, summed by cell.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    cells: BTreeMap<CellKey, CellSum>,
    pub(super) records: u64,
    pub(super) last: u64,
}

impl Aggregate {
    /// Adds the record of `sequence`, which follows the last one. A test-mode record moves the watermark only.
    pub(super) fn add(&mut self, sequence: u64, record: &UsageRecord) {
        self.last = sequence;
        self.records += 1;
        if record.mode == Mode::Test {
            return;
        }
        let mut products: BTreeMap<Product, (u64, u64)> = BTreeMap::new();
        record.units.iter().for_each(|(&product, &units)| products.entry(product).or_default().0 = units);
        record.waived_units.iter().for_each(|(&product, &units)| products.entry(product).or_default().1 = units);
        let meters = products.into_iter().map(|(product, counted)| (Meter::from(product), counted));
        for (meter, (units, waived)) in meters.chain([(Meter::Requests, (1, 0))]) {
            let key = CellKey {
                partner: record.partner.as_str().to_owned(),
                cell_start: record.at.0.div_euclid(CELL_MICROS) * CELL_MICROS,
                product: meter.product().map_or("gateway", |product| product.as_str()),
                meter: meter.as_str(),
                plan: record.plan.as_str().to_owned(),
                plan_version: record.plan_version,
                key: record.key.as_str().to_owned(),
            };
            let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
            let sum = self.cells.entry(key).or_insert(CellSum { first_sequence: sequence, ..CellSum::default() });
            sum.last_sequence = sequence;
            sum.units += i64::try_from(units).unwrap_or(i64::MAX);
            sum.waived_units += i64::try_from(waived).unwrap_or(i64::MAX);
            sum.records += 1;
        }
    }
}

/// Registers a start of `replica`; the new epoch is above all that the ledger or the local journal know.
pub(crate) async fn begin_epoch(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    local: i64,
    now: Micros,
) -> anyhow::Result<i64> {
    let row = sqlx::query(
        "insert into replica (id, epoch, started_at) values ($1, $2, $3) \
         on conflict (id) do update set \
         epoch = case when replica.epoch >= excluded.epoch then replica.epoch + 1 else excluded.epoch end, \
         started_at = excluded.started_at \
         returning epoch",
    )
    .bind(replica.as_str())
    .bind(local + 1)
    .bind(now.0)
    .fetch_one(connection)
    .await?;
    Ok(row.try_get(0)?)
}

/// The last sequence in the ledger, by epoch.
pub(super) async fn watermarks(connection: &mut AnyConnection, replica: &ReplicaId) -> anyhow::Result<BTreeMap<i64, u64>> {
    let rows = sqlx::query("select epoch, sequence from journal_watermark where replica_id = $1")
        .bind(replica.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get::<i64, _>(0)?, u64::try_from(row.try_get::<i64, _>(1)?)?))).collect()
}

/// Moves the watermark from `before` to the aggregate's end and adds its cells, in the caller's transaction. False when the
/// watermark was elsewhere: then nothing may be committed.
pub(super) async fn ship(
    connection: &mut AnyConnection,
    dialect: Dialect,
    replica: &ReplicaId,
    epoch: i64,
    before: u64,
    aggregate: &Aggregate,
) -> anyhow::Result<bool> {
    let (before, last) = (i64::try_from(before)?, i64::try_from(aggregate.last)?);
    let moved = if before == 0 {
        sqlx::query("insert into journal_watermark (replica_id, epoch, sequence) values ($1, $2, $3) on conflict do nothing")
            .bind(replica.as_str())
            .bind(epoch)
            .bind(last)
            .execute(&mut *connection)
            .await?
    } else {
        sqlx::query("update journal_watermark set sequence = $1 where replica_id = $2 and epoch = $3 and sequence = $4")
            .bind(last)
            .bind(replica.as_str())
            .bind(epoch)
            .bind(before)
            .execute(&mut *connection)
            .await?
    };
    if moved.rows_affected() != 1 {
        return Ok(false);
    }
    let cells: Vec<_> = aggregate.cells.iter().collect();
    for chunk in cells.chunks(ROWS_MAX) {
        let text = format!(
            "insert into usage_cell (partner_id, cell_start, product, meter, plan_id, plan_version, key_id, \
             replica_id, epoch, units, waived_units, records, first_sequence, last_sequence) values {} \
             on conflict (partner_id, cell_start, product, meter, plan_id, plan_version, key_id, replica_id, epoch) do update set \
             units = usage_cell.units + excluded.units, \
             waived_units = usage_cell.waived_units + excluded.waived_units, \
             records = usage_cell.records + excluded.records, \
             last_sequence = excluded.last_sequence",
            dialect.values(chunk.len(), 14)
        );
        // Made of this file's own words and numbered placeholders only. Odd-sized tails would fill the statement cache.
        let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for (key, sum) in chunk {
            insert = insert
                .bind(key.partner.as_str())
                .bind(key.cell_start)
                .bind(key.product)
                .bind(key.meter)
                .bind(key.plan.as_str())
                .bind(key.plan_version)
                .bind(key.key.as_str())
                .bind(replica.as_str())
                .bind(epoch)
                .bind(sum.units)
                .bind(sum.waived_units)
                .bind(sum.records)
                .bind(sum.first_sequence)
                .bind(sum.last_sequence);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(true)
}
