//! Time as an argument.
//!
//! Whatever must replay, bill or expire takes a [`Clock`] or a [`Micros`]; nothing else reads the wall clock
//! (clippy.toml bans it). The running gateway anchors its clock on the database's time and carries it forward by the
//! monotonic clock, so that a wall clock that jumps neither closes a month nor revives a key.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What a reading of the database's clock may differ by: a slow answer, and a part of the time since the last one.
const DRIFT_MIN: Duration = Duration::from_secs(2);
const DRIFT_PART: u32 = 1000;

/// An instant: microseconds since the Unix epoch, UTC. Stored as BIGINT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// The instant `wait` later, or the last one there is.
    pub fn plus(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long ago `earlier` was; zero when it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant for calendars and text. Saturates at the years −9999 and 9999.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }
}

impl From<Timestamp> for Micros {
    fn from(at: Timestamp) -> Self {
        Self(at.as_microsecond())
    }
}

impl fmt::Display for Micros {
    /// RFC 3339 in UTC with milliseconds, as answers and listings show instants.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

/// Where the time comes from. Cheap to clone; clones share the anchor.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    Running { anchor: Mutex<Anchor>, latest: AtomicI64 },
    Manual(AtomicI64),
}

struct Anchor {
    at: Micros,
    taken: Instant,
}

impl Clock {
    /// This machine's clock, until [`Clock::anchor`] ties it to the database's.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = Micros(0).plus(wall);
        Self(Arc::new(Source::Running { anchor: Mutex::new(Anchor { at, taken: Instant::now() }), latest: AtomicI64::new(0) }))
    }

    /// A clock that stands still until it is set: for tests.
    pub fn manual(at: Micros) -> Self {
        Self(Arc::new(Source::Manual(AtomicI64::new(at.0))))
    }

    /// Now. Never earlier than an instant that this clock, or a clone of it, gave before.
    pub fn now(&self) -> Micros {
        match &*self.0 {
            Source::Running { anchor, latest } => {
                let carried = {
                    let anchor = anchor.lock();
                    anchor.at.plus(anchor.taken.elapsed())
                };
                Micros(latest.fetch_max(carried.0, Ordering::AcqRel).max(carried.0))
            }
            Source::Manual(at) => Micros(at.load(Ordering::Acquire)),
        }
    }

    /// Ties a running clock to `at`, read from the database just now; sets a manual one. For the start: it takes any step.
    pub fn anchor(&self, at: Micros) {
        match &*self.0 {
            Source::Running { anchor, .. } => *anchor.lock() = Anchor { at, taken: Instant::now() },
            Source::Manual(now) => now.store(at.0, Ordering::Release),
        }
    }

    /// Follows the database's clock as far as clocks drift. A larger step is a clock that was set, or a wrong one: following it
    /// would forget event ids, bill another month and never come back, because time here does not go back. Then nothing
    /// changes, and the answer is the step.
    pub fn follow(&self, at: Micros) -> Result<(), jiff::SignedDuration> {
        if let Source::Running { anchor, .. } = &*self.0 {
            let elapsed = anchor.lock().taken.elapsed();
            let step = at.0.saturating_sub(self.now().0);
            let drift = Micros(0).plus(DRIFT_MIN + elapsed / DRIFT_PART).0;
            if step.abs() > drift {
                return Err(jiff::SignedDuration::from_micros(step));
            }
        }
        self.anchor(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_clock_never_goes_back_when_the_database_is_behind() {
        let clock = Clock::system();
        let before = clock.now();
        clock.anchor(Micros(before.0 - 3_600_000_000));
        assert!(clock.now() >= before);
    }

    #[test]
    fn a_clock_that_jumps_is_not_followed() {
        let clock = Clock::system();
        let now = clock.now();
        for jump in [40 * 86_400_000_000, -3_600_000_000] {
            assert!(clock.follow(Micros(now.0 + jump)).is_err());
        }
        assert!(clock.now().since(now) < Duration::from_secs(60));
        assert_eq!(clock.follow(clock.now().plus(Duration::from_millis(500))), Ok(()));
    }

    #[test]
    fn instants_print_as_rfc_3339_with_milliseconds() {
        assert_eq!(Micros(1_763_596_800_123_456).to_string(), "2025-11-20T00:00:00.123Z");
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        assert_eq!(Micros(i64::MAX).plus(Duration::MAX), Micros(i64::MAX));
        assert_eq!(Micros(i64::MIN).timestamp(), Timestamp::MIN);
        assert_eq!(Micros(0).since(Micros(5)), Duration::ZERO);
    }
}
