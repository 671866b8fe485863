//! One visitor: its events, and what they come to in each cell. Pure: whatever changes, the difference of before and after is what
//! cells are told.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Granularity, Hour, begin_of, hour_of};
use super::funnel::{self, Chain};
use super::product::{Sessions, Unit};
use super::reading::{GAP, Reading, SESSION_MAX};
use super::tally::{END, PATH_MAX, START, Step, Taken, Tally};
use crate::clock::Micros;

/// The slice of a partition that an event, or a count, is of, by its number there.
pub(super) type View = u16;
/// Of events without a value of each dimension: never answered.
pub(super) const REST: View = 0;
/// Of all events.
pub(super) const TOTAL: View = u16::MAX;

/// An event as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) time: Micros,
    /// Of its identity.
    pub(super) id: u64,
    /// Of the producer's session; zero without one.
    pub(super) session: u64,
    pub(super) slice: View,
    pub(super) action: u8,
    pub(super) came: Came,
}

/// How an event came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Came {
    InTime,
    /// Behind the watermark: it counts nowhere yet.
    Late,
    /// Behind the watermark: cells were told of it since.
    Admitted,
}

impl Seen {
    pub(super) fn counts(&self) -> bool {
        self.came != Came::Late
    }
}

/// By slice and bucket.
pub(super) type Counts = BTreeMap<(View, Bucket), Tally>;

struct Session {
    first: Micros,
    last: Micros,
    events: Vec<Seen>,
}

impl Session {
    /// From this watermark on nothing in time can belong to it.
    fn ends(&self) -> Micros {
        Micros(i64::min(self.last.0.saturating_add(GAP), self.first.0.saturating_add(SESSION_MAX)).saturating_add(1))
    }
}

/// Sessions of events in order, by their first events.
fn sessions(reading: &Reading, events: &[Seen]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    // The latest session of each of the producer's.
    let mut latest: Vec<(u64, usize)> = Vec::new();
    for event in events.iter().filter(|event| event.counts()) {
        let key = if reading.product.session == Sessions::Source { event.session } else { 0 };
        let place = latest.iter().position(|(of, _)| *of == key);
        let goes_on = place.and_then(|place| sessions.get_mut(latest[place].1)).filter(|session| {
            event.time.0.saturating_sub(session.last.0) <= GAP && event.time.0.saturating_sub(session.first.0) <= SESSION_MAX
        });
        if let Some(session) = goes_on {
            session.last = event.time;
            session.events.push(*event);
            continue;
        }
        match place {
            Some(place) => latest[place].1 = sessions.len(),
            None => latest.push((key, sessions.len())),
        }
        sessions.push(Session { first: event.time, last: event.time, events: vec![*event] });
    }
    sessions
}

/// What is still open of a visitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// The hour of its earliest open session.
    pub(super) from: Option<Hour>,
    /// The watermark at which something of it closes.
    pub(super) due: Option<Micros>,
}

/// What is open at `watermark`.
pub(super) fn open(reading: &Reading, events: &[Seen], watermark: Micros) -> Open {
    let mut open = Open::default();
    let mut note = |due: Micros| open.due = Some(open.due.map_or(due, |other| other.min(due)));
    for session in sessions(reading, events).iter().filter(|session| session.ends() > watermark) {
        note(session.ends());
        let hour = hour_of(session.first);
        open.from = Some(open.from.map_or(hour, |other| other.min(hour)));
    }
    if reading.product.unit == Unit::Visitor {
        for event in events.iter().filter(|event| event.counts() && reading.is_step(0, event.action)) {
            let due = closes(reading, hour_of(event.time));
            if due > watermark {
                note(due);
            }
        }
    }
    open
}

/// The watermark at which funnels that began in `hour` are over.
fn closes(reading: &Reading, hour: Hour) -> Micros {
    Micros(begin_of(hour + 1).0.saturating_add(reading.open_past_end()))
}

