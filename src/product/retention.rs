//! Who came again.

use std::sync::Arc;

use async_graphql::{Context, Object};

use super::asker::Noted;
use super::cost::{cost, free, list_size, one};
use super::item::Freshness;
use super::scalars::BigInt;
use crate::journey::Cohorts;
use crate::journey::product::Retention;

/// A period and whom it saw.
pub(super) struct CohortPeriod {
    pub(super) retention: Retention,
    pub(super) period: i32,
    pub(super) cohorts: Arc<Cohorts>,
    pub(super) freshness: Freshness,
}

/// A day, week or month of the product's time zone, and who was seen in it: one unit of `journey`.
#[Object(directive = cost::apply(one()))]
impl CohortPeriod {
    /// Its first date.
    async fn period(&self, ctx: &Context<'_>) -> async_graphql::Result<String> {
        if self.freshness.is_stale() {
            Noted::of(ctx)?.is_stale(ctx.path_node.as_ref().and_then(|path| path.parent), None);
        }
        Ok(self.retention.period.first_date(self.period).to_string())
    }

    /// The time zone of its dates.
    async fn timezone(&self) -> &str {
        &self.retention.timezone
    }

    /// By the period in which visitors were first seen, the oldest first. Cohorts of too few visitors are left out.
    #[graphql(directive = list_size::apply(Some(61), None, None, false))]
    async fn cohorts(&self) -> Vec<Cohort<'_>> {
        let cohort = |(cohort, visitors): &(i32, i64)| Cohort { of: self, cohort: *cohort, visitors: *visitors };
        self.cohorts.iter().map(cohort).collect()
    }
}

/// Visitors of a cohort.
pub(super) struct Cohort<'a> {
    of: &'a CohortPeriod,
    cohort: i32,
    visitors: i64,
}

/// Visitors of a cohort that were seen in a period.
#[Object(directive = cost::apply(free()))]
impl Cohort<'_> {
    /// The first date of the period in which they were first seen.
    async fn cohort(&self) -> String {
        self.of.retention.period.first_date(self.cohort).to_string()
    }

    /// How many periods ago that was.
    async fn periods_later(&self) -> i32 {
        self.of.period.saturating_sub(self.cohort)
    }

    /// Distinct visitors.
    async fn visitors(&self) -> BigInt {
        BigInt(self.visitors)
    }
}
