//! What no traffic and no budget would admit: known from the operation, its variables and the plan alone.

use super::{Estimate, Ready};
use crate::error::{Code, Refusal};
use crate::metering::Terms;

/// The bounds of one caller.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Fields of one answer.
    pub answer_fields_max: u64,
    /// Units of one query.
    pub query_units_max: u64,
    /// Whether it may ask for the schema itself.
    pub introspection: bool,
}

impl Ready {
    /// The estimate, when it is within the rules.
    pub fn check(&self, terms: &Terms, rules: &Rules) -> (Estimate, Result<(), Refusal>) {
        let estimate = self.estimate(terms);
        (estimate, self.within(&estimate, rules))
    }

    fn within(&self, estimate: &Estimate, rules: &Rules) -> Result<(), Refusal> {
        if self.introspects() && !rules.introspection {
            let what = "Introspection is switched off for this key. Ask your provider for the schema.";
            return Err(Refusal::new(Code::GraphqlValidationFailed, what));
        }
        let (found, allowed) = (estimate.fields, rules.answer_fields_max);
        if found > allowed {
            let what = format!(
                "The answer could have {found} fields, more than the {allowed} that one answer may have. Ask for less at a time."
            );
            return Err(Refusal::new(Code::QueryTooComplex, what));
        }
        let (asked, allowed) = (estimate.units.total(), rules.query_units_max);
        if asked > allowed {
            let what = format!(
                "This query may cost {asked} units, more than the {allowed} that your plan, or this key, allows one query. Ask for fewer rows at a time."
            );
            return Err(Refusal::new(Code::CostEstimatedTooExpensive, what));
        }
        Ok(())
    }
}
