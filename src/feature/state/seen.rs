//! Which event ids were seen, for as long as the dedup bounds say, with what it takes to undo them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::event::Identity;
use crate::feature::{Change, Limits, RefusedChange};

/// Compensations of one partition that wait for their event: each holds its payload.
const AWAITED_MAX: usize = 10_000;

/// What an event left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Trace {
    /// Nothing that can be undone here.
    Nothing,
    /// A value that was set; the kept history has it, or it is out of reach.
    Absolute,
    /// A delta, which can be taken back even when the kept history no longer has it.
    Adjusted { sku: Arc<str>, location: Arc<str>, delta: i64, offset: u64 },
    /// It was compensated.
    Undone,
    /// It is a compensation itself.
    Compensation,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    appended: Micros,
    trace: Trace,
}

/// A compensation that came before its event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Awaited {
    appended: Micros,
    offset: u64,
    payload: Vec<u8>,
}

impl Awaited {
    pub(super) fn refused(self, reason: &str) -> RefusedChange {
        RefusedChange { offset: self.offset, reason: reason.into(), payload: self.payload.into() }
    }
}

/// Ids of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::feature) struct Seen {
    known: HashMap<Identity, Known>,
    /// By append time.
    order: VecDeque<(Micros, Identity)>,
    /// By the event and its subject: a compensation of another subject is none.
    awaited: HashMap<(Identity, Arc<str>), Awaited>,
    /// By append time; with those whose event came meanwhile.
    waiting: VecDeque<(Micros, (Identity, Arc<str>))>,
}

impl Seen {
    pub(in crate::feature) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether a copy appended at `now` is a duplicate.
    pub(in crate::feature) fn contains(&self, identity: Identity, now: Micros, limits: &Limits) -> bool {
        self.known.get(&identity).is_some_and(|known| now.since(known.appended) <= limits.dedup_window)
    }

    pub(super) fn trace(&self, identity: Identity) -> Option<&Trace> {
        self.known.get(&identity).map(|known| &known.trace)
    }

    pub(super) fn mark_undone(&mut self, identity: Identity) {
        if let Some(known) = self.known.get_mut(&identity) {
            known.trace = Trace::Undone;
        }
    }

    pub(super) fn remember(&mut self, identity: Identity, appended: Micros, trace: Trace) {
        self.known.insert(identity, Known { appended, trace });
        self.order.push_back((appended, identity));
    }

    /// Keeps a compensation until its event comes. False when too many wait.
    pub(super) fn await_event(&mut self, target: Identity, subject: &str, change: &Change) -> bool {
        if self.waiting.len() >= AWAITED_MAX {
            return false;
        }
        let key = (target, Arc::from(subject));
        if let Entry::Vacant(place) = self.awaited.entry(key.clone()) {
            place.insert(Awaited { appended: change.appended, offset: change.offset, payload: change.payload.to_vec() });
            self.waiting.push_back((change.appended, key));
        }
        true
    }

    /// The compensation that came before the event.
    pub(super) fn take_awaited(&mut self, identity: Identity, subject: &str) -> Option<Awaited> {
        self.awaited.remove(&(identity, subject.into()))
    }

    /// Forgets what is past the bounds; gives back the compensations whose event never came, in the order of the log.
    pub(super) fn expire(&mut self, now: Micros, limits: &Limits) -> Vec<Awaited> {
        while let Some(&(appended, identity)) = self.order.front()
            && (self.order.len() > limits.dedup_ids_max || now.since(appended) > limits.dedup_window)
        {
            self.order.pop_front();
            // An id that came again after its window has a younger entry behind this one.
            if self.known.get(&identity).is_some_and(|known| known.appended == appended) {
                self.known.remove(&identity);
            }
        }
        let mut expired = Vec::new();
        while let Some((appended, _)) = self.waiting.front()
            && now.since(*appended) > limits.dedup_window
        {
            if let Some((appended, key)) = self.waiting.pop_front()
                && self.awaited.get(&key).is_some_and(|awaited| awaited.appended == appended)
            {
                expired.extend(self.awaited.remove(&key));
            }
        }
        expired
    }
}
