//! The fold itself: what one partition knows, and how an event changes it. Pure: the state is a function of the log.

mod dump;
mod pieces;
mod register;
mod seen;
mod stock;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Applied, Bounds, Change, Details, Limits, PastPrice, Price, PriceHistory, RefusedChange, Scope};
use crate::clock::Micros;
use crate::event::{Body, Event, Identity};
use crate::journey::{Journey, Journeys};
use crate::money::Currency;
use register::{Entry, Register, SCHEDULED_MAX};
use seen::{Seen, Trace};
use stock::Stock;

pub(super) use dump::dump;

/// Which of two absolute values wins: `version` where both have one, else the event's `time`, then its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rank {
    pub(super) version: Option<i64>,
    pub(super) time: Micros,
    pub(super) offset: u64,
}

impl Rank {
    pub(super) fn beats(&self, other: &Self) -> bool {
        match (self.version, other.version) {
            (Some(mine), Some(others)) => mine > others,
            _ => (self.time, self.offset) > (other.time, other.offset),
        }
    }
}

/// What a price says, without when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PriceTag {
    currency: Currency,
    amount: rust_decimal::Decimal,
    list_amount: Option<rust_decimal::Decimal>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Product {
    details: Register<Details>,
    /// What each has kept is large: a copy shares it until it changes, and a sale changes one of them.
    stock: BTreeMap<Arc<str>, Arc<Stock>>,
    prices: BTreeMap<Arc<str>, Arc<Register<PriceTag>>>,
}

impl Product {
    pub(super) fn details(&self) -> Option<&Details> {
        self.details.in_force(Micros(i64::MAX)).map(|entry| &entry.value)
    }

    /// Nothing is known any more: what made it known was compensated.
    fn is_empty(&self) -> bool {
        self.details.is_empty() && self.stock.is_empty() && self.prices.is_empty()
    }

    /// Whether `scope` has it. Without details it is known by its stock and its prices alone: then by those of the scope.
    pub(super) fn is_in(&self, scope: &Scope) -> bool {
        match self.details() {
            Some(details) => scope.has_details(details),
            None => {
                let is_known = self.stock.keys().any(|location| scope.has_location(location))
                    || self.prices.keys().any(|market| scope.has_market(market));
                is_known && scope.of_details().next().is_none()
            }
        }
    }

    /// What `scope` has of it.
    pub(super) fn answer(&self, read: &super::Read, scope: &Scope, now: Micros) -> Option<super::Product> {
        if !self.is_in(scope) {
            return None;
        }
        let wanted = &*read.wanted;
        let stock = |location: &String| {
            self.stock.get(location.as_str()).filter(|_| scope.has_location(location)).map(|stock| stock.level())
        };
        let prices = |market: &str| self.prices.get(market).filter(|_| scope.has_market(market));
        Some(super::Product {
            details: self.details().cloned(),
            stock: wanted.locations.iter().map(stock).collect(),
            prices: wanted.markets.iter().map(|market| Some(prices(market)?.in_force(now)?.price())).collect(),
            histories: wanted.histories.iter().map(|wanted| Some(history(prices(&wanted.market)?, wanted, now))).collect(),
        })
    }
}

fn history(prices: &Register<PriceTag>, wanted: &PriceHistory, now: Micros) -> Vec<PastPrice> {
    let past = prices.past(now).into_iter().rev();
    let within =
        past.filter(|(from, _)| wanted.from.is_none_or(|start| *from >= start) && wanted.to.is_none_or(|end| *from < end));
    within.take(wanted.limit).map(|(valid_from, entry)| PastPrice { valid_from, price: entry.price() }).collect()
}

impl Entry<PriceTag> {
    fn price(&self) -> Price {
        let PriceTag { currency, amount, list_amount } = self.value;
        Price { currency, amount, list_amount, updated_at: self.rank.time }
    }
}

/// All that one partition knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Partition {
    pub(super) applied: Option<u64>,
    pub(super) seen: Seen,
    /// Shared with a copy that is being written, until they change.
    pub(super) products: BTreeMap<Arc<str>, Arc<Product>>,
    pub(super) journeys: Journeys,
}

