//! Rates shared by replicas, through real servers, with time as an argument: alone a replica decides as one cell does; several keep to the
//! rate together, up to the bound of ARCHITECTURE.md.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tollgate::billing::plan::Rate;
use tollgate::clock::{Clock, Micros};
use tollgate::gate::limiter::{Limiter, Limits};
use tollgate::ids::{KeyId, PartnerId, ReplicaId};
use tollgate::metering::Mode;
use tollgate::telemetry::Metrics;

use crate::support::{self, full, redis};

const START: Micros = Micros(1_800_000_000_000_000);

async fn replica(url: &str, prefix: &str, name: &str, clock: &Clock) -> Limiter {
    let metrics = Arc::new(Metrics::default());
    Limiter::shared(url, prefix, &ReplicaId::from(name), clock.clone(), metrics).await.unwrap()
}

fn any_rate(rng: &mut ChaCha8Rng) -> Rate {
    Rate { units_per_second: rng.random_range(1..=3000), burst: rng.random_range(1..=300) }
}

async fn alone(url: &str) {
    let (_, mut rng) = support::rng("one_replica_decides_as_one_cell");
    let (partner, key) = (PartnerId::from("pt"), KeyId::from("k"));
    for round in 0..if full() { 200 } else { 20 } {
        let (prefix, clock) = (redis::prefix(), Clock::manual(START));
        let (shared, own) = (replica(url, &prefix, "a", &clock).await, Limiter::default());
        let rates = [any_rate(&mut rng), any_rate(&mut rng)];
        let key_rates = [None, Some(any_rate(&mut rng)), Some(any_rate(&mut rng))];
        let mut limits = Limits { rate: rates[0], key_rate: key_rates[1], concurrency: 1 };
        let mut now = START;
        for step in 0..400 {
            now = now.plus(Duration::from_micros(match rng.random_range(0..10) {
                0..4 => 0,
                4..9 => rng.random_range(0..=2_000_000 / u64::from(limits.rate.units_per_second) + 1),
                _ => rng.random_range(0..2_000_000),
            }));
            clock.anchor(now);
            if rng.random_bool(0.02) {
                limits.rate = rates[rng.random_range(0..2)];
                limits.key_rate = key_rates[rng.random_range(0..3)];
            }
            match rng.random_range(0..10) {
                0..2 => shared.exchange().await,
                2 if step % 5 == 0 => shared.beat().await,
                _ => {}
            }
            let entered = [&shared, &own].map(|limiter| limiter.enter(&partner, &key, Mode::Live, limits).0);
            let units = if rng.random_bool(0.9) { rng.random_range(0..=4) } else { rng.random_range(0..=320) };
            let is_take = rng.random_bool(0.8);
            let said = entered.map(|inside| {
                let taken = if is_take {
                    inside.take(units, now)
                } else {
                    inside.give_back(units.min(5), now);
                    Ok(())
                };
                let taken = taken.map_err(|refusal| format!("{refusal:?}"));
                (taken, inside.standing(now), inside.key_standing(now))
            });
            assert_eq!(said[0], said[1], "round {round}, step {step}: {limits:?}, {units} units, a take: {is_take}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_decides_as_one_cell() {
    alone(&redis::single()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_decides_as_one_cell_on_a_cluster() {
    alone(&redis::cluster()).await;
}

/// How several replicas are asked.
#[derive(Clone, Debug)]
struct Traffic {
    rate: Rate,
    /// Each with its part of the requests.
    weights: Vec<f64>,
    /// Of each request.
    units: u64,
    /// A replica is now and then kept from exchanging for so long.
    stall: Duration,
    /// Redis loses everything in the middle.
    is_forgotten: bool,
    seconds: u64,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    units: u64,
    /// The most that a cell of this rate would have had in it: past the burst by what was let in too much.
    level_max: f64,
    busiest_10_s: u64,
}

impl Traffic {
    fn replicas(&self) -> f64 {
        self.weights.len() as f64
    }

    /// What ARCHITECTURE.md promises: (n − 1) × (max(burst ÷ n, 1) + q − 1 + rate × d ÷ n).
    fn overshoot(&self) -> f64 {
        let (n, rate, burst) = (self.replicas(), f64::from(self.rate.units_per_second), f64::from(self.rate.burst));
        // A pause, what the simulation looks away, and what it makes up.
        let untold = 0.025 + 0.005 + self.stall.as_secs_f64();
        let each = (burst / n).max(1.0) + self.units as f64 - 1.0 + rate * untold / n;
        // Redis that forgets is a burst more, once.
        (n - 1.0) * each + if self.is_forgotten { burst } else { 0.0 }
    }

    async fn run(&self, url: &str, rng: &mut ChaCha8Rng) -> Outcome {
        let (prefix, clock) = (redis::prefix(), Clock::manual(START));
        let mut replicas = Vec::new();
        for place in 0..self.weights.len() {
            replicas.push(replica(url, &prefix, &format!("r{place}"), &clock).await);
        }
        for _ in 0..4 {
            for replica in &replicas {
                replica.beat().await;
            }
        }
        let limits = Limits { rate: self.rate, key_rate: None, concurrency: 1000 };
        let (partner, key) = (PartnerId::from("pt"), KeyId::from("k"));
        let (rate, mut level, mut level_max) = (f64::from(self.rate.units_per_second), 0.0_f64, 0.0_f64);
        let mut stalled_until = vec![0; replicas.len()];
        let mut by_ms = vec![0_u64; self.seconds as usize * 1000];
        for (ms, taken) in by_ms.iter_mut().enumerate() {
            let now = START.plus(Duration::from_millis(ms as u64));
            clock.anchor(now);
            if self.is_forgotten && ms == 6000 {
                let mut connection = ::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
                let cell = format!("{prefix}:rate:live:pt");
                let deleted: u64 = ::redis::cmd("DEL").arg(&cell).query_async(&mut connection).await.unwrap();
                assert_eq!(deleted, 1, "{cell} is where the rate is kept");
            }
            level = (level - rate / 1000.0).max(0.0);
            for (replica, weight) in replicas.iter().zip(&self.weights) {
                let asked = 10.0 * rate / 1000.0 / self.units as f64 * weight;
                let asked = asked as u64 + u64::from(rng.random_bool(asked.fract()));
                for _ in 0..asked {
                    let (inside, entered) = replica.enter(&partner, &key, Mode::Live, limits);
                    entered.unwrap();
                    if inside.take(1, now).is_err() {
                        continue;
                    }
                    if inside.take(self.units - 1, now).is_err() {
                        inside.give_back(1, now);
                        continue;
                    }
                    *taken += self.units;
                    level += self.units as f64;
                    level_max = level_max.max(level);
                }
            }
            if ms % 5 == 0 {
                let mut free = Vec::new();
                for (place, replica) in replicas.iter().enumerate() {
                    if ms < stalled_until[place] {
                        continue;
                    }
                    if !self.stall.is_zero() && rng.random_bool(0.02) {
                        stalled_until[place] = ms + rng.random_range(0..=self.stall.as_millis() as usize);
                    } else {
                        free.push(replica.exchange());
                    }
                }
                futures_util::future::join_all(free).await;
            }
        }
        let busiest_10_s = by_ms.windows(10_000).map(|window| window.iter().sum()).max().unwrap();
        Outcome { units: by_ms.iter().sum(), level_max, busiest_10_s }
    }

    /// Runs it, and holds what came of it against the bound; where nothing is in the way, against the rate as well.
    async fn check(&self, url: &str, rng: &mut ChaCha8Rng) {
        let outcome = self.run(url, rng).await;
        let (rate, burst) = (f64::from(self.rate.units_per_second), f64::from(self.rate.burst));
        let over = (outcome.level_max - burst).max(0.0);
        println!("{self:?}: {outcome:?}, {over:.1} past the burst, of {:.1} that may be", self.overshoot());
        assert!(over <= self.overshoot(), "{self:?}: {outcome:?}");
        assert!(outcome.busiest_10_s as f64 <= 10.0 * rate + burst + self.overshoot(), "{self:?}: {outcome:?}");
        if self.stall.is_zero() {
            assert!(outcome.units as f64 >= 0.9 * rate * self.seconds as f64, "{self:?}: {outcome:?}");
        }
    }
}

async fn several(url: &str, can_forget: bool) {
    let (_, mut rng) = support::rng("several_replicas_keep_to_the_rate_together");
    let rate = |rng: &mut ChaCha8Rng, part: f64| {
        let units_per_second = rng.random_range(20..=1000);
        Rate { units_per_second, burst: ((f64::from(units_per_second) * part) as u32).max(1) }
    };
    let even = Traffic {
        rate: rate(&mut rng, 1.0),
        weights: vec![1.0 / 3.0; 3],
        units: 1,
        stall: Duration::ZERO,
        is_forgotten: false,
        seconds: 12,
    };
    even.check(url, &mut rng).await;
    let of_one = Traffic { rate: rate(&mut rng, 1.0), weights: vec![0.98, 0.01, 0.01], ..even.clone() };
    of_one.check(url, &mut rng).await;
    let large = Traffic { rate: Rate { units_per_second: 300, burst: 300 }, units: rng.random_range(100..=250), ..even.clone() };
    large.check(url, &mut rng).await;
    for _ in 0..if full() { 20 } else { 2 } {
        let replicas = rng.random_range(2..=5);
        let part = rng.random_range(0.0..2.0);
        let mut weights: Vec<f64> = (0..replicas).map(|_| rng.random_range(0.01..1.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let rate = rate(&mut rng, part);
        let stalled = Traffic {
            rate,
            weights,
            units: rng.random_range(1..=u64::from(rate.burst.min(5))),
            stall: Duration::from_millis(rng.random_range(1..=400)),
            is_forgotten: can_forget && rng.random_bool(0.5),
            ..even.clone()
        };
        stalled.check(url, &mut rng).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_keep_to_the_rate_together() {
    several(&redis::single(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_keep_to_the_rate_together_on_a_cluster() {
    several(&redis::cluster(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_lets_in_its_part_of_the_requests_in_flight() {
    let (url, prefix, clock) = (redis::single(), redis::prefix(), Clock::manual(START));
    let (a, b) = (replica(&url, &prefix, "a", &clock).await, replica(&url, &prefix, "b", &clock).await);
    a.beat().await;
    let limits = Limits { rate: Rate { units_per_second: 1, burst: 1 }, key_rate: None, concurrency: 5 };
    let (partner, key) = (PartnerId::from("pt"), KeyId::from("k"));
    for replica in [a, b] {
        let entered: Vec<_> = (0..5).map(|_| replica.enter(&partner, &key, Mode::Live, limits)).collect();
        assert_eq!(entered.iter().filter(|(_, entered)| entered.is_ok()).count(), 3);
    }
}
