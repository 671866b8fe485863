//! Partners, subscriptions and producers in the database; API keys have a file of their own.

use anyhow::Context;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::key::SecretHash;
use super::{Details, Scope};
use crate::clock::Micros;
use crate::event::producer::Producer;
use crate::ids::{KeyId, PartnerId, PlanId, SubscriptionId};

/// Who queries and pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Its id.
    pub id: PartnerId,
    /// As the operator named it; unique.
    pub name: String,
    /// IANA name; its billing months are calendar months there, from the next that has not begun.
    pub timezone: String,
    /// As invoices print it, and how it is taxed.
    pub details: Details,
    /// Which rows it may see.
    pub scope: Scope,
    /// It gets no answers.
    pub suspended: bool,
    /// Since when it is here.
    pub created_at: Micros,
    /// The plan version that it is subscribed to now.
    pub plan: Option<(PlanId, i64)>,
}

/// A producer key, without its secret.
#[derive(Clone)]
pub struct ProducerKey {
    /// Whose, and for which sources.
    pub producer: Producer,
    /// Of its secret.
    pub hash: SecretHash,
    /// It was revoked then.
    pub revoked_at: Option<Micros>,
    /// It was issued then.
    pub created_at: Micros,
}

const PARTNER: &str = "select partner.id, partner.name, partner.timezone, partner.scope, partner.suspended, partner.created_at, \
     subscription.plan_id, subscription.plan_version, partner.billing \
     from partner left join subscription on subscription.partner_id = partner.id \
     and subscription.starts_at <= $1 and (subscription.ends_at is null or subscription.ends_at > $1)";

fn partner(row: &AnyRow) -> anyhow::Result<Partner> {
    let scope: String = row.try_get(3)?;
    let plan: Option<String> = row.try_get(6)?;
    let version: Option<i64> = row.try_get(7)?;
    let details: String = row.try_get(8)?;
    Ok(Partner {
        id: row.try_get::<String, _>(0)?.into(),
        name: row.try_get(1)?,
        timezone: row.try_get(2)?,
        details: serde_json::from_str(&details).context("a partner's billing details cannot be read")?,
        scope: serde_json::from_str(&scope).context("a partner's scope cannot be read")?,
        suspended: row.try_get::<i64, _>(4)? != 0,
        created_at: Micros(row.try_get(5)?),
        plan: plan.zip(version).map(|(plan, version)| (plan.into(), version)),
    })
}

/// All partners, by name, with their subscription at `now`.
pub async fn partners(connection: &mut AnyConnection, now: Micros) -> anyhow::Result<Vec<Partner>> {
    let rows = sqlx::query(const_str(PARTNER, " order by partner.name")).bind(now.0).fetch_all(connection).await?;
    rows.iter().map(partner).collect()
}

/// The partner of an id.
pub async fn partner_by_id(connection: &mut AnyConnection, id: &PartnerId, now: Micros) -> anyhow::Result<Option<Partner>> {
    let row = sqlx::query(const_str(PARTNER, " where partner.id = $2"))
        .bind(now.0)
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(partner).transpose()
}

/// Both parts are constants of this file.
fn const_str(select: &'static str, rest: &'static str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("{select}{rest}"))
}

/// Stores a partner, whose months are those of its time zone from the first on. False when its name is taken.
pub async fn insert_partner(connection: &mut AnyConnection, partner: &Partner) -> anyhow::Result<bool> {
    let inserted = sqlx::query(
        "insert into partner (id, name, timezone, scope, suspended, created_at, billing) values ($1, $2, $3, $4, $5, $6, $7) \
         on conflict (name) do nothing",
    )
    .bind(partner.id.as_str())
    .bind(partner.name.as_str())
    .bind(partner.timezone.as_str())
    .bind(serde_json::to_string(&partner.scope)?)
    .bind(i64::from(partner.suspended))
    .bind(partner.created_at.0)
    .bind(serde_json::to_string(&partner.details)?)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() != 1 {
        return Ok(false);
    }
    set_timezone_from(connection, &partner.id, "0001-01", &partner.timezone).await?;
    Ok(true)
}

