//! Which cells of a slice may be answered, so that nothing below *k* visitors can be found by taking answers from each other.
//!
//! Hours are put together to *blocks*: sets that share none, each with *k* visitors or more. A cell is answered only when it is a
//! union of blocks. Whatever is found by adding and taking away such cells is made of whole blocks again; a cell that could be found, and is not
//! empty, would be one of these, and have *k* visitors. So the rule needs no look at what may be asked in which order, and holds for
//! whatever is decided later by the same rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Granularity, Hour};
use super::message::Crowd;

/// A block, by its number within its tree.
pub(super) type Block = u32;

/// The blocks of one slice and layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tree {
    of: BTreeMap<Hour, Block>,
    /// Their hours, and how many visitors they have at least.
    blocks: BTreeMap<Block, (Vec<Hour>, u32)>,
    next: Block,
    /// An hour that could be answered, and is kept back: should one of its day come that is too small, that one hides behind it.
    held: Option<Hour>,
}

/// What is known of the hours, and who else has a say.
pub(super) trait Around {
    /// Who stands behind an hour.
    fn crowd(&self, hour: Hour) -> Crowd;

    /// Both together.
    fn join(&self, one: &mut Crowd, other: &Crowd);

    /// Whether these hours may become a block, as far as other slices are concerned.
    fn allows(&self, hours: &[Hour]) -> bool;
}

impl Tree {
    pub(super) fn held(&self) -> Option<Hour> {
        self.held
    }

    pub(super) fn block_of(&self, hour: Hour) -> Option<Block> {
        self.of.get(&hour).copied()
    }

