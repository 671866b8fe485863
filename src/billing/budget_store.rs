//! What replicas may use of a partner's month, in the database. Whoever changes grants of a month holds its lock, so the sum over
//! all replicas is what the month's limits are held against.
//!
//! A grant covers all that its replica used since the month's start and what it may use yet. So for each replica, what the ledger
//! has and what is still to come from its journal lies within its grant, and the sum bounds what is ever billed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::Context;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::clock::Micros;
use crate::db::dialect::Dialect;
use crate::ids::{KeyId, PartnerId, PlanId, ReplicaId};
use crate::metering::Meter;

/// Rows an insert: below the databases' parameter limits.
const ROWS_MAX: usize = 500;

/// What a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// All units, for a plan's quota.
    Units,
    /// Units of a key, for its own quota.
    Key(KeyId),
    /// Units of a meter under a plan version outside of a trial, for a spend cap.
    Line(PlanId, i64, Meter),
}

/// How much of each.
pub type Grants = BTreeMap<Counted, u64>;

/// A partner's month: its first instant, and the first one past it.
pub type Bounds = (Micros, Micros);

/// Locks the month until the transaction ends.
pub async fn lock(connection: &mut AnyConnection, partner: &PartnerId, month: Bounds) -> anyhow::Result<()> {
    // A write, not a read: SQLite knows no "for update".
    sqlx::query(
        "insert into budget_month (partner_id, month_start, month_end, wanted_at) values ($1, $2, $3, 0) \
         on conflict (partner_id, month_start) do update set month_end = excluded.month_end",
    )
    .bind(partner.as_str())
    .bind(month.0.0)
    .bind(month.1.0)
    .execute(connection)
    .await?;
    Ok(())
}

fn columns(counted: &Counted) -> (&str, &str, i64, &'static str) {
    match counted {
        Counted::Units => ("", "", 0, ""),
        Counted::Key(key) => (key.as_str(), "", 0, ""),
        Counted::Line(plan, version, meter) => ("", plan.as_str(), *version, meter.as_str()),
    }
}

fn counted(row: &AnyRow, from: usize) -> anyhow::Result<Counted> {
    let (key, plan): (String, String) = (row.try_get(from)?, row.try_get(from + 1)?);
    if !key.is_empty() {
        return Ok(Counted::Key(key.into()));
    }
    let (version, meter): (i64, String) = (row.try_get(from + 2)?, row.try_get(from + 3)?);
    if meter.is_empty() {
        return Ok(Counted::Units);
    }
    let meter = Meter::from_name(&meter).with_context(|| format!("a budget is of the unknown meter \"{meter}\""))?;
    Ok(Counted::Line(plan.into(), version, meter))
}

/// What all replicas but `replica` were granted.
pub async fn others(
    connection: &mut AnyConnection,
    partner: &PartnerId,
    month: Bounds,
    replica: &ReplicaId,
) -> anyhow::Result<Grants> {
    let rows = sqlx::query(
        "select key_id, plan_id, plan_version, meter, cast(sum(units) as bigint) from budget_grant \
         where partner_id = $1 and month_start = $2 and replica_id <> $3 group by key_id, plan_id, plan_version, meter",
    )
    .bind(partner.as_str())
    .bind(month.0.0)
    .bind(replica.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((counted(row, 0)?, u64::try_from(row.try_get::<i64, _>(4)?)?))).collect()
}

/// What becomes of a grant that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Replace,
    Raise,
}

