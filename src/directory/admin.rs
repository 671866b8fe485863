//! What operators do to the control plane. Each function checks, changes and announces within the caller's transaction, and
//! refuses in one sentence that names the mend.

mod api_key;

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use rand::Rng;
use sqlx::AnyConnection;

use super::Scope;
use super::key::{self, Kind, NewKey};
use super::store::{self, Partner, ProducerKey};
use crate::billing::plan::Plan;
use crate::billing::store as plans;
use crate::clock::Micros;
use crate::event::producer::Producer;
use crate::ids::{KeyId, PartnerId, PlanId, SubscriptionId};

pub use api_key::{issue_key, key_id, revoke_key, rotate_key, set_key_suspended};

/// What applying a plan does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// The version is new.
    Published,
    /// The version is there already, with the same words.
    Unchanged,
}

/// Publishes the versions that are new. Refuses all when one of them would change a published version or leave a gap.
pub async fn apply_plans(connection: &mut AnyConnection, file: &[Plan], now: Micros) -> anyhow::Result<Vec<PlanChange>> {
    let mut changes = Vec::new();
    for plan in file {
        let published = plans::versions(connection, &plan.id).await?;
        if let Some(same) = published.iter().find(|published| published.plan.version == plan.version) {
            ensure!(
                same.plan == *plan,
                "version {} of the plan \"{}\" is published and says something else: a change is a new version, set version = {}",
                plan.version,
                plan.id,
                published.len() + 1
            );
            changes.push(PlanChange::Unchanged);
            continue;
        }
        let next = published.len() as i64 + 1;
        ensure!(plan.version == next, "the plan \"{}\" has version {}, but the next one is {next}", plan.id, plan.version);
        plans::publish(connection, plan, now).await?;
        changes.push(PlanChange::Published);
    }
    store::changed(connection).await?;
    Ok(changes)
}

/// Creates a partner on the newest version of `plan`.
pub async fn create_partner(
    connection: &mut AnyConnection,
    name: &str,
    plan: &PlanId,
    scope: Scope,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<Partner> {
    ensure!(
        !name.trim().is_empty() && name.len() <= 200 && !name.chars().any(char::is_control),
        "a partner's name has 1 to 200 bytes and no control characters"
    );
    let newest = plans::versions(connection, plan).await?.pop();
    let newest = newest.with_context(|| format!("there is no plan \"{plan}\": see tollgate plan list"))?.plan;
    let partner = Partner {
        id: PartnerId::new(now, rng),
        name: name.to_owned(),
        timezone: TimeZone::UTC.iana_name().unwrap_or("UTC").to_owned(),
        scope,
        suspended: false,
        created_at: now,
        plan: Some((newest.id.clone(), newest.version)),
    };
    ensure!(store::insert_partner(connection, &partner).await?, "there is a partner \"{name}\" already: take another name");
    let subscription = SubscriptionId::new(now, rng);
    store::insert_subscription(connection, &subscription, &partner.id, (&newest.id, newest.version), now).await?;
    store::changed(connection).await?;
    Ok(partner)
}

/// The partner of an id, or of a name.
pub async fn find_partner(connection: &mut AnyConnection, text: &str, now: Micros) -> anyhow::Result<Partner> {
    if let Some(partner) = store::partner_by_id(connection, &PartnerId::from(text), now).await? {
        return Ok(partner);
    }
    let named = store::partners(connection, now).await?.into_iter().find(|partner| partner.name == text);
    named.with_context(|| format!("there is no partner \"{text}\": see tollgate partner list"))
}

/// Suspends or resumes a partner.
pub async fn set_suspended(connection: &mut AnyConnection, partner: &PartnerId, suspended: bool) -> anyhow::Result<()> {
    ensure!(store::set_suspended(connection, partner, suspended).await?, "there is no partner \"{partner}\"");
    store::changed(connection).await
}

/// Issues a producer key for events whose `source` begins with one of `sources`.
pub async fn issue_producer(
    connection: &mut AnyConnection,
    name: &str,
    sources: Vec<String>,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<NewKey> {
    ensure!(
        !name.trim().is_empty() && name.len() <= 200 && !name.chars().any(char::is_control),
        "a producer's name has 1 to 200 bytes and no control characters"
    );
    if sources.is_empty() || sources.iter().any(String::is_empty) {
        bail!("a producer is bound to sources: give at least one prefix with --source");
    }
    let made = key::generate(Kind::Producer, rng);
    let producer = Producer { id: made.id.clone(), name: name.to_owned(), sources };
    store::insert_producer(connection, &ProducerKey { producer, hash: made.hash, revoked_at: None, created_at: now }).await?;
    store::changed(connection).await?;
    Ok(made)
}

/// Revokes a producer key.
pub async fn revoke_producer(connection: &mut AnyConnection, id: &KeyId, now: Micros) -> anyhow::Result<()> {
    ensure!(store::revoke_producer(connection, id, now).await?, "there is no producer \"{id}\": see tollgate producer list");
    store::changed(connection).await
}
