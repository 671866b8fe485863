//! API keys and their secrets' hashes in the database.

use std::collections::HashMap;

use anyhow::Context;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::key::SecretHash;
use super::terms::KeyTerms;
use crate::clock::Micros;
use crate::db::dialect::Dialect;
use crate::ids::{KeyId, PartnerId};
use crate::metering::Mode;

/// Rows an update: below the databases' parameter limits.
const ROWS_MAX: usize = 500;

/// An API key, without its secrets.
#[derive(Clone)]
pub struct ApiKey {
    /// The public part.
    pub id: KeyId,
    /// Whose.
    pub partner: PartnerId,
    /// What it may do.
    pub terms: KeyTerms,
    /// Any of them opens it; the oldest first.
    pub secrets: Vec<Secret>,
    /// It is not good until it is resumed.
    pub suspended: bool,
    /// It was revoked then.
    pub revoked_at: Option<Micros>,
    /// Some gateway let it in then, or a moment later.
    pub last_used_at: Option<Micros>,
    /// It was issued then.
    pub created_at: Micros,
}

/// One secret of a key.
#[derive(Clone, Copy)]
pub struct Secret {
    /// Of it.
    pub hash: SecretHash,
    /// It was made then.
    pub created_at: Micros,
    /// It is no longer good from then on.
    pub ends_at: Option<Micros>,
}

impl Secret {
    /// Whether it is good at `now`, as far as it goes itself.
    pub fn is_good(&self, now: Micros) -> bool {
        self.ends_at.is_none_or(|at| at > now)
    }
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Good.
    Active,
    /// Good, and older secrets still are beside its newest.
    Rotating,
    /// Not good until it is resumed.
    Suspended,
    /// No longer good.
    Expired,
    /// No longer good: somebody said so.
    Revoked,
}

impl KeyState {
    /// As listings show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl ApiKey {
    /// How it stands at `now`. What cannot be undone is said first.
    pub fn state(&self, now: Micros) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if self.terms.expires_at.is_some_and(|at| at <= now) {
            KeyState::Expired
        } else if self.suspended {
            KeyState::Suspended
        } else if self.secrets.iter().filter(|secret| secret.is_good(now)).count() > 1 {
            KeyState::Rotating
        } else {
            KeyState::Active
        }
    }
}

const KEY: &str = "select id, partner_id, mode, products, addresses, budget, suspended, expires_at, revoked_at, last_used_at, \
     created_at from api_key";
const SECRET: &str = "select key_id, secret_sha256, created_at, ends_at from api_key_secret";

/// All API keys, by the time they were issued. Two statements: for one instant, ask within a snapshot.
pub async fn api_keys(connection: &mut AnyConnection) -> anyhow::Result<Vec<ApiKey>> {
    let keys = sqlx::query(statement(KEY, "order by created_at, id")).fetch_all(&mut *connection).await?;
    let secrets = sqlx::query(statement(SECRET, "order by key_id, created_at, secret_sha256")).fetch_all(connection).await?;
    let mut by_key: HashMap<String, Vec<Secret>> = HashMap::new();
    for row in &secrets {
        by_key.entry(row.try_get(0)?).or_default().push(secret(row)?);
    }
    keys.iter().map(|row| api_key(row, |id| by_key.remove(id).unwrap_or_default())).collect()
}

/// The API key of an id.
pub async fn api_key_by_id(connection: &mut AnyConnection, id: &KeyId) -> anyhow::Result<Option<ApiKey>> {
    let key = sqlx::query(statement(KEY, "where id = $1")).bind(id.as_str()).fetch_optional(&mut *connection).await?;
    let Some(key) = key else { return Ok(None) };
    let secrets = sqlx::query(statement(SECRET, "where key_id = $1 order by created_at, secret_sha256"))
        .bind(id.as_str())
        .fetch_all(connection)
        .await?;
    let secrets = secrets.iter().map(secret).collect::<anyhow::Result<Vec<_>>>()?;
    api_key(&key, |_| secrets).map(Some)
}

/// Both parts are constants of this file.
fn statement(select: &'static str, rest: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{select} {rest}"))
}

fn api_key(row: &AnyRow, secrets: impl FnOnce(&str) -> Vec<Secret>) -> anyhow::Result<ApiKey> {
    let id: String = row.try_get(0)?;
    let read = || {
        let mode: String = row.try_get(2)?;
        let products: Option<String> = row.try_get(3)?;
        let addresses: Option<String> = row.try_get(4)?;
        let budget: Option<String> = row.try_get(5)?;
        let addresses: Vec<String> = addresses.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default();
        anyhow::Ok(KeyTerms {
            mode: match mode.as_str() {
                "live" => Mode::Live,
                "test" => Mode::Test,
                other => anyhow::bail!("it has the unknown mode \"{other}\""),
            },
            expires_at: row.try_get::<Option<i64>, _>(7)?.map(Micros),
            products: products.map(|text| serde_json::from_str(&text)).transpose()?,
            addresses: addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            budget: budget.map(|text| serde_json::from_str(&text)).transpose()?,
        })
    };
    Ok(ApiKey {
        partner: row.try_get::<String, _>(1)?.into(),
        terms: read().with_context(|| format!("the terms of the key {id} cannot be read"))?,
        secrets: secrets(&id),
        suspended: row.try_get::<i64, _>(6)? != 0,
        revoked_at: row.try_get::<Option<i64>, _>(8)?.map(Micros),
        last_used_at: row.try_get::<Option<i64>, _>(9)?.map(Micros),
        created_at: Micros(row.try_get(10)?),
        id: id.into(),
    })
}

