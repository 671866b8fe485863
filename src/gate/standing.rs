//! How a caller's limits stand, as answers and refusals tell it.

use std::fmt::Write;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::budget::QuotaStanding;
use super::limiter::RateStanding;

/// All limits of a caller.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The partner's rate.
    pub rate: RateStanding,
    /// The plan's quota.
    pub quota: Option<QuotaStanding>,
    /// The key's own rate.
    pub key_rate: Option<RateStanding>,
    /// The key's own quota.
    pub key_quota: Option<QuotaStanding>,
}

fn seconds(duration: Duration) -> u128 {
    duration.as_micros().div_ceil(1_000_000)
}

impl Standing {
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): quoted structured fields. `q` units a window
    /// of `w` seconds, of which `r` are left; all are there again in `t` seconds.
    pub fn write(&self, headers: &mut HeaderMap) {
        let (mut policy, mut state) = (String::with_capacity(64), String::with_capacity(64));
        // Writing into a string cannot fail.
        let mut rate = |name: &str, standing: &RateStanding| {
            let separator = if policy.is_empty() { "" } else { ", " };
            let window = standing.rate.burst.div_ceil(standing.rate.units_per_second);
            let _ = write!(policy, "{separator}\"{name}\";q={};w={window}", standing.rate.burst);
            let _ = write!(state, "{separator}\"{name}\";r={};t={}", standing.left, seconds(standing.full_in));
        };
        rate("rate", &self.rate);
        if let Some(standing) = &self.key_rate {
            rate("key-rate", standing);
        }
        for (name, standing) in [("quota", &self.quota), ("key-quota", &self.key_quota)] {
            if let Some(QuotaStanding { units, left, period, ends_in }) = standing {
                let _ = write!(policy, ", \"{name}\";q={units};w={}", seconds(*period));
                let _ = write!(state, ", \"{name}\";r={left};t={}", seconds(*ends_in));
            }
        }
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}
