//! Admit: whether an operation may run, by rules that are known before it does. What it costs at most is held back from the
//! rate, the quota and the spend cap, or nothing is.

use std::sync::Arc;

use super::budget::{Ask, Budgets, Reservation};
use super::limiter::{Inside, Limits};
use super::standing::Standing;
use crate::billing::plan::Plan;
use crate::clock::Micros;
use crate::config::Introspection;
use crate::directory::Credential;
use crate::error::Refusal;
use crate::metering::{Mode, Tally, Terms};
use crate::operation::{Estimate, Rules};

/// Who asks, under which terms.
#[derive(Clone)]
pub struct Caller {
    /// The key.
    pub credential: Arc<Credential>,
    /// The partner's plan.
    pub plan: Arc<Plan>,
    /// Of the plan and the key.
    pub terms: Terms,
    /// What no traffic would admit.
    pub rules: Rules,
    /// Admission time.
    pub now: Micros,
}

/// Bounds that hold for everybody.
#[derive(Clone, Copy, Debug)]
pub struct House {
    /// Fields of one answer.
    pub answer_fields_max: u64,
    /// Who may ask for the schema itself.
    pub introspection: Introspection,
}

impl House {
    /// The rules for `caller`.
    pub fn rules(&self, credential: &Credential, plan: &Plan) -> Rules {
        let mode = credential.mode;
        let introspection = match self.introspection {
            Introspection::On => true,
            Introspection::Test => mode == Mode::Test,
            Introspection::Off => false,
        };
        // What does not fit into the key's own burst would never be admitted either.
        let of_the_key = credential.rate().map_or(u64::MAX, |rate| u64::from(rate.burst));
        let query_units_max = plan.query_units_max().min(of_the_key);
        Rules { answer_fields_max: self.answer_fields_max, query_units_max, introspection }
    }
}

/// An operation that may run.
pub struct Admitted {
    /// What was held back; nothing of a test key's.
    pub reservation: Option<Reservation>,
    /// What it costs at most.
    pub estimate: Estimate,
}

impl Caller {
    /// None for a partner without a plan.
    pub fn new(credential: Arc<Credential>, house: &House, now: Micros) -> Option<Self> {
        let plan = credential.account.plan.clone()?;
        let (terms, rules) = (credential.terms(&plan), house.rules(&credential, &plan));
        Some(Self { credential, plan, terms, rules, now })
    }

    /// What limits it.
    pub fn limits(&self) -> Limits {
        Limits { rate: self.plan.rate, key_rate: self.credential.rate(), concurrency: self.plan.concurrency }
    }

    fn ask(&self, units: Tally) -> Ask {
        let Self { credential, plan, now, .. } = self;
        Ask {
            partner: credential.account.partner.id.clone(),
            calendar: credential.account.calendar.clone(),
            key: credential.id.clone(),
            key_quota: credential.quota_units(),
            plan: plan.clone(),
            units,
            now: *now,
        }
    }

    /// How all of its limits stand.
    pub fn standing(&self, inside: &Inside, budgets: &Budgets) -> Standing {
        let (quota, key_quota) = match self.credential.mode {
            Mode::Live => budgets.standings(&self.ask(Tally::default())),
            Mode::Test => (None, None),
        };
        Standing { rate: inside.standing(self.now), quota, key_rate: inside.key_standing(self.now), key_quota }
    }
}

/// Holds back what the operation may cost. One unit of the rate was taken when the request came in: the least that one costs.
pub async fn admit(caller: &Caller, estimate: Estimate, inside: &Inside, budgets: &Budgets) -> Result<Admitted, Refusal> {
    let more = estimate.units.total().saturating_sub(1);
    if let Err(refusal) = inside.take(more, caller.now) {
        inside.give_back(1, caller.now);
        return Err(refusal);
    }
    let reservation = match caller.credential.mode {
        Mode::Live => {
            let reserved = budgets.reserve(caller.ask(estimate.units)).await;
            Some(reserved.inspect_err(|_| inside.give_back(more + 1, caller.now))?)
        }
        Mode::Test => None,
    };
    Ok(Admitted { reservation, estimate })
}
