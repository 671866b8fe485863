//! A partition's share of a product: events folded in the order of their time, behind the watermark; cells that are open; what is to
//! be told of those that closed. A function of the partition's log alone.

mod past;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Granularity, Hour, begin_of, hour_of};
use super::message::{Behind, Body, Cohort, Crowd, Layer, Message, Part, Slice, Tag};
use super::reading::{GAP, Reading};
use super::tally::Tally;
use super::visitor::{self, Came, Counts, REST, Seen, TOTAL, View};
use super::visitors::{Key, Visitors};
use crate::clock::Micros;

/// Events of one visitor: whoever has more is no shopper.
const EVENTS_MAX: usize = 10_000;
/// Combinations of values that a partition tells apart; events of others count in the total alone.
const SLICES_MAX: usize = 10_000;
/// What one message may hold of cells: the log bounds events.
const NUMBERS_MAX: usize = 10_000;

/// A journey event, as a product reads it.
pub(super) struct Visit {
    pub(super) key: Key,
    pub(super) id: u64,
    pub(super) time: Micros,
    pub(super) action: u8,
    /// A number of the producer's session; zero without one.
    pub(super) session: u64,
    /// A value of each dimension, where it has them.
    pub(super) values: Option<Vec<String>>,
}

/// What became of events that count nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// They came behind the watermark.
    pub late: u64,
    /// Their visitor has too many.
    pub overflow: u64,
    /// Their visitor was erased after they happened.
    pub erased: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Share {
    visitors: Visitors,
    /// Combinations of values, by their number less one.
    slices: Vec<Vec<String>>,
    /// Hours in which open sessions began, and how many visitors have those.
    open: BTreeMap<Hour, u32>,
    cells: BTreeMap<(Bucket, View), Tally>,
    behind: BTreeMap<Hour, BTreeMap<(View, Layer), BTreeSet<Tag>>>,
    /// All hours before it are closed.
    closed_to: Option<Hour>,
    /// The month from which on events are kept.
    kept_from: Option<Hour>,
    /// All retention periods before it are closed.
    retained_to: Option<i32>,
    /// Those with late events that are not told yet.
    late: BTreeSet<Key>,
    /// Erased visitors, with the time of their erasure.
    erased: BTreeMap<Key, Micros>,
    pub(super) apart: Apart,
    told: u64,
    outbox: VecDeque<Arc<Message>>,
    /// Visitors by when something of them closes; follows from them.
    #[serde(skip)]
    timers: BTreeSet<(Micros, Key)>,
    #[serde(skip)]
    numbers: HashMap<Vec<String>, View>,
    /// The watermark at which another retention period is over.
    #[serde(skip)]
    period_ends: Option<Micros>,
}

impl Share {
    /// A copy that is written while this one goes on.
    pub(super) fn frozen(&self) -> Self {
        Self {
            visitors: self.visitors.clone(),
            slices: self.slices.clone(),
            open: self.open.clone(),
            cells: self.cells.clone(),
            behind: self.behind.clone(),
            late: self.late.clone(),
            erased: self.erased.clone(),
            outbox: self.outbox.clone(),
            // All but what follows from the rest.
            timers: BTreeSet::new(),
            numbers: HashMap::new(),
            ..*self
        }
    }

    /// What follows from the rest, after it was read.
    pub(super) fn complete(&mut self) {
        self.timers = self.visitors.iter().filter_map(|(key, visitor)| Some((visitor.due?, key))).collect();
        self.numbers = (1..).zip(&self.slices).map(|(number, values)| (values.clone(), number)).collect();
    }

    /// How many visitors are known here.
    pub(super) fn visitors(&self) -> usize {
        self.visitors.len()
    }

    /// What is to be told, in order.
    pub(super) fn outbox(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.outbox.iter()
    }

    /// Whoever is to know has what came up to `number`.
    pub(super) fn heard(&mut self, number: u64) {
        while self.outbox.front().is_some_and(|message| message.number <= number) {
            self.outbox.pop_front();
        }
    }