async fn write(
    connection: &mut AnyConnection,
    dialect: Dialect,
    rows: &[(&PartnerId, Micros, &ReplicaId, &Counted, u64)],
    there: There,
) -> anyhow::Result<()> {
    let set = match there {
        There::Replace => "excluded.units",
        There::Raise => "case when budget_grant.units < excluded.units then excluded.units else budget_grant.units end",
    };
    for chunk in rows.chunks(ROWS_MAX) {
        let text = format!(
            "insert into budget_grant (partner_id, month_start, replica_id, key_id, plan_id, plan_version, meter, units) values {} \
             on conflict (partner_id, month_start, replica_id, key_id, plan_id, plan_version, meter) do update set units = {set}",
            dialect.values(chunk.len(), 8)
        );
        // Made of this file's own words and numbered placeholders only. Small ones come again and again.
        let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(chunk.len() <= 8);
        for (partner, month_start, replica, counted, units) in chunk {
            let (key, plan, version, meter) = columns(counted);
            insert = insert.bind(partner.as_str()).bind(month_start.0).bind(replica.as_str());
            insert = insert.bind(key).bind(plan).bind(version).bind(meter).bind(i64::try_from(*units).unwrap_or(i64::MAX));
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Says what `replica` is granted; what is not named stays.
pub async fn grant(
    connection: &mut AnyConnection,
    dialect: Dialect,
    partner: &PartnerId,
    month: Bounds,
    replica: &ReplicaId,
    grants: &Grants,
) -> anyhow::Result<()> {
    let rows: Vec<_> = grants.iter().map(|(counted, units)| (partner, month.0, replica, counted, *units)).collect();
    write(connection, dialect, &rows, There::Replace).await
}

/// Of months that have grants.
const LEDGER: &str = "select budget_month.partner_id, budget_month.month_start, replica_id, key_id, plan_id, plan_version, meter, \
     cast(sum(case when cell_start < coalesce(trial.ends_at, 0) then 0 else units end) as bigint), \
     cast(sum(case when cell_start < coalesce(trial.ends_at, 0) then units else 0 end) as bigint) \
     from budget_month join usage_cell on usage_cell.partner_id = budget_month.partner_id \
     and cell_start >= budget_month.month_start and cell_start < budget_month.month_end left join \
     (select partner_id, max(trial_ends_at) as ends_at from subscription group by partner_id) trial \
     on trial.partner_id = budget_month.partner_id";
const BY_REPLICA: &str =
    "group by budget_month.partner_id, budget_month.month_start, replica_id, key_id, plan_id, plan_version, meter";

type OfReplica = (PartnerId, Micros, ReplicaId);

fn in_the_ledger(rows: &[AnyRow]) -> anyhow::Result<BTreeMap<OfReplica, Grants>> {
    let mut found: BTreeMap<OfReplica, Grants> = BTreeMap::new();
    for row in rows {
        let text = |column: usize| row.try_get::<String, _>(column);
        let number = |column: usize| -> anyhow::Result<u64> { Ok(u64::try_from(row.try_get::<i64, _>(column)?)?) };
        let grants = found.entry((text(0)?.into(), Micros(row.try_get(1)?), text(2)?.into())).or_default();
        let (name, rated, trial) = (text(6)?, number(7)?, number(8)?);
        let meter = Meter::from_name(&name).with_context(|| format!("the ledger has the unknown meter \"{name}\""))?;
        let mut add = |counted, units| match grants.entry(counted) {
            Entry::Occupied(mut there) => *there.get_mut() += units,
            Entry::Vacant(free) => drop(free.insert(units)),
        };
        add(Counted::Line(text(4)?.into(), row.try_get(5)?, meter), rated);
        if meter.product().is_some() {
            add(Counted::Units, rated + trial);
            add(Counted::Key(text(3)?.into()), rated + trial);
        }
    }
    Ok(found)
}

/// Raises the grants of all replicas but `replica` to what the ledger has of them: usage under a plan that limits nothing is not
/// leased, and neither is what earlier versions of Tollgate let through. The caller holds the month's lock.
pub async fn count(
    connection: &mut AnyConnection,
    dialect: Dialect,
    partner: &PartnerId,
    month: Bounds,
    replica: &ReplicaId,
    is_asked: impl Fn(&Counted) -> bool,
) -> anyhow::Result<()> {
    let condition = "where budget_month.partner_id = $1 and budget_month.month_start = $2 and replica_id <> $3";
    // Constants of this file.
    let rows = sqlx::query(AssertSqlSafe(format!("{LEDGER} {condition} {BY_REPLICA}")))
        .bind(partner.as_str())
        .bind(month.0.0)
        .bind(replica.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let found = in_the_ledger(&rows)?;
    let grants = found.iter().flat_map(|((partner, month, replica), grants)| {
        let asked = grants.iter().filter(|(counted, _)| is_asked(counted));
        asked.map(move |(counted, units)| (partner, *month, replica, counted, *units))
    });
    write(connection, dialect, &grants.collect::<Vec<_>>(), There::Raise).await
}

/// A month that ended this long ago changes no more.
const OVER: Duration = Duration::from_secs(24 * 3600);

/// Sets the grants of `replica` to what the ledger has of it: at its start, once its journal is shipped, and when it is gone for
/// good.
pub async fn settle(connection: &mut AnyConnection, dialect: Dialect, replica: &ReplicaId, now: Micros) -> anyhow::Result<()> {
    let recent = Micros(now.0.saturating_sub(i64::try_from(OVER.as_micros()).unwrap_or(i64::MAX)));
    // In order, as every replica does: two that start at once wait for each other one way round only.
    let months = sqlx::query(
        "select partner_id, month_start, month_end from budget_month where month_end > $2 and exists (select 1 from budget_grant \
         where budget_grant.partner_id = budget_month.partner_id and budget_grant.month_start = budget_month.month_start \
         and replica_id = $1) order by partner_id, month_start",
    )
    .bind(replica.as_str())
    .bind(recent.0)
    .fetch_all(&mut *connection)
    .await?;
    for row in &months {
        let partner = PartnerId::from(row.try_get::<String, _>(0)?);
        lock(connection, &partner, (Micros(row.try_get(1)?), Micros(row.try_get(2)?))).await?;
    }
    let condition = "where replica_id = $1 and budget_month.month_end > $2";
    // Constants of this file.
    let rows = sqlx::query(AssertSqlSafe(format!("{LEDGER} {condition} {BY_REPLICA}")))
        .bind(replica.as_str())
        .bind(recent.0)
        .fetch_all(&mut *connection)
        .await?;
    let found = in_the_ledger(&rows)?;
    sqlx::query("delete from budget_grant where replica_id = $1").bind(replica.as_str()).execute(&mut *connection).await?;
    let grants = found.iter().flat_map(|((partner, month, replica), grants)| {
        grants.iter().map(move |(counted, units)| (partner, *month, replica, counted, *units))
    });
    write(connection, dialect, &grants.collect::<Vec<_>>(), There::Replace).await?;
    forget(connection, recent).await
}

/// Asks the other replicas to give back what they do not use of a month.
pub async fn want(connection: &mut AnyConnection, partner: &PartnerId, month: Bounds, now: Micros) -> anyhow::Result<()> {
    sqlx::query("update budget_month set wanted_at = $1 where partner_id = $2 and month_start = $3 and wanted_at < $1")
        .bind(now.0)
        .bind(partner.as_str())
        .bind(month.0.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Of which months more was asked for than is left, since an instant.
pub async fn wanted(connection: &mut AnyConnection, since: Micros) -> anyhow::Result<Vec<(PartnerId, Micros, Micros)>> {
    let rows = sqlx::query("select partner_id, month_start, wanted_at from budget_month where wanted_at >= $1")
        .bind(since.0)
        .fetch_all(connection)
        .await?;
    let month = |row: &AnyRow| Ok((row.try_get::<String, _>(0)?.into(), Micros(row.try_get(1)?), Micros(row.try_get(2)?)));
    rows.iter().map(month).collect()
}

/// Forgets the months that ended before an instant.
async fn forget(connection: &mut AnyConnection, before: Micros) -> anyhow::Result<()> {
    sqlx::query(
        "delete from budget_grant where exists (select 1 from budget_month where budget_month.partner_id = budget_grant.partner_id \
         and budget_month.month_start = budget_grant.month_start and budget_month.month_end < $1)",
    )
    .bind(before.0)
    .execute(&mut *connection)
    .await?;
    sqlx::query("delete from budget_month where month_end < $1").bind(before.0).execute(connection).await?;
    Ok(())
}
