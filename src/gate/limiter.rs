//! How fast a partner may ask: units a second with a burst, and requests in flight. In this process.
//!
//! The rate is the generic cell rate algorithm (ITU-T I.371, GCRA): one theoretical arrival time a cell, in exact arithmetic.
//! The limits are the partner's; a key may have a smaller rate of its own in addition, and nothing is taken from either
//! unless both have it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::billing::plan::Rate;
use crate::clock::Micros;
use crate::error::{Code, Refusal};
use crate::ids::{KeyId, PartnerId};
use crate::metering::Mode;

/// One unit, where time is counted in 1/rate microseconds.
const UNIT: u128 = 1_000_000;

/// The state of one rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// When the cell is empty again, times the rate.
    arrival: u128,
}

impl Cell {
    /// Takes units, or says how long they are not there; none when they never will be, because they are more than the burst.
    pub fn take(&mut self, rate: Rate, units: u64, now: Micros) -> Result<(), Option<Duration>> {
        let now = scaled(rate, now);
        let next = self.arrival.max(now) + u128::from(units) * UNIT;
        let latest = now + u128::from(rate.burst) * UNIT;
        if next <= latest {
            self.arrival = next;
            return Ok(());
        }
        let wait = (next - latest).div_ceil(u128::from(rate.units_per_second));
        let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX));
        Err((units <= u64::from(rate.burst)).then_some(wait))
    }

    /// Gives back units that were taken.
    pub fn give_back(&mut self, units: u64) {
        self.arrival = self.arrival.saturating_sub(u128::from(units) * UNIT);
    }

    /// Whole units that could be taken now.
    pub fn left(&self, rate: Rate, now: Micros) -> u64 {
        let now = scaled(rate, now);
        let used = self.arrival.saturating_sub(now).div_ceil(UNIT);
        u64::from(rate.burst).saturating_sub(u64::try_from(used).unwrap_or(u64::MAX))
    }

    /// How long until the whole burst is there.
    pub fn full_in(&self, rate: Rate, now: Micros) -> Duration {
        let rest = self.arrival.saturating_sub(scaled(rate, now)).div_ceil(u128::from(rate.units_per_second));
        Duration::from_micros(u64::try_from(rest).unwrap_or(u64::MAX))
    }
}

fn scaled(rate: Rate, now: Micros) -> u128 {
    u128::from(now.0.unsigned_abs()) * u128::from(rate.units_per_second)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// Test keys have a cell of their own: trying out must not slow down what is sold.
    Partner(PartnerId, Mode),
    Key(KeyId),
}

#[derive(Default)]
struct Counter {
    cell: Mutex<(Option<Rate>, Cell)>,
    in_flight: AtomicU32,
}

impl Counter {
    fn with<T>(&self, rate: Rate, now: Micros, work: impl FnOnce(&mut Cell) -> T) -> T {
        let mut cell = self.cell.lock();
        if let Some(before) = cell.0.filter(|before| *before != rate) {
            // What was taken stays taken, as far as the new burst goes: requests under the old rate may still be inside.
            let taken = u64::from(before.burst) - cell.1.left(before, now);
            cell.1 = Cell { arrival: scaled(rate, now) + u128::from(taken.min(u64::from(rate.burst))) * UNIT };
        }
        cell.0 = Some(rate);
        work(&mut cell.1)
    }
}

/// All rates, and who is inside.
#[derive(Default)]
pub struct Limiter {
    counters: RwLock<HashMap<Whose, Arc<Counter>>>,
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
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.has_place {
            self.partner.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Limiter {
    /// Lets a request in, when there is a place for it.
    pub fn enter(&self, partner: &PartnerId, key: &KeyId, mode: Mode, limits: Limits) -> (Inside, Result<(), Refusal>) {
        let counter = self.counter(&Whose::Partner(partner.clone(), mode));
        let is_free = |inside: u32| (inside < limits.concurrency).then_some(inside + 1);
        let has_place = counter.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_free).is_ok();
        let key = limits.key_rate.map(|_| self.counter(&Whose::Key(key.clone())));
        let inside = Inside { limits, partner: counter, key, has_place };
        if has_place {
            return (inside, Ok(()));
        }
        let message =
            format!("You have as many requests in flight as your plan allows: {}. Wait for one to end.", limits.concurrency);
        (inside, Err(Refusal::new(Code::RateLimited, message).retry_after(Duration::from_secs(1))))
    }

    fn counter(&self, whose: &Whose) -> Arc<Counter> {
        if let Some(counter) = self.counters.read().get(whose) {
            return counter.clone();
        }
        self.counters.write().entry(whose.clone()).or_default().clone()
    }
}

impl Inside {
    /// Takes units out of the partner's rate and the key's own, or out of neither.
    pub fn take(&self, units: u64, now: Micros) -> Result<(), Refusal> {
        let Limits { rate, key_rate, .. } = self.limits;
        self.partner.with(rate, now, |cell| cell.take(rate, units, now)).map_err(|wait| refused("You ask", rate, units, wait))?;
        if let (Some(key), Some(key_rate)) = (&self.key, key_rate) {
            key.with(key_rate, now, |cell| cell.take(key_rate, units, now)).map_err(|wait| {
                self.partner.with(rate, now, |cell| cell.give_back(units));
                refused("This key asks", key_rate, units, wait)
            })?;
        }
        Ok(())
    }