/// What a visitor's events come to, of what is closed at `watermark`.
pub(super) fn count(reading: &Reading, events: &[Seen], watermark: Micros) -> Counts {
    let mut counts = Counts::new();
    if events.first().is_none_or(|event| event.time >= watermark) {
        return counts;
    }
    let buckets = |hour: Hour| Granularity::ALL.map(|by| by.of(hour)).into_iter();
    for session in sessions(reading, events).iter().filter(|session| session.ends() <= watermark) {
        let hour = hour_of(session.first);
        for view in views(reading, &session.events) {
            let of_view = of(view, &session.events);
            let tally = of_session(reading, &of_view);
            for bucket in buckets(hour) {
                counts.entry((view, bucket)).or_default().add(&tally, 1);
            }
        }
    }
    if reading.product.unit == Unit::Visitor {
        for view in views(reading, events) {
            for (bucket, chain) in of_visitor(reading, &of(view, events), watermark, buckets) {
                funnel_of(&mut counts.entry((view, bucket)).or_default().funnel, &chain);
            }
        }
    }
    for tally in counts.values_mut() {
        let one = |sessions: i64| i64::from(sessions > 0);
        tally.visitors = one(tally.sessions);
        tally.convert_visitors = one(tally.converted);
        tally.paths.values_mut().for_each(|taken| taken.visitors = one(taken.sessions));
        tally.funnel.iter_mut().for_each(|step| step.visitors = one(step.units));
    }
    counts
}

fn views(reading: &Reading, events: &[Seen]) -> Vec<View> {
    let mut views = Vec::new();
    if reading.product.total {
        views.push(TOTAL);
    }
    if !reading.product.dimensions.is_empty() {
        let slices = events.iter().filter(|event| event.counts()).map(|event| event.slice);
        views.extend(slices);
        views.sort_unstable();
        views.dedup();
    }
    views
}

fn of(view: View, events: &[Seen]) -> Vec<(Micros, u8)> {
    let is_in = |event: &&Seen| event.counts() && (view == TOTAL || event.slice == view);
    events.iter().filter(is_in).map(|event| (event.time, event.action)).collect()
}

/// One session, of one slice; visitors are not counted here.
fn of_session(reading: &Reading, events: &[(Micros, u8)]) -> Tally {
    let mut tally = Tally { sessions: 1, ..Tally::default() };
    let actions = || events.iter().map(|(_, action)| *action);
    for (from, to) in std::iter::once(START).chain(actions()).zip(actions().chain(std::iter::once(END))) {
        *tally.transitions.entry((from, to)).or_default() += 1;
    }
    let mut path: Vec<u8> = actions().take(PATH_MAX).collect();
    if events.len() > PATH_MAX {
        path.push(END);
    }
    tally.paths.insert(path, Taken { sessions: 1, visitors: 0 });
    let first_cart = events.iter().position(|(_, action)| reading.is_cart(*action));
    let last_cart = events.iter().rposition(|(_, action)| reading.is_cart(*action));
    if let (Some(first), Some(last)) = (first_cart, last_cart) {
        let bought_behind = |at: usize| events[at + 1..].iter().find(|(_, action)| reading.is_purchase(*action));
        tally.carts = 1;
        tally.abandoned = i64::from(bought_behind(last).is_none());
        if let Some((bought, _)) = bought_behind(first) {
            tally.converted = 1;
            tally.convert_seconds.insert(seconds(events[first].0, *bought), 1);
        }
    }
    if reading.product.unit == Unit::Session {
        let steps = reading.product.steps.len();
        let chain = funnel::best(events, steps, reading.window(), |step, action| reading.is_step(step, action), |_| true);
        funnel_of(&mut tally.funnel, &chain);
    }
    tally
}

