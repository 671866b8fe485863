//! Plans and the ledger's cells, as billing reads and writes them.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Row};

use super::Period;
use super::calendar::{Calendar, PlanVersion, Subscribed};
use super::invoice::{Cut, MonthUsage, Plans};
use super::plan::Plan;
use crate::clock::Micros;
use crate::ids::{KeyId, PartnerId, PlanId, ReplicaId};
use crate::metering::Meter;

/// A published plan version.
#[derive(Clone, Debug)]
pub struct Published {
    /// What it says.
    pub plan: Plan,
    /// Since when.
    pub published_at: Micros,
}

fn published(row: &AnyRow) -> anyhow::Result<Published> {
    let body: String = row.try_get(0)?;
    Ok(Published { plan: Plan::from_body(&body)?, published_at: Micros(row.try_get(1)?) })
}

/// Every version of every plan, in order.
pub async fn plans(connection: &mut AnyConnection) -> anyhow::Result<Vec<Published>> {
    let rows = sqlx::query("select body, published_at from plan order by id, version").fetch_all(connection).await?;
    rows.iter().map(published).collect()
}

/// The versions of one plan, in order.
pub async fn versions(connection: &mut AnyConnection, id: &PlanId) -> anyhow::Result<Vec<Published>> {
    let rows = sqlx::query("select body, published_at from plan where id = $1 order by version")
        .bind(id.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(published).collect()
}

/// Stores a version.
pub async fn publish(connection: &mut AnyConnection, plan: &Plan, now: Micros) -> anyhow::Result<()> {
    sqlx::query("insert into plan (id, version, body, published_at) values ($1, $2, $3, $4)")
        .bind(plan.id.as_str())
        .bind(plan.version)
        .bind(plan.body()?)
        .bind(now.0)
        .execute(connection)
        .await
        .with_context(|| format!("cannot store version {} of the plan \"{}\"", plan.version, plan.id))?;
    Ok(())
}

fn meter(row: &AnyRow, column: usize) -> anyhow::Result<Meter> {
    let name: String = row.try_get(column)?;
    Meter::from_name(&name).with_context(|| format!("the ledger has the unknown meter \"{name}\""))
}

fn units(row: &AnyRow, column: usize) -> anyhow::Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?)?)
}

/// What a partner used in a month, and the last record of each journal in it.
#[derive(Clone, Debug, Default)]
pub struct MonthLedger {
    /// By plan version and meter.
    pub usage: MonthUsage,
    /// By replica and epoch.
    pub positions: Cut,
    /// Answers that journal records stand behind.
    pub answers: u64,
}

/// What `partner` used between two instants that lie on the edges of cells; before `trial_ends_at` it is free.
pub async fn month_ledger(
    connection: &mut AnyConnection,
    partner: &PartnerId,
    (from, to): (Micros, Micros),
    trial_ends_at: Option<Micros>,
) -> anyhow::Result<MonthLedger> {
    let rows = sqlx::query(
        "select plan_id, plan_version, meter, replica_id, epoch, cast(max(last_sequence) as bigint), \
         cast(sum(case when cell_start < $4 then 0 else units end) as bigint), \
         cast(sum(case when cell_start < $4 then 0 else waived_units end) as bigint), \
         cast(sum(case when cell_start < $4 then units + waived_units else 0 end) as bigint) \
         from usage_cell where partner_id = $1 and cell_start >= $2 and cell_start < $3 \
         group by plan_id, plan_version, meter, replica_id, epoch",
    )
    .bind(partner.as_str())
    .bind(from.0)
    .bind(to.0)
    .bind(trial_ends_at.map_or(i64::MIN, |end| end.0))
    .fetch_all(connection)
    .await?;
    let mut ledger = MonthLedger::default();
    for row in &rows {
        let plan: PlanVersion = (row.try_get::<String, _>(0)?.into(), row.try_get(1)?);
        let of = ledger.usage.entry(plan).or_default().entry(meter(row, 2)?).or_default();
        let journal: (ReplicaId, i64) = (row.try_get::<String, _>(3)?.into(), row.try_get(4)?);
        let journal_is_unknown = journal.0.as_str().is_empty();
        let last = ledger.positions.entry(journal).or_default();
        *last = (*last).max(units(row, 5)?);
        let sum = |sum: u64, more: u64| sum.checked_add(more).context("a month has more units than can be counted");
        // Cells from before positions were kept have no replica.
        if meter(row, 2)? == Meter::Requests && !journal_is_unknown {
            ledger.answers = sum(sum(ledger.answers, units(row, 6)?)?, units(row, 8)?)?;
        }
        of.rated = sum(of.rated, units(row, 6)?)?;
        of.waived = sum(of.waived, units(row, 7)?)?;
        of.trial = sum(of.trial, units(row, 8)?)?;
    }
    Ok(ledger)
}

/// Cells of a partner that were shipped behind their replica's watermark: when they begin, and the last record of each journal
/// in them.
pub async fn late_cells(
    connection: &mut AnyConnection,
    partner: &PartnerId,
    before: Micros,
) -> anyhow::Result<Vec<(Micros, (ReplicaId, i64), u64)>> {
    // "cross" makes SQLite begin with what is late, of which there is little, and not with all that was ever shipped.
    let rows = sqlx::query(
        "select usage_late.cell_start, usage_cell.replica_id, usage_cell.epoch, cast(max(usage_cell.last_sequence) as bigint) \
         from usage_late cross join usage_cell \
         where usage_late.partner_id = $1 and usage_late.cell_start < $2 \
         and usage_cell.partner_id = usage_late.partner_id and usage_cell.cell_start = usage_late.cell_start \
         group by usage_late.cell_start, usage_cell.replica_id, usage_cell.epoch",
    )
    .bind(partner.as_str())
    .bind(before.0)
    .fetch_all(connection)
    .await?;
    let cell = |row: &AnyRow| {
        let journal = (row.try_get::<String, _>(1)?.into(), row.try_get(2)?);
        Ok((Micros(row.try_get(0)?), journal, units(row, 3)?))
    };
    rows.iter().map(cell).collect()
}

