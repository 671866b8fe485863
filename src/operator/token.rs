//! Tokens of the local issuer: JWTs (RFC 7519, with the advice of RFC 8725) signed with the data folder's key.
//!
//! One algorithm and one `typ` are taken, whatever a token says of itself; `iss`, `aud`, `sub`, `nbf` and `exp` must be there.
//! Time is an argument: a token ends by the database's time, not by the wall clock.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::{CryptoRng, Rng};
use serde::{Deserialize, Serialize};

use super::Role;
use super::key;
use crate::clock::Micros;
use crate::ids::TokenId;

const ALGORITHM: Algorithm = Algorithm::HS256;
/// RFC 8725, 3.11: no token for another use can be taken for this one.
const TYPE: &str = "tollgate-operator+jwt";
const ISSUER: &str = "tollgate";
const AUDIENCE: &str = "tollgate-operator";
/// Whoever holds the data folder.
const SUBJECT: &str = "local";

const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Two processes read the database's time at different moments.
const LEEWAY: Duration = Duration::from_secs(5);
/// Ours have about 300 bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// What a token says. Extra claims are none of our business.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    jti: TokenId,
    role: Role,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Who asks, by a token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// What it may do.
    pub role: Role,
    /// Who it was issued to.
    pub subject: String,
    /// Which token, for the log.
    pub token: TokenId,
}

/// Why a token is not taken, in words for its bearer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Nothing of it is believed.
    #[error("This token is not one of ours, or not for operators. Get one with: tollgate operator token --role finance")]
    Foreign,
    /// It was good.
    #[error("This token ended at {0}. Get a new one with: tollgate operator token")]
    Expired(Micros),
    /// It is not good yet.
    #[error("This token begins at {0} only, by the database's time.")]
    Early(Micros),
}

/// Signs tokens, and knows its own again.
pub struct Issuer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Issuer {
    /// The issuer of a data folder; its key is made at the first call.
    pub fn open(data_dir: &Path, rng: &mut (impl Rng + CryptoRng)) -> anyhow::Result<Self> {
        let key = key::open(data_dir, rng)?;
        let mut validation = Validation::new(ALGORITHM);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        // The crate would ask the wall clock; `verify` asks ours.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Self { encoding: EncodingKey::from_secret(&key), decoding: DecodingKey::from_secret(&key), validation })
    }

    /// A token that is good from `now` on, for `ttl`.
    pub fn issue(&self, role: Role, ttl: Duration, now: Micros, rng: &mut impl Rng) -> anyhow::Result<String> {
        ensure!(
            (Duration::from_secs(1)..=TTL_MAX).contains(&ttl),
            "a token's ttl must be 1s to 24h, not {}: give for example --ttl 8h",
            humantime::format_duration(ttl)
        );
        let begins = now.0.div_euclid(1_000_000);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: SUBJECT.to_owned(),
            jti: TokenId::new(now, rng),
            role,
            iat: begins,
            nbf: begins,
            exp: begins.saturating_add(i64::try_from(ttl.as_secs())?),
        };
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(ALGORITHM) };
        jsonwebtoken::encode(&header, &claims, &self.encoding).context("the token could not be signed")
    }

    /// Who bears `token`, if it is one of ours and good at `now`. When it began and ended is told to whoever holds a real one.
    pub fn verify(&self, token: &str, now: Micros) -> Result<Operator, Untrusted> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Untrusted::Foreign);
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).map_err(|_| Untrusted::Foreign)?;
        // RFC 7515, 4.1.11: what is critical to its maker and unknown to us makes a token invalid.
        if decoded.header.typ.as_deref() != Some(TYPE) || decoded.header.crit.is_some() {
            return Err(Untrusted::Foreign);
        }
        let Claims { sub, jti, role, nbf, exp, .. } = decoded.claims;
        let instant = |seconds: i64| Micros(seconds.saturating_mul(1_000_000));
        let (begins, ends) = (instant(nbf), instant(exp));
        if now.plus(LEEWAY) < begins {
            return Err(Untrusted::Early(begins));
        }
        if now >= ends.plus(LEEWAY) {
            return Err(Untrusted::Expired(ends));
        }
        Ok(Operator { role, subject: sub, token: jti })
    }
}
