//! What a journey product must say of a log, read in plain lines: every visitor's events at once, cut, looped over, counted.
//! Written from docs/journeys.md alone, and with nothing of the engine in it, so that the two can be wrong only apart.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, Zoned};
use serde_json::{Value, json};

/// In microseconds, as all instants here.
pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const DAY: i64 = 24 * 60 * MINUTE;
/// A session goes on over a silence of this length, and not over a longer one.
pub(super) const SILENCE: i64 = 30 * MINUTE;
const PATH_ACTIONS: usize = 8;
const GRANULARITIES: [&str; 4] = ["hour", "day", "week", "month"];

/// A journey product.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) lateness_s: i64,
    pub(crate) window_s: i64,
    /// The funnel counts visitors, not sessions.
    pub(crate) visitor_unit: bool,
    /// Sessions are those that the producer names.
    pub(crate) source_sessions: bool,
    pub(crate) dimensions: Vec<&'static str>,
    pub(crate) total: bool,
    /// Parts, and the names of the actions that play each.
    pub(crate) actions: Vec<(&'static str, Vec<&'static str>)>,
    /// Parts, in the funnel's order.
    pub(crate) steps: Vec<&'static str>,
    /// `day`, `week` or `month`.
    pub(crate) retention_period: &'static str,
    pub(crate) retention_timezone: &'static str,
    /// Cohorts are counted for 0 to this many periods later.
    pub(crate) retention_periods: i64,
}

impl Spec {
    /// The product's file.
    pub(crate) fn toml(&self) -> String {
        let session = if self.source_sessions { "source" } else { "gap" };
        let unit = if self.visitor_unit { "visitor" } else { "session" };
        // Names here are plain ASCII: what Rust shows of them is what TOML takes.
        let mut text = format!(
            "name = {:?}\nk = 10\nsession = {session:?}\nlateness = \"{}s\"\nwindow = \"{}s\"\nunit = {unit:?}\ntotal = {}\n\
             steps = {:?}\ndimensions = {:?}\n\n[actions]\n",
            self.name, self.lateness_s, self.window_s, self.total, self.steps, self.dimensions
        );
        for (part, names) in &self.actions {
            text += &format!("{part} = {names:?}\n");
        }
        text += &format!(
            "\n[retention]\nperiod = {:?}\ntimezone = {:?}\nperiods = {}\n",
            self.retention_period, self.retention_timezone, self.retention_periods
        );
        text
    }

    fn names(&self, action: &str) -> bool {
        self.actions.iter().any(|(_, names)| names.contains(&action))
    }

    fn plays(&self, part: &str, action: &str) -> bool {
        self.actions.iter().any(|(other, names)| *other == part && names.contains(&action))
    }
}

/// An event, and when the log took it.
pub(crate) struct Appended<'a> {
    pub(crate) event: &'a Value,
    pub(crate) appended_us: i64,
}

/// By the names of the dimensions; the total has none.
type Slice = BTreeMap<&'static str, String>;

/// An event that counts.
struct Seen {
    visitor: String,
    time: i64,
    offset: usize,
    session: Option<String>,
    action: String,
    late: bool,
    /// All that it belongs to.
    slices: Vec<Slice>,
}

/// What stands behind a cell.
#[derive(Default)]
struct Cell<'a> {
    sessions: Vec<Vec<&'a Seen>>,
    /// Of each unit of the funnel, the events that are its steps.
    chains: Vec<Vec<&'a Seen>>,
}

