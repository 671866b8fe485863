//! How fast a partner may ask: GCRA (governor), one cell a partner, in this process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::RwLock;

use crate::billing::plan::Rate;
use crate::directory::Account;
use crate::error::{Code, Refusal};
use crate::ids::PartnerId;

type Cell = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// What is left after a request was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The plan's rate.
    pub rate: Rate,
    /// Requests that may follow at once.
    pub remaining: u32,
}

impl Allowed {
    /// Seconds until all of the burst is there again.
    pub fn reset_seconds(self) -> u32 {
        (self.rate.burst - self.remaining.min(self.rate.burst)).div_ceil(self.rate.requests_per_second)
    }
}

/// One cell a partner. A partner whose rate changed begins with a full burst.
#[derive(Default)]
pub struct Limiter {
    cells: RwLock<HashMap<PartnerId, (Rate, Arc<Cell>)>>,
    clock: DefaultClock,
}

impl Limiter {
    /// Takes one request out of the partner's rate.
    pub fn take(&self, account: &Account) -> Result<Allowed, (Refusal, Option<Allowed>)> {
        let Some(plan) = &account.plan else {
            return Err((Refusal::new(Code::Forbidden, "You have no subscription now. Ask your provider for a plan."), None));
        };
        let rate = plan.rate;
        match self.cell(&account.partner.id, rate).check() {
            Ok(state) => Ok(Allowed { rate, remaining: state.remaining_burst_capacity() }),
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                let message = format!(
                    "You ask faster than {} requests a second. Wait for Retry-After, then go on.",
                    rate.requests_per_second
                );
                let refusal = Refusal::new(Code::RateLimited, message).retry_after(wait.max(Duration::from_millis(1)));
                Err((refusal, Some(Allowed { rate, remaining: 0 })))
            }
        }
    }

    fn cell(&self, partner: &PartnerId, rate: Rate) -> Arc<Cell> {
        if let Some((_, cell)) = self.cells.read().get(partner).filter(|(of, _)| *of == rate) {
            return cell.clone();
        }
        let mut cells = self.cells.write();
        let (of, cell) = cells.entry(partner.clone()).or_insert_with(|| (rate, Arc::new(fresh(rate))));
        if *of != rate {
            (*of, *cell) = (rate, Arc::new(fresh(rate)));
        }
        cell.clone()
    }
}

fn fresh(rate: Rate) -> Cell {
    // Plans are checked to have neither at zero.
    let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::per_second(at_least_one(rate.requests_per_second)).allow_burst(at_least_one(rate.burst));
    RateLimiter::direct(quota).with_middleware()
}
