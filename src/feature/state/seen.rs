//! Which event ids were seen, for as long as the dedup bounds say, with what it takes to undo them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pieces::{ByIdentity, Queue};
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
    identity: Identity,
    trace: Trace,
}

/// A compensation that came before its event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Awaited {
    appended: Micros,
    offset: u64,
    payload: Arc<[u8]>,
}

impl Awaited {
    pub(super) fn refused(self, reason: &str) -> RefusedChange {
        RefusedChange { offset: self.offset, reason: reason.into(), payload: self.payload.to_vec().into() }
    }
}

/// Ids of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(in crate::feature) struct Seen {
    /// By append time.
    known: Queue<Known>,
    /// By the event and its subject: a compensation of another subject is none.
    awaited: HashMap<(Identity, Arc<str>), Awaited>,
    /// By append time; with those whose event came meanwhile.
    waiting: VecDeque<(Micros, (Identity, Arc<str>))>,
    /// How many have left `known`.
    #[serde(skip)]
    gone: u64,
    /// Its place in `known`, counted from the first that ever was there.
    #[serde(skip)]
    places: ByIdentity<u64>,
}

#[derive(Deserialize)]
struct Stored {
    known: Queue<Known>,
    awaited: HashMap<(Identity, Arc<str>), Awaited>,
    waiting: VecDeque<(Micros, (Identity, Arc<str>))>,
}

impl From<Stored> for Seen {
    fn from(stored: Stored) -> Self {
        let Stored { known, awaited, waiting } = stored;
        let mut places = ByIdentity::default();
        for (place, known) in (0..).zip(known.iter()) {
            places.insert(known.identity, place);
        }
        Self { known, awaited, waiting, gone: 0, places }
    }
}

impl Seen {
    /// What is stored of it, sharing most with this one. Nothing is found in it.
    pub(super) fn frozen(&self) -> Self {
        let Self { known, awaited, waiting, .. } = self;
        Self { known: known.clone(), awaited: awaited.clone(), waiting: waiting.clone(), ..Self::default() }
    }

    pub(in crate::feature) fn len(&self) -> usize {
        self.places.len()
    }

    fn place(&self, identity: Identity) -> Option<usize> {
        self.places.get(identity).and_then(|place| usize::try_from(place - self.gone).ok())
    }

    fn known(&self, identity: Identity) -> Option<&Known> {
        self.known.get(self.place(identity)?)
    }

    /// Whether a copy appended at `now` is a duplicate.
    pub(in crate::feature) fn contains(&self, identity: Identity, now: Micros, limits: &Limits) -> bool {
        self.known(identity).is_some_and(|known| now.since(known.appended) <= limits.dedup_window)
    }

    pub(super) fn trace(&self, identity: Identity) -> Option<&Trace> {
        self.known(identity).map(|known| &known.trace)
    }

    pub(super) fn mark_undone(&mut self, identity: Identity) {
        if let Some(known) = self.place(identity).and_then(|place| self.known.get_mut(place)) {
            known.trace = Trace::Undone;
        }
    }

    pub(super) fn remember(&mut self, identity: Identity, appended: Micros, trace: Trace) {
        self.places.insert(identity, self.gone + self.known.len() as u64);
        self.known.push_back(Known { appended, identity, trace });
    }

    /// Keeps a compensation until its event comes. False when too many wait.
    pub(super) fn await_event(&mut self, target: Identity, subject: &str, change: &Change) -> bool {
        if self.waiting.len() >= AWAITED_MAX {
            return false;
        }
        let key = (target, Arc::from(subject));
        if let Entry::Vacant(place) = self.awaited.entry(key.clone()) {
            place.insert(Awaited { appended: change.appended, offset: change.offset, payload: Arc::from(&*change.payload) });
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
        while let Some(oldest) = self.known.front()
            && (self.known.len() > limits.dedup_ids_max || now.since(oldest.appended) > limits.dedup_window)
        {
            // An id that came again after its window has a younger entry behind this one.
            if self.places.get(oldest.identity) == Some(&self.gone) {
                self.places.remove(oldest.identity);
            }
            self.known.pop_front();
            self.gone += 1;
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
