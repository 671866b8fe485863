//! A value that is set: catalogue details, a price. Keeps what was set lately, losers too, so that undoing the winner
//! brings back what would have won without it.

use serde::{Deserialize, Serialize};

use super::Rank;
use crate::clock::Micros;
use crate::event::Identity;

/// Values that are, or will be, in force, at most.
pub(super) const SCHEDULED_MAX: usize = 100;

/// One value that was set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::feature) struct Entry<V> {
    pub(in crate::feature) identity: Identity,
    pub(in crate::feature) rank: Rank,
    /// It takes effect at this instant; at once where there is none.
    pub(in crate::feature) from: Option<Micros>,
    pub(in crate::feature) value: V,
}

/// What was set, in the order of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::feature) struct Register<V> {
    entries: Vec<Entry<V>>,
    /// From which instant which of `entries` is in force, ascending.
    timeline: Vec<(Option<Micros>, usize)>,
}

impl<V> Default for Register<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), timeline: Vec::new() }
    }
}

impl<V> Register<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value in force at `now`.
    pub(in crate::feature) fn in_force(&self, now: Micros) -> Option<&Entry<V>> {
        let begun = self.timeline.iter().take_while(|(start, _)| start.is_none_or(|start| start <= now));
        begun.last().map(|&(_, place)| &self.entries[place])
    }

    /// What is kept of what was in force by `now`, ascending by the instant from which it was: its own `from`, else the
    /// event's time. What a better one had overtaken by then never was.
    pub(in crate::feature) fn past(&self, now: Micros) -> Vec<(Micros, &Entry<V>)> {
        let mut entries: Vec<_> = self.entries.iter().map(|entry| (entry.from.unwrap_or(entry.rank.time), entry)).collect();
        entries.retain(|(from, _)| *from <= now);
        entries.sort_by_key(|(from, entry)| (*from, entry.rank.offset));
        let mut past: Vec<(Micros, &Entry<V>)> = Vec::with_capacity(entries.len());
        for (from, entry) in entries {
            match past.last_mut() {
                Some((_, before)) if !entry.rank.beats(&before.rank) => {}
                // Two from the same instant: the better one was in force.
                Some(last) if last.0 == from => *last = (from, entry),
                _ => past.push((from, entry)),
            }
        }
        past
    }

    /// What is, or will be, in force, each with the instant from which it is, ascending.
    pub(super) fn begins(&self) -> impl Iterator<Item = (Option<Micros>, &Entry<V>)> {
        self.timeline.iter().map(|&(start, place)| (start, &self.entries[place]))
    }

    /// One that only knows what is, or will be, in force.
    pub(super) fn of_begins(begins: impl Iterator<Item = (Option<Micros>, Entry<V>)>) -> Self {
        let (starts, entries): (Vec<_>, Vec<_>) = begins.unzip();
        Self { entries, timeline: starts.into_iter().enumerate().map(|(place, start)| (start, place)).collect() }
    }

    /// All that is kept, in the order of the log.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<V>> {
        self.entries.iter()
    }

    /// From [`Self::entries`].
    pub(super) fn of_entries(entries: Vec<Entry<V>>) -> Self {
        let mut register = Self { entries, timeline: Vec::new() };
        register.refold();
        register
    }

    /// What is, or will be, in force, ascending.
    pub(super) fn timeline(&self) -> impl Iterator<Item = &Entry<V>> {
        self.timeline.iter().map(|&(_, place)| &self.entries[place])
    }

    /// Sets a value that was appended at `appended`. False when too many wait for their instant already: then nothing changes.
    pub(super) fn set(&mut self, entry: Entry<V>, appended: Micros, kept: usize) -> bool {
        self.entries.push(entry);
        self.refold();
        while self.timeline.len() > SCHEDULED_MAX {
            // The first goes when the second has begun: it will not be in force again.
            let past = self.timeline.get(1).is_some_and(|(start, _)| start.is_none_or(|start| start <= appended));
            let place = if past { self.timeline[0].1 } else { self.entries.len() - 1 };
            self.entries.remove(place);
            self.refold();
            if !past {
                return false;
            }
        }
        while self.entries.len() > kept + self.timeline.len() {
            let idle = (0..self.entries.len()).find(|place| self.timeline.iter().all(|(_, in_force)| in_force != place));
            let Some(idle) = idle else { break };
            self.entries.remove(idle);
            self.refold();
        }
        true
    }

    /// Takes back what `identity` set. False where it is not kept.
    pub(super) fn undo(&mut self, identity: Identity) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.identity != identity);
        let found = self.entries.len() < before;
        if found {
            self.refold();
        }
        found
    }

    /// Works out the timeline: at each instant, the winner among the entries that have begun, in the order of the log.
    fn refold(&mut self) {
        let mut starts: Vec<Option<Micros>> = self.entries.iter().map(|entry| entry.from).collect();
        starts.sort_unstable();
        starts.dedup();
        self.timeline.clear();
        for start in starts {
            let mut winner: Option<usize> = None;
            for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.from <= start) {
                if winner.is_none_or(|best| entry.rank.beats(&self.entries[best].rank)) {
                    winner = Some(place);
                }
            }
            if let Some(winner) = winner
                && self.timeline.last().is_none_or(|&(_, before)| before != winner)
            {
                self.timeline.push((start, winner));
            }
        }
    }
}
