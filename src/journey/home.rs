//! Where a product's cells come together: one partition hears what all of them tell, decides what may be answered, and keeps it. A
//! function of that partition's log: what was told stands there, so a replay decides the same, whatever became of the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Answer;
use super::calendar::{Bucket, Granularity, Hour, begin_of};
use super::cell::Cell;
use super::message::{Behind, Body, Cohort, Crowd, Layer, Message, Part, Slice, Tag};
use super::product::Product;
use super::revision::{self, Approved, Blocked, Pending};
use super::tally::Tally;
use super::tree::{Around, Tree};

/// Periods whose cohorts can be revised.
const RETAINED_PERIODS: i32 = 70;

/// How far a partition has told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    number: u64,
    closed_to: Option<Hour>,
    retained_to: Option<i32>,
}

/// What is answered, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A cell.
    Cell(Slice, Bucket),
    /// The cohorts that were seen in a period.
    Cohorts(Slice, i32),
    /// How far the product is decided: see [`Progress`].
    Progress,
}

/// Cohorts and how many of their visitors were seen.
pub type Cohorts = Vec<(i32, i64)>;

/// How far a product is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All cells that end before this hour are decided.
    pub decided_to: Option<Hour>,
    /// All retention periods before this one are.
    pub retained_to: Option<i32>,
    /// Hours of slices that are decided with a later one.
    pub held: Vec<(Slice, Hour)>,
    /// Slices of which something was released.
    pub slices: BTreeSet<Slice>,
}

impl Progress {
    /// Whether a cell is not decided yet.
    pub fn is_pending(&self, slice: &Slice, bucket: Bucket) -> bool {
        let is_held = |(of, hour): &(Slice, Hour)| of == slice && bucket == Granularity::Hour.of(*hour);
        self.decided_to.is_none_or(|to| bucket.end() > to) || self.held.iter().any(is_held)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Home {
    /// By partition.
    heard: Vec<Heard>,
    parts: BTreeMap<(Bucket, Slice), Tally>,
    behind: BTreeMap<Hour, BTreeMap<(Slice, Layer), Crowd>>,
    slices: BTreeSet<Slice>,
    trees: BTreeMap<(Slice, Layer), Tree>,
    retained: BTreeMap<(i32, Slice), BTreeMap<i32, i64>>,
    /// Visitors by the cohorts that they are in otherwise than was told.
    retained_changes: BTreeMap<(i32, Slice), BTreeMap<i32, BTreeSet<Tag>>>,
    /// All periods before it are told.
    told_to: i32,
    pub(super) progress: Progress,
    pub(super) cells: BTreeMap<(Slice, Bucket), Arc<Cell>>,
    pub(super) cohorts: BTreeMap<(Slice, i32), Arc<Cohorts>>,
    pending: Pending,
    /// Hours of which something changed after they were told.
    altered: BTreeSet<(Layer, Hour)>,
    /// Hours with changes that wait, while it is decided on others.
    #[serde(skip)]
    unsettled: BTreeSet<(Layer, Hour, Slice)>,
    /// What began before it is not revised any more.
    final_before: Option<Hour>,
    /// What is answered otherwise than at the last look.
    #[serde(skip)]
    pub(super) changed: BTreeSet<Entry>,
}

/// A slice and layer among the others.
struct Beside<'a> {
    k: u32,
    slice: &'a Slice,
    layer: Layer,
    behind: &'a BTreeMap<Hour, BTreeMap<(Slice, Layer), Crowd>>,
    trees: &'a BTreeMap<(Slice, Layer), Tree>,
    slices: &'a BTreeSet<Slice>,
    altered: &'a BTreeSet<(Layer, Hour)>,
    unsettled: &'a BTreeSet<(Layer, Hour, Slice)>,
    /// Whether the total and its slices are both sold.
    of_both: bool,
}

impl Beside<'_> {
    fn crowd_of(&self, slice: &Slice, hour: Hour) -> Crowd {
        self.behind.get(&hour).and_then(|of| of.get(&(slice.clone(), self.layer))).cloned().unwrap_or_default()
    }

    /// Whether what is known of the hours of a cell is as the cell itself has it; of the total and its slices, in all of them.
    fn is_settled(&self, bucket: Bucket) -> bool {
        let of = |hour: Hour| (self.layer, hour, Slice::Total);
        let mut unsettled = self.unsettled.range(of(bucket.begin())..of(bucket.end()));
        !unsettled.any(|(layer, _, slice)| *layer == self.layer && (self.of_both || slice == self.slice))
    }

