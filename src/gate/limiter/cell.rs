//! The generic cell rate algorithm (ITU-T I.371, GCRA): one theoretical arrival time a rate, in exact arithmetic.

use std::time::Duration;

use crate::billing::plan::Rate;
use crate::clock::Micros;

/// One unit, where time is counted in 1/rate microseconds.
pub(super) const UNIT: u128 = 1_000_000;

/// The state of one rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    /// When the cell is empty again, times the rate.
    arrival: u128,
}

impl Cell {
    /// Takes units, or says how long they are not there; none when they never will be, because they are more than the burst.
    pub(super) fn take(&mut self, rate: Rate, units: u64, now: Micros) -> Result<(), Option<Duration>> {
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
    pub(super) fn give_back(&mut self, units: u64) {
        self.arrival = self.arrival.saturating_sub(u128::from(units) * UNIT);
    }

    /// Takes units whether they are there or not.
    pub(super) fn take_anyway(&mut self, rate: Rate, units: u64, now: Micros) {
        self.arrival = self.arrival.max(scaled(rate, now)) + u128::from(units) * UNIT;
    }

    /// What is used of the burst, in millionths of a unit; more than the burst where somebody took what was not there.
    pub(super) fn used(&self, rate: Rate, now: Micros) -> u128 {
        self.arrival.saturating_sub(scaled(rate, now))
    }

    /// The same with so many millionths more, or less.
    pub(super) fn moved(self, by: i64, rate: Rate, now: Micros) -> Self {
        let distance = u128::from(by.unsigned_abs());
        let arrival = match by {
            0 => self.arrival,
            1.. => self.arrival.max(scaled(rate, now)) + distance,
            _ => self.arrival.saturating_sub(distance),
        };
        Self { arrival }
    }

    /// The cell of another rate. What was taken stays taken, as far as the new burst goes: requests under the old rate may still be inside.
    pub(super) fn under(self, rate: Rate, before: Rate, now: Micros) -> Self {
        let taken = before.burst - u32::try_from(self.left(before, now)).unwrap_or(before.burst).min(before.burst);
        Self { arrival: scaled(rate, now) + u128::from(taken.min(rate.burst)) * UNIT }
    }

    /// Whole units that could be taken now.
    pub(super) fn left(&self, rate: Rate, now: Micros) -> u64 {
        let now = scaled(rate, now);
        let used = self.arrival.saturating_sub(now).div_ceil(UNIT);
        u64::from(rate.burst).saturating_sub(u64::try_from(used).unwrap_or(u64::MAX))
    }

    /// How long until the whole burst is there.
    pub(super) fn full_in(&self, rate: Rate, now: Micros) -> Duration {
        let rest = self.arrival.saturating_sub(scaled(rate, now)).div_ceil(u128::from(rate.units_per_second));
        Duration::from_micros(u64::try_from(rest).unwrap_or(u64::MAX))
    }
}

fn scaled(rate: Rate, now: Micros) -> u128 {
    u128::from(now.0.unsigned_abs()) * u128::from(rate.units_per_second)
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
}