/// A copy of a partition to be written while the partition goes on: it shares what does not change.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Frozen(Partition);

const OF_A_COMPENSATION: &str = "it compensates a compensation, which cannot be undone: send the event anew, under another id";

enum Outcome {
    Applied,
    Duplicate,
    Refused(String),
}

impl Partition {
    pub(super) fn frozen(&self) -> Frozen {
        Frozen(Self {
            applied: self.applied,
            seen: self.seen.frozen(),
            products: self.products.clone(),
            journeys: self.journeys.frozen(),
        })
    }

    /// Applies one change; its offset is above all that came before it.
    pub(super) fn apply(&mut self, change: &Change, bounds: &Bounds, applied: &mut Applied) {
        let limits = &bounds.limits;
        debug_assert!(self.applied.is_none_or(|at| change.offset > at));
        self.applied = Some(change.offset);
        for expired in self.seen.expire(change.appended, limits) {
            applied.refused.push(expired.refused("it compensates an event that did not come within the dedup window"));
        }
        let Some(event) = &change.event else { return };
        match &event.body {
            Body::WatermarkAdvanced => return self.journeys.pass(event.time, change.appended),
            Body::JourneyTold(told) => return self.journeys.hear(told),
            _ => {}
        }
        match self.take(change, event, bounds, applied) {
            Outcome::Applied => applied.applied += 1,
            Outcome::Duplicate => applied.duplicates += 1,
            Outcome::Refused(reason) => {
                applied.refused.push(RefusedChange { offset: change.offset, reason, payload: change.payload.clone() });
            }
        }
    }

    fn take(&mut self, change: &Change, event: &Event, bounds: &Bounds, applied: &mut Applied) -> Outcome {
        let limits = &bounds.limits;
        let identity = event.identity();
        if self.seen.contains(identity, change.appended, limits) {
            return Outcome::Duplicate;
        }
        let undone_before = self.seen.take_awaited(identity, &event.subject);
        // Also what is undone before it comes tells how late it is.
        let passes = matches!(event.body, Body::JourneyRecorded { .. }).then(|| event.time.min(change.appended));
        let (trace, outcome) = match &event.body {
            Body::Compensated { compensates } => {
                // The same whichever comes first: undoing an undoing would depend on what else came in between.
                applied.refused.extend(undone_before.map(|awaited| awaited.refused(OF_A_COMPENSATION)));
                let target = Identity::of(&event.source, compensates);
                (Trace::Compensation, self.undo(target, change, &event.subject, bounds))
            }
            _ if undone_before.is_some() => (Trace::Undone, Outcome::Applied),
            Body::JourneyRecorded { action, session, brand, dimensions } => {
                let journey = Journey {
                    visitor: &event.subject,
                    time: event.time,
                    identity,
                    action,
                    session: session.as_deref(),
                    brand: brand.as_deref(),
                    dimensions,
                };
                self.journeys.take(&bounds.visitors, &journey);
                (Trace::Nothing, Outcome::Applied)
            }
            Body::VisitorErased => {
                self.journeys.erase(&bounds.visitors, &event.subject, event.time);
                (Trace::Nothing, Outcome::Applied)
            }
            body => self.set(identity, change, event, body, limits),
        };
        self.seen.remember(identity, change.appended, trace);
        if let Some(passes) = passes {
            self.journeys.pass(passes, change.appended);
        }
        outcome
    }

