//! Changes of cells that were decided: they wait until so many visitors are touched that the difference tells of none of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Hour};
use super::message::{Layer, Part, Slice, Tag};
use super::product::Unit;
use super::tally::{START, Tally};
use super::tree::Block;

/// Visitors whose changes wait: each holds some counts.
const WAITING_MAX: usize = 10_000;

/// Where a difference would be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Place {
    /// A block.
    Block(Block),
    /// An hour of nobody until then, in a cell that was released.
    Hour(Hour),
    /// A cell that was released.
    Cell(Bucket),
}

/// In which number it would be seen: a visitor who is only in the others hides nobody in this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Events,
    Sessions,
    Other,
    /// It must not be seen at all.
    Never,
}

/// A difference. Of the total, also in which part of it: all less the others is that one.
type Shown = (Slice, Layer, Place, Within, Kind);

/// A block, by its slice and layer.
pub(super) type Blocked = (Slice, Layer, Block);

/// Changes that may be released.
#[derive(Debug, Default)]
pub(super) struct Approved {
    /// By how much released cells change.
    pub(super) parts: Vec<((Slice, Bucket), Tally)>,
    /// How many visitors leave blocks by that.
    pub(super) left: BTreeMap<Blocked, u32>,
}

/// A part of the total: of a slice, and of a block of that one or of no block.
type Within = Option<(Slice, Option<Block>)>;

/// In which part of the total, and in which number.
type Seen = (Within, Kind);

/// What changed of one visitor, all together: what came and went again is no change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// Cells that were released.
    parts: BTreeMap<(Slice, Bucket), Tally>,
    /// Hours, whether they were or not.
    hours: BTreeMap<(Slice, Hour), Tally>,
    /// Those in what was released when the change came, with the block that they were in.
    decided: BTreeMap<(Slice, Layer, Hour), Option<Block>>,
}

/// Changes that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Pending {
    changes: BTreeMap<Tag, Change>,
    /// Those whose changes were released, with the latest hour of these. Once: what comes and goes again would be nobody's difference.
    revised: BTreeMap<Tag, Hour>,
    /// Hours of changes that too many others kept from waiting.
    lost: BTreeSet<(Slice, Layer, Hour)>,
    /// It is no use to look before so many wait.
    look_at: usize,
}

/// Distinct visitors of a layer.
pub(super) fn visitors(tally: &Tally, layer: Layer) -> i64 {
    match layer {
        Layer::Sessions => tally.visitors,
        Layer::Conversions => tally.convert_visitors,
        Layer::Funnel => tally.funnel.first().map_or(0, |step| step.visitors),
    }
}

/// The layers that a change concerns, and by how many visitors.
pub(super) fn concerns(tally: &Tally, unit: Unit) -> impl Iterator<Item = (Layer, i64)> + use<> {
    Layer::ALL
        .map(|layer| (layer, visitors(tally, layer), !kinds(layer, tally, unit).is_empty()))
        .into_iter()
        .filter_map(|(layer, visitors, concerned)| concerned.then_some((layer, visitors)))
}

/// In which numbers of a layer a change would be seen.
fn kinds(layer: Layer, tally: &Tally, unit: Unit) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let is_other = match layer {
        Layer::Sessions => {
            let mut leaving: BTreeMap<u8, i64> = BTreeMap::new();
            let of_events = tally.transitions.iter().filter(|((from, _), _)| *from != START);
            of_events.for_each(|((from, _), count)| *leaving.entry(*from).or_default() += count);
            if leaving.values().any(|count| *count != 0) {
                kinds.push(Kind::Events);
            }
            if tally.sessions != 0 {
                kinds.push(Kind::Sessions);
            }
            tally.visitors != 0
                || !tally.transitions.is_empty()
                || !tally.paths.is_empty()
                || (unit == Unit::Session && !tally.funnel.is_empty())
                || tally.carts != 0
                || tally.abandoned != 0
                || tally.converted != 0
        }
        Layer::Conversions => {
            if tally.convert_seconds.values().sum::<i64>() != 0 {
                kinds.push(Kind::Events);
            }
            tally.convert_visitors != 0 || !tally.convert_seconds.is_empty()
        }
        Layer::Funnel if unit == Unit::Visitor => {
            if tally.funnel.first().is_some_and(|step| step.units != 0) {
                kinds.push(Kind::Events);
            }
            !tally.funnel.is_empty()
        }
        Layer::Funnel => false,
    };
    if kinds.is_empty() && is_other {
        kinds.push(Kind::Other);
    }
    kinds
}

