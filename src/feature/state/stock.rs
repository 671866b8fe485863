//! A stock level: counts replace it, adjustments add to it, both in the order of the log.
//!
//! The last operations are kept one by one, so that one of them can be taken back as if it had never come; older ones are
//! folded into a base.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Rank;
use crate::clock::Micros;
use crate::event::Identity;
use crate::feature::StockLevel;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Operation {
    identity: Identity,
    time: Micros,
    kind: Kind,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Kind {
    /// Boxed, since most operations are the other.
    Count(Box<Count>),
    Adjust {
        delta: i64,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Count {
    on_hand: i64,
    reserved: i64,
    rank: Rank,
}

/// A level, and by which count it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Level {
    on_hand: i64,
    reserved: i64,
    updated_at: Micros,
    count: Option<Rank>,
}

impl Level {
    fn fold(&mut self, operation: &Operation) {
        match &operation.kind {
            Kind::Count(count) => {
                let Count { on_hand, reserved, rank } = **count;
                if self.count.is_none_or(|before| rank.beats(&before)) {
                    *self = Self { on_hand, reserved, updated_at: operation.time, count: Some(rank) };
                }
            }
            Kind::Adjust { delta } => {
                self.on_hand = self.on_hand.saturating_add(*delta);
                self.updated_at = self.updated_at.max(operation.time);
            }
        }
    }
}

/// The stock of one SKU at one location.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::feature) struct Stock {
    /// All operations that are no longer kept one by one.
    base: Level,
    /// How many of them there are, less those taken back.
    folded: u64,
    kept: VecDeque<Operation>,
    now: Level,
}

impl Stock {
    pub(super) fn is_empty(&self) -> bool {
        self.folded == 0 && self.kept.is_empty()
    }

    /// One that only knows its level, and the version of the count in force.
    pub(super) fn of_level(level: StockLevel, version: Option<i64>) -> Self {
        let StockLevel { on_hand, reserved, updated_at } = level;
        let count = version.map(|version| Rank { version: Some(version), time: updated_at, offset: 0 });
        let now = Level { on_hand, reserved, updated_at, count };
        Self { base: now.clone(), folded: 1, kept: VecDeque::new(), now }
    }

    pub(in crate::feature) fn level(&self) -> StockLevel {
        StockLevel { on_hand: self.now.on_hand, reserved: self.now.reserved, updated_at: self.now.updated_at }
    }

    /// The version of the count in force.
    pub(super) fn version(&self) -> Option<i64> {
        self.now.count.and_then(|count| count.version)
    }

    pub(super) fn count(&mut self, identity: Identity, on_hand: i64, reserved: i64, rank: Rank, kept: usize) {
        self.push(Operation { identity, time: rank.time, kind: Kind::Count(Box::new(Count { on_hand, reserved, rank })) }, kept);
    }

    pub(super) fn adjust(&mut self, identity: Identity, delta: i64, time: Micros, kept: usize) {
        self.push(Operation { identity, time, kind: Kind::Adjust { delta } }, kept);
    }

    fn push(&mut self, operation: Operation, kept: usize) {
        self.now.fold(&operation);
        self.kept.push_back(operation);
        while self.kept.len() > kept {
            if let Some(oldest) = self.kept.pop_front() {
                self.base.fold(&oldest);
                self.folded += 1;
            }
        }
    }

    /// Takes back a kept operation. False where it is not kept.
    pub(super) fn undo(&mut self, identity: Identity) -> bool {
        let before = self.kept.len();
        self.kept.retain(|operation| operation.identity != identity);
        let found = self.kept.len() < before;
        if found {
            self.refold();
        }
        found
    }

    /// Takes back an adjustment that was folded into the base. One that a later count replaced has no effect to take back.
    pub(super) fn undo_folded(&mut self, delta: i64, offset: u64) {
        if self.base.count.is_none_or(|count| count.offset < offset) {
            self.base.on_hand = self.base.on_hand.saturating_sub(delta);
            self.refold();
        }
        self.folded = self.folded.saturating_sub(1);
    }

    fn refold(&mut self) {
        let mut level = self.base.clone();
        self.kept.iter().for_each(|operation| level.fold(operation));
        self.now = level;
    }
}
