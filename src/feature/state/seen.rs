//! Which event ids were seen, for as long as the dedup bounds say, with what it takes to undo them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::event::Identity;
use crate::feature::{Change, Limits, RefusedChange};

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

    /// Keeps a compensation until its event comes.
    pub(super) fn await_event(&mut self, target: Identity, subject: &str, change: &Change) {
        self.awaited.entry((target, subject.into())).or_insert_with(|| Awaited {
            appended: change.appended,
            offset: change.offset,
            payload: change.payload.to_vec(),
        });
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
        let mut expired: Vec<Awaited> = self
            .awaited
            .extract_if(|_, awaited| now.since(awaited.appended) > limits.dedup_window)
            .map(|(_, awaited)| awaited)
            .collect();
        expired.sort_unstable_by_key(|awaited| awaited.offset);
        expired
    }
}
