//! What was counted in a cell.

use std::sync::Arc;

use async_graphql::Object;

use super::cost::{cost, free, list_size, one};
use super::item::Freshness;
use super::scalars::{BigInt, Decimal};
use crate::journey::cell::{Cell, Duration, OfSessions, OfStep};
use crate::journey::dump::action;
use crate::journey::product::{ADD_TO_CART, Product};

const TRANSITIONS_DEFAULT: i32 = 100;

/// What was counted in a cell.
pub(super) struct JourneyCounts {
    pub(super) product: Arc<Product>,
    pub(super) cell: Arc<Cell>,
    pub(super) freshness: Freshness,
}

impl JourneyCounts {
    pub(super) fn is_revised(&self) -> bool {
        self.cell.revision > 0
    }

    pub(super) fn is_stale(&self) -> bool {
        self.freshness.is_stale()
    }
}

/// A part of a whole, to six places.
fn part(of: i64, whole: i64) -> Option<Decimal> {
    (whole > 0).then(|| Decimal((rust_decimal::Decimal::from(of) / rust_decimal::Decimal::from(whole)).round_dp(6).normalize()))
}

fn halved(doubled: u64) -> Decimal {
    Decimal((rust_decimal::Decimal::from(doubled) / rust_decimal::Decimal::TWO).normalize())
}

/// What was counted in a cell: one unit of `journey`. What too few visitors stand behind is null.
#[Object(directive = cost::apply(one()))]
impl JourneyCounts {
    /// Sessions that began in the cell.
    async fn sessions(&self) -> Option<BigInt> {
        self.cell.sessions.as_ref().map(|of| BigInt(of.sessions))
    }

    /// Distinct visitors that had them.
    async fn visitors(&self) -> Option<BigInt> {
        self.cell.sessions.as_ref().map(|of| BigInt(of.visitors))
    }

    /// How many got how far, step by step.
    #[graphql(directive = list_size::apply(Some(32), None, None, false))]
    async fn funnel(&self) -> Option<Vec<FunnelStep<'_>>> {
        let steps = self.cell.funnel.as_ref()?;
        let step = |(at, step): (usize, &'_ OfStep)| FunnelStep {
            name: self.product.steps.get(at).map_or("", String::as_str),
            step: *step,
            before: at.checked_sub(1).and_then(|at| steps.get(at)).map(|step| step.units),
            first: steps.first().map_or(0, |step| step.units),
        };
        Some(steps.iter().enumerate().map(step).collect())
    }

    /// Which action followed which, the most frequent first.
    #[graphql(directive = list_size::apply(Some(TRANSITIONS_DEFAULT), Some(vec!["first".to_owned()]), None, false))]
    async fn transitions(
        &self,
        #[graphql(desc = "How many: 100 when left out.")] first: Option<i32>,
    ) -> Option<Vec<Transition<'_>>> {
        let of = self.cell.sessions.as_ref()?;
        let first = usize::try_from(first.unwrap_or(TRANSITIONS_DEFAULT)).unwrap_or_default();
        let leaving = |from: u8| of.transitions.iter().filter(|(of, ..)| *of == from).map(|(.., count)| count).sum();
        let mut sorted: Vec<_> = of.transitions.iter().collect();
        sorted.sort_by_key(|(from, to, count)| (std::cmp::Reverse(*count), *from, *to));
        let transition = |(from, to, count): &(u8, u8, i64)| Transition {
            from: action(&self.product, *from, "END"),
            to: action(&self.product, *to, "END"),
            count: *count,
            leaving: leaving(*from),
        };
        Some(sorted.into_iter().take(first).map(transition).collect())
    }

    /// What sessions were, from end to end: the most frequent ones, each of at least `k` visitors.
    #[graphql(directive = list_size::apply(Some(20), None, None, false))]
    async fn top_paths(&self) -> Option<Vec<TopPath<'_>>> {
        let path = |(path, sessions, visitors): &'_ (Vec<u8>, i64, i64)| TopPath {
            actions: path.iter().map(|number| action(&self.product, *number, "…")).collect(),
            sessions: *sessions,
            visitors: *visitors,
        };
        Some(self.cell.sessions.as_ref()?.paths.iter().map(path).collect())
    }

    /// Carts that were left; null where no action of the product fills a cart.
    async fn cart_abandonment(&self) -> Option<CartAbandonment<'_>> {
        self.cell.sessions.as_ref().filter(|_| self.product.actions.contains_key(ADD_TO_CART)).map(CartAbandonment)
    }

    /// From the first `add_to_cart` to the first `purchase` behind it, of sessions that have both.
    async fn time_to_convert(&self) -> Option<TimeToConvert> {
        self.cell.conversions.map(TimeToConvert)
    }
}

