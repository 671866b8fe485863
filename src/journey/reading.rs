//! A product made ready for counting.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::calendar::{Granularity, begin_of, hour_of};
use super::product::{ADD_TO_CART, PURCHASE, Product, Unit};
use crate::clock::Micros;

/// More than this between two events of a visitor parts two sessions.
pub(super) const GAP: i64 = 30 * 60 * 1_000_000;
/// A session ends after this, however busy.
pub(super) const SESSION_MAX: i64 = 24 * 3600 * 1_000_000;

/// What of a product counting looks at.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) product: Product,
    /// By name: every event looks for its own.
    actions: HashMap<String, u8>,
    /// By action, a bit for each step that it can be.
    steps: Vec<u32>,
    carts: Vec<bool>,
    purchases: Vec<bool>,
    pub(super) zone: TimeZone,
}

fn micros(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}

impl Reading {
    pub(super) fn of(product: Product) -> Self {
        let of_part = |name: &str| product.actions().map(|(part, _)| part == name).collect::<Vec<_>>();
        let (carts, purchases) = (of_part(ADD_TO_CART), of_part(PURCHASE));
        let bits = |part: &str| product.steps.iter().enumerate().map(|(n, step)| u32::from(step == part) << n).sum();
        let zone = product.retention.as_ref().and_then(|retention| retention.zone().ok()).unwrap_or(TimeZone::UTC);
        let actions = (0..).zip(product.actions()).map(|(number, (_, name))| (name.to_owned(), number)).collect();
        Self { actions, steps: product.actions().map(|(part, _)| bits(part)).collect(), carts, purchases, zone, product }
    }

    pub(super) fn action(&self, name: &str) -> Option<u8> {
        self.actions.get(name).copied()
    }

    pub(super) fn is_step(&self, step: usize, action: u8) -> bool {
        self.steps.get(usize::from(action)).is_some_and(|steps| steps >> step & 1 == 1)
    }

    pub(super) fn is_cart(&self, action: u8) -> bool {
        self.carts.get(usize::from(action)).copied().unwrap_or_default()
    }

    pub(super) fn is_purchase(&self, action: u8) -> bool {
        self.purchases.get(usize::from(action)).copied().unwrap_or_default()
    }

    pub(super) fn window(&self) -> i64 {
        micros(self.product.window)
    }

    /// What is in time where the latest event is of `event_time`.
    pub(super) fn watermark(&self, event_time: Micros) -> Micros {
        Micros(event_time.0.saturating_sub(micros(self.product.lateness)))
    }

    /// The event time at which the watermark is there.
    pub(super) fn event_time(&self, watermark: Micros) -> Micros {
        Micros(watermark.0.saturating_add(micros(self.product.lateness)))
    }

    /// So long after its end an hour is still open, sessions apart.
    pub(super) fn open_past_end(&self) -> i64 {
        match self.product.unit {
            Unit::Session => 0,
            Unit::Visitor => self.window(),
        }
    }

    pub(super) fn kept(&self) -> i64 {
        micros(self.product.keep.events)
    }
}

/// The event time at which all that events up to `last` opened is closed, in every product; and what of that was late is told.
pub fn closes_all(last: Micros, products: &[Arc<Product>]) -> Micros {
    const DAY: i64 = 24 * 3600 * 1_000_000;
    let longest = |of: fn(&Product) -> std::time::Duration| products.iter().map(|product| of(product)).max().map_or(0, micros);
    let (window, lateness) = (longest(|product| product.window), longest(|product| product.lateness));
    let over = hour_of(Micros(last.0.saturating_add(2 * SESSION_MAX + window)));
    let end = [Granularity::Week, Granularity::Month].iter().map(|by| by.of(over).end()).max().unwrap_or(over);
    // Retention goes by another time zone's days.
    Micros(begin_of(end).0.saturating_add(window + lateness + DAY))
}
