//! Which admissions are still on their way into the journal, so that a replica can say "all admitted before T is journaled".
//!
//! Exact, and one shared counter a request: admissions are counted by the second in which they happened. A counter is the number
//! of holders of an `Arc`, so an admission is given back wherever and however its holder ends: with the answer, a refusal, a
//! panic, a client that went away, or the write that was on its way by then.
//!
//! Why nothing slips through: an admission is counted first and reads its instant then; who asks reads the clock first and looks at
//! the counters then. Both readings go through one atomic (`Clock::now` never goes back). If the admission's reading came first,
//! its count is seen. If it came second, its instant is not before the asker's.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use parking_lot::Mutex;

use crate::clock::{Clock, Micros};

/// Seconds told apart: far more than a request lasts. Past it two seconds share a counter, which makes the answer earlier than it
/// need be, never later.
const SLOTS: usize = 1024;
const SECOND_MICROS: i64 = 1_000_000;

/// The admissions of one gateway.
pub struct InFlight {
    slots: Vec<Arc<()>>,
    /// No admission in flight is of an earlier second.
    floor: Mutex<i64>,
}

/// Somebody who was admitted and is not in the journal yet. Held until the record is durable, or there will be none.
#[derive(Debug)]
pub struct Admission(#[expect(dead_code, reason = "its life is what counts")] Arc<()>);

fn second_of(at: Micros) -> i64 {
    at.0.div_euclid(SECOND_MICROS)
}

impl InFlight {
    /// Nobody yet.
    pub fn new(clock: &Clock) -> Self {
        Self { slots: (0..SLOTS).map(|_| Arc::default()).collect(), floor: Mutex::new(second_of(clock.now())) }
    }

    fn slot(&self, second: i64) -> &Arc<()> {
        &self.slots[second.rem_euclid(SLOTS as i64) as usize]
    }

    /// Admits somebody now; the instant is the one of the usage record. `lately` is an earlier reading of the clock, which spares
    /// one more where it is of the same second.
    pub fn admit(&self, clock: &Clock, lately: Micros) -> (Micros, Admission) {
        let mut second = second_of(lately);
        loop {
            let admission = Admission(self.slot(second).clone());
            let at = clock.now();
            // The count must stand in the second of the instant: that is where it is looked for.
            if second_of(at) == second {
                return (at, admission);
            }
            second = second_of(at);
        }
    }

    /// The instant before which every admission is given back, and none will come. What was given back before this is seen by
    /// whoever asks.
    pub fn complete_before(&self, clock: &Clock) -> Micros {
        let mut floor = self.floor.lock();
        let now = clock.now();
        let busy = |second: &i64| Arc::strong_count(self.slot(*second)) > 1;
        let oldest = (*floor..=second_of(now)).take(SLOTS).find(busy);
        // Pairs with the release in each drop of an admission.
        fence(Ordering::Acquire);
        *floor = oldest.unwrap_or_else(|| second_of(now)).max(*floor);
        oldest.map_or(now, |second| Micros(second * SECOND_MICROS).min(now))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64};

    use super::*;

    fn seconds(n: f64) -> Micros {
        Micros((n * 1e6) as i64)
    }

    #[test]
    fn the_oldest_admission_in_flight_holds_the_answer_back() {
        let clock = Clock::manual(seconds(100.5));
        let all = InFlight::new(&clock);
        assert_eq!(all.complete_before(&clock), seconds(100.5));
        let (at, first) = all.admit(&clock, seconds(100.5));
        assert_eq!(at, seconds(100.5));
        clock.anchor(seconds(103.25));
        // A reading that is seconds old, as of a request whose body was long in coming.
        let (at, second) = all.admit(&clock, seconds(100.75));
        assert_eq!(at, seconds(103.25));
        assert_eq!(all.complete_before(&clock), seconds(100.0));
        drop(first);
        assert_eq!(all.complete_before(&clock), seconds(103.0));
        clock.anchor(seconds(104.0));
        assert_eq!(all.complete_before(&clock), seconds(103.0));
        drop(second);
        assert_eq!(all.complete_before(&clock), seconds(104.0));
    }

    #[test]
    fn one_that_outlives_the_ring_still_holds_it_back_and_lets_go_at_last() {
        let clock = Clock::manual(seconds(10.0));
        let all = InFlight::new(&clock);
        let (_, stuck) = all.admit(&clock, seconds(10.0));
        for round in 1..5 {
            let now = seconds(10.0 + f64::from(round) * SLOTS as f64);
            clock.anchor(now);
            let (_, same_slot) = all.admit(&clock, now);
            assert_eq!(all.complete_before(&clock), seconds(10.0));
            drop(same_slot);
        }
        drop(stuck);
        assert_eq!(all.complete_before(&clock), seconds(10.0 + 4.0 * SLOTS as f64));
    }

    /// Threads admit and journal; the asker must never be told an instant that a later journaling is before.
    #[test]
    fn nothing_slips_through_between_threads() {
        let clock = Clock::system();
        let all = InFlight::new(&clock);
        let promised = AtomicI64::new(i64::MIN);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..100_000 {
                            let (at, admission) = all.admit(&clock, clock.now());
                            // "Journaled" while the admission is held: no promise may have passed it.
                            assert!(at.0 >= promised.load(Ordering::SeqCst));
                            drop(admission);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    promised.fetch_max(all.complete_before(&clock).0, Ordering::SeqCst);
                }
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        assert!(promised.load(Ordering::SeqCst) > 0);
    }
}