/// The chain of each bucket that closed by `watermark`: the longest of its hours', of those the earliest.
fn of_visitor<B: Iterator<Item = Bucket>>(
    reading: &Reading,
    events: &[(Micros, u8)],
    watermark: Micros,
    buckets: impl Fn(Hour) -> B,
) -> BTreeMap<Bucket, Chain> {
    let steps = reading.product.steps.len();
    let mut best: BTreeMap<Bucket, Chain> = BTreeMap::new();
    let mut last = None;
    for (time, action) in events {
        let hour = hour_of(*time);
        if !reading.is_step(0, *action) || last == Some(hour) || closes(reading, hour) > watermark {
            continue;
        }
        last = Some(hour);
        let begins = |first: Micros| hour_of(first) == hour;
        let chain = funnel::best(events, steps, reading.window(), |step, action| reading.is_step(step, action), begins);
        for bucket in buckets(hour) {
            let there = best.entry(bucket).or_default();
            if chain.len() > there.len() {
                there.clone_from(&chain);
            }
        }
    }
    best
}

fn funnel_of(funnel: &mut Vec<Step>, chain: &Chain) {
    if funnel.len() < chain.len() {
        funnel.resize_with(chain.len(), Step::default);
    }
    for (at, step) in funnel.iter_mut().enumerate().take(chain.len()) {
        step.units += 1;
        if at > 0 {
            *step.seconds.entry(seconds(chain[at - 1], chain[at])).or_default() += 1;
        }
    }
}

fn seconds(from: Micros, to: Micros) -> u32 {
    u32::try_from(to.since(from).as_secs()).unwrap_or(u32::MAX)
}

/// The events of what begins before `from`, and the others: whole sessions go.
pub(super) fn parted(reading: &Reading, events: &[Seen], from: Hour) -> (Vec<Seen>, Vec<Seen>) {
    let old = sessions(reading, events).into_iter().filter(|session| hour_of(session.first) < from);
    let old: HashSet<u64> = old.flat_map(|session| session.events).map(|event| event.id).collect();
    let is_old = |event: &Seen| if event.counts() { old.contains(&event.id) } else { hour_of(event.time) < from };
    events.iter().partition(|event| is_old(event))
}

/// In which periods before `until` a visitor was seen, by slice: with its cohort. `history` is of what is no longer among `events`.
pub(super) fn cohorts(
    reading: &Reading,
    history: &[(View, i32, i32)],
    events: &[Seen],
    until: i32,
) -> BTreeSet<(View, i32, i32)> {
    let Some(retention) = &reading.product.retention else { return BTreeSet::new() };
    let mut seen: BTreeMap<View, BTreeSet<i32>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.came == Came::InTime) {
        let period = retention.period.of(event.time, &reading.zone);
        if period >= until {
            continue;
        }
        if reading.product.total {
            seen.entry(TOTAL).or_default().insert(period);
        }
        if event.slice != REST {
            seen.entry(event.slice).or_default().insert(period);
        }
    }
    let mut cohorts = BTreeSet::new();
    for (view, periods) in seen {
        let before = history.iter().find(|(of, ..)| *of == view).map(|(_, first, _)| *first);
        let Some(cohort) = before.into_iter().chain(periods.first().copied()).min() else { continue };
        let is_in = |period: &i32| i64::from(*period) - i64::from(cohort) <= i64::from(retention.periods);
        cohorts.extend(periods.into_iter().filter(is_in).map(|period| (view, cohort, period)));
    }
    cohorts
}

/// The history that has what goes, too.
pub(super) fn remember(reading: &Reading, history: &mut Vec<(View, i32, i32)>, events: &[Seen]) {
    let Some(retention) = &reading.product.retention else { return };
    for event in events.iter().filter(|event| event.came == Came::InTime) {
        let period = retention.period.of(event.time, &reading.zone);
        let views = [TOTAL, event.slice].into_iter().filter(|view| *view != REST && (*view != TOTAL || reading.product.total));
        for view in views {
            match history.iter_mut().find(|(of, ..)| *of == view) {
                Some((_, first, last)) => (*first, *last) = (period.min(*first), period.max(*last)),
                None => history.push((view, period, period)),
            }
        }
    }
}
