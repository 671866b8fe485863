//! How fast a partner may ask: units a second with a burst, and requests in flight.
//!
//! The limits are the partner's; a key may have a smaller rate of its own in addition, and nothing is taken from either
//! unless both have it. Gateways on one Redis share all rates: with one of them the decisions are those of one cell, with `n` the most that
//! they let through together is stated in ARCHITECTURE.md. Each lets in its part of the requests in flight.

mod cell;
mod known;
mod replicas;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::billing::plan::Rate;
use crate::clock::{Clock, Micros};
use crate::error::{Code, Refusal};
use crate::ids::{KeyId, PartnerId, ReplicaId};
use crate::metering::Mode;
use crate::telemetry::Metrics;
use known::Known;
use replicas::Replicas;

/// Rates that nobody uses are looked for this often,
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// and let go of after this: Redis did so before, so that what comes then begins with nothing on both sides.
const FORGET_AFTER: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// Test keys have a cell of their own: trying out must not slow down what is sold.
    Partner(PartnerId, Mode),
    Key(KeyId),
}

impl fmt::Display for Whose {
    /// A part of a key in Redis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partner(partner, Mode::Live) => write!(f, "live:{partner}"),
            Self::Partner(partner, Mode::Test) => write!(f, "test:{partner}"),
            Self::Key(key) => write!(f, "key:{key}"),
        }
    }
}

#[derive(Default)]
struct Counter {
    /// In Redis, where rates are shared.
    key: String,
    known: Mutex<Known>,
    in_flight: AtomicU32,
}

/// All rates, and who is inside.
#[derive(Default)]
pub struct Limiter {
    counters: RwLock<HashMap<Whose, Arc<Counter>>>,
    /// None where this process is alone.
    replicas: Option<Arc<Replicas>>,
}

/// What limits one caller.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The partner's rate.
    pub rate: Rate,
    /// The key's own.
    pub key_rate: Option<Rate>,
    /// The partner's requests in flight.
    pub concurrency: u32,
}

/// How one rate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding {
    /// As it is.
    pub rate: Rate,
    /// Units that could be taken now.
    pub left: u64,
    /// How long until the whole burst is there.
    pub full_in: Duration,
}

/// A request inside; leaves when it is dropped.
pub struct Inside {
    limits: Limits,
    partner: Arc<Counter>,
    key: Option<Arc<Counter>>,
    has_place: bool,
    replicas: Option<Arc<Replicas>>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.has_place {
            self.partner.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Limiter {
    /// One that shares its rates with others in the Redis at `url` (as the feature store's) under `prefix`, as `replica`, which no other
    /// one may be. It reads `clock`, not the instants that it is given.
    pub async fn shared(
        url: &str,
        prefix: &str,
        replica: &ReplicaId,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let replicas = Replicas::open(url, prefix, replica, clock, metrics).await?;
        Ok(Self { replicas: Some(Arc::new(replicas)), ..Self::default() })
    }

    /// Tells the others what is taken and hears of them, until `stop` says so.
    pub async fn follow(&self, stop: watch::Receiver<bool>) {
        let Some(replicas) = &self.replicas else { return };
        tokio::join!(replicas.run(stop.clone()), self.forget_until(stop));
    }

    /// One step of [`Self::follow`]: says that this replica is there, and hears how many are.
    pub async fn beat(&self) {
        if let Some(replicas) = &self.replicas {
            replicas.beat().await;
        }
    }

    /// One step of [`Self::follow`]: tells and hears what is due.
    pub async fn exchange(&self) {
        if let Some(replicas) = &self.replicas {
            replicas.exchange_due(false).await;
        }
    }

    /// Lets a request in, when there is a place for it.
    pub fn enter(&self, partner: &PartnerId, key: &KeyId, mode: Mode, limits: Limits) -> (Inside, Result<(), Refusal>) {
        let counter = self.counter(&Whose::Partner(partner.clone(), mode));
        let places = limits.concurrency.div_ceil(count(self.replicas.as_ref()));
        let is_free = |inside: u32| (inside < places).then_some(inside + 1);
        let has_place = counter.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_free).is_ok();
        let key = limits.key_rate.map(|_| self.counter(&Whose::Key(key.clone())));
        let inside = Inside { limits, partner: counter, key, has_place, replicas: self.replicas.clone() };
        if has_place {
            return (inside, Ok(()));
        }
        let message = format!("You have as many requests in flight as your plan allows: {places}. Wait for one to end.");
        (inside, Err(Refusal::new(Code::RateLimited, message).retry_after(Duration::from_secs(1))))
    }

    fn counter(&self, whose: &Whose) -> Arc<Counter> {
        if let Some(counter) = self.counters.read().get(whose) {
            return counter.clone();
        }
        let new = || {
            let key = self.replicas.as_ref().map(|replicas| replicas.key(whose));
            Arc::new(Counter { key: key.unwrap_or_default(), ..Counter::default() })
        };
        self.counters.write().entry(whose.clone()).or_insert_with(new).clone()
    }

    /// Lets go of what is full and unused; Redis does the same.
    async fn forget_until(&self, mut stop: watch::Receiver<bool>) {
        let Some(replicas) = &self.replicas else { return };
        while tokio::time::timeout(FORGET_EVERY, stop.wait_for(|stop| *stop)).await.is_err() {
            let now = replicas.clock.now();
            self.counters.write().retain(|_, counter| {
                // Nobody has it, and nobody can get it while this lock is held.
                let is_alone = Arc::strong_count(counter) == 1;
                !is_alone || !counter.known.lock().is_forgettable(FORGET_AFTER, now)
            });
        }
    }
}

fn count(replicas: Option<&Arc<Replicas>>) -> u32 {
    replicas.map_or(1, |replicas| replicas.count())
}

impl Inside {
    /// Takes units out of the partner's rate and the key's own, or out of neither.
    pub fn take(&self, units: u64, now: Micros) -> Result<(), Refusal> {
        let Limits { rate, key_rate, .. } = self.limits;
        let taken = self.with(&self.partner, now, |known, replicas, now| known.take(rate, replicas, units, now));
        taken.map_err(|wait| refused("You ask", rate, units, wait))?;
        if let (Some(key), Some(key_rate)) = (&self.key, key_rate) {
            let taken = self.with(key, now, |known, replicas, now| known.take(key_rate, replicas, units, now));
            taken.map_err(|wait| {
                self.with(&self.partner, now, |known, replicas, now| known.give_back(rate, replicas, units, now));
                refused("This key asks", key_rate, units, wait)
            })?;
        }
        Ok(())
    }