    /// Takes an event; `watermark` is that before it.
    pub(super) fn take(&mut self, visit: Visit, watermark: Option<Micros>) {
        let late = watermark.is_some_and(|watermark| visit.time < watermark);
        self.apart.late += u64::from(late);
        if self.erased.get(&visit.key).is_some_and(|erased| visit.time <= *erased) {
            self.apart.erased += 1;
            return;
        }
        let came = if late { Came::Late } else { Came::InTime };
        let slice = visit.values.map_or(REST, |values| self.view(values));
        let seen = Seen { time: visit.time, id: visit.id, session: visit.session, slice, action: visit.action, came };
        let visitor = self.visitors.entry(visit.key);
        if visitor.events.len() >= EVENTS_MAX {
            self.apart.overflow += 1;
            return;
        }
        let place = visitor.events.partition_point(|other| other.time <= seen.time);
        visitor.events.insert(place, seen);
        if late {
            self.late.insert(visit.key);
            return;
        }
        let hour = hour_of(seen.time);
        if visitor.open_from.is_none_or(|from| hour < from) {
            move_open(&mut self.open, visitor.open_from, Some(hour));
            visitor.open_from = Some(hour);
        }
        let due = Micros(seen.time.0.saturating_add(GAP + 1));
        if visitor.due.is_none_or(|armed| due < armed) {
            if let Some(armed) = visitor.due.replace(due) {
                self.timers.remove(&(armed, visit.key));
            }
            self.timers.insert((due, visit.key));
        }
    }

    fn view(&mut self, values: Vec<String>) -> View {
        if let Some(number) = self.numbers.get(&values) {
            return *number;
        }
        if self.slices.len() >= SLICES_MAX {
            return REST;
        }
        self.slices.push(values.clone());
        let number = self.slices.len() as View;
        self.numbers.insert(values, number);
        number
    }

    fn slice(&self, view: View) -> Slice {
        match view {
            TOTAL => Slice::Total,
            REST => Slice::Rest,
            number => self.slices.get(usize::from(number) - 1).map_or(Slice::Rest, |values| Slice::Of(values.clone())),
        }
    }

    /// Takes an event back. False where it is not here.
    pub(super) fn undo(&mut self, reading: &Reading, key: Key, id: u64) -> bool {
        let Some(visitor) = self.visitors.get(key) else { return false };
        let Some(place) = visitor.events.iter().position(|event| event.id == id) else { return false };
        let mut events = visitor.events.clone();
        events.remove(place);
        self.change(reading, key, events);
        true
    }

    /// Takes a visitor out of all that is not released, with whatever of it happened up to `time` and comes later.
    pub(super) fn erase(&mut self, reading: &Reading, key: Key, time: Micros) {
        let erased = self.erased.entry(key).or_insert(time);
        *erased = time.max(*erased);
        if self.visitors.get(key).is_some() {
            self.change(reading, key, Vec::new());
            if let Some(visitor) = self.visitors.remove(key)
                && let Some(due) = visitor.due
            {
                self.timers.remove(&(due, key));
            }
        }
        self.late.remove(&key);
    }

    /// A visitor has other events from now on: what was counted of it changes.
    fn change(&mut self, reading: &Reading, key: Key, events: Vec<Seen>) {
        let frozen_to = self.kept_from.map(past::frozen_to);
        let visitor = self.visitors.entry(key);
        let settled = visitor.settled;
        // Cells of the distant past stand: all of what an hour is in, or none, or else the difference would be this visitor.
        let is_frozen = |event: &&Seen| frozen_to.is_some_and(|to| hour_of(event.time) < to);
        let mut standing: Vec<Seen> = visitor.events.iter().filter(is_frozen).copied().collect();
        standing.extend(events.iter().filter(|event| !is_frozen(event)));
        let before = visitor::count(reading, &visitor.events, settled);
        let after = visitor::count(reading, &standing, settled);
        let until = self.retained_to.unwrap_or(i32::MIN);
        let seen = visitor::cohorts(reading, &visitor.periods, &visitor.events, until);
        let seen_after = visitor::cohorts(reading, &visitor.periods, &events, until);
        visitor.events = events;
        self.arm(reading, key, settled);
        let parts = self.differ(reading, key, &before, after);
        let gone = seen.difference(&seen_after).map(|of| (*of, -1));
        let new = seen_after.difference(&seen).map(|of| (*of, 1));
        let cohorts: Vec<Cohort> = gone.chain(new).map(|of| self.cohort(of)).collect();
        if !parts.is_empty() || !cohorts.is_empty() {
            self.tell(Body::Changed { tag: tag(key), parts, cohorts });
        }
    }