/// Changes the details that invoices print.
pub async fn set_details(connection: &mut AnyConnection, id: &PartnerId, details: &Details) -> anyhow::Result<()> {
    sqlx::query("update partner set billing = $1 where id = $2")
        .bind(serde_json::to_string(details)?)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// From a month on, written as `2026-12`, a partner's months are those of a time zone.
pub async fn set_timezone_from(
    connection: &mut AnyConnection,
    id: &PartnerId,
    first_period: &str,
    timezone: &str,
) -> anyhow::Result<()> {
    // The last word holds: what was meant for later months is forgotten.
    sqlx::query("delete from partner_timezone where partner_id = $1 and first_period > $2")
        .bind(id.as_str())
        .bind(first_period)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "insert into partner_timezone (partner_id, first_period, timezone) values ($1, $2, $3) \
         on conflict (partner_id, first_period) do update set timezone = excluded.timezone",
    )
    .bind(id.as_str())
    .bind(first_period)
    .bind(timezone)
    .execute(&mut *connection)
    .await?;
    sqlx::query("update partner set timezone = $1 where id = $2").bind(timezone).bind(id.as_str()).execute(connection).await?;
    Ok(())
}

/// Ends what a partner is subscribed to.
pub async fn end_subscription(connection: &mut AnyConnection, partner: &PartnerId, now: Micros) -> anyhow::Result<()> {
    sqlx::query("update subscription set ends_at = $1 where partner_id = $2 and (ends_at is null or ends_at > $1)")
        .bind(now.0)
        .bind(partner.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Suspends or resumes a partner. False for an unknown one.
pub async fn set_suspended(connection: &mut AnyConnection, id: &PartnerId, suspended: bool) -> anyhow::Result<bool> {
    let updated = sqlx::query("update partner set suspended = $1 where id = $2")
        .bind(i64::from(suspended))
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

/// Subscribes a partner to a plan version from `now` on.
pub async fn insert_subscription(
    connection: &mut AnyConnection,
    id: &SubscriptionId,
    partner: &PartnerId,
    plan: (&PlanId, i64),
    now: Micros,
    trial_ends_at: Option<Micros>,
) -> anyhow::Result<()> {
    sqlx::query(
        "insert into subscription (id, partner_id, plan_id, plan_version, starts_at, trial_ends_at) values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.as_str())
    .bind(partner.as_str())
    .bind(plan.0.as_str())
    .bind(plan.1)
    .bind(now.0)
    .bind(trial_ends_at.map(|end| end.0))
    .execute(connection)
    .await?;
    Ok(())
}

fn hash(row: &AnyRow, column: usize) -> anyhow::Result<SecretHash> {
    SecretHash::from_hex(&row.try_get::<String, _>(column)?).context("a key's hash cannot be read")
}

/// All producer keys, by the time they were issued.
pub async fn producers(connection: &mut AnyConnection) -> anyhow::Result<Vec<ProducerKey>> {
    let rows =
        sqlx::query("select id, name, sources, secret_sha256, revoked_at, created_at from producer order by created_at, id")
            .fetch_all(connection)
            .await?;
    rows.iter()
        .map(|row| {
            let sources: String = row.try_get(2)?;
            Ok(ProducerKey {
                producer: Producer {
                    id: row.try_get::<String, _>(0)?.into(),
                    name: row.try_get(1)?,
                    sources: serde_json::from_str(&sources).context("a producer's sources cannot be read")?,
                },
                hash: hash(row, 3)?,
                revoked_at: row.try_get::<Option<i64>, _>(4)?.map(Micros),
                created_at: Micros(row.try_get(5)?),
            })
        })
        .collect()
}

/// Stores a producer key.
pub async fn insert_producer(connection: &mut AnyConnection, key: &ProducerKey) -> anyhow::Result<()> {
    sqlx::query("insert into producer (id, name, sources, secret_sha256, created_at) values ($1, $2, $3, $4, $5)")
        .bind(key.producer.id.as_str())
        .bind(key.producer.name.as_str())
        .bind(serde_json::to_string(&key.producer.sources)?)
        .bind(key.hash.to_hex())
        .bind(key.created_at.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Revokes a producer key; once revoked, it stays as it is. False for an unknown one.
pub async fn revoke_producer(connection: &mut AnyConnection, id: &KeyId, now: Micros) -> anyhow::Result<bool> {
    let updated = sqlx::query("update producer set revoked_at = coalesce(revoked_at, $1) where id = $2")
        .bind(now.0)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

/// The control plane's version: whoever holds a picture of an older one reads it anew.
pub async fn version(connection: &mut AnyConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query("select version from control where id = 1").fetch_one(connection).await?.try_get(0)?)
}

/// Says that something changed, in the transaction of the change.
pub async fn changed(connection: &mut AnyConnection) -> anyhow::Result<()> {
    sqlx::query("update control set version = version + 1 where id = 1").execute(&mut *connection).await?;
    crate::db::notify::tell(connection).await
}