fn secret(row: &AnyRow) -> anyhow::Result<Secret> {
    Ok(Secret {
        hash: SecretHash::from_hex(&row.try_get::<String, _>(1)?).context("a secret's hash cannot be read")?,
        created_at: Micros(row.try_get(2)?),
        ends_at: row.try_get::<Option<i64>, _>(3)?.map(Micros),
    })
}

/// Stores an API key with its secrets.
pub async fn insert_api_key(connection: &mut AnyConnection, key: &ApiKey) -> anyhow::Result<()> {
    let terms = &key.terms;
    let addresses: Vec<String> = terms.addresses.iter().map(ToString::to_string).collect();
    sqlx::query(
        "insert into api_key (id, partner_id, mode, products, addresses, budget, suspended, expires_at, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(key.id.as_str())
    .bind(key.partner.as_str())
    .bind(terms.mode.as_str())
    .bind(terms.products.as_ref().map(serde_json::to_string).transpose()?)
    .bind((!addresses.is_empty()).then(|| serde_json::to_string(&addresses)).transpose()?)
    .bind(terms.budget.as_ref().map(serde_json::to_string).transpose()?)
    .bind(i64::from(key.suspended))
    .bind(terms.expires_at.map(|at| at.0))
    .bind(key.created_at.0)
    .execute(&mut *connection)
    .await?;
    for secret in &key.secrets {
        insert_secret(connection, &key.id, secret).await?;
    }
    Ok(())
}

/// Stores one more secret of a key.
pub async fn insert_secret(connection: &mut AnyConnection, key: &KeyId, secret: &Secret) -> anyhow::Result<()> {
    sqlx::query("insert into api_key_secret (key_id, secret_sha256, created_at, ends_at) values ($1, $2, $3, $4)")
        .bind(key.as_str())
        .bind(secret.hash.to_hex())
        .bind(secret.created_at.0)
        .bind(secret.ends_at.map(|at| at.0))
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the secrets of a key at `at`, those excepted that end before.
pub async fn end_secrets(connection: &mut AnyConnection, key: &KeyId, at: Micros) -> anyhow::Result<()> {
    sqlx::query("update api_key_secret set ends_at = $1 where key_id = $2 and (ends_at is null or ends_at > $1)")
        .bind(at.0)
        .bind(key.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the secrets of a key that ended before `before`.
pub async fn forget_secrets(connection: &mut AnyConnection, key: &KeyId, before: Micros) -> anyhow::Result<()> {
    sqlx::query("delete from api_key_secret where key_id = $1 and ends_at < $2")
        .bind(key.as_str())
        .bind(before.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Suspends or resumes an API key. False for an unknown one.
pub async fn set_api_key_suspended(connection: &mut AnyConnection, id: &KeyId, suspended: bool) -> anyhow::Result<bool> {
    let updated = sqlx::query("update api_key set suspended = $1 where id = $2")
        .bind(i64::from(suspended))
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

/// Revokes an API key; once revoked, it stays as it is. False for an unknown one.
pub async fn revoke_api_key(connection: &mut AnyConnection, id: &KeyId, now: Micros) -> anyhow::Result<bool> {
    let updated = sqlx::query("update api_key set revoked_at = coalesce(revoked_at, $1) where id = $2")
        .bind(now.0)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

/// Says when keys were last used, in the caller's transaction. A later instant that is there already stays: another gateway
/// saw it.
pub async fn set_last_used(connection: &mut AnyConnection, dialect: Dialect, used: &[(KeyId, Micros)]) -> anyhow::Result<()> {
    for chunk in used.chunks(ROWS_MAX) {
        let text = format!(
            "with used (id, used_at) as (values {}) update api_key set last_used_at = used.used_at from used \
             where api_key.id = used.id and (api_key.last_used_at is null or api_key.last_used_at < used.used_at)",
            dialect.values(chunk.len(), 2)
        );
        // Made of this file's own words and numbered placeholders only. Odd-sized tails would fill the statement cache.
        let mut update = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for (id, at) in chunk {
            update = update.bind(id.as_str()).bind(at.0);
        }
        update.execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::key::{Kind, generate};
    use rand::SeedableRng;

    #[test]
    fn a_key_is_what_weighs_most() {
        let hash = generate(Kind::Live, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1)).hash;
        let secret = |ends_at| Secret { hash, created_at: Micros(1), ends_at };
        let mut key = ApiKey {
            id: "k".into(),
            partner: "pt".into(),
            terms: KeyTerms::default(),
            secrets: vec![secret(Some(Micros(10))), secret(None)],
            suspended: false,
            revoked_at: None,
            last_used_at: None,
            created_at: Micros(1),
        };
        assert_eq!(key.state(Micros(9)), KeyState::Rotating);
        assert_eq!(key.state(Micros(10)), KeyState::Active);
        key.suspended = true;
        assert_eq!(key.state(Micros(9)), KeyState::Suspended);
        key.terms.expires_at = Some(Micros(9));
        assert_eq!(key.state(Micros(8)), KeyState::Suspended);
        assert_eq!(key.state(Micros(9)), KeyState::Expired);
        key.revoked_at = Some(Micros(5));
        assert_eq!(key.state(Micros(9)), KeyState::Revoked);
    }
}
