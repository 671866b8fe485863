//! Plans and the ledger's cells, as billing reads and writes them.

use anyhow::Context;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::plan::Plan;
use crate::clock::Micros;
use crate::ids::{KeyId, PartnerId, PlanId};
use crate::metering::{Counted, Meter};

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

/// Units of one partner under one plan version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The plan,
    pub plan: PlanId,
    /// its version,
    pub plan_version: i64,
    /// what was counted,
    pub meter: Meter,
    /// and how much.
    pub counted: Counted,
}

fn meter(row: &AnyRow, column: usize) -> anyhow::Result<Meter> {
    let name: String = row.try_get(column)?;
    Meter::from_name(&name).with_context(|| format!("the ledger has the unknown meter \"{name}\""))
}

fn units(row: &AnyRow, column: usize) -> anyhow::Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?)?)
}

/// What `partner` used between two instants that lie on the edges of cells.
pub async fn usage(connection: &mut AnyConnection, partner: &PartnerId, from: Micros, to: Micros) -> anyhow::Result<Vec<Used>> {
    let rows = sqlx::query(
        "select plan_id, plan_version, meter, cast(sum(units) as bigint), cast(sum(waived_units) as bigint) from usage_cell \
         where partner_id = $1 and cell_start >= $2 and cell_start < $3 \
         group by plan_id, plan_version, meter order by plan_id, plan_version, meter",
    )
    .bind(partner.as_str())
    .bind(from.0)
    .bind(to.0)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Used {
                plan: row.try_get::<String, _>(0)?.into(),
                plan_version: row.try_get(1)?,
                meter: meter(row, 2)?,
                counted: Counted { units: units(row, 3)?, waived: units(row, 4)? },
            })
        })
        .collect()
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
    /// How much.
    pub units: u64,
}

/// What every key used between two instants that lie on the edges of cells.
pub async fn usage_by_key(connection: &mut AnyConnection, from: Micros, to: Micros) -> anyhow::Result<Vec<UsedByKey>> {
    let rows = sqlx::query(
        "select partner_id, key_id, plan_id, plan_version, meter, cast(sum(units) as bigint) from usage_cell \
         where cell_start >= $1 and cell_start < $2 group by partner_id, key_id, plan_id, plan_version, meter",
    )
    .bind(from.0)
    .bind(to.0)
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
                units: units(row, 5)?,
            })
        })
        .collect()
}

/// The partners that used anything between two instants.
pub async fn partners_with_usage(connection: &mut AnyConnection, from: Micros, to: Micros) -> anyhow::Result<Vec<PartnerId>> {
    let rows =
        sqlx::query("select distinct partner_id from usage_cell where cell_start >= $1 and cell_start < $2 order by partner_id")
            .bind(from.0)
            .bind(to.0)
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok(row.try_get::<String, _>(0)?.into())).collect()
}