/// All that the product says when every cell is closed: cells and cohorts of any size, and at the end how many events were late.
/// `log` has the partitions, each in its order, with the instants of append in microseconds. `admits_late`: cells were revised for late
/// events, which cohorts never are.
pub(crate) fn expected(spec: &Spec, log: &[Vec<(i64, Value)>], admits_late: bool) -> Vec<Value> {
    let mut events = Vec::new();
    let mut late = 0;
    for partition in log {
        let appended = partition.iter().map(|(appended_us, event)| Appended { event, appended_us: *appended_us }).collect();
        late += read(spec, appended, admits_late, &mut events);
    }
    // All of a visitor are of one partition: offsets can be compared.
    events.sort_by_key(|event| (event.visitor.clone(), event.time, event.offset));
    let visitors: BTreeSet<&str> = events.iter().map(|event| event.visitor.as_str()).collect();
    let slices: BTreeSet<&Slice> = events.iter().flat_map(|event| &event.slices).collect();
    let mut found = Vec::new();
    for slice in slices {
        let mut cells: BTreeMap<(&str, String), Cell<'_>> = BTreeMap::new();
        for visitor in &visitors {
            let all: Vec<&Seen> = events.iter().filter(|event| event.visitor == *visitor).collect();
            for session in sessions(spec, &all) {
                let left = of_slice(&session, slice);
                if left.is_empty() {
                    continue;
                }
                for by in GRANULARITIES {
                    let cell = cells.entry((by, bucket(by, session[0].time))).or_default();
                    cell.sessions.push(left.clone());
                    if !spec.visitor_unit {
                        cell.chains.extend(chain(spec, &left, |_| true));
                    }
                }
            }
            if spec.visitor_unit {
                let left = of_slice(&all, slice);
                for by in GRANULARITIES {
                    let buckets: BTreeSet<String> = left.iter().map(|event| bucket(by, event.time)).collect();
                    for from in buckets {
                        if let Some(chain) = chain(spec, &left, |first| bucket(by, first.time) == from) {
                            cells.entry((by, from)).or_default().chains.push(chain);
                        }
                    }
                }
            }
        }
        for ((by, from), cell) in &cells {
            found.push(told(spec, slice, by, from, cell));
        }
        found.extend(retention(spec, slice, &events));
    }
    found.push(json!({ "kind": "late", "product": spec.name, "count": late }));
    found
}

/// Adds what counts of a partition to `events`; how many were late.
fn read(spec: &Spec, log: Vec<Appended<'_>>, admits_late: bool, events: &mut Vec<Seen>) -> usize {
    let mut known = HashSet::new();
    let firsts: Vec<(usize, Appended<'_>)> = log
        .into_iter()
        .enumerate()
        .filter(|(_, Appended { event, .. })| {
            event["type"] == "watermark.advanced" || known.insert((text(&event["source"]), text(&event["id"])))
        })
        .collect();
    let mut event_time: Option<i64> = None;
    let mut late = 0;
    for (offset, Appended { event, appended_us }) in &firsts {
        let (data, time) = (&event["data"], micros(event));
        let watermark = event_time.map(|latest| latest - spec.lateness_s * SECOND);
        match text(&event["type"]) {
            "watermark.advanced" => event_time = event_time.max(Some(time)),
            "journey.recorded" => event_time = event_time.max(Some(time.min(*appended_us))),
            _ => {}
        }
        if event["type"] != "journey.recorded" || !spec.names(text(&data["action"])) {
            continue;
        }
        let (mut undone, mut undone_in_advance, mut erased) = (false, false, false);
        for (other_offset, Appended { event: other, .. }) in &firsts {
            let same = other["subject"] == event["subject"];
            if other["type"] == "event.compensated"
                && same
                && other["source"] == event["source"]
                && other["data"]["compensates"] == event["id"]
            {
                undone = true;
                undone_in_advance |= other_offset < offset;
            }
            if other["type"] == "visitor.erased" && same && (offset < other_offset || time <= micros(other)) {
                erased = true;
            }
        }
        let is_late = watermark.is_some_and(|watermark| time < watermark);
        late += usize::from(is_late && !undone_in_advance);
        if undone || erased || (is_late && !admits_late) {
            continue;
        }
        events.push(Seen {
            visitor: text(&data["visitor"]).to_owned(),
            time,
            offset: *offset,
            session: data["session"].as_str().map(str::to_owned),
            action: text(&data["action"]).to_owned(),
            late: is_late,
            slices: slices(spec, data),
        });
    }
    late
}

fn slices(spec: &Spec, data: &Value) -> Vec<Slice> {
    let mut found = Vec::new();
    if spec.total {
        found.push(Slice::new());
    }
    let mut slice = Slice::new();
    for &name in &spec.dimensions {
        let value = if name == "brand" { &data["brand"] } else { &data["dimensions"][name] };
        if let Some(value) = value.as_str() {
            slice.insert(name, value.to_owned());
        }
    }
    if !slice.is_empty() && slice.len() == spec.dimensions.len() {
        found.push(slice);
    }
    found
}

fn of_slice<'a>(events: &[&'a Seen], slice: &Slice) -> Vec<&'a Seen> {
    events.iter().copied().filter(|event| event.slices.contains(slice)).collect()
}

