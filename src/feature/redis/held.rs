//! A partition in the memory of the process that folds it, and what of it Redis does not have yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::head::{self, Head};
use crate::clock::Micros;
use crate::event::Body;
use crate::feature::scope::Column;
use crate::feature::state::{Partition, Product};
use crate::feature::{Applied, Bounds, Change};

/// Under which keys Redis has a SKU, beside its view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) columns: Vec<(Column, String)>,
    pub(super) markets: BTreeSet<Arc<str>>,
}

impl Listed {
    pub(super) fn of(product: &Product) -> Self {
        let columns = product.details().into_iter().flat_map(|details| Column::OF_DETAILS.map(|column| (column, details)));
        Self {
            columns: columns.map(|(column, details)| (column, column.of(details).to_owned())).collect(),
            markets: product.markets().cloned().collect(),
        }
    }
}

/// How Redis lists a SKU before a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It does not have it.
    Absent,
    /// As it will after the commit, but for markets that are new: most events change no details.
    Same,
    /// Like this, and it may be otherwise after the commit.
    Listed(Listed),
}

impl Before {
    pub(super) fn of(listed: Option<Listed>) -> Self {
        listed.map_or(Self::Absent, Self::Listed)
    }
}

/// A SKU that changed since the last commit.
pub(super) struct Changed {
    pub(super) before: Before,
    /// Whose prices changed.
    pub(super) markets: BTreeSet<Arc<str>>,
}

/// What the next commit has to do.
pub(super) enum Pending {
    /// Nothing up to this offset: Redis has it all.
    Behind(u64),
    /// To write these. `reread`: somebody else wrote meanwhile, so that what Redis has of them is to be looked up.
    Some { changed: BTreeMap<Arc<str>, Changed>, reread: bool },
    /// To write everything: Redis lost something.
    All,
}

impl Pending {
    pub(super) fn nothing() -> Self {
        Self::Some { changed: BTreeMap::new(), reread: false }
    }
}

pub(super) struct Held {
    pub(super) state: Partition,
    /// Of the keys that it is written to.
    pub(super) generation: u32,
    pub(super) pending: Pending,
    /// The offset up to which Redis is known to have everything.
    pub(super) stands: Option<u64>,
    /// The position that a commit must find.
    pub(super) expected: String,
    /// Up to when Redis was told that it is complete.
    pub(super) as_of: Option<Micros>,
    /// Events since the last checkpoint.
    pub(super) since_checkpoint: usize,
}

impl Held {
    /// Not looked at Redis yet: see [`Self::reconsider`].
    pub(super) fn new(state: Partition, generation: u32) -> Self {
        Self {
            stands: state.applied,
            state,
            generation,
            pending: Pending::All,
            expected: String::new(),
            as_of: None,
            since_checkpoint: 0,
        }
    }

    /// Redis stands at `head`: what that means for the next commit. The same offset is the same state, whoever folded it.
    pub(super) fn reconsider(&mut self, head: &Head) {
        self.expected = head.position();
        let Head::At { applied: stands, as_of } = *head else {
            self.pending = Pending::All;
            return;
        };
        let mine = self.state.applied;
        if mine >= stands {
            self.as_of = self.as_of.max(as_of);
        }
        self.pending = match (stands, std::mem::replace(&mut self.pending, Pending::All)) {
            (Some(offset), _) if mine < stands => Pending::Behind(offset),
            _ if mine == stands => Pending::nothing(),
            // Between what was known to be there and what is here: another process's commit, or one of ours that was lost sight of.
            (_, Pending::Some { changed, reread }) if stands >= self.stands => {
                Pending::Some { changed, reread: reread || stands > self.stands }
            }
            // It went back, or this memory is ahead of it by a checkpoint.
            _ => Pending::All,
        };
        self.stands = stands;
    }