/// A question for all partners, or for one: in words of their own, since "all, or this one" is answered by reading all.
fn of(partner: Option<&PartnerId>, all: &'static str, one: &'static str) -> Query<'static, Any, AnyArguments> {
    match partner {
        Some(partner) => sqlx::query(one).bind(partner.as_str()),
        None => sqlx::query(all),
    }
}

/// The calendars of all partners, or of one.
pub async fn calendars(
    connection: &mut AnyConnection,
    partner: Option<&PartnerId>,
) -> anyhow::Result<HashMap<PartnerId, Calendar>> {
    let rows = of(
        partner,
        "select partner_id, first_period, timezone from partner_timezone order by partner_id, first_period",
        "select partner_id, first_period, timezone from partner_timezone where partner_id = $1 order by first_period",
    );
    let rows = rows.fetch_all(&mut *connection).await?;
    let mut zones: HashMap<PartnerId, Vec<(Period, String)>> = HashMap::new();
    for row in &rows {
        let first: String = row.try_get(1)?;
        let first = first.parse().map_err(|wrong: String| anyhow::anyhow!(wrong))?;
        zones.entry(row.try_get::<String, _>(0)?.into()).or_default().push((first, row.try_get(2)?));
    }
    let rows = of(
        partner,
        "select partner_id, plan_id, plan_version, starts_at, ends_at, trial_ends_at from subscription \
         order by partner_id, starts_at, id",
        "select partner_id, plan_id, plan_version, starts_at, ends_at, trial_ends_at from subscription \
         where partner_id = $1 order by starts_at, id",
    );
    let rows = rows.fetch_all(connection).await?;
    let mut subscriptions: HashMap<PartnerId, (Vec<Subscribed>, Option<Micros>)> = HashMap::new();
    for row in &rows {
        let (list, trial) = subscriptions.entry(row.try_get::<String, _>(0)?.into()).or_default();
        if list.is_empty() {
            *trial = row.try_get::<Option<i64>, _>(5)?.map(Micros);
        }
        list.push(Subscribed {
            plan: (row.try_get::<String, _>(1)?.into(), row.try_get(2)?),
            from: Micros(row.try_get(3)?),
            to: row.try_get::<Option<i64>, _>(4)?.map(Micros),
        });
    }
    let calendar = |(partner, zones)| {
        let (list, trial) = subscriptions.remove(&partner).unwrap_or_default();
        Ok((partner, Calendar::new(zones, list, trial)?))
    };
    zones.into_iter().map(calendar).collect()
}

/// The calendar of a partner.
pub async fn calendar(connection: &mut AnyConnection, partner: &PartnerId) -> anyhow::Result<Calendar> {
    let mut calendars = calendars(connection, Some(partner)).await?;
    calendars.remove(partner).with_context(|| format!("the partner {partner} has no time zone"))
}

/// Every published plan version.
pub async fn plans_by_version(connection: &mut AnyConnection) -> anyhow::Result<Plans> {
    let plans = plans(connection).await?.into_iter();
    Ok(plans.map(|published| ((published.plan.id.clone(), published.plan.version), Arc::new(published.plan))).collect())
}

/// Units of one key under one plan version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedByKey {
    /// Who pays.
    pub partner: PartnerId,
    /// With which key.
    pub key: KeyId,
    /// Under which plan,
    pub plan: PlanId,
    /// and which version of it.
    pub plan_version: i64,
    /// What was counted.
    pub meter: Meter,
    /// How much,
    pub rated: u64,
    /// and how much in the free trial.
    pub trial: u64,
    /// Whether it went through the replica that asks.
    pub is_mine: bool,
}

/// What every key used between two instants that lie on the edges of cells, apart for `replica` and for the others.
pub async fn usage_by_key(
    connection: &mut AnyConnection,
    (from, to): (Micros, Micros),
    replica: &ReplicaId,
) -> anyhow::Result<Vec<UsedByKey>> {
    let rows = sqlx::query(
        "select usage_cell.partner_id, key_id, plan_id, plan_version, meter, \
         cast(sum(case when cell_start < coalesce(trial.ends_at, 0) then 0 else units end) as bigint), \
         cast(sum(case when cell_start < coalesce(trial.ends_at, 0) then units else 0 end) as bigint), \
         case when replica_id = $3 then 1 else 0 end as is_mine \
         from usage_cell left join \
         (select partner_id, max(trial_ends_at) as ends_at from subscription group by partner_id) trial \
         on trial.partner_id = usage_cell.partner_id \
         where cell_start >= $1 and cell_start < $2 group by usage_cell.partner_id, key_id, plan_id, plan_version, meter, \
         case when replica_id = $3 then 1 else 0 end",
    )
    .bind(from.0)
    .bind(to.0)
    .bind(replica.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(UsedByKey {
                partner: row.try_get::<String, _>(0)?.into(),
                key: row.try_get::<String, _>(1)?.into(),
                plan: row.try_get::<String, _>(2)?.into(),
                plan_version: row.try_get(3)?,
                meter: meter(row, 4)?,
                rated: units(row, 5)?,
                trial: units(row, 6)?,
                is_mine: row.try_get::<i64, _>(7)? != 0,
            })
        })
        .collect()
}