    /// Whether a block of the total stays safe when `other`, of the slice at hand, is a block too: what is left of it without the blocks of
    /// its slices is many visitors, or nobody, and then no such block reaches over its edge.
    fn is_safe(&self, total: &[Hour], other: Option<&[Hour]>) -> bool {
        // What no block of a slice is of, now or later; what is in no block so far.
        let (mut rest, mut residual, mut crosses) = (Crowd::default(), Crowd::default(), false);
        for slice in self.slices.iter().filter(|slice| matches!(slice, Slice::Of(_))) {
            let tree = self.trees.get(&(slice.clone(), self.layer));
            let mut blocks = tree.map(|tree| tree.blocks_in(total)).unwrap_or_default();
            blocks.extend(other.filter(|other| slice == self.slice && other.iter().any(|hour| total.contains(hour))));
            if blocks.is_empty() {
                total.iter().for_each(|hour| rest.join(&self.crowd_of(slice, *hour), self.k));
            }
            let is_free = |hour: &&Hour| !blocks.iter().any(|block| block.contains(hour));
            total.iter().filter(is_free).for_each(|hour| residual.join(&self.crowd_of(slice, *hour), self.k));
            crosses |= blocks.iter().any(|block| block.iter().any(|hour| !total.contains(hour)));
        }
        total.iter().for_each(|hour| rest.join(&self.crowd_of(&Slice::Rest, *hour), self.k));
        residual.join(&rest, self.k);
        // Where somebody came or went, the total and its slices differ by that.
        let is_as_counted = || total.iter().all(|hour| !self.altered.contains(&(self.layer, *hour)));
        rest.is_many() || (residual.is_empty() && !crosses && is_as_counted())
    }
}

impl Around for Beside<'_> {
    fn crowd(&self, hour: Hour) -> Crowd {
        self.crowd_of(self.slice, hour)
    }

    fn join(&self, one: &mut Crowd, other: &Crowd) {
        one.join(other, self.k);
    }

    fn allows(&self, hours: &[Hour]) -> bool {
        if !self.of_both {
            return true;
        }
        // One without somebody, and then both: the two differences would differ by that one.
        if !hours.iter().all(|hour| self.is_settled(Granularity::Hour.of(*hour))) {
            return false;
        }
        if *self.slice == Slice::Total {
            return self.is_safe(hours, None);
        }
        let total = self.trees.get(&(Slice::Total, self.layer));
        total.is_none_or(|total| total.blocks_in(hours).into_iter().all(|block| self.is_safe(block, Some(hours))))
    }
}

impl Home {
    pub(super) fn new(partitions: u16) -> Self {
        Self { heard: vec![Heard::default(); usize::from(partitions)], told_to: i32::MIN, ..Self::default() }
    }

    /// The last message that came from `partition`.
    pub(super) fn heard(&self, partition: u16) -> u64 {
        self.heard.get(usize::from(partition)).map_or(0, |heard| heard.number)
    }

    /// Takes what a partition tells; what came already changes nothing.
    pub(super) fn hear(&mut self, product: &Product, partition: u16, messages: &[Message]) {
        for Message { number, body } in messages {
            let Some(heard) = self.heard.get_mut(usize::from(partition)) else { return };
            if *number != heard.number + 1 {
                continue;
            }
            heard.number = *number;
            match body {
                Body::Counted { parts, behind } => {
                    for Part { slice, bucket, tally } in parts {
                        self.slices.insert(slice.clone());
                        self.parts.entry((*bucket, slice.clone())).or_default().add(tally, 1);
                    }
                    for Behind { slice, hour, layer, crowd } in behind {
                        self.slices.insert(slice.clone());
                        let of = (slice.clone(), *layer);
                        self.behind.entry(*hour).or_default().entry(of).or_default().join_other(crowd, product.k);
                    }
                }
                Body::Closed { to } => {
                    heard.closed_to = heard.closed_to.max(Some(*to));
                    self.decide(product);
                }
                Body::Retained { to, cohorts } => {
                    heard.retained_to = heard.retained_to.max(Some(*to));
                    for Cohort { slice, cohort, period, visitors } in cohorts {
                        *self.retained.entry((*period, slice.clone())).or_default().entry(*cohort).or_default() += visitors;
                    }
                    self.decide_retention(product);
                }
                Body::Changed { tag, parts, cohorts } => {
                    self.change(product, *tag, parts);
                    self.change_cohorts(product, *tag, cohorts);
                }
            }
        }
    }