    pub(super) fn apply(&mut self, change: &Change, bounds: &Bounds, applied: &mut Applied) {
        if matches!(self.pending, Pending::Behind(until) if change.offset > until) {
            self.pending = Pending::nothing();
        }
        if let (Pending::Some { changed, .. }, Some(event)) = (&mut self.pending, &change.event) {
            let there = self.state.products.get_key_value(event.subject.as_str());
            let listed = || Before::of(there.map(|(_, product)| Listed::of(product)));
            let mut note = |relists: bool, markets: &mut dyn Iterator<Item = Arc<str>>| {
                let sku = there.map_or_else(|| event.subject.as_str().into(), |(sku, _)| sku.clone());
                let changed = changed.entry(sku).or_insert_with(|| {
                    let before = if relists || there.is_none() { listed() } else { Before::Same };
                    Changed { before, markets: BTreeSet::new() }
                });
                if relists && changed.before == Before::Same {
                    changed.before = listed();
                }
                changed.markets.extend(markets);
            };
            match &event.body {
                Body::ProductUpserted { .. } => note(true, &mut std::iter::empty()),
                Body::InventoryCounted { .. } | Body::InventoryAdjusted { .. } => note(false, &mut std::iter::empty()),
                Body::PriceSet { market, .. } => note(false, &mut std::iter::once(market.as_str().into())),
                // Of whatever it takes back.
                Body::Compensated { .. } => {
                    let markets = there.into_iter().flat_map(|(_, product)| product.markets()).cloned();
                    note(true, &mut markets.collect::<Vec<_>>().into_iter());
                }
                // What these change is noted where it is.
                Body::JourneyRecorded { .. } | Body::VisitorErased | Body::WatermarkAdvanced | Body::JourneyTold(_) => {}
            }
        }
        self.state.apply(change, bounds, applied);
        self.since_checkpoint += 1;
        if matches!(self.pending, Pending::Behind(until) if change.offset == until) {
            self.pending = Pending::nothing();
        }
    }

    /// Redis has everything now.
    pub(super) fn committed(&mut self, as_of: Option<Micros>) {
        self.stands = self.state.applied;
        self.expected = head::position(self.stands);
        self.as_of = as_of;
        self.pending = Pending::nothing();
        self.state.journeys.looked_at();
    }

    /// Redis has all that is here.
    pub(super) fn is_committed(&self) -> bool {
        self.stands == self.state.applied
            && matches!(&self.pending, Pending::Some { changed, .. } if changed.is_empty())
            && self.state.journeys.changed().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(applied: Option<u64>, stands: Option<u64>, pending: Pending) -> Held {
        let mut held = Held::new(Partition { applied, ..Partition::default() }, 0);
        (held.stands, held.pending) = (stands, pending);
        held
    }

    fn told(held: &Held) -> &'static str {
        match &held.pending {
            Pending::Behind(_) => "behind",
            Pending::Some { changed, .. } if changed.is_empty() => "nothing",
            Pending::Some { reread: false, .. } => "some",
            Pending::Some { reread: true, .. } => "some, looked up",
            Pending::All => "all",
        }
    }

    fn some() -> Pending {
        let changed = Changed { before: Before::Absent, markets: BTreeSet::new() };
        Pending::Some { changed: [(Arc::from("A"), changed)].into(), reread: false }
    }

    #[test]
    fn what_redis_stands_at_decides_what_is_written() {
        let at = |applied| Head::At { applied, as_of: None };
        for (applied, stands, pending, head, expected) in [
            (None, None, Pending::All, at(None), "nothing"),
            (None, None, Pending::All, Head::Absent, "all"),
            (None, None, Pending::All, at(Some(5)), "behind"),
            (Some(5), Some(5), Pending::All, at(Some(5)), "nothing"),
            (Some(5), Some(5), Pending::All, at(Some(3)), "all"),
            (Some(5), Some(3), some(), at(Some(3)), "some"),
            (Some(5), Some(3), some(), at(Some(4)), "some, looked up"),
            (Some(5), Some(3), some(), at(Some(5)), "nothing"),
            (Some(5), Some(3), some(), at(Some(9)), "behind"),
            (Some(5), Some(3), some(), at(Some(2)), "all"),
            (Some(5), Some(3), some(), Head::Absent, "all"),
            (Some(5), Some(3), some(), Head::Restoring("~1".into()), "all"),
            (Some(5), Some(9), Pending::Behind(9), at(Some(2)), "all"),
        ] {
            let mut held = held(applied, stands, pending);
            held.reconsider(&head);
            assert_eq!(told(&held), expected, "{applied:?}, {stands:?}, {head:?}");
            assert_eq!(held.expected, head.position());
        }
    }
}