/// The sessions of one visitor, whose events these are, in order.
fn sessions<'a>(spec: &Spec, events: &[&'a Seen]) -> Vec<Vec<&'a Seen>> {
    let mut named: BTreeMap<Option<&str>, Vec<&'a Seen>> = BTreeMap::new();
    for &event in events {
        let name = event.session.as_deref().filter(|_| spec.source_sessions);
        named.entry(name).or_default().push(event);
    }
    let mut found = Vec::new();
    for events in named.into_values() {
        let mut open: Vec<&Seen> = Vec::new();
        for event in events {
            if open.last().is_some_and(|last| event.time - last.time > SILENCE)
                || open.first().is_some_and(|first| event.time - first.time > DAY)
            {
                found.push(std::mem::take(&mut open));
            }
            open.push(event);
        }
        found.push(open);
    }
    found
}

/// The steps of the earliest first event that gets furthest, each the earliest that can be it: of those `may_begin` allows.
fn chain<'a>(spec: &Spec, events: &[&'a Seen], may_begin: impl Fn(&Seen) -> bool) -> Option<Vec<&'a Seen>> {
    let mut best: Option<Vec<&Seen>> = None;
    for (at, first) in events.iter().enumerate() {
        if !spec.plays(spec.steps[0], &first.action) || !may_begin(first) {
            continue;
        }
        let mut chain = vec![*first];
        for event in &events[at + 1..] {
            let within = event.time - first.time <= spec.window_s * SECOND;
            if chain.len() < spec.steps.len() && within && spec.plays(spec.steps[chain.len()], &event.action) {
                chain.push(event);
            }
        }
        if best.as_ref().is_none_or(|best| chain.len() > best.len()) {
            best = Some(chain);
        }
    }
    best
}

