//! Changes of cells that were decided: they wait until so many visitors are touched that the difference tells of none of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Granularity, Hour};
use super::message::{Layer, Part, Slice, Tag};
use super::product::Unit;
use super::tally::Tally;
use super::tree::Block;

/// Visitors whose changes wait: each holds some counts.
const WAITING_MAX: usize = 100_000;

/// Of what the difference would be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Known {
    /// A block.
    Block(Block),
    /// An hour of nobody until now, in a cell that was released.
    Hour(Hour),
    /// A cell that was released.
    Cell(Bucket),
}

/// In a slice and layer.
pub(super) type Touched = (Slice, Layer, Known);

/// What changed of one visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    parts: BTreeMap<(Slice, Bucket), Tally>,
    /// What of that anybody could see.
    touched: BTreeSet<Touched>,
    /// The hours of these.
    hours: BTreeSet<(Slice, Layer, Hour)>,
}

/// Changes that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Pending {
    changes: BTreeMap<Tag, Change>,
    /// Cells that were released without those whose hours were released with them.
    without: BTreeMap<(Slice, Layer, Bucket), BTreeSet<Tag>>,
}

/// The layers that a change concerns, and by how many visitors.
pub(super) fn concerns(tally: &Tally, unit: Unit) -> impl Iterator<Item = (Layer, i64)> + use<> {
    let sessions = tally.sessions != 0
        || tally.visitors != 0
        || !tally.transitions.is_empty()
        || !tally.paths.is_empty()
        || (unit == Unit::Session && !tally.funnel.is_empty())
        || tally.carts != 0
        || tally.abandoned != 0
        || tally.converted != 0;
    let conversions = tally.convert_visitors != 0 || !tally.convert_seconds.is_empty();
    let funnel = unit == Unit::Visitor && !tally.funnel.is_empty();
    [
        (sessions, Layer::Sessions, tally.visitors),
        (conversions, Layer::Conversions, tally.convert_visitors),
        (funnel, Layer::Funnel, tally.funnel.first().map_or(0, |step| step.visitors)),
    ]
    .into_iter()
    .filter_map(|(concerned, layer, visitors)| concerned.then_some((layer, visitors)))
}

impl Pending {
    /// `parts` of cells that were released, and what of these anybody could see; `hours` of which something is known.
    pub(super) fn add(&mut self, tag: Tag, parts: Vec<Part>, touched: Vec<Touched>, hours: Vec<(Slice, Layer, Hour)>) {
        if self.changes.len() >= WAITING_MAX && !self.changes.contains_key(&tag) {
            return;
        }
        let change = self.changes.entry(tag).or_default();
        change.touched.extend(touched);
        change.hours.extend(hours);
        for Part { slice, bucket, tally } in parts {
            change.parts.entry((slice, bucket)).or_default().add(&tally, 1);
        }
    }

    /// Those that touch hours of `bucket` that are known.
    fn of(&self, slice: &Slice, layer: Layer, bucket: Bucket) -> BTreeSet<Tag> {
        let (from, to) = ((slice.clone(), layer, bucket.begin()), (slice.clone(), layer, bucket.end()));
        let touches = |change: &Change| change.hours.range(from.clone()..to.clone()).next().is_some();
        self.changes.iter().filter(|(_, change)| touches(change)).map(|(tag, _)| *tag).collect()
    }

    /// Whether a cell can be released without those who are pending in it: they are many, or none.
    pub(super) fn is_hidden(&self, slice: &Slice, layer: Layer, bucket: Bucket, k: u32) -> bool {
        let without = self.of(slice, layer, bucket).len();
        without == 0 || without >= k as usize
    }

    /// A cell was released.
    pub(super) fn released(&mut self, slice: &Slice, layer: Layer, bucket: Bucket) {
        if bucket.by != Granularity::Hour {
            let without = self.of(slice, layer, bucket);
            if !without.is_empty() {
                self.without.insert((slice.clone(), layer, bucket), without);
            }
        }
    }

    /// Takes out the changes that may be released now: in whatever they touch, they are many; and so are those that are left, or none, in what was
    /// released without them.
    pub(super) fn approved(&mut self, k: u32) -> Vec<(Slice, Bucket, Tally)> {
        let k = k as usize;
        if self.changes.len() < k {
            return Vec::new();
        }
        let mut approved: BTreeSet<Tag> = self.changes.keys().copied().collect();
        loop {
            let mut touched: BTreeMap<&Touched, usize> = BTreeMap::new();
            for known in approved.iter().filter_map(|tag| self.changes.get(tag)).flat_map(|change| &change.touched) {
                *touched.entry(known).or_default() += 1;
            }
            let before = approved.len();
            approved.retain(|tag| {
                let of = |change: &Change| change.touched.iter().all(|known| touched.get(known).is_some_and(|count| *count >= k));
                self.changes.get(tag).is_some_and(of)
            });
            if approved.len() == before {
                break;
            }
        }
        let is_seen = |tag: &Tag| self.changes.get(tag).is_some_and(|change| !change.touched.is_empty());
        let leaves_few = self.without.values().any(|without| {
            let left = without.iter().filter(|tag| self.changes.contains_key(tag) && !approved.contains(tag)).count();
            left > 0 && left < k
        });
        // What nobody can see needs nobody to hide behind, but it is no revision either.
        if approved.is_empty() || leaves_few || !approved.iter().any(is_seen) {
            return Vec::new();
        }
        let mut sum: BTreeMap<(Slice, Bucket), Tally> = BTreeMap::new();
        for change in approved.iter().filter_map(|tag| self.changes.remove(tag)) {
            for (of, tally) in change.parts {
                sum.entry(of).or_default().add(&tally, 1);
            }
        }
        sum.into_iter().map(|((slice, bucket), tally)| (slice, bucket, tally)).collect()
    }

    pub(super) fn forget(&mut self, before: Hour) {
        self.changes.retain(|_, change| change.hours.iter().any(|(.., hour)| *hour >= before));
        self.without.retain(|(_, _, bucket), _| bucket.end() > before);
    }
}
