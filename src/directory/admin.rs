//! What operators do to the control plane. Each function checks, changes and announces within the caller's transaction, and
//! refuses in one sentence that names the mend.

mod api_key;

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use rand::Rng;
use sqlx::AnyConnection;

use super::key::{self, Kind, NewKey};
use super::store::{self, Partner, ProducerKey};
use super::{Details, Scope, plain};
use crate::billing::calendar::Calendar;
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

/// A partner to be.
#[derive(Clone, Debug)]
pub struct NewPartner<'a> {
    /// Unique.
    pub name: &'a str,
    /// The plan that it begins on.
    pub plan: &'a PlanId,
    /// Which rows it may see.
    pub scope: Scope,
    /// Where its months begin.
    pub timezone: &'a str,
    /// As invoices print it.
    pub details: Details,
}

impl<'a> NewPartner<'a> {
    /// One that sees all rows, in UTC.
    pub fn new(name: &'a str, plan: &'a PlanId) -> Self {
        Self { name, plan, scope: Scope::default(), timezone: "UTC", details: Details::default() }
    }
}

/// Creates a partner on the newest version of its plan.
pub async fn create_partner(
    connection: &mut AnyConnection,
    new: NewPartner<'_>,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<Partner> {
    let name = plain("a partner's name", new.name)?;
    let zone = time_zone(new.timezone)?;
    let newest = plan_of(connection, new.plan.as_str()).await?;
    check_currency(&new.details, &newest)?;
    let partner = Partner {
        id: PartnerId::new(now, rng),
        name,
        timezone: new.timezone.to_owned(),
        details: new.details,
        scope: new.scope,
        suspended: false,
        created_at: now,
        plan: Some((newest.id.clone(), newest.version)),
    };
    let inserted = store::insert_partner(connection, &partner).await?;
    ensure!(inserted, "there is a partner \"{}\" already: take another name", partner.name);
    let subscription = SubscriptionId::new(now, rng);
    let trial_ends_at = newest.trial_days.map(|days| Calendar::trial_end(&zone, now, days)).transpose()?;
    let on = (&newest.id, newest.version);
    store::insert_subscription(connection, &subscription, &partner.id, on, now, trial_ends_at).await?;
    store::changed(connection).await?;
    Ok(partner)
}

fn time_zone(name: &str) -> anyhow::Result<TimeZone> {
    let zone = TimeZone::get(name).ok();
    zone.with_context(|| format!("\"{}\" is no time zone: give a name such as Europe/Berlin", name.escape_default()))
}

/// The plan version of `growth@2`, or the newest of `growth`.
async fn plan_of(connection: &mut AnyConnection, text: &str) -> anyhow::Result<Plan> {
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (text, None),
    };
    let mut published = plans::versions(connection, &id.into()).await?;
    let found = match version {
        Some(version) => published.into_iter().find(|it| it.plan.version.to_string() == version),
        None => published.pop(),
    };
    Ok(found.with_context(|| format!("there is no plan \"{text}\": see tollgate plan list"))?.plan)
}

fn check_currency(details: &Details, plan: &Plan) -> anyhow::Result<()> {
    let same = details.currency.is_none_or(|currency| currency == plan.currency);
    ensure!(
        same,
        "the plan {} is priced in {}, but the partner is billed in {}: take a plan in that currency, or set --currency {}",
        plan.reference(),
        plan.currency.code(),
        details.currency.map_or("", |currency| currency.code()),
        plan.currency.code()
    );
    Ok(())
}

/// What may be changed of a partner; what is none stays.
#[derive(Clone, Debug, Default)]
pub struct PartnerChange<'a> {
    /// The newest version of a plan, or `growth@2`; from now on.
    pub plan: Option<&'a str>,
    /// From the first month on that has not begun in either zone.
    pub timezone: Option<&'a str>,
    /// As invoices print it, from the next draft on.
    pub details: Option<Details>,
}

/// Changes a partner. The answer says in words what came of it.
pub async fn update_partner(
    connection: &mut AnyConnection,
    partner: &Partner,
    change: PartnerChange<'_>,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<Vec<String>> {
    let mut said = Vec::new();
    let details = change.details.as_ref().unwrap_or(&partner.details);
    let plan = match (change.plan, &partner.plan) {
        (Some(plan), _) => Some(plan_of(connection, plan).await?),
        (None, Some((id, version))) => Some(plan_of(connection, &format!("{id}@{version}")).await?),
        (None, None) => None,
    };
    if let Some(plan) = &plan {
        check_currency(details, plan)?;
    }
    if let Some(plan) = plan.filter(|_| change.plan.is_some()) {
        let on = (plan.id.clone(), plan.version);
        ensure!(partner.plan.as_ref() != Some(&on), "{} is on {} already", partner.name, plan.reference());
        store::end_subscription(connection, &partner.id, now).await?;
        let id = SubscriptionId::new(now, rng);
        store::insert_subscription(connection, &id, &partner.id, (&plan.id, plan.version), now, None).await?;
        said.push(format!("{} is on {} from {now} on", partner.name, plan.reference()));
    }
    if let Some(timezone) = change.timezone {
        let zone = time_zone(timezone)?;
        let calendar = plans::calendar(connection, &partner.id).await?;
        let mut first = calendar.month_of(now)?.period.next()?;
        while calendar.month(first)?.from <= now || first.begins(&zone)? <= now {
            first = first.next()?;
        }
        store::set_timezone_from(connection, &partner.id, &first.to_string(), timezone).await?;
        said.push(format!("the months of {} are those of {timezone} from {first} on", partner.name));
    }
    if let Some(details) = change.details {
        store::set_details(connection, &partner.id, &details).await?;
        said.push(format!("the billing details of {} are changed", partner.name));
    }
    store::changed(connection).await?;
    Ok(said)
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