    /// Gives back units that were taken for work that was not done.
    pub fn give_back(&self, units: u64, now: Micros) {
        let Limits { rate, key_rate, .. } = self.limits;
        self.partner.with(rate, now, |cell| cell.give_back(units));
        if let (Some(key), Some(key_rate)) = (&self.key, key_rate) {
            key.with(key_rate, now, |cell| cell.give_back(units));
        }
    }

    /// How the partner's rate stands.
    pub fn standing(&self, now: Micros) -> RateStanding {
        standing(&self.partner, self.limits.rate, now)
    }

    /// How the key's own rate stands.
    pub fn key_standing(&self, now: Micros) -> Option<RateStanding> {
        Some(standing(self.key.as_deref()?, self.limits.key_rate?, now))
    }
}

fn standing(counter: &Counter, rate: Rate, now: Micros) -> RateStanding {
    counter.with(rate, now, |cell| RateStanding { rate, left: cell.left(rate, now), full_in: cell.full_in(rate, now) })
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
    use rand::{Rng, SeedableRng};

    /// A bucket of tokens in exact fractions, filled by hand before each question: another algorithm, the same rule.
    struct Bucket {
        /// Millionths of a token.
        tokens: i128,
        at: i64,
    }

    impl Bucket {
        fn take(&mut self, rate: Rate, units: u64, now: i64) -> Result<(), Option<i128>> {
            let full = i128::from(rate.burst) * 1_000_000;
            let elapsed = i128::from(now - self.at).max(0);
            self.at = self.at.max(now);
            self.tokens = full.min(self.tokens + elapsed * i128::from(rate.units_per_second));
            let wanted = i128::from(units) * 1_000_000;
            if wanted <= self.tokens {
                self.tokens -= wanted;
                return Ok(());
            }
            if wanted > full {
                return Err(None);
            }
            // The first microsecond at which the missing part has come.
            let mut wait = (wanted - self.tokens) / i128::from(rate.units_per_second);
            while self.tokens + wait * i128::from(rate.units_per_second) < wanted {
                wait += 1;
            }
            Err(Some(wait))
        }
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a failed run can be repeated by its seed")]
    fn the_same_decisions_as_an_exact_bucket_over_any_traffic() {
        let seed = std::env::var("TOLLGATE_TEST_SEED").ok().map_or_else(rand::random, |text| text.parse().unwrap());
        println!("the_same_decisions_as_an_exact_bucket: TOLLGATE_TEST_SEED={seed}");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        for round in 0..300 {
            let rate = Rate { units_per_second: rng.random_range(1..=70_000), burst: rng.random_range(1..=500) };
            let mut now = rng.random_range(0..2_000_000_000_000_000_i64);
            let (mut cell, mut bucket) = (Cell::default(), Bucket { tokens: i128::from(rate.burst) * 1_000_000, at: now });
            for step in 0..1000 {
                // Bursts at one instant, gaps near the rate's own interval, long pauses.
                now += match rng.random_range(0..10) {
                    0..4 => 0,
                    4..9 => rng.random_range(0..=2_000_000 / i64::from(rate.units_per_second) + 1),
                    _ => rng.random_range(0..10_000_000),
                };
                let units =
                    if rng.random_bool(0.9) { rng.random_range(1..=4) } else { rng.random_range(0..=u64::from(rate.burst) + 2) };
                let said = cell.take(rate, units, Micros(now));
                let model = bucket.take(rate, units, now);
                let wait = |wait: Option<i128>| wait.map(|wait| Duration::from_micros(wait as u64));
                assert_eq!(said, model.map_err(wait), "round {round}, step {step}, {rate:?}, {units} units");
                assert_eq!(
                    i128::from(cell.left(rate, Micros(now))),
                    bucket.tokens.div_euclid(1_000_000),
                    "round {round}, step {step}"
                );
                if let Err(Some(wait)) = said {
                    // What Retry-After says is enough, and a microsecond less is not.
                    let then = now + wait.as_micros() as i64;
                    assert!(cell.clone().take(rate, units, Micros(then)).is_ok());
                    assert!(cell.clone().take(rate, units, Micros(then - 1)).is_err());
                }
            }
        }
    }

    #[test]
    fn a_rate_that_changes_gives_no_second_burst() {
        let (slow, fast) = (Rate { units_per_second: 1, burst: 5 }, Rate { units_per_second: 100, burst: 20 });
        let (counter, now) = (Counter::default(), Micros(1_000_000));
        assert!(counter.with(slow, now, |cell| cell.take(slow, 5, now)).is_ok());
        assert_eq!(counter.with(fast, now, |cell| cell.left(fast, now)), 15);
        assert_eq!(counter.with(slow, now, |cell| cell.left(slow, now)), 0);
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