    /// What a visitor counts changed, in cells that closed where it is.
    fn change(&mut self, product: &Product, tag: Tag, parts: &[Part]) {
        let (mut released, mut hours, mut decided) = (Vec::new(), Vec::new(), Vec::new());
        let final_before = self.final_before;
        let is_open = |part: &&Part| final_before.is_none_or(|before| part.bucket.begin() >= before);
        for part in parts.iter().filter(is_open) {
            let Part { slice, bucket, tally } = part;
            self.slices.insert(slice.clone());
            if bucket.by == Granularity::Hour {
                for (layer, visitors) in revision::concerns(tally, product.unit) {
                    let (of, hour) = ((slice.clone(), layer), bucket.number);
                    self.altered.insert((layer, hour));
                    let block = self.trees.get(&of).and_then(|tree| tree.block_of(hour));
                    // Of nobody until now, in a cell that was released.
                    let is_in_cell = |by: Granularity| {
                        let cell = self.cells.get(&(slice.clone(), by.of(hour)));
                        cell.is_some_and(|cell| cell.has(layer, product.unit))
                    };
                    if block.is_some() || Granularity::ALL.into_iter().any(is_in_cell) {
                        decided.push(((slice.clone(), layer, hour), block));
                    }
                    if block.is_none() && visitors != 0 {
                        self.behind.entry(hour).or_default().entry(of).or_default().change(tag, visitors > 0, product.k);
                    }
                }
                hours.push(part.clone());
            }
            if self.cells.contains_key(&(slice.clone(), *bucket)) {
                released.push(part.clone());
            } else {
                self.parts.entry((*bucket, slice.clone())).or_default().add(tally, 1);
            }
        }
        self.pending.add(tag, &released, &hours, decided);
        let at_least =
            |(slice, layer, block): &Blocked| self.trees.get(&(slice.clone(), *layer)).map_or(0, |tree| tree.at_least(*block));
        let stays = |slice: &Slice, bucket: Bucket, delta: &Tally| {
            let Some(cell) = self.cells.get(&(slice.clone(), bucket)) else { return true };
            let tally = self.parts.get(&(bucket, slice.clone()));
            let left = |layer| tally.map_or(0, |tally| revision::visitors(tally, layer)) + revision::visitors(delta, layer);
            Layer::ALL.into_iter().all(|layer| !cell.has(layer, product.unit) || left(layer) >= i64::from(product.k))
        };
        let Approved { parts, left } = self.pending.approved(product.unit, product.k, at_least, stays);
        for ((slice, layer, block), visitors) in left {
            if let Some(tree) = self.trees.get_mut(&(slice, layer)) {
                tree.leave(block, visitors);
            }
        }
        for ((slice, bucket), delta) in parts {
            let tally = self.parts.entry((bucket, slice.clone())).or_default();
            tally.add(&delta, 1);
            let Some(cell) = self.cells.get_mut(&(slice.clone(), bucket)) else { continue };
            let cell = Arc::make_mut(cell);
            cell.revision += 1;
            for layer in Layer::ALL {
                if cell.has(layer, product.unit) {
                    cell.tell(layer, product, tally);
                }
            }
            self.changed.insert(Entry::Cell(slice, bucket));
        }
    }

