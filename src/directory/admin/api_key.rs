//! API keys: issued on terms, rotated, suspended, revoked.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rand::Rng;
use sqlx::AnyConnection;

use crate::clock::Micros;
use crate::directory::key::{self, Kind, NewKey};
use crate::directory::key_store::{self as keys, ApiKey, KeyState, Secret};
use crate::directory::{KeyTerms, store};
use crate::ids::{KeyId, PartnerId};

/// An old secret that stays good for longer is not on its way out.
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Each request's secret is compared with all of them.
const SECRETS_MAX: usize = 10;
/// Whoever presents an ended secret is told so for this long; from then on, that the key is not known.
const ENDED_KEPT_MICROS: i64 = 90 * 86_400 * 1_000_000;

/// Issues an API key; its text is in the answer and nowhere else.
pub async fn issue_key(
    connection: &mut AnyConnection,
    partner: &PartnerId,
    terms: KeyTerms,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<NewKey> {
    let terms = terms.checked(now)?;
    let made = key::generate(Kind::of(terms.mode), rng);
    let stored = ApiKey {
        id: made.id.clone(),
        partner: partner.clone(),
        terms,
        secrets: vec![Secret { hash: made.hash, created_at: now, ends_at: None }],
        suspended: false,
        revoked_at: None,
        last_used_at: None,
        created_at: now,
    };
    keys::insert_api_key(connection, &stored).await?;
    store::changed(connection).await?;
    Ok(made)
}

/// The id of a key, given as id or as the whole key: that is what one has at hand when it leaked.
pub fn key_id(text: &str) -> anyhow::Result<KeyId> {
    if let Some(presented) = key::parse(text) {
        return Ok(presented.id.into());
    }
    ensure!(key::is_id(text), "what was given is neither a key's id nor all of a key: it is mistyped or cut off");
    Ok(text.into())
}

/// Gives a key a new secret. Those that are good now end after `overlap`, or when they would have ended anyway.
pub async fn rotate_key(
    connection: &mut AnyConnection,
    id: &KeyId,
    overlap: Duration,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<NewKey> {
    ensure!(overlap <= OVERLAP_MAX, "an overlap lasts 30 days at most: give a shorter one, such as 24h");
    // First of all: on PostgreSQL it makes rotations wait for each other, so that each counts the other's secrets.
    store::changed(connection).await?;
    let stored = changeable(connection, id, now).await?;
    let good: Vec<_> = stored.secrets.iter().filter(|secret| secret.is_good(now)).collect();
    if !overlap.is_zero() && good.len() >= SECRETS_MAX {
        let next = good.iter().filter_map(|secret| secret.ends_at).min().unwrap_or(now);
        bail!(
            "the key {id} has {SECRETS_MAX} secrets that are still good: rotate it with an overlap of 0s, which ends them, or wait until {next}, when the next one ends"
        );
    }
    keys::end_secrets(connection, id, now.plus(overlap)).await?;
    keys::forget_secrets(connection, id, Micros(now.0.saturating_sub(ENDED_KEPT_MICROS))).await?;
    let made = key::another(Kind::of(stored.terms.mode), id.clone(), rng);
    keys::insert_secret(connection, id, &Secret { hash: made.hash, created_at: now, ends_at: None }).await?;
    Ok(made)
}

/// Suspends or resumes an API key.
pub async fn set_key_suspended(connection: &mut AnyConnection, id: &KeyId, suspended: bool, now: Micros) -> anyhow::Result<()> {
    changeable(connection, id, now).await?;
    keys::set_api_key_suspended(connection, id, suspended).await?;
    store::changed(connection).await
}

/// Revokes an API key.
pub async fn revoke_key(connection: &mut AnyConnection, id: &KeyId, now: Micros) -> anyhow::Result<()> {
    ensure!(keys::revoke_api_key(connection, id, now).await?, "{}", unknown(id));
    store::changed(connection).await
}

/// A key that is not gone for good.
async fn changeable(connection: &mut AnyConnection, id: &KeyId, now: Micros) -> anyhow::Result<ApiKey> {
    let key = keys::api_key_by_id(connection, id).await?.with_context(|| unknown(id))?;
    match (key.state(now), key.revoked_at, key.terms.expires_at) {
        (KeyState::Revoked, Some(at), _) => bail!("the key {id} was revoked at {at} and stays so: issue a new one"),
        (KeyState::Expired, _, Some(at)) => bail!("the key {id} expired at {at} and stays so: issue a new one"),
        _ => Ok(key),
    }
}

fn unknown(id: &KeyId) -> String {
    format!("there is no key \"{id}\": see tollgate key list")
}
