//! How much a replica leases ahead: some seconds of the plan's rate, and never so much that its fellows would find nothing. So
//! blocks shrink towards a limit, and the last units are leased one request at a time.

use crate::billing::plan::Rate;

/// A lease lasts this long at the plan's rate: how often a busy replica asks the database, and how long it serves without one.
const SECONDS: u64 = 10;

/// The largest block of which twice as much for each replica would still fit.
pub(super) fn largest(rate: Rate, replicas: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let shares = replicas.max(1).saturating_mul(2);
    let most = SECONDS * u64::from(rate.units_per_second);
    let (mut good, mut bad) = (0, most + 1);
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        if fits(middle.saturating_mul(shares)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { units_per_second: 100, burst: 1 };

    fn of(left: u64, replicas: u64) -> u64 {
        largest(RATE, replicas, |units| units <= left)
    }

    #[test]
    fn a_block_is_some_seconds_of_the_rate_or_a_share_of_what_is_left() {
        for (left, replicas, block) in [
            (1_000_000, 1, 1000),
            (1_000_000, 3, 1000),
            (u64::MAX, 1000, 1000),
            (2000, 1, 1000),
            (1999, 1, 999),
            (600, 3, 100),
            (6, 3, 1),
            (5, 3, 0),
            (1, 1, 0),
            (0, 1, 0),
            // A replica that nobody counted is one.
            (100, 0, 50),
        ] {
            assert_eq!(of(left, replicas), block, "{left} left, {replicas} replicas");
        }
    }

    #[test]
    fn blocks_shrink_so_that_all_replicas_get_some_and_little_is_leased_when_little_is_left() {
        for replicas in 1..6 {
            let (mut left, mut leases) = (1_000_000_u64, 0);
            loop {
                let block = of(left, replicas);
                assert!(block * replicas <= left / 2, "half is there for what comes, whoever leases");
                if block == 0 {
                    break;
                }
                left -= block;
                leases += 1;
            }
            assert!(left < 2 * replicas, "{left} left for {replicas}");
            // 1000 of 1000 units, then a share each time.
            assert!(leases < 1000 + 100 * replicas, "{leases} leases for {replicas}");
        }
    }
}