    fn cohort(&self, ((view, cohort, period), visitors): ((View, i32, i32), i64)) -> Cohort {
        Cohort { slice: self.slice(view), cohort, period, visitors }
    }

    /// Sets what is open of a visitor, and when to look at it again.
    fn arm(&mut self, reading: &Reading, key: Key, watermark: Micros) {
        let visitor = self.visitors.entry(key);
        let open = visitor::open(reading, &visitor.events, watermark);
        move_open(&mut self.open, visitor.open_from, open.from);
        visitor.open_from = open.from;
        if visitor.due != open.due {
            if let Some(due) = visitor.due {
                self.timers.remove(&(due, key));
            }
            if let Some(due) = open.due {
                self.timers.insert((due, key));
            }
            visitor.due = open.due;
        }
    }

    /// Brings open cells from `before` to `after`; answers by how much closed ones differ.
    fn differ(&mut self, reading: &Reading, key: Key, before: &Counts, after: Counts) -> Vec<Part> {
        let mut closed = Vec::new();
        let closed_to = self.closed_to.unwrap_or(Hour::MIN);
        let nothing = Tally::default();
        let gone = before.keys().filter(|of| !after.contains_key(of)).map(|of| (*of, nothing.clone())).collect::<Vec<_>>();
        for ((view, bucket), mut tally) in after.into_iter().chain(gone) {
            let before = before.get(&(view, bucket));
            if before == Some(&tally) {
                continue;
            }
            let is_open = bucket.end() > closed_to;
            if is_open && bucket.by == Granularity::Hour {
                self.stand(reading, key, (view, bucket.number), &tally);
            }
            if let Some(before) = before {
                tally.add(before, -1);
            }
            if !is_open {
                closed.push(Part { slice: self.slice(view), bucket, tally });
                continue;
            }
            let cell = self.cells.entry((bucket, view)).or_default();
            cell.add(&tally, 1);
            if cell.is_empty() {
                self.cells.remove(&(bucket, view));
            }
        }
        closed
    }

    /// Notes whether a visitor stands behind an hour that is open.
    fn stand(&mut self, reading: &Reading, key: Key, (view, hour): (View, Hour), tally: &Tally) {
        let of_funnel = tally.funnel.first().map_or(0, |step| step.units);
        let of_funnel = if reading.open_past_end() > 0 { of_funnel } else { 0 };
        for (layer, stands) in
            [(Layer::Sessions, tally.sessions > 0), (Layer::Conversions, tally.converted > 0), (Layer::Funnel, of_funnel > 0)]
        {
            let hours = self.behind.entry(hour).or_default();
            if stands {
                hours.entry((view, layer)).or_default().insert(tag(key));
            } else if let Some(tags) = hours.get_mut(&(view, layer)) {
                tags.remove(&tag(key));
            }
        }
    }

    /// The event time at which something closes.
    pub(super) fn due(&self, reading: &Reading) -> Micros {
        let hour =
            self.closed_to.map_or(Micros(i64::MIN / 2), |to| Micros(begin_of(to + 1).0.saturating_add(reading.open_past_end())));
        let due = self.timers.first().map_or(hour, |(due, _)| hour.min(*due));
        reading.event_time(due)
    }

    /// The partition's watermark is `watermark` now: counts what closed.
    pub(super) fn advance(&mut self, reading: &Reading, watermark: Micros) {
        while let Some(&(due, key)) = self.timers.first()
            && due <= watermark
        {
            self.settle(reading, key, watermark);
        }
        // Before closing lets go of events.
        self.retain(reading, watermark);
        let mut to = hour_of(Micros(watermark.0.saturating_sub(reading.open_past_end())));
        if let Some((&open, _)) = self.open.first_key_value() {
            to = to.min(open);
        }
        match self.closed_to {
            Some(closed_to) if closed_to >= to => {}
            // The first hour of all is not closed by coming to it.
            _ => self.close(reading, to, watermark),
        }
    }

    fn settle(&mut self, reading: &Reading, key: Key, watermark: Micros) {
        let visitor = self.visitors.entry(key);
        let before = visitor::count(reading, &visitor.events, visitor.settled);
        let after = visitor::count(reading, &visitor.events, watermark);
        visitor.settled = watermark;
        self.arm(reading, key, watermark);
        let closed = self.differ(reading, key, &before, after);
        debug_assert!(closed.is_empty(), "an hour was closed before what is in it");
    }

