//! Settle: the actual units of an answer. What errored, was denied or is unknown does not stand in it, and costs nothing; what
//! is staler than the plan promises is waived.

use super::execute::Done;
use crate::clock::Micros;
use crate::directory::Credential;
use crate::ids::{PlanId, RequestId};
use crate::metering::{Tally, Terms, UsageRecord};
use crate::operation::Ready;

/// What an answer comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Units of what was answered.
    pub actual: Tally,
    /// Those that are waived,
    pub waived: Tally,
    /// and those that are billed.
    pub billed: Tally,
}

/// Counts the answer.
pub fn settle(ready: &Ready, terms: &Terms, done: &Done) -> Settled {
    let actual = ready.actual(&done.response.data, terms, &done.noted.stale());
    Settled { actual: actual.units, waived: actual.waived, billed: actual.units.less(&actual.waived) }
}

/// The record of an executed answer.
pub fn record(request: &RequestId, credential: &Credential, now: Micros, settled: &Settled) -> UsageRecord {
    let plan = credential.account.plan.as_ref();
    UsageRecord {
        v: 1,
        request: request.clone(),
        at: now,
        partner: credential.account.partner.id.clone(),
        key: credential.id.clone(),
        mode: credential.mode,
        // Admission refuses who has no plan.
        plan: plan.map_or_else(|| PlanId::from(""), |plan| plan.id.clone()),
        plan_version: plan.map_or(0, |plan| plan.version),
        units: settled.billed.iter().collect(),
        waived_units: settled.waived.iter().collect(),
    }
}
