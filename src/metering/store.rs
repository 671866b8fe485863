//! The ledger's side of shipping.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::aggregate::{Aggregate, Cell};
use crate::clock::Micros;
use crate::db::dialect::Dialect;
use crate::ids::ReplicaId;

/// Rows an insert: below the databases' parameter limits.
const ROWS_MAX: usize = 500;

/// The last sequence in the ledger, by epoch.
pub(super) async fn watermarks(connection: &mut AnyConnection, replica: &ReplicaId) -> anyhow::Result<BTreeMap<i64, u64>> {
    let rows = sqlx::query("select epoch, sequence from journal_watermark where replica_id = $1")
        .bind(replica.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get::<i64, _>(0)?, u64::try_from(row.try_get::<i64, _>(1)?)?))).collect()
}

/// Locks a replica's row until the transaction ends: what it has promised, and whether it is retired. A replica that the ledger
/// does not know, because it was restored from a backup, is registered again, as at its start.
async fn lock_replica(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    epoch: i64,
    now: Micros,
) -> anyhow::Result<(Micros, bool)> {
    // A write, not a read: SQLite knows no "for update".
    let row = sqlx::query(
        "insert into replica (id, epoch, started_at, watermark, reported_at) values ($1, $2, $3, $3, $3) \
         on conflict (id) do update set epoch = replica.epoch \
         returning watermark, retired_at",
    )
    .bind(replica.as_str())
    .bind(epoch)
    .bind(now.0)
    .fetch_one(connection)
    .await?;
    Ok((Micros(row.try_get(0)?), row.try_get::<Option<i64>, _>(1)?.is_some()))
}

/// Records that are shipped together.
pub(super) struct Shipment<'a> {
    pub(super) replica: &'a ReplicaId,
    /// The newest start in the journal,
    pub(super) newest: i64,
    /// and the one that these records are of.
    pub(super) epoch: i64,
    /// The last sequence before them.
    pub(super) before: u64,
    pub(super) aggregate: &'a Aggregate,
}

/// Moves the watermark from `before` to the aggregate's end and adds its cells, in the caller's transaction. False when the
/// watermark was elsewhere: then nothing may be committed.
///
/// Cells of records that were admitted before what the replica has promised, or of a retired one, are marked as late. That
/// makes "late" complete: let an invoice be cut from one snapshot in which each replica that is not retired has promised the
/// period's end, and take a record of the period that is not in the snapshot. Its shipment commits after the snapshot. The
/// promise (or the retirement) is in the snapshot and was written under the row's lock, which the shipment takes too: had the
/// shipment had the lock first, it would have committed before the promise and would be in the snapshot. So it came second, read a
/// promise at or past the period's end, which never goes back, and marked the cell. A replica that is not in the snapshot admits
/// from its registration on, which is after the snapshot; what an unknown one brings along from earlier is before its
/// registration's promise, and late.
pub(super) async fn ship(
    connection: &mut AnyConnection,
    dialect: Dialect,
    shipment: &Shipment<'_>,
    now: Micros,
) -> anyhow::Result<bool> {
    let Shipment { replica, newest, epoch, before, aggregate } = *shipment;
    let (promised, retired) = lock_replica(connection, replica, newest, now).await?;
    if !move_watermark(connection, replica, epoch, before, aggregate.last).await? {
        return Ok(false);
    }
    let cells = aggregate.cells();
    add(connection, dialect, replica, epoch, &cells).await?;
    let late = cells.iter().filter(|cell| retired || cell.reaches_before(promised));
    // In order and next to each other: cells are sorted so.
    let mut late: Vec<_> = late.map(|cell| (cell.partner, cell.cell_start)).collect();
    late.dedup();
    mark_late(connection, dialect, &late).await?;
    Ok(true)
}