    fn tell(&mut self, body: Body) {
        self.told += 1;
        self.outbox.push_back(Arc::new(Message { number: self.told, body }));
    }

    /// Tells what the hours before `to` have.
    fn close(&mut self, reading: &Reading, to: Hour, watermark: Micros) {
        let since = self.closed_to.replace(to);
        let (mut parts, mut behind, mut numbers) = (Vec::new(), Vec::new(), 0);
        let ended: Vec<_> = self.cells.keys().filter(|(bucket, _)| bucket.end() <= to).copied().collect();
        for of in ended {
            let Some(tally) = self.cells.remove(&of) else { continue };
            let (bucket, view) = of;
            for tally in tally.split(NUMBERS_MAX) {
                numbers += tally.len();
                parts.push(Part { slice: self.slice(view), bucket, tally });
                if numbers >= NUMBERS_MAX {
                    numbers = 0;
                    self.tell(Body::Counted { parts: std::mem::take(&mut parts), behind: Vec::new() });
                }
            }
        }
        let open = self.behind.split_off(&to);
        for (hour, layers) in std::mem::replace(&mut self.behind, open) {
            for ((view, layer), tags) in layers.into_iter().filter(|(_, tags)| !tags.is_empty()) {
                numbers += tags.len().min(reading.product.k as usize);
                behind.push(Behind { slice: self.slice(view), hour, layer, crowd: Crowd::of(&tags, reading.product.k) });
                if numbers >= NUMBERS_MAX {
                    numbers = 0;
                    self.tell(Body::Counted { parts: std::mem::take(&mut parts), behind: std::mem::take(&mut behind) });
                }
            }
        }
        if !parts.is_empty() || !behind.is_empty() {
            self.tell(Body::Counted { parts, behind });
        }
        self.tell(Body::Closed { to });
        let of = |by: Granularity, hour: Hour| by.of(hour);
        if since.is_none_or(|since| [Granularity::Week, Granularity::Month].iter().any(|by| of(*by, since) != of(*by, to))) {
            self.admit(reading, watermark);
            self.forget(reading, to, watermark);
        }
    }

    /// Tells who was seen in the retention periods that are over.
    fn retain(&mut self, reading: &Reading, watermark: Micros) {
        let Some(retention) = &reading.product.retention else { return };
        if self.period_ends.is_some_and(|ends| watermark < ends) {
            return;
        }
        let to = retention.period.of(watermark, &reading.zone);
        self.period_ends = Some(retention.period.begin(to + 1, &reading.zone));
        if self.retained_to.is_some_and(|retained| retained >= to) {
            return;
        }
        let since = self.retained_to.replace(to);
        let from = since.map_or(Micros(i64::MIN), |since| retention.period.begin(since, &reading.zone));
        let until = retention.period.begin(to, &reading.zone);
        let mut counts: BTreeMap<(View, i32, i32), i64> = BTreeMap::new();
        for (_, visitor) in self.visitors.iter() {
            if visitor.events.iter().any(|event| event.time >= from && event.time < until) {
                let seen = visitor::cohorts(reading, &visitor.periods, &visitor.events, to);
                let new = seen.into_iter().filter(|(.., period)| since.is_none_or(|since| *period >= since));
                new.for_each(|of| *counts.entry(of).or_default() += 1);
            }
        }
        let cohorts: Vec<Cohort> = counts.into_iter().map(|of| self.cohort(of)).collect();
        for cohorts in cohorts.chunks(NUMBERS_MAX) {
            // Not over yet: more of the same comes.
            self.tell(Body::Retained { to: since.unwrap_or(i32::MIN), cohorts: cohorts.to_vec() });
        }
        self.tell(Body::Retained { to, cohorts: Vec::new() });
    }
}

fn move_open(open: &mut BTreeMap<Hour, u32>, from: Option<Hour>, to: Option<Hour>) {
    if from == to {
        return;
    }
    if let Some(count) = from.and_then(|from| open.get_mut(&from)) {
        *count -= 1;
        if *count == 0 {
            from.and_then(|from| open.remove(&from));
        }
    }
    if let Some(to) = to {
        *open.entry(to).or_default() += 1;
    }
}

fn tag(key: Key) -> Tag {
    (key >> 64) as Tag
}
