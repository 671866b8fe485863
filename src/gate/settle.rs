//! Settle: the actual units of an answer. What errored, was denied or is unknown was never counted, and costs nothing.

use super::execute::Done;
use crate::clock::Micros;
use crate::directory::Credential;
use crate::ids::{PlanId, RequestId};
use crate::metering::UsageRecord;

/// The record of an executed answer.
pub fn record(request: &RequestId, credential: &Credential, now: Micros, done: &Done) -> UsageRecord {
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
        units: done.metered.units(&done.response.data),
    }
}