async fn move_watermark(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    epoch: i64,
    before: u64,
    last: u64,
) -> anyhow::Result<bool> {
    let (before, last) = (i64::try_from(before)?, i64::try_from(last)?);
    let moved = if before == 0 {
        sqlx::query("insert into journal_watermark (replica_id, epoch, sequence) values ($1, $2, $3) on conflict do nothing")
            .bind(replica.as_str())
            .bind(epoch)
            .bind(last)
            .execute(connection)
            .await?
    } else {
        sqlx::query("update journal_watermark set sequence = $1 where replica_id = $2 and epoch = $3 and sequence = $4")
            .bind(last)
            .bind(replica.as_str())
            .bind(epoch)
            .bind(before)
            .execute(connection)
            .await?
    };
    Ok(moved.rows_affected() == 1)
}

async fn add(
    connection: &mut AnyConnection,
    dialect: Dialect,
    replica: &ReplicaId,
    epoch: i64,
    cells: &[Cell<'_>],
) -> anyhow::Result<()> {
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
        let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(chunk.len() == ROWS_MAX);
        for cell in chunk {
            insert = insert
                .bind(cell.partner)
                .bind(cell.cell_start)
                .bind(cell.product)
                .bind(cell.meter)
                .bind(cell.plan)
                .bind(cell.plan_version)
                .bind(cell.key)
                .bind(replica.as_str())
                .bind(epoch)
                .bind(cell.sum.units)
                .bind(cell.sum.waived_units)
                .bind(cell.sum.records)
                .bind(cell.sum.first_sequence)
                .bind(cell.sum.last_sequence);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn mark_late(connection: &mut AnyConnection, dialect: Dialect, late: &[(&str, i64)]) -> anyhow::Result<()> {
    for chunk in late.chunks(ROWS_MAX) {
        let values = dialect.values(chunk.len(), 2);
        let text = format!("insert into usage_late (partner_id, cell_start) values {values} on conflict do nothing");
        // Made of this file's own words and numbered placeholders only.
        let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for (partner, cell_start) in chunk {
            insert = insert.bind(*partner).bind(*cell_start);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    /// It is in the ledger; whether the replica is retired.
    Taken { retired: bool },
    /// The ledger's position in the journal is not the shipper's: nothing was promised.
    Elsewhere,
    /// A later start of this replica is registered, which promises from now on.
    Replaced,
}

/// Who promises.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// The newest start in the journal.
    pub(super) epoch: i64,
    /// Whether it runs. Where none does, the ledger may know of a newer one that never wrote anything.
    pub(super) is_running: bool,
}

/// Promises in the ledger that all that `replica` admitted before `watermark` is shipped. `stands` is the newest journal position
/// that the shipper knows to be in the ledger; a restored database does not have it, and gets no promise.
pub(super) async fn report(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    start: Start,
    stands: Option<(i64, u64)>,
    watermark: Micros,
    now: Micros,
) -> anyhow::Result<Reported> {
    let (_, retired) = lock_replica(connection, replica, start.epoch, now).await?;
    if let Some((epoch, sequence)) = stands {
        let there = sqlx::query("select sequence from journal_watermark where replica_id = $1 and epoch = $2")
            .bind(replica.as_str())
            .bind(epoch)
            .fetch_optional(&mut *connection)
            .await?;
        let there = there.map(|row| row.try_get::<i64, _>(0)).transpose()?;
        if there != Some(i64::try_from(sequence)?) {
            return Ok(Reported::Elsewhere);
        }
    }
    let taken = sqlx::query(
        "update replica set watermark = case when watermark < $1 then $1 else watermark end, \
         reported_at = case when reported_at < $2 then $2 else reported_at end \
         where id = $3 and (epoch = $4 or $5 = 0)",
    )
    .bind(watermark.0)
    .bind(now.0)
    .bind(replica.as_str())
    .bind(start.epoch)
    .bind(i64::from(start.is_running))
    .execute(connection)
    .await?;
    Ok(if taken.rows_affected() == 1 { Reported::Taken { retired } } else { Reported::Replaced })
}