    fn set(&mut self, identity: Identity, change: &Change, event: &Event, body: &Body, limits: &Limits) -> (Trace, Outcome) {
        let (offset, appended) = (change.offset, change.appended);
        // Traces share the names that are here already: there are millions of them.
        let sku = key(&self.products, &event.subject);
        let product = Arc::make_mut(self.products.entry(sku.clone()).or_default());
        let kept = limits.history_kept;
        let time = event.time;
        let rank = |version: &Option<i64>| Rank { version: *version, time, offset };
        match body {
            Body::ProductUpserted { title, brand, category, supplier, version } => {
                let (title, brand) = (title.clone(), brand.clone());
                let value = Details { title, brand, category: category.clone(), supplier: supplier.clone() };
                product.details.set(Entry { identity, rank: rank(version), from: None, value }, appended, kept);
            }
            Body::PriceSet { market, currency, amount, list_amount, version, valid_from } => {
                let value = PriceTag { currency: *currency, amount: *amount, list_amount: *list_amount };
                let entry = Entry { identity, rank: rank(version), from: *valid_from, value };
                let prices = Arc::make_mut(product.prices.entry(market.as_str().into()).or_default());
                if !prices.set(entry, appended, kept) {
                    let reason =
                        format!("{SCHEDULED_MAX} prices of this market are scheduled already: let some of them begin first");
                    return (Trace::Nothing, Outcome::Refused(reason));
                }
            }
            Body::InventoryCounted { location, on_hand, reserved, version } => {
                let stock = Arc::make_mut(product.stock.entry(location.as_str().into()).or_default());
                stock.count(identity, *on_hand, *reserved, rank(version), kept);
            }
            Body::InventoryAdjusted { location, delta } => {
                let location = key(&product.stock, location);
                Arc::make_mut(product.stock.entry(location.clone()).or_default()).adjust(identity, *delta, time, kept);
                return (Trace::Adjusted { sku, location, delta: *delta, offset }, Outcome::Applied);
            }
            Body::JourneyRecorded { .. }
            | Body::VisitorErased
            | Body::Compensated { .. }
            | Body::WatermarkAdvanced
            | Body::JourneyTold(_) => {}
        }
        (Trace::Absolute, Outcome::Applied)
    }

    /// Undoes the event `target` of `subject`, once; keeps the compensation where the event has not come yet.
    fn undo(&mut self, target: Identity, change: &Change, subject: &str, bounds: &Bounds) -> Outcome {
        if self.journeys.undo(&bounds.visitors, subject, target) {
            self.seen.mark_undone(target);
            return Outcome::Applied;
        }
        if self.product_mut(subject).is_some_and(|product| product.undo(target)) {
            self.seen.mark_undone(target);
            self.forget_if_empty(subject);
            return Outcome::Applied;
        }
        let Some(trace) = self.seen.trace(target) else {
            if self.seen.await_event(target, subject, change) {
                return Outcome::Applied;
            }
            return Outcome::Refused(
                "it compensates an event that did not come yet, as do too many others: send it again later".into(),
            );
        };
        match trace {
            Trace::Undone | Trace::Nothing => Outcome::Applied,
            Trace::Compensation => Outcome::Refused(OF_A_COMPENSATION.into()),
            Trace::Adjusted { sku, .. } if **sku != *subject => {
                Outcome::Refused("it compensates an event of another subject: give that one's subject".into())
            }
            Trace::Adjusted { location, delta, offset, .. } => {
                let (location, delta, offset) = (location.clone(), *delta, *offset);
                if let Some(stock) = self.product_mut(subject).and_then(|product| product.stock.get_mut(&location)) {
                    Arc::make_mut(stock).undo_folded(delta, offset);
                }
                self.seen.mark_undone(target);
                self.forget_if_empty(subject);
                Outcome::Applied
            }
            Trace::Absolute => Outcome::Refused(
                "it compensates a value that is no longer in the kept history, or of another subject: set the value anew".into(),
            ),
        }
    }

    fn product_mut(&mut self, sku: &str) -> Option<&mut Product> {
        self.products.get_mut(sku).map(Arc::make_mut)
    }

    fn forget_if_empty(&mut self, subject: &str) {
        if let Some(product) = self.product_mut(subject) {
            product.stock.retain(|_, stock| !stock.is_empty());
            product.prices.retain(|_, prices| !prices.is_empty());
            if product.is_empty() {
                self.products.remove(subject);
            }
        }
    }
}

/// The name as `map` has it, where it has.
fn key<V>(map: &BTreeMap<Arc<str>, V>, name: &str) -> Arc<str> {
    map.get_key_value(name).map_or_else(|| name.into(), |(key, _)| key.clone())
}

impl Product {
    fn undo(&mut self, target: Identity) -> bool {
        self.details.undo(target)
            || self.stock.values_mut().any(|stock| Arc::make_mut(stock).undo(target))
            || self.prices.values_mut().any(|prices| Arc::make_mut(prices).undo(target))
    }
}
