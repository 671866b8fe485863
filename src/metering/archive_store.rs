//! The ledger's list of what the archive holds.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::clock::Micros;
use crate::ids::ReplicaId;

/// A journal segment in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedSegment {
    /// Whose,
    pub replica: ReplicaId,
    /// and which: numbers have no gaps.
    pub segment: u64,
    /// The start that wrote it.
    pub epoch: i64,
    /// Its first record's sequence; that of the next record where it holds none.
    pub first_sequence: u64,
    /// How many records.
    pub records: u64,
    /// The object's size.
    pub bytes: u64,
    /// SHA-256 of the whole object, in hex.
    pub sha256: String,
    /// The earliest and the latest admission in it; none where it holds no record.
    pub admitted: Option<(Micros, Micros)>,
    /// When it was archived, by database time.
    pub archived_at: Micros,
    /// When retention took the object away; this row stays.
    pub removed_at: Option<Micros>,
}

/// Records that a segment is archived, in the caller's transaction. A row that is there already must say the same of it.
pub async fn insert(connection: &mut AnyConnection, row: &ArchivedSegment) -> anyhow::Result<()> {
    let segment = i64::try_from(row.segment)?;
    let inserted = sqlx::query(
        "insert into archived_segment \
         (replica_id, segment, epoch, first_sequence, records, bytes, sha256, first_at, last_at, archived_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing",
    )
    .bind(row.replica.as_str())
    .bind(segment)
    .bind(row.epoch)
    .bind(i64::try_from(row.first_sequence)?)
    .bind(i64::try_from(row.records)?)
    .bind(i64::try_from(row.bytes)?)
    .bind(row.sha256.as_str())
    .bind(row.admitted.map(|(first, _)| first.0))
    .bind(row.admitted.map(|(_, last)| last.0))
    .bind(row.archived_at.0)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(());
    }
    let there = find(connection, &row.replica, row.segment).await?;
    let same = there.as_ref().is_some_and(|there| there.sha256 == row.sha256 && there.bytes == row.bytes);
    anyhow::ensure!(
        same,
        "segment {segment} of replica {} was archived with another content before: its journal was changed, or two data folders \
         are copies of one",
        row.replica
    );
    Ok(())
}

const COLUMNS: &str =
    "replica_id, segment, epoch, first_sequence, records, bytes, sha256, first_at, last_at, archived_at, removed_at";

/// One segment.
pub async fn find(connection: &mut AnyConnection, replica: &ReplicaId, segment: u64) -> anyhow::Result<Option<ArchivedSegment>> {
    let text = format!("select {COLUMNS} from archived_segment where replica_id = $1 and segment = $2");
    // Made of this file's own words.
    let row = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(replica.as_str())
        .bind(i64::try_from(segment)?)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(of_row).transpose()
}

/// All segments of one replica, in order.
pub async fn of_replica(connection: &mut AnyConnection, replica: &ReplicaId) -> anyhow::Result<Vec<ArchivedSegment>> {
    of_replica_from(connection, replica, 0).await
}

/// The segments of one replica from `first` on, in order.
pub async fn of_replica_from(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    first: u64,
) -> anyhow::Result<Vec<ArchivedSegment>> {
    let text = format!("select {COLUMNS} from archived_segment where replica_id = $1 and segment >= $2 order by segment");
    // Made of this file's own words.
    let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(replica.as_str()).bind(i64::try_from(first)?);
    query.fetch_all(connection).await?.iter().map(of_row).collect()
}

/// The segments whose records were all admitted before `cutoff` and whose objects are there still, an empty one by when it was
/// archived; some of them, should there be very many.
pub async fn older_than(connection: &mut AnyConnection, cutoff: Micros) -> anyhow::Result<Vec<ArchivedSegment>> {
    let text = format!(
        "select {COLUMNS} from archived_segment where removed_at is null and coalesce(last_at, archived_at) < $1 \
         order by replica_id, segment limit 10000"
    );
    // Made of this file's own words.
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(cutoff.0).fetch_all(connection).await?;
    rows.iter().map(of_row).collect()
}

/// The segments of all replicas, by replica and number.
pub async fn all(connection: &mut AnyConnection) -> anyhow::Result<Vec<ArchivedSegment>> {
    let text = format!("select {COLUMNS} from archived_segment order by replica_id, segment");
    // Made of this file's own words.
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(connection).await?;
    rows.iter().map(of_row).collect()
}

/// Says that a segment's object is gone.
pub async fn mark_removed(connection: &mut AnyConnection, replica: &ReplicaId, segment: u64, now: Micros) -> anyhow::Result<()> {
    sqlx::query("update archived_segment set removed_at = $1 where replica_id = $2 and segment = $3 and removed_at is null")
        .bind(now.0)
        .bind(replica.as_str())
        .bind(i64::try_from(segment)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// The segments of all replicas that may hold a record admitted from `from` on and before `to`, by replica and number; those
/// whose object is gone too, and none that is empty.
pub async fn between(connection: &mut AnyConnection, from: Micros, to: Micros) -> anyhow::Result<Vec<ArchivedSegment>> {
    let text =
        format!("select {COLUMNS} from archived_segment where last_at >= $1 and first_at < $2 order by replica_id, segment");
    // Made of this file's own words.
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(from.0).bind(to.0).fetch_all(connection).await?;
    rows.iter().map(of_row).collect()
}

fn of_row(row: &AnyRow) -> anyhow::Result<ArchivedSegment> {
    let number = |column| -> anyhow::Result<u64> { Ok(u64::try_from(row.try_get::<i64, _>(column)?)?) };
    let (first, last): (Option<i64>, Option<i64>) = (row.try_get("first_at")?, row.try_get("last_at")?);
    Ok(ArchivedSegment {
        replica: row.try_get::<String, _>("replica_id")?.into(),
        segment: number("segment")?,
        epoch: row.try_get("epoch")?,
        first_sequence: number("first_sequence")?,
        records: number("records")?,
        bytes: number("bytes")?,
        sha256: row.try_get("sha256")?,
        admitted: first.zip(last).map(|(first, last)| (Micros(first), Micros(last))),
        archived_at: Micros(row.try_get("archived_at")?),
        removed_at: row.try_get::<Option<i64>, _>("removed_at")?.map(Micros),
    })
}