fn merge<K: Ord>(into: &mut BTreeMap<K, Tally>, key: K, tally: &Tally) {
    use std::collections::btree_map::Entry;
    match into.entry(key) {
        Entry::Vacant(place) => _ = place.insert(tally.clone()),
        Entry::Occupied(mut place) => {
            place.get_mut().add(tally, 1);
            if place.get().is_empty() {
                place.remove();
            }
        }
    }
}

impl Change {
    /// In these hours, all together.
    fn net(&self, slice: &Slice, is_in: impl Fn(Hour) -> bool) -> Tally {
        let mut net = Tally::default();
        let of = self.hours.range((slice.clone(), Hour::MIN)..=(slice.clone(), Hour::MAX));
        of.filter(|((_, hour), _)| is_in(*hour)).for_each(|(_, tally)| net.add(tally, 1));
        net
    }

    /// How these hours are seen of a slice; of the total, of its slices too.
    fn seen(&self, slice: &Slice, layer: Layer, unit: Unit, net: &Tally, is_in: impl Fn(Hour) -> bool) -> Vec<Seen> {
        let mut seen: Vec<_> = kinds(layer, net, unit).into_iter().map(|kind| (None, kind)).collect();
        if *slice == Slice::Total {
            let mut parts: BTreeMap<(Slice, Option<Block>), Tally> = BTreeMap::new();
            for ((of, hour), tally) in self.hours.iter().filter(|((of, hour), _)| *of != Slice::Total && is_in(*hour)) {
                let block = self.decided.get(&(of.clone(), layer, *hour)).copied().flatten();
                parts.entry((of.clone(), block)).or_default().add(tally, 1);
            }
            for (within, tally) in parts {
                // What the slices leave of the total must not get smaller: nobody counts who that is.
                let shrinks = within.1.is_none() && concerns(&tally, unit).any(|(on, visitors)| on == layer && visitors < 0);
                let mut kinds = kinds(layer, &tally, unit);
                if shrinks {
                    kinds.push(Kind::Never);
                }
                seen.extend(kinds.into_iter().map(|kind| (Some(within.clone()), kind)));
            }
        }
        seen
    }

    /// The blocks that it may be in no more.
    fn leaves(&self, unit: Unit) -> BTreeSet<Blocked> {
        let mut visitors: BTreeMap<Blocked, i64> = BTreeMap::new();
        for ((slice, layer, hour), block) in &self.decided {
            let tally = self.hours.get(&(slice.clone(), *hour));
            let mut of_layer = tally.into_iter().flat_map(|tally| concerns(tally, unit)).filter(|(on, _)| on == layer);
            if let (Some(block), Some((_, change))) = (block, of_layer.next()) {
                *visitors.entry((slice.clone(), *layer, *block)).or_default() += change;
            }
        }
        visitors.into_iter().filter(|(_, visitors)| *visitors < 0).map(|(of, _)| of).collect()
    }

    /// All that shows it.
    fn shown(&self, unit: Unit) -> BTreeSet<Shown> {
        let mut places: BTreeMap<(&Slice, Layer, Place), BTreeSet<Hour>> = BTreeMap::new();
        for ((slice, layer, hour), block) in &self.decided {
            let place = block.map_or(Place::Hour(*hour), Place::Block);
            places.entry((slice, *layer, place)).or_default().insert(*hour);
        }
        let mut shown = BTreeSet::new();
        for ((slice, layer, place), hours) in places {
            let is_in = |hour: Hour| hours.contains(&hour);
            let seen = self.seen(slice, layer, unit, &self.net(slice, is_in), is_in);
            shown.extend(seen.into_iter().map(|(of, kind)| (slice.clone(), layer, place, of, kind)));
        }
        for ((slice, bucket), tally) in &self.parts {
            let hours = bucket.begin()..bucket.end();
            for layer in Layer::ALL {
                let seen = self.seen(slice, layer, unit, tally, |hour| hours.contains(&hour));
                shown.extend(seen.into_iter().map(|(of, kind)| (slice.clone(), layer, Place::Cell(*bucket), of, kind)));
            }
        }
        shown
    }
}

impl Pending {
    /// `released`: parts of cells that were; `hours`: of all hours; `decided`: those of them that are.
    pub(super) fn add(
        &mut self,
        tag: Tag,
        released: &[Part],
        hours: &[Part],
        decided: Vec<((Slice, Layer, Hour), Option<Block>)>,
    ) {
        if self.changes.len() >= WAITING_MAX && !self.changes.contains_key(&tag) {
            self.lost.extend(decided.into_iter().filter(|(_, block)| block.is_some()).map(|(of, _)| of));
            return;
        }
        let change = self.changes.entry(tag).or_default();
        released.iter().for_each(|part| merge(&mut change.parts, (part.slice.clone(), part.bucket), &part.tally));
        hours.iter().for_each(|part| merge(&mut change.hours, (part.slice.clone(), part.bucket.number), &part.tally));
        for (of, block) in decided {
            change.decided.entry(of).or_insert(block);
        }
        // Of what nothing was released there is nothing to hide.
        let is_of_block = !change.hours.is_empty() && change.decided.values().any(Option::is_some);
        if change.parts.is_empty() && !is_of_block {
            self.changes.remove(&tag);
        }
    }