/// A step of the funnel.
pub(super) struct FunnelStep<'a> {
    name: &'a str,
    step: OfStep,
    before: Option<i64>,
    first: i64,
}

/// A step of the funnel.
#[Object(directive = cost::apply(free()))]
impl FunnelStep<'_> {
    /// The part that it is.
    async fn step(&self) -> &str {
        self.name
    }

    /// Sessions or visitors, as the product says, that got at least here.
    async fn units(&self) -> BigInt {
        BigInt(self.step.units)
    }

    /// Of those that got to the step before; null for the first one.
    async fn conversion_from_previous(&self) -> Option<Decimal> {
        part(self.step.units, self.before?)
    }

    /// Of those that got to the first step.
    async fn conversion_from_first(&self) -> Option<Decimal> {
        part(self.step.units, self.first)
    }

    /// The median time from the step before, in seconds; null for the first one, and where fewer than `k` visitors stand behind it.
    async fn median_seconds(&self) -> Option<Decimal> {
        self.step.median_doubled.map(halved)
    }
}

/// One action behind another.
pub(super) struct Transition<'a> {
    from: &'a str,
    to: &'a str,
    count: i64,
    leaving: i64,
}

/// One action right behind another, within a session; `START` and `END` are its ends.
#[Object(directive = cost::apply(free()))]
impl Transition<'_> {
    /// The one before.
    async fn from(&self) -> &str {
        self.from
    }

    /// The one behind.
    async fn to(&self) -> &str {
        self.to
    }

    /// How often.
    async fn count(&self) -> BigInt {
        BigInt(self.count)
    }

    /// Of all that leave `from`.
    async fn probability(&self) -> Option<Decimal> {
        part(self.count, self.leaving)
    }
}

/// What a session was.
pub(super) struct TopPath<'a> {
    actions: Vec<&'a str>,
    sessions: i64,
    visitors: i64,
}

/// What a session was, from end to end.
#[Object(directive = cost::apply(free()))]
impl TopPath<'_> {
    /// Its actions, eight at most; a longer one ends with `…`.
    #[graphql(directive = list_size::apply(Some(9), None, None, false))]
    async fn actions(&self) -> &[&str] {
        &self.actions
    }

    /// Sessions.
    async fn sessions(&self) -> BigInt {
        BigInt(self.sessions)
    }

    /// Distinct visitors.
    async fn visitors(&self) -> BigInt {
        BigInt(self.visitors)
    }
}

/// Carts that were left.
pub(super) struct CartAbandonment<'a>(&'a OfSessions);

/// Carts that were left: sessions with an `add_to_cart` and no `purchase` behind the last one.
#[Object(directive = cost::apply(free()))]
impl CartAbandonment<'_> {
    /// How it is defined.
    async fn variant(&self) -> &'static str {
        "NO_PURCHASE_AFTER_LAST_ADD_TO_CART"
    }

    /// Sessions with something in the cart.
    async fn carts(&self) -> BigInt {
        BigInt(self.0.carts)
    }

    /// Those that were left with it.
    async fn abandoned(&self) -> BigInt {
        BigInt(self.0.abandoned)
    }

    /// `abandoned` of `carts`.
    async fn rate(&self) -> Option<Decimal> {
        part(self.0.abandoned, self.0.carts)
    }
}

/// How long it took to convert.
pub(super) struct TimeToConvert(Duration);

/// How long it took to convert.
#[Object(directive = cost::apply(free()))]
impl TimeToConvert {
    /// Sessions that did.
    async fn converted(&self) -> BigInt {
        BigInt(self.0.count)
    }

    /// The median, in seconds.
    async fn median_seconds(&self) -> Decimal {
        halved(self.0.median_doubled)
    }

    /// The mean, in seconds, to six places.
    async fn mean_seconds(&self) -> Option<Decimal> {
        part(self.0.seconds, self.0.count)
    }
}