    /// Decides on all that closed everywhere.
    fn decide(&mut self, product: &Product) {
        let Some(to) = self.heard.iter().map(|heard| heard.closed_to).min().flatten() else { return };
        // Before the first cell there is nothing.
        let first = self.parts.keys().map(|(bucket, _)| bucket.begin()).chain(self.behind.keys().copied()).min();
        let since = self.progress.decided_to.or(first).unwrap_or(to);
        // Changes of what closed last have come by now.
        self.progress.decided_to.into_iter().for_each(|decided| self.forget(product, decided));
        if self.progress.decided_to.is_some_and(|decided| decided >= to) {
            return;
        }
        let order: Vec<Slice> = {
            // The total last: it must leave the others what they have.
            let (total, of): (Vec<_>, Vec<_>) = self.slices.iter().cloned().partition(|slice| *slice == Slice::Total);
            of.into_iter().filter(|slice| *slice != Slice::Rest).chain(total).collect()
        };
        self.unsettled = self.pending.unsettled();
        for hour in since..to {
            self.progress.decided_to = Some(hour + 1);
            let ends = Granularity::ALL.map(|by| by.of(hour));
            let ends = ends.into_iter().skip(1).filter(|bucket| bucket.end() == hour + 1).collect::<Vec<_>>();
            // Nothing is there, and nothing is over: most of the hours between a last event and a far watermark.
            let has_any = self.behind.contains_key(&hour);
            if !has_any && ends.is_empty() {
                continue;
            }
            for slice in &order {
                for layer in Layer::ALL {
                    self.decide_of(product, slice, layer, hour, &ends);
                }
            }
        }
        self.progress.decided_to = Some(to);
        self.progress.held = self
            .trees
            .iter()
            .filter(|((_, layer), _)| *layer == Layer::Sessions)
            .filter_map(|((slice, _), tree)| Some((slice.clone(), tree.held()?)))
            .collect();
        self.changed.insert(Entry::Progress);
    }

    fn decide_of(&mut self, product: &Product, slice: &Slice, layer: Layer, hour: Hour, ends: &[Bucket]) {
        let of = (slice.clone(), layer);
        let mut tree = self.trees.remove(&of).unwrap_or_default();
        for hour in tree.hour(hour, &self.beside(product, slice, layer)) {
            self.release(product, slice, layer, Granularity::Hour.of(hour));
        }
        for bucket in ends {
            let tally = self.parts.get(&(*bucket, slice.clone()));
            let is_enough = tally.map_or(0, |tally| revision::visitors(tally, layer)) >= i64::from(product.k);
            if !is_enough {
                continue;
            }
            // Who was taken out of it, but is in what was answered of it, would be the difference.
            let beside = self.beside(product, slice, layer);
            if beside.is_settled(*bucket) && tree.bucket(*bucket, &beside) {
                self.release(product, slice, layer, *bucket);
            }
        }
        self.trees.insert(of, tree);
    }

    fn beside<'a>(&'a self, product: &Product, slice: &'a Slice, layer: Layer) -> Beside<'a> {
        Beside {
            k: product.k,
            slice,
            layer,
            behind: &self.behind,
            trees: &self.trees,
            slices: &self.slices,
            altered: &self.altered,
            unsettled: &self.unsettled,
            of_both: product.total && !product.dimensions.is_empty(),
        }
    }

    fn release(&mut self, product: &Product, slice: &Slice, layer: Layer, bucket: Bucket) {
        let nothing = Tally::default();
        let tally = self.parts.get(&(bucket, slice.clone())).unwrap_or(&nothing);
        let cell = Arc::make_mut(self.cells.entry((slice.clone(), bucket)).or_default());
        cell.tell(layer, product, tally);
        self.progress.slices.insert(slice.clone());
        self.changed.insert(Entry::Cell(slice.clone(), bucket));
    }

    /// Decides on the retention periods that are over everywhere: of a period's cohorts, those of few visitors are left out, and where these are
    /// few all together, the smallest of the others too.
    fn decide_retention(&mut self, product: &Product) {
        let Some(to) = self.heard.iter().map(|heard| heard.retained_to).min().flatten() else { return };
        if self.progress.retained_to.is_some_and(|retained| retained >= to) {
            return;
        }
        self.progress.retained_to = Some(to);
        self.changed.insert(Entry::Progress);
        let since = self.told_to;
        self.told_to = to;
        let over: Vec<_> = self.retained.range((since, Slice::Total)..(to, Slice::Total)).map(|(of, _)| of.clone()).collect();
        for (period, slice) in over {
            self.release_cohorts(product, period, slice);
        }
        let kept = to.saturating_sub(RETAINED_PERIODS);
        self.retained = self.retained.split_off(&(kept, Slice::Total));
        self.retained_changes = self.retained_changes.split_off(&(kept, Slice::Total));
    }