    /// Hours of which something is known that is not so any more.
    pub(super) fn unsettled(&self) -> BTreeSet<(Layer, Hour, Slice)> {
        let of = |change: &Change| {
            let known = change.decided.iter().filter(|(_, block)| block.is_some());
            let waits = known.filter(|((slice, _, hour), _)| change.hours.contains_key(&(slice.clone(), *hour)));
            waits.map(|((slice, layer, hour), _)| (*layer, *hour, slice.clone())).collect::<Vec<_>>()
        };
        let lost = self.lost.iter().map(|(slice, layer, hour)| (*layer, *hour, slice.clone()));
        self.changes.values().flat_map(of).chain(lost).collect()
    }

    /// Takes out the changes that may be released now: wherever they are seen, they are many.
    ///
    /// A block keeps as many visitors as it must have, of the `at_least` that it has; and so does each cell, as `stays` says.
    pub(super) fn approved(
        &mut self,
        unit: Unit,
        k: u32,
        at_least: impl Fn(&Blocked) -> u32,
        stays: impl Fn(&Slice, Bucket, &Tally) -> bool,
    ) -> Approved {
        let many = k as usize;
        if self.changes.len() < self.look_at.max(many) {
            return Approved::default();
        }
        let waiting = self.changes.iter().filter(|(tag, _)| k == 0 || !self.revised.contains_key(tag));
        let mut approved: BTreeMap<Tag, BTreeSet<Shown>> = waiting.map(|(tag, change)| (*tag, change.shown(unit))).collect();
        // What nobody can see needs nobody to hide behind, but it is no revision either.
        approved.retain(|_, shown| !shown.is_empty());
        let left = loop {
            let mut left: BTreeMap<Blocked, u32> = BTreeMap::new();
            let leaving = approved.keys().filter_map(|tag| self.changes.get(tag)).flat_map(|change| change.leaves(unit));
            leaving.for_each(|of| *left.entry(of).or_default() += 1);
            let mut short = left.iter().filter(|(of, count)| at_least(of).saturating_sub(**count) < k);
            if let Some(short) = short.next().map(|(of, _)| of.clone()) {
                approved.retain(|tag, _| self.changes.get(tag).is_none_or(|change| !change.leaves(unit).contains(&short)));
                continue;
            }
            let mut counts: BTreeMap<&Shown, usize> = BTreeMap::new();
            approved.values().flatten().for_each(|shown| *counts.entry(shown).or_default() += 1);
            let few: BTreeSet<Shown> = counts
                .into_iter()
                .filter(|(of, count)| *count < many || (of.4 == Kind::Never && k > 0))
                .map(|(of, _)| of.clone())
                .collect();
            if !few.is_empty() {
                approved.retain(|_, shown| shown.is_disjoint(&few));
                continue;
            }
            break left;
        };
        let mut parts: BTreeMap<(Slice, Bucket), Tally> = BTreeMap::new();
        for change in approved.keys().filter_map(|tag| self.changes.get(tag)) {
            for (of, tally) in &change.parts {
                parts.entry(of.clone()).or_default().add(tally, 1);
            }
        }
        if approved.is_empty() || !parts.iter().all(|((slice, bucket), tally)| stays(slice, *bucket, tally)) {
            // A look costs as much as all that waits.
            self.look_at = self.changes.len() + 1 + self.changes.len() / 8;
            return Approved::default();
        }
        self.look_at = 0;
        for tag in approved.into_keys() {
            let hours = self.changes.remove(&tag).map(|change| change.hours).unwrap_or_default();
            let latest = self.revised.entry(tag).or_insert(Hour::MIN);
            *latest = hours.keys().map(|(_, hour)| *hour).fold(*latest, Hour::max);
        }
        Approved { parts: parts.into_iter().collect(), left }
    }

    pub(super) fn forget(&mut self, before: Hour) {
        self.changes.retain(|_, change| change.hours.keys().any(|(_, hour)| *hour >= before));
        self.revised.retain(|_, latest| *latest >= before);
        self.lost.retain(|(.., hour)| *hour >= before);
    }
}
