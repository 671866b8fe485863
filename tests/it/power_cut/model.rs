//! What must be on the disk, by what was asked for and answered alone.

use std::collections::HashSet;

use tollgate::config::Durability;

use super::disk::Tally;
use super::subject::Entry;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has this sequence, and stays.
    Acknowledged(u64),
    /// It was taken back, and is not there.
    Refused,
    /// Nobody was told.
    Unknown,
}

#[derive(Default)]
pub(super) struct Model {
    /// The ids that a start found: somebody may have read them, so they stay.
    kept: Vec<u64>,
    /// What was asked for since, in order.
    since: Vec<(u64, Outcome)>,
    /// The ids that may have been retired.
    retired: HashSet<u64>,
    /// Acknowledgements since then promised to outlive the process only, and the power was cut.
    unsure: bool,
}

impl Model {
    /// An entry is asked for; its place among those since the last start.
    pub(super) fn asked(&mut self, id: u64) -> usize {
        self.since.push((id, Outcome::Unknown));
        self.since.len() - 1
    }

    pub(super) fn answered(&mut self, place: usize, outcome: Outcome) {
        self.since[place].1 = outcome;
    }

    pub(super) fn retired(&mut self, ids: impl Iterator<Item = u64>) {
        self.retired.extend(ids);
    }

    pub(super) fn power_cut(&mut self, durability: Durability) {
        self.unsure |= durability != Durability::Fsync;
    }

    /// Holds what a start found against what was promised, and promises it from now on. How many of those found nobody was told of.
    pub(super) fn check(&mut self, found: &[Entry]) -> u64 {
        let last_sure = self.since.iter().rposition(|(_, outcome)| matches!(outcome, Outcome::Acknowledged(_)));
        let sure = if self.unsure { 0 } else { last_sure.map_or(0, |last| last + 1) };
        let (sure, rest) = self.since.split_at(sure);
        let ids = |since: &[(u64, Outcome)]| -> Vec<u64> {
            since.iter().filter(|(_, outcome)| *outcome != Outcome::Refused).map(|(id, _)| *id).collect()
        };
        // Those between acknowledged ones that nobody was told of can only be missing because a later one took their place.
        assert!(sure.iter().all(|(_, outcome)| *outcome != Outcome::Unknown), "one was passed over: {sure:?}");
        let promised = [self.kept.clone(), ids(sure)].concat();
        let possible = [promised.clone(), ids(rest)].concat();
        let found_ids: Vec<u64> = found.iter().map(|entry| entry.id).collect();
        let begins = match found_ids.first() {
            Some(first) => possible.iter().position(|id| id == first).expect("the first entry was asked for, and not refused"),
            None => promised.len(),
        };
        let gone = &possible[..begins];
        assert!(gone.iter().all(|id| self.retired.contains(id)), "lost: {gone:?}, found: {found:?}");
        let ends = begins + found_ids.len();
        assert!(ends >= promised.len(), "lost: {:?}, found: {found:?}", &promised[ends..]);
        assert_eq!(
            possible.get(begins..ends),
            Some(&*found_ids),
            "promised: {promised:?}, since the last start: {:?}",
            self.since
        );
        for (id, outcome) in &self.since {
            if let (Outcome::Acknowledged(told), Some(entry)) = (outcome, found.iter().find(|entry| entry.id == *id)) {
                assert_eq!(*told, entry.sequence, "the place that was told");
            }
        }
        let untold = if self.unsure { 0 } else { ends - promised.len() };
        self.kept = found_ids;
        self.since.clear();
        self.unsure = false;
        untold as u64
    }
}

/// What happened, over many cases.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) lives: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) found_unacknowledged: u64,
    pub(super) damages: u64,
    pub(super) disk: Tally,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.found_unacknowledged += other.found_unacknowledged;
        self.damages += other.damages;
        self.disk += other.disk;
    }
}