    fn release_cohorts(&mut self, product: &Product, period: i32, slice: Slice) {
        let k = i64::from(product.k);
        let Some(cohorts) = self.retained.get(&(period, slice.clone())) else { return };
        let cohorts = cohorts.iter().map(|(cohort, visitors)| (*cohort, *visitors)).filter(|(_, visitors)| *visitors > 0);
        let (mut told, few): (Vec<_>, Vec<_>) = cohorts.partition(|(_, visitors)| *visitors >= k);
        let hidden: i64 = few.iter().map(|(_, visitors)| visitors).sum();
        if hidden > 0 && hidden < k {
            let smallest = told.iter().enumerate().min_by_key(|(_, (_, visitors))| *visitors).map(|(at, _)| at);
            smallest.map(|at| told.remove(at));
        }
        self.changed.insert(Entry::Cohorts(slice.clone(), period));
        if told.is_empty() {
            self.cohorts.remove(&(slice, period));
        } else {
            self.progress.slices.insert(slice.clone());
            self.cohorts.insert((slice, period), Arc::new(told));
        }
    }

    /// A visitor was in other cohorts than was told: what is answered changes once so many are touched in each cohort that is.
    fn change_cohorts(&mut self, product: &Product, tag: Tag, cohorts: &[Cohort]) {
        let mut rows = BTreeSet::new();
        for Cohort { slice, cohort, period, visitors } in cohorts {
            let of = (*period, slice.clone());
            *self.retained.entry(of.clone()).or_default().entry(*cohort).or_default() += visitors;
            if *period < self.told_to {
                self.retained_changes.entry(of.clone()).or_default().entry(*cohort).or_default().insert(tag);
                rows.insert(of);
            }
        }
        for of in rows {
            let touched = self.retained_changes.get(&of);
            if touched.is_some_and(|touched| touched.values().all(|tags| tags.len() >= product.k as usize)) {
                self.retained_changes.remove(&of);
                self.release_cohorts(product, of.0, of.1);
            }
        }
    }

    /// Lets go of what no decision and no revision needs, and of cells past what is kept of them.
    fn forget(&mut self, product: &Product, to: Hour) {
        let hours = |span: std::time::Duration| Hour::try_from(span.as_secs() / 3600).unwrap_or(Hour::MAX);
        let needed = Granularity::Month
            .of(to.saturating_sub(hours(product.keep.events)).saturating_sub(hours(product.window)).saturating_sub(24 * 9))
            .begin();
        let month = Granularity::Month.of(needed - 1).begin();
        if self.behind.first_key_value().is_none_or(|(hour, _)| *hour >= month) {
            return;
        }
        self.final_before = Some(month);
        self.altered.retain(|(_, hour)| *hour >= month);
        self.behind = self.behind.split_off(&month);
        self.parts.retain(|(bucket, _), _| bucket.end() > month);
        self.trees.values_mut().for_each(|tree| tree.forget(month));
        self.pending.forget(month);
        let old = to.saturating_sub(hours(product.keep.cells));
        let gone: Vec<_> = self.cells.keys().filter(|(_, bucket)| bucket.end() <= old).cloned().collect();
        for (slice, bucket) in gone {
            self.cells.remove(&(slice.clone(), bucket));
            self.changed.insert(Entry::Cell(slice, bucket));
        }
        if let Some((retention, zone)) =
            product.retention.as_ref().and_then(|retention| Some((retention, retention.zone().ok()?)))
        {
            let oldest = retention.period.of(begin_of(old), &zone);
            let gone: Vec<_> = self.cohorts.keys().filter(|(_, period)| *period < oldest).cloned().collect();
            for (slice, period) in gone {
                self.cohorts.remove(&(slice.clone(), period));
                self.changed.insert(Entry::Cohorts(slice, period));
            }
        }
    }
}

impl Home {
    /// All that is answered.
    pub(super) fn entries(&self) -> BTreeSet<Entry> {
        let cells = self.cells.keys().map(|(slice, bucket)| Entry::Cell(slice.clone(), *bucket));
        let cohorts = self.cohorts.keys().map(|(slice, period)| Entry::Cohorts(slice.clone(), *period));
        cells.chain(cohorts).chain([Entry::Progress]).collect()
    }

    pub(super) fn answer(&self, entry: &Entry) -> Option<Answer> {
        match entry {
            Entry::Cell(slice, bucket) => self.cells.get(&(slice.clone(), *bucket)).cloned().map(Answer::Cell),
            Entry::Cohorts(slice, period) => self.cohorts.get(&(slice.clone(), *period)).cloned().map(Answer::Cohorts),
            Entry::Progress => Some(Answer::Progress(Arc::new(self.progress.clone()))),
        }
    }
}