    /// Gives back units that were taken for work that was not done.
    pub fn give_back(&self, units: u64, now: Micros) {
        let Limits { rate, key_rate, .. } = self.limits;
        self.with(&self.partner, now, |known, replicas, now| known.give_back(rate, replicas, units, now));
        if let (Some(key), Some(key_rate)) = (&self.key, key_rate) {
            self.with(key, now, |known, replicas, now| known.give_back(key_rate, replicas, units, now));
        }
    }

    /// How the partner's rate stands.
    pub fn standing(&self, now: Micros) -> RateStanding {
        self.standing_of(&self.partner, self.limits.rate, now)
    }

    /// How the key's own rate stands.
    pub fn key_standing(&self, now: Micros) -> Option<RateStanding> {
        Some(self.standing_of(self.key.as_ref()?, self.limits.key_rate?, now))
    }

    fn standing_of(&self, counter: &Arc<Counter>, rate: Rate, now: Micros) -> RateStanding {
        let is_together = self.replicas.as_ref().is_none_or(|replicas| replicas.is_together());
        self.with(counter, now, |known, replicas, now| RateStanding {
            rate,
            left: known.left(rate, replicas, is_together, now),
            full_in: known.full_in(rate, now),
        })
    }

    fn with<T>(&self, counter: &Arc<Counter>, now: Micros, work: impl FnOnce(&mut Known, u32, Micros) -> T) -> T {
        let now = self.replicas.as_ref().map_or(now, |replicas| replicas.clock.now());
        let mut known = counter.known.lock();
        let done = work(&mut known, count(self.replicas.as_ref()), now);
        if let Some(replicas) = &self.replicas
            && known.must_be_listed()
        {
            drop(known);
            replicas.list(counter.clone());
        }
        done
    }
}

fn refused(who: &str, rate: Rate, units: u64, wait: Option<Duration>) -> Refusal {
    let Rate { units_per_second, burst } = rate;
    match wait {
        Some(wait) => {
            let message = format!(
                "{who} faster than {}. Wait for Retry-After, then try again: a query of N units needs N units to be there.",
                per_second(units_per_second)
            );
            Refusal::new(Code::RateLimited, message).retry_after(wait.max(Duration::from_millis(1)))
        }
        None => {
            let message = format!(
                "This query may cost {units} units, more than the {burst} that may be taken at once. Ask for less at a time."
            );
            Refusal::new(Code::CostEstimatedTooExpensive, message)
        }
    }
}

fn per_second(units: u32) -> String {
    if units == 1 { "1 unit a second".to_owned() } else { format!("{units} units a second") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_changes_gives_no_second_burst() {
        let (slow, fast) = (Rate { units_per_second: 1, burst: 5 }, Rate { units_per_second: 100, burst: 20 });
        let (mut known, now) = (Known::default(), Micros(1_000_000));
        assert!(known.take(slow, 1, 5, now).is_ok());
        assert_eq!(known.left(fast, 1, true, now), 15);
        assert_eq!(known.left(slow, 1, true, now), 0);
    }

    #[test]
    fn nothing_is_taken_from_the_partner_when_the_key_has_none_left() {
        let limits = Limits {
            rate: Rate { units_per_second: 10, burst: 10 },
            key_rate: Some(Rate { units_per_second: 1, burst: 2 }),
            concurrency: 1,
        };
        let limiter = Limiter::default();
        let (partner, key, now) = (PartnerId::from("pt"), KeyId::from("k"), Micros(1_000_000));
        let (inside, entered) = limiter.enter(&partner, &key, Mode::Live, limits);
        assert!(entered.is_ok());
        assert!(inside.take(2, now).is_ok());
        let refusal = inside.take(1, now).unwrap_err();
        assert!(refusal.message.starts_with("This key asks faster than 1 unit a second"), "{refusal}");
        assert_eq!((inside.standing(now).left, inside.key_standing(now).unwrap().left), (8, 0));
        let (_second, entered) = limiter.enter(&partner, &key, Mode::Live, limits);
        assert_eq!(entered.unwrap_err().code, Code::RateLimited);
        drop((_second, inside));
        assert!(limiter.enter(&partner, &key, Mode::Live, limits).1.is_ok());
    }
}
