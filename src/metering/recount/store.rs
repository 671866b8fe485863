//! What the ledger has, as the recount reads it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use sqlx::{AnyConnection, Row};

use crate::ids::ReplicaId;

/// Every replica that the ledger knows anything of, and `also`.
pub(super) async fn replicas(connection: &mut AnyConnection, also: Option<&ReplicaId>) -> anyhow::Result<Vec<ReplicaId>> {
    let rows = sqlx::query(
        "select replica_id from usage_cell union select replica_id from journal_watermark union \
         select replica_id from archived_segment order by replica_id",
    )
    .fetch_all(connection)
    .await?;
    let mut replicas = Vec::new();
    for row in &rows {
        replicas.push(ReplicaId::from(row.try_get::<String, _>(0)?));
    }
    replicas.extend(also.cloned());
    replicas.sort();
    replicas.dedup();
    Ok(replicas)
}

/// Cells from before positions were kept.
pub(super) async fn cells_without_positions(connection: &mut AnyConnection) -> anyhow::Result<i64> {
    let row = sqlx::query("select count(*) from usage_cell where replica_id = ''").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// The last sequence in the ledger, by epoch.
pub(super) async fn shipped(connection: &mut AnyConnection, replica: &ReplicaId) -> anyhow::Result<BTreeMap<i64, u64>> {
    let rows = sqlx::query("select epoch, sequence from journal_watermark where replica_id = $1")
        .bind(replica.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, u64::try_from(row.try_get::<i64, _>(1)?)?))).collect()
}

/// A row of usage_cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) partner: String,
    pub(super) key: String,
    pub(super) plan: String,
    pub(super) plan_version: i64,
    pub(super) product: String,
    pub(super) meter: String,
    pub(super) cell_start: i64,
    pub(super) epoch: i64,
    pub(super) units: i64,
    pub(super) waived: i64,
    pub(super) records: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// Gives each cell of a replica that begins in [from, to) to `each`.
pub(super) async fn cells(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    (from, to): (i64, i64),
    mut each: impl FnMut(Cell),
) -> anyhow::Result<()> {
    let mut rows = sqlx::query(
        "select partner_id, key_id, plan_id, plan_version, product, meter, cell_start, epoch, units, waived_units, records, \
         first_sequence, last_sequence from usage_cell where replica_id = $1 and cell_start >= $2 and cell_start < $3",
    )
    .bind(replica.as_str())
    .bind(from)
    .bind(to)
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(Cell {
            partner: row.try_get(0)?,
            key: row.try_get(1)?,
            plan: row.try_get(2)?,
            plan_version: row.try_get(3)?,
            product: row.try_get(4)?,
            meter: row.try_get(5)?,
            cell_start: row.try_get(6)?,
            epoch: row.try_get(7)?,
            units: row.try_get(8)?,
            waived: row.try_get(9)?,
            records: row.try_get(10)?,
            first: row.try_get(11)?,
            last: row.try_get(12)?,
        });
    }
    Ok(())
}
