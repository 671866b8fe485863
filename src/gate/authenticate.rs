//! Authenticate: from headers to a credential, from memory. Says what is wrong with a key only to whoever holds its secret.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::clock::Micros;
use crate::directory::key::{Kind, Presented, parse};
use crate::directory::{Credential, Directory, Picture, ProducerCredential};
use crate::error::{Code, Refusal};

const UNKNOWN: &str = "This key is not known. Check that all of it was pasted, or ask for a new one.";
/// A partner between subscriptions.
pub const NO_PLAN: &str = "You have no subscription now. Ask your provider for a plan.";
const REVOKED: &str = "This key was revoked. Ask for a new one.";

/// The API key behind a query.
pub fn partner(directory: &Directory, headers: &HeaderMap, now: Micros) -> Result<Credential, Refusal> {
    let presented = presented(headers)?;
    if presented.kind == Kind::Producer {
        return Err(Refusal::new(
            Code::Unauthenticated,
            "This is a producer key, for POST /v1/events. Queries take an API key: tg_live_…",
        ));
    }
    let picture = picture(directory, now)?;
    let known = picture.key(presented.id).filter(|known| presented.matches(&known.hash));
    let credential = known.ok_or_else(|| refused(UNKNOWN))?;
    if credential.revoked {
        return Err(refused(REVOKED));
    }
    if let Some(expired) = credential.expires_at.filter(|&at| at <= now) {
        return Err(Refusal::new(Code::Unauthenticated, format!("This key expired at {expired}. Ask for a new one.")));
    }
    if credential.account.partner.suspended {
        return Err(Refusal::new(Code::Forbidden, "Your access is suspended. Ask your provider."));
    }
    if credential.account.plan.is_none() {
        return Err(Refusal::new(Code::Forbidden, NO_PLAN));
    }
    Ok(credential.clone())
}

/// The producer key behind events.
pub fn producer(directory: &Directory, headers: &HeaderMap, now: Micros) -> Result<ProducerCredential, Refusal> {
    let presented = presented(headers)?;
    if presented.kind != Kind::Producer {
        return Err(Refusal::new(
            Code::Unauthenticated,
            "This is an API key, for POST /graphql. Events take a producer key: tg_producer_…",
        ));
    }
    let picture = picture(directory, now)?;
    let known = picture.producer(presented.id).filter(|known| presented.matches(&known.hash));
    let credential = known.ok_or_else(|| refused(UNKNOWN))?;
    if credential.revoked {
        return Err(refused(REVOKED));
    }
    Ok(credential.clone())
}

fn picture(directory: &Directory, now: Micros) -> Result<arc_swap::Guard<std::sync::Arc<Picture>>, Refusal> {
    directory.current(now).ok_or_else(|| Refusal::unavailable("Keys cannot be checked for now. Try again."))
}

fn refused(message: &'static str) -> Refusal {
    Refusal::new(Code::Unauthenticated, message)
}

/// The key in the headers: `Authorization: Bearer …` (RFC 6750), or `X-API-Key`.
fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Refusal> {
    let bearer = headers.get(AUTHORIZATION).map(|value| {
        let (scheme, key) = value.to_str().ok()?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let text = match bearer {
        Some(Some(key)) => key,
        Some(None) => return Err(refused("The Authorization header holds no bearer key. Send Authorization: Bearer tg_live_…")),
        None => headers
            .get("x-api-key")
            .ok_or_else(|| refused("There is no key. Send Authorization: Bearer … or X-API-Key: … with an API key, tg_live_…, or for events a producer key, tg_producer_…"))?
            .to_str()
            .map_err(|_| refused(UNKNOWN))?
            .trim(),
    };
    parse(text).ok_or_else(|| refused("This is no key: it is mistyped or cut off. Paste all of it."))
}
