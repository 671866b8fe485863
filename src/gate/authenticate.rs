//! Authenticate: from headers to a credential, from memory. Says what is wrong with a key only to whoever holds its secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::clock::Micros;
use crate::directory::key::{Kind, Presented, parse};
use crate::directory::terms::allows;
use crate::directory::{Credential, Directory, Picture, ProducerCredential};
use crate::error::{Code, Refusal};

const UNKNOWN: &str = "This key is not known. Check that all of it was pasted, or ask for a new one.";
/// A partner between subscriptions.
pub const NO_PLAN: &str = "You have no subscription now. Ask your provider for a plan.";
const REVOKED: &str = "This key was revoked. Ask for a new one.";

/// The API key behind a query from `address`. Marks it as used.
pub fn partner(directory: &Directory, headers: &HeaderMap, address: IpAddr, now: Micros) -> Result<Arc<Credential>, Refusal> {
    let presented = presented(headers)?;
    if presented.kind == Kind::Producer {
        return Err(Refusal::new(
            Code::Unauthenticated,
            "This is a producer key, for POST /v1/events. Queries take an API key: tg_live_…",
        ));
    }
    let picture = picture(directory, now)?;
    let credential = picture.key(presented.id).ok_or_else(|| refused(UNKNOWN))?;
    check(credential, &presented, address, now)?;
    credential.used.store(now.0, Ordering::Relaxed);
    Ok(credential.clone())
}

fn check(credential: &Credential, presented: &Presented<'_>, address: IpAddr, now: Micros) -> Result<(), Refusal> {
    // Compared with all of them, so that the time tells nothing to whoever holds none.
    let hash = presented.hash();
    let mut held = None;
    for (secret, ends_at) in credential.secrets.iter() {
        if secret.is(&hash) {
            held = Some(*ends_at);
        }
    }
    let of_its_mode = presented.kind == Kind::of(credential.mode);
    let ends_at = held.filter(|_| of_its_mode).ok_or_else(|| refused(UNKNOWN))?;
    if let Some(ended) = ends_at.filter(|&at| at <= now) {
        let what = format!("This key was rotated and its old secret ended at {ended}. Use the new one.");
        return Err(Refusal::new(Code::Unauthenticated, what));
    }
    if credential.revoked {
        return Err(refused(REVOKED));
    }
    if let Some(expired) = credential.expires_at.filter(|&at| at <= now) {
        return Err(Refusal::new(Code::Unauthenticated, format!("This key expired at {expired}. Ask for a new one.")));
    }
    if credential.suspended {
        return Err(Refusal::new(Code::Forbidden, "This key is suspended. Ask your provider."));
    }
    if !allows(&credential.addresses, address) {
        let address = address.to_canonical();
        let what = format!("This key may not be used from {address}. Ask your provider to allow that address.");
        return Err(Refusal::new(Code::Forbidden, what));
    }
    if credential.account.partner.suspended {
        return Err(Refusal::new(Code::Forbidden, "Your access is suspended. Ask your provider."));
    }
    if credential.account.plan.is_none() {
        return Err(Refusal::new(Code::Forbidden, NO_PLAN));
    }
    Ok(())
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

fn picture(directory: &Directory, now: Micros) -> Result<arc_swap::Guard<Arc<Picture>>, Refusal> {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use rand::SeedableRng;

    use super::*;
    use crate::billing::calendar::Calendar;
    use crate::directory::key::{NewKey, another, generate};
    use crate::directory::terms::network;
    use crate::directory::{Account, Partner, Scope};
    use crate::metering::Mode;

    const NOW: Micros = Micros(1_800_000_000_000_000);

    fn calendar() -> Arc<Calendar> {
        Arc::new(Calendar::new([], vec![], None).unwrap())
    }

    /// A key with a secret that ended, one that will, and one that goes on; its partner is between subscriptions, which is
    /// looked at last.
    fn rotated() -> (Credential, [NewKey; 3]) {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let first = generate(Kind::Live, &mut rng);
        let [second, third] = [(); 2].map(|()| another(Kind::Live, first.id.clone(), &mut rng));
        let partner = Partner {
            id: "pt".into(),
            name: "P".into(),
            timezone: "UTC".into(),
            details: Default::default(),
            scope: Scope::default(),
            suspended: false,
            created_at: NOW,
            plan: None,
        };
        let secrets = [(first.hash, Some(NOW)), (second.hash, Some(Micros(NOW.0 + 1))), (third.hash, None)];
        let credential = Credential {
            id: first.id.clone(),
            secrets: Arc::new(secrets),
            mode: Mode::Live,
            products: None,
            addresses: Arc::new([]),
            budget: None,
            suspended: false,
            expires_at: None,
            revoked: false,
            account: Arc::new(Account { partner, calendar: calendar(), plan: None }),
            used: Arc::new(AtomicI64::new(0)),
        };
        (credential, [first, second, third])
    }

    fn told(credential: &Credential, key: &str, address: &str) -> (Code, String) {
        let refusal = check(credential, &parse(key).unwrap(), address.parse().unwrap(), NOW).unwrap_err();
        (refusal.code, refusal.message.into_owned())
    }

    #[test]
    fn each_good_secret_opens_the_key_and_an_ended_one_is_told_so() {
        let (credential, [ended, ending, newest]) = rotated();
        for good in [ending, newest] {
            assert_eq!(
                told(&credential, &good.text, "203.0.113.9").1,
                "You have no subscription now. Ask your provider for a plan."
            );
        }
        let (code, message) = told(&credential, &ended.text, "203.0.113.9");
        assert_eq!(code, Code::Unauthenticated);
        assert_eq!(message, "This key was rotated and its old secret ended at 2027-01-15T08:00:00.000Z. Use the new one.");
    }

    #[test]
    fn what_weighs_most_is_told_first_and_to_the_holder_alone() {
        let (mut credential, [_, _, key]) = rotated();
        let stranger = another(Kind::Live, key.id.clone(), &mut rand_chacha::ChaCha8Rng::seed_from_u64(2));
        let in_disguise = generate(Kind::Test, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
        assert!(in_disguise.hash.is(&credential.secrets[0].0), "the same secret under the other prefix");
        let mut stand = |change: fn(&mut Credential), code: Code, message: &str| {
            change(&mut credential);
            assert_eq!(told(&credential, &key.text, "::ffff:203.0.113.9"), (code, message.to_owned()));
            for other in [&stranger, &in_disguise] {
                assert_eq!(told(&credential, &other.text, "10.0.0.1"), (Code::Unauthenticated, UNKNOWN.to_owned()));
            }
        };
        stand(
            |credential| {
                let mut partner = credential.account.partner.clone();
                partner.suspended = true;
                credential.account = Arc::new(Account { partner, calendar: calendar(), plan: None });
            },
            Code::Forbidden,
            "Your access is suspended. Ask your provider.",
        );
        stand(
            |credential| credential.addresses = [network("10.0.0.0/8").unwrap()].into(),
            Code::Forbidden,
            "This key may not be used from 203.0.113.9. Ask your provider to allow that address.",
        );
        stand(|credential| credential.suspended = true, Code::Forbidden, "This key is suspended. Ask your provider.");
        stand(
            |credential| credential.expires_at = Some(NOW),
            Code::Unauthenticated,
            "This key expired at 2027-01-15T08:00:00.000Z. Ask for a new one.",
        );
        stand(|credential| credential.revoked = true, Code::Unauthenticated, REVOKED);
    }
}