    /// The blocks that have any of `hours`.
    pub(super) fn blocks_in(&self, hours: &[Hour]) -> Vec<&[Hour]> {
        let mut blocks: Vec<Block> = hours.iter().filter_map(|hour| self.block_of(*hour)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.iter().filter_map(|block| self.blocks.get(block)).map(|(hours, _)| hours.as_slice()).collect()
    }

    /// How many visitors a block has at least.
    pub(super) fn at_least(&self, block: Block) -> u32 {
        self.blocks.get(&block).map_or(0, |(_, visitors)| *visitors)
    }

    /// So many visitors left a block.
    pub(super) fn leave(&mut self, block: Block, visitors: u32) {
        if let Some((_, left)) = self.blocks.get_mut(&block) {
            *left = left.saturating_sub(visitors);
        }
    }

    /// Hours with somebody that are in no block.
    fn free(&self, bucket: Bucket, until: Hour, around: &impl Around) -> Vec<Hour> {
        let is_free = |hour: &Hour| !self.of.contains_key(hour) && self.held != Some(*hour) && !around.crowd(*hour).is_empty();
        (bucket.begin()..bucket.end().min(until)).filter(is_free).collect()
    }

    fn union(hours: &[Hour], around: &impl Around) -> Crowd {
        let mut crowd = Crowd::default();
        hours.iter().for_each(|hour| around.join(&mut crowd, &around.crowd(*hour)));
        crowd
    }

    fn add(&mut self, hours: Vec<Hour>, around: &impl Around) -> bool {
        // Somebody may have gone since an hour was held.
        let crowd = Self::union(&hours, around);
        if !crowd.is_many() || !around.allows(&hours) {
            return false;
        }
        let block = self.next;
        self.next += 1;
        self.of.extend(hours.iter().map(|hour| (*hour, block)));
        self.blocks.insert(block, (hours, crowd.at_least()));
        true
    }

    /// Decides on `hour`, which closed; answers which hours are answered from now on.
    pub(super) fn hour(&mut self, hour: Hour, around: &impl Around) -> Vec<Hour> {
        let day = Granularity::Day.of(hour);
        let pool = Self::union(&self.free(day, hour, around), around);
        let crowd = around.crowd(hour);
        let mut answered = Vec::new();
        let mut answer = |tree: &mut Self, hour: Option<Hour>| {
            answered.extend(hour.filter(|hour| tree.add(vec![*hour], around)));
        };
        if crowd.is_many() {
            if pool.is_many() {
                answer(self, Some(hour));
            } else if pool.is_empty() {
                let before = self.held.replace(hour);
                answer(self, before);
            }
            // Else it stays with the small ones before it: together they are many.
        } else if !crowd.is_empty() {
            let mut together = pool;
            around.join(&mut together, &crowd);
            let held = self.held.take();
            if together.is_many() {
                answer(self, held);
            }
            // Else what was held stays with the small one.
        }
        if day.end() == hour + 1 {
            let held = self.held.take();
            answer(self, held);
        }
        answered
    }

    /// Decides on a day, week or month that closed: whether it is answered.
    pub(super) fn bucket(&mut self, bucket: Bucket, around: &impl Around) -> bool {
        let hours: Vec<Hour> = (bucket.begin()..bucket.end()).collect();
        let within = |hour: &Hour| (bucket.begin()..bucket.end()).contains(hour);
        let blocks = self.blocks_in(&hours);
        if blocks.iter().any(|block| !block.iter().all(within)) {
            return false;
        }
        let has_blocks = !blocks.is_empty();
        // A week that two months share must not tie them together.
        let mut added = Vec::new();
        let mut free = self.free(bucket, Hour::MAX, around);
        while !free.is_empty() {
            let month = Granularity::Month.of(free[0]);
            let rest = free.split_off(free.partition_point(|hour| Granularity::Month.of(*hour) == month));
            if !Self::union(&free, around).is_many() {
                return false;
            }
            added.push(std::mem::replace(&mut free, rest));
        }
        if added.is_empty() {
            return has_blocks;
        }
        let next = self.next;
        let all = added.into_iter().all(|hours| self.add(hours, around));
        if !all {
            // All of them or none.
            for block in next..self.next {
                for hour in self.blocks.remove(&block).map(|(hours, _)| hours).unwrap_or_default() {
                    self.of.remove(&hour);
                }
            }
        }
        all
    }

    /// Forgets what lies before `hour`: cells there are final.
    pub(super) fn forget(&mut self, before: Hour) {
        self.of = self.of.split_off(&before);
        self.blocks.retain(|_, (hours, _)| hours.iter().any(|hour| *hour >= before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u32 = 3;

    struct Alone(BTreeMap<Hour, Crowd>);

    impl Around for Alone {
        fn crowd(&self, hour: Hour) -> Crowd {
            self.0.get(&hour).cloned().unwrap_or_default()
        }
        fn join(&self, one: &mut Crowd, other: &Crowd) {
            one.join(other, K);
        }
        fn allows(&self, _: &[Hour]) -> bool {
            true
        }
    }

    /// The hours of a day by how many visitors each has; which hours are answered, and whether the day is.
    fn day(visitors: &[u64]) -> (Vec<Hour>, bool) {
        let crowd = |(hour, n): (usize, &u64)| {
            let tags = (0..*n).map(|tag| 100 * hour as u64 + tag).collect();
            (hour as Hour, Crowd::of(&tags, K))
        };
        let around = Alone(visitors.iter().enumerate().map(crowd).collect());
        let mut tree = Tree::default();
        let mut answered: Vec<Hour> = (0..24).flat_map(|hour| tree.hour(hour, &around)).collect();
        answered.sort_unstable();
        (answered, tree.bucket(Granularity::Day.of(0), &around))
    }

    #[test]
    fn a_small_hour_hides_behind_another() {
        assert_eq!(day(&[5, 5, 5]), (vec![0, 1, 2], true));
        assert_eq!(day(&[5, 5, 1]), (vec![0], true), "the last answerable hour stays back with the small one");
        assert_eq!(day(&[1, 5, 5]), (vec![2], true), "the next one does");
        assert_eq!(day(&[1, 1, 1, 5]), (vec![3], true), "small ones that are many together need none");
        assert_eq!(day(&[5, 0, 0, 5]), (vec![0, 3], true), "nobody need not hide");
        assert_eq!(day(&[1, 1]), (vec![], false));
        assert_eq!(day(&[]), (vec![], false));
    }
}
