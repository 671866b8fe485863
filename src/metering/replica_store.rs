//! The ledger's list of replicas: who has a journal, how far each has promised, who is retired.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::{AnyConnection, Row};

use crate::clock::Micros;
use crate::ids::ReplicaId;

/// One that reported in this time is taken for alive.
const ALIVE: Duration = Duration::from_secs(60);

/// A gateway's place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// Its newest start.
    pub epoch: i64,
    /// When that was.
    pub started_at: Micros,
    /// All that it admitted before this instant is in the ledger.
    pub watermark: Micros,
    /// When it last said so.
    pub reported_at: Micros,
    /// Since when it holds back no close.
    pub retired_at: Option<Micros>,
}

/// A start that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub epoch: i64,
    /// Whether the replica was retired before.
    pub retired: bool,
}

/// Registers a start of `replica`; the new epoch is above all that the ledger or the local journal know. One that is new admits
/// from now on; what another has promised stays until more of its journal is shipped.
pub async fn begin_epoch(connection: &mut AnyConnection, replica: &ReplicaId, local: i64, now: Micros) -> anyhow::Result<Begun> {
    let row = sqlx::query(
        "insert into replica (id, epoch, started_at, watermark, reported_at) values ($1, $2, $3, $3, $3) \
         on conflict (id) do update set \
         epoch = case when replica.epoch >= excluded.epoch then replica.epoch + 1 else excluded.epoch end, \
         started_at = excluded.started_at \
         returning epoch, retired_at",
    )
    .bind(replica.as_str())
    .bind(local + 1)
    .bind(now.0)
    .fetch_one(connection)
    .await?;
    Ok(Begun { epoch: row.try_get(0)?, retired: row.try_get::<Option<i64>, _>(1)?.is_some() })
}

/// Who must have been silent for an id to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Silent {
    /// It last reported before this instant,
    pub before: Micros,
    /// or at this one, and was watched since for long enough.
    pub since: Option<Micros>,
}

/// Gives the id to a data folder, in the transaction that begins its epoch. When another folder has it, which is not as `silent`
/// as must be, nothing may be committed: that one's last report is given back.
pub async fn take(
    connection: &mut AnyConnection,
    replica: &ReplicaId,
    holder: &str,
    silent: Silent,
    now: Micros,
) -> anyhow::Result<Option<Micros>> {
    let taken = sqlx::query(
        "update replica set holder = $1, reported_at = case when reported_at < $2 then $2 else reported_at end \
         where id = $3 and (holder = '' or holder = $1 or reported_at < $4 or reported_at = $5)",
    )
    .bind(holder)
    .bind(now.0)
    .bind(replica.as_str())
    .bind(silent.before.0)
    .bind(silent.since.map_or(-1, |since| since.0))
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(None);
    }
    let row = sqlx::query("select reported_at from replica where id = $1").bind(replica.as_str()).fetch_one(connection).await?;
    Ok(Some(Micros(row.try_get(0)?)))
}

/// Leaves the id to whoever comes next: at a clean stop of the start that has it.
pub async fn let_go(connection: &mut AnyConnection, replica: &ReplicaId, epoch: i64) -> anyhow::Result<()> {
    sqlx::query("update replica set holder = '' where id = $1 and epoch = $2")
        .bind(replica.as_str())
        .bind(epoch)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a later start of the replica is registered: by a copy of its data folder.
pub async fn is_replaced(connection: &mut AnyConnection, replica: &ReplicaId, epoch: i64) -> anyhow::Result<bool> {
    let row = sqlx::query("select count(*) from replica where id = $1 and epoch > $2")
        .bind(replica.as_str())
        .bind(epoch)
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// All replicas, in the order in which they were made.
pub async fn replicas(connection: &mut AnyConnection) -> anyhow::Result<Vec<Replica>> {
    let rows = sqlx::query("select id, epoch, started_at, watermark, reported_at, retired_at from replica order by id")
        .fetch_all(connection)
        .await?;
    let replica = |row: &sqlx::any::AnyRow| -> anyhow::Result<Replica> {
        Ok(Replica {
            id: row.try_get::<String, _>(0)?.into(),
            epoch: row.try_get(1)?,
            started_at: Micros(row.try_get(2)?),
            watermark: Micros(row.try_get(3)?),
            reported_at: Micros(row.try_get(4)?),
            retired_at: row.try_get::<Option<i64>, _>(5)?.map(Micros),
        })
    };
    rows.iter().map(replica).collect()
}

/// How many replicas seem to run.
pub async fn alive(connection: &mut AnyConnection, now: Micros) -> anyhow::Result<u64> {
    let since = now.0.saturating_sub(i64::try_from(ALIVE.as_micros())?);
    let row = sqlx::query("select count(*) from replica where retired_at is null and reported_at >= $1")
        .bind(since)
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(row.try_get::<i64, _>(0)?)?)
}

/// Whether a replica has been silent for so long that it seems to be gone.
pub async fn is_silent(connection: &mut AnyConnection, id: &ReplicaId, now: Micros) -> anyhow::Result<bool> {
    let row = sqlx::query("select reported_at from replica where id = $1").bind(id.as_str()).fetch_optional(connection).await?;
    let reported = row.map(|row| row.try_get(0)).transpose()?;
    Ok(reported.is_none_or(|reported| now.since(Micros(reported)) >= ALIVE))
}

/// Retires a replica, so that closes do not wait for it: since when it is. One that seems to be alive is refused, unless
/// `force` says that whatever it still ships shall be late.
pub async fn retire(connection: &mut AnyConnection, id: &ReplicaId, force: bool, now: Micros) -> anyhow::Result<Micros> {
    let row = sqlx::query("select reported_at, retired_at from replica where id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let row = row.with_context(|| format!("there is no replica {id}: see tollgate replica list"))?;
    let (reported, retired): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    if let Some(since) = retired {
        return Ok(Micros(since));
    }
    let silent = now.since(Micros(reported));
    ensure!(
        force || silent >= ALIVE,
        "replica {id} reported {} s ago and seems to run: stop it first, or use --force, and whatever it still ships is billed late",
        silent.as_secs()
    );
    sqlx::query("update replica set retired_at = $1 where id = $2 and retired_at is null")
        .bind(now.0)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(now)
}