/// A cell's numbers.
fn told(spec: &Spec, slice: &Slice, by: &str, from: &str, cell: &Cell<'_>) -> Value {
    let mut visitors = BTreeSet::new();
    let mut transitions: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut paths: BTreeMap<Vec<&str>, (usize, BTreeSet<&str>)> = BTreeMap::new();
    let (mut carts, mut abandoned, mut converted) = (0, 0, 0);
    let mut convert_seconds: BTreeMap<i64, usize> = BTreeMap::new();
    let mut convert_visitors = BTreeSet::new();
    for session in &cell.sessions {
        let visitor = session[0].visitor.as_str();
        visitors.insert(visitor);
        let actions: Vec<&str> = session.iter().map(|event| event.action.as_str()).collect();
        let ends = [vec!["START"], actions.clone(), vec!["END"]].concat();
        for pair in ends.windows(2) {
            *transitions.entry((pair[0], pair[1])).or_default() += 1;
        }
        let mut path = actions.clone();
        if path.len() > PATH_ACTIONS {
            path.truncate(PATH_ACTIONS);
            path.push("…");
        }
        let of_path = paths.entry(path).or_default();
        of_path.0 += 1;
        of_path.1.insert(visitor);
        let places = |part: &str| -> Vec<usize> { (0..actions.len()).filter(|&n| spec.plays(part, actions[n])).collect() };
        let (added, bought) = (places("add_to_cart"), places("purchase"));
        if added.is_empty() {
            continue;
        }
        carts += 1;
        abandoned += usize::from(!bought.iter().any(|place| place > added.last().unwrap()));
        if let Some(&place) = bought.iter().find(|&place| *place > added[0]) {
            converted += 1;
            *convert_seconds.entry((session[place].time - session[added[0]].time) / SECOND).or_default() += 1;
            convert_visitors.insert(visitor);
        }
    }
    let mut funnel = Vec::new();
    for step in 0..spec.steps.len() {
        let mut units = 0;
        let mut visitors = BTreeSet::new();
        let mut seconds: BTreeMap<i64, usize> = BTreeMap::new();
        for chain in cell.chains.iter().filter(|chain| chain.len() > step) {
            units += 1;
            visitors.insert(chain[step].visitor.as_str());
            if step > 0 {
                *seconds.entry((chain[step].time - chain[step - 1].time) / SECOND).or_default() += 1;
            }
        }
        let seconds: Vec<Value> = seconds.iter().map(|(seconds, n)| json!([seconds, n])).collect();
        funnel.push(json!({ "units": units, "visitors": visitors.len(), "seconds": seconds }));
    }
    let transitions: Vec<Value> = transitions.iter().map(|((from, to), n)| json!([from, to, n])).collect();
    let paths: Vec<Value> = paths.iter().map(|(path, (sessions, visitors))| json!([path, sessions, visitors.len()])).collect();
    let convert_seconds: Vec<Value> = convert_seconds.iter().map(|(seconds, n)| json!([seconds, n])).collect();
    json!({
        "kind": "journey", "product": spec.name, "slice": slice, "by": by, "from": from,
        "sessions": cell.sessions.len(), "visitors": visitors.len(), "transitions": transitions, "paths": paths,
        "carts": carts, "abandoned": abandoned, "converted": converted, "convertSeconds": convert_seconds,
        "convertVisitors": convert_visitors.len(), "funnel": funnel,
    })
}

/// The cohorts of a slice.
fn retention(spec: &Spec, slice: &Slice, events: &[Seen]) -> Vec<Value> {
    let mut seen: BTreeMap<&str, BTreeSet<Date>> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.late && event.slices.contains(slice)) {
        let local = zoned(event.time, spec.retention_timezone).date();
        seen.entry(&event.visitor).or_default().insert(first_of(spec.retention_period, local));
    }
    let mut counted: BTreeMap<(Date, Date), usize> = BTreeMap::new();
    for periods in seen.values() {
        let cohort = *periods.first().unwrap();
        for &period in periods {
            let days = i64::from(cohort.until(period).unwrap().get_days());
            let months = i64::from(period.year() - cohort.year()) * 12 + i64::from(period.month() - cohort.month());
            let n = match spec.retention_period {
                "day" => days,
                "week" => days / 7,
                _ => months,
            };
            if n <= spec.retention_periods {
                *counted.entry((cohort, period)).or_default() += 1;
            }
        }
    }
    let told = |((cohort, period), n): (&(Date, Date), &usize)| {
        json!({ "kind": "retention", "product": spec.name, "slice": slice, "cohort": cohort.to_string(), "period": period.to_string(),
            "visitors": n })
    };
    counted.iter().map(told).collect()
}

/// When the cell of this instant begins, in UTC.
fn bucket(by: &str, time: i64) -> String {
    let at = zoned(time, "UTC");
    if by == "hour" { format!("{}T{:02}:00:00Z", at.date(), at.hour()) } else { format!("{}T00:00:00Z", first_of(by, at.date())) }
}

/// The first date of the day, the ISO week or the month.
fn first_of(period: &str, date: Date) -> Date {
    match period {
        "day" => date,
        "week" => date - i64::from(date.weekday().to_monday_zero_offset()).days(),
        _ => date.first_of_month(),
    }
}

fn zoned(time: i64, timezone: &str) -> Zoned {
    Timestamp::from_microsecond(time).unwrap().in_tz(timezone).unwrap()
}

pub(super) fn micros(event: &Value) -> i64 {
    instant(text(&event["time"]))
}

pub(super) fn instant(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
