//! Random products, and logs in which whatever docs/journeys.md defines comes to its edge.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::brute::{DAY, MINUTE, SECOND, SILENCE, Spec, instant, micros, text};
use crate::support;

const MILLI: i64 = SECOND / 1000;
const HOUR: i64 = 60 * MINUTE;

/// Any product: what can differ does.
pub(crate) fn spec(rng: &mut ChaCha8Rng) -> Spec {
    fn names(rng: &mut ChaCha8Rng, one: &'static str, other: &'static str) -> Vec<&'static str> {
        if rng.random_bool(0.3) { vec![one, other] } else { vec![one] }
    }
    let mut actions = vec![("view", names(rng, "view", "look")), ("add_to_cart", names(rng, "add_to_cart", "quick_add"))];
    if rng.random_bool(0.6) {
        actions.push(("checkout", names(rng, "checkout", "pay")));
    }
    actions.push(("purchase", names(rng, "buy", "buy_now")));
    let parts: Vec<&'static str> = actions.iter().map(|(part, _)| *part).collect();
    let mut steps: Vec<&'static str> = (0..rng.random_range(1..=4)).map(|_| *parts.choose(rng).unwrap()).collect();
    if rng.random_bool(0.6) {
        steps.sort_by_key(|step| parts.iter().position(|part| part == step));
    }
    let dimensions = [vec![], vec!["brand"], vec!["platform"], vec!["brand", "platform"]].choose(rng).unwrap().clone();
    Spec {
        name: "shop",
        lateness_s: if rng.random_bool(0.5) { *[0, 60, 600, 1200].choose(rng).unwrap() } else { rng.random_range(0..=1200) },
        window_s: if rng.random_bool(0.5) { *[300, 1800, 3600].choose(rng).unwrap() } else { rng.random_range(300..=10_800) },
        visitor_unit: rng.random_bool(0.5),
        source_sessions: rng.random_bool(0.4),
        total: dimensions.is_empty() || rng.random_bool(0.8),
        dimensions,
        actions,
        steps,
        retention_period: ["day", "week", "month"].choose(rng).unwrap(),
        retention_timezone: ["UTC", "Europe/Berlin", "America/New_York"].choose(rng).unwrap(),
        retention_periods: rng.random_range(1..=4),
    }
}

/// Where the 76 hours of a log begin: all hold the end of a month in UTC; the first, that of summer time in New York, and of a
/// week; the second, of a week; the third, the begin of summer time in Berlin, and the end of a week.
const BEGINNINGS: [&str; 4] = ["2025-10-31T08:00:00Z", "2026-01-30T20:00:00Z", "2026-03-28T23:00:00Z", "2026-03-30T20:00:00Z"];
const SPAN: i64 = 76 * HOUR;
/// How far a compensation is from its target before others come between; as many may.
const APART: usize = 9;

/// About `events` journey events and a fifth more of copies, compensations and erasures, in the order in which they arrive.
/// When a compensation behind its target comes, the watermark has not passed the target: no cell that it is in can be closed.
pub(crate) fn generate(rng: &mut ChaCha8Rng, spec: &Spec, events: usize) -> Vec<Value> {
    let begin = instant(BEGINNINGS.choose(rng).unwrap());
    let lateness = spec.lateness_s * SECOND;
    let visitors = rng.random_range(5..=30);
    // When it arrives, and what.
    let mut made: Vec<(i64, Value)> = Vec::new();
    if events >= 150 && rng.random_bool(0.3) {
        marathon(rng, spec, begin, &mut made);
    }
    while made.len() < events {
        let visitor = format!("v{}", rng.random_range(0..visitors));
        let mut session = rng.random_range(0..3);
        let mut time = begin + rng.random_range(0..SPAN / MILLI) * MILLI;
        if rng.random_bool(0.1) {
            time -= time.rem_euclid(HOUR);
        }
        for _ in 0..rng.random_range(1..12) {
            if rng.random_bool(0.1) {
                session = rng.random_range(0..3);
            }
            let named = rng.random_bool(0.8).then(|| format!("s{session}"));
            let delay = match rng.random_range(0..20) {
                0..=4 => rng.random_range(0..=lateness),
                5 => lateness + rng.random_range(1..7200) * SECOND,
                _ => 0,
            };
            let event = recorded(rng, spec, made.len(), &visitor, named.as_deref(), time);
            made.push((time + delay, event));
            if delay == 0 && rng.random_bool(0.04) {
                // Just behind it, one exactly at the watermark, or the least before.
                let edge = time - lateness - rng.random_range(0..=1) * MILLI;
                let event = recorded(rng, spec, made.len(), &visitor, named.as_deref(), edge);
                made.push((time, event));
            }
            time += step(rng, spec);
        }
    }
    made.sort_by_key(|(arrives, _)| *arrives);
    let mut arriving: Vec<Value> = made.into_iter().map(|(_, event)| event).collect();
    if arriving.is_empty() {
        return arriving;
    }
    for _ in 0..events / 10 {
        let at = rng.random_range(0..arriving.len());
        let copy = arriving[at].clone();
        arriving.insert(rng.random_range(at + 1..=arriving.len()), copy);
    }
    let mut behind = compensations(rng, spec, &arriving);
    erasures(rng, &arriving, visitors, &mut behind);
    // Copies of these too: an erasure that came again would erase once more.
    for (at, event) in behind.clone() {
        if rng.random_bool(0.2) {
            behind.entry(rng.random_range(at..arriving.len())).or_insert(event);
        }
    }
    let mut told = Vec::new();
    for (at, event) in arriving.into_iter().enumerate() {
        told.push(event);
        told.extend(behind.remove(&at));
    }
    told
}

/// One visitor who is never silent for long, for more than a day: an event exactly 24 h after the first, and the next 1 ms later.
/// Nothing of it is delayed or undone, lest the session break.
fn marathon(rng: &mut ChaCha8Rng, spec: &Spec, begin: i64, made: &mut Vec<(i64, Value)>) {
    let first = begin + rng.random_range(0..40 * 60) * MINUTE;
    let mut time = first;
    while time < first + DAY + 3 * HOUR {
        let mut event = recorded(rng, spec, made.len(), "marathon", Some("s"), time);
        event["data"]["action"] = json!(spec.actions.choose(rng).unwrap().1[0]);
        made.push((time, event));
        let next = time + rng.random_range(18..=30) * MINUTE;
        time = match time - first {
            DAY => time + MILLI,
            before if before < DAY => next.min(first + DAY),
            _ => next,
        };
    }
}

/// From one event of a visit to the next: often on one of the definitions' edges.
fn step(rng: &mut ChaCha8Rng, spec: &Spec) -> i64 {
    match rng.random_range(0..20) {
        0..=2 => 0,
        3 => SILENCE,
        4 => SILENCE + MILLI,
        5 => spec.window_s * SECOND,
        6 => spec.window_s * SECOND + MILLI,
        7..=13 => rng.random_range(1..300_000) * MILLI,
        14 | 15 => rng.random_range(1..2 * MINUTE),
        16..=18 => rng.random_range(5..30) * MINUTE,
        _ => rng.random_range(31..180) * MINUTE,
    }
}

fn recorded(rng: &mut ChaCha8Rng, spec: &Spec, id: usize, visitor: &str, session: Option<&str>, time: i64) -> Value {
    let names: Vec<&str> = spec.actions.iter().flat_map(|(_, names)| names).copied().collect();
    let action = if rng.random_bool(0.1) { ["search", "remove_from_cart"].choose(rng) } else { names.choose(rng) };
    let mut data = json!({ "visitor": visitor, "action": action });
    if let Some(session) = session {
        data["session"] = json!(session);
    }
    if rng.random_bool(0.8) {
        data["brand"] = json!(["Alba", "Birk"].choose(rng));
    }
    if rng.random_bool(0.9) {
        data["dimensions"] = json!({});
    }
    if rng.random_bool(0.8) {
        data["dimensions"]["platform"] = json!(["web", "ios"].choose(rng));
    }
    let mut event = support::event("journey.recorded", "/web", &format!("e{id}"), visitor, data);
    let at = Timestamp::from_microsecond(time).unwrap();
    let millis = time % MILLI == 0 && rng.random_bool(0.5);
    event["time"] = json!(if millis { format!("{at:.3}") } else { format!("{at:.6}") });
    event
}

/// Compensations, each with the place behind which it arrives; one at a place, so that none gets far from its target.
fn compensations(rng: &mut ChaCha8Rng, spec: &Spec, arriving: &[Value]) -> BTreeMap<usize, Value> {
    let mut behind = BTreeMap::new();
    let mut seen = HashSet::new();
    for (at, target) in arriving.iter().enumerate() {
        if !seen.insert(text(&target["id"])) || target["subject"] == "marathon" || !rng.random_bool(0.08) {
            continue;
        }
        let place = match rng.random_range(0..5) {
            0 | 1 => at.checked_sub(rng.random_range(1..=APART)),
            _ => {
                // As long as no event came that puts the watermark past the target, nor is 15 min past it.
                let last = micros(target) + (spec.lateness_s * SECOND).min(15 * MINUTE);
                let latest = |place: usize| arriving[..=place].iter().map(micros).max().unwrap();
                let places: Vec<usize> = (at..arriving.len().min(at + APART)).filter(|&place| latest(place) <= last).collect();
                places.choose(rng).copied()
            }
        };
        if let Some(place) = place {
            let unknown = rng.random_bool(0.1);
            let of = if unknown { format!("never{at}") } else { text(&target["id"]).to_owned() };
            let data = json!({ "compensates": of, "reason": "mistake" });
            let mut event = support::event("event.compensated", "/web", &format!("c{at}"), text(&target["subject"]), data);
            event["time"] = arriving[place]["time"].clone();
            behind.entry(place).or_insert(event);
        }
    }
    behind
}

/// A few erasures, where there is a place; some as of the very time of an event that is still to come, or the least before.
fn erasures(rng: &mut ChaCha8Rng, arriving: &[Value], visitors: usize, behind: &mut BTreeMap<usize, Value>) {
    for n in 0..rng.random_range(0..=4) {
        let place = rng.random_range(0..arriving.len());
        let visitor = if rng.random_bool(0.2) {
            format!("v{}", rng.random_range(0..=visitors))
        } else {
            text(&arriving[place]["subject"]).to_owned()
        };
        if visitor == "marathon" {
            continue;
        }
        let coming = arriving[place + 1..].iter().take(12).find(|event| event["subject"] == visitor.as_str());
        let time = match coming {
            Some(coming) if rng.random_bool(0.5) => micros(coming) - rng.random_range(0..=1) * MILLI,
            _ => micros(&arriving[place]) + rng.random_range(-5..=5) * SECOND,
        };
        let mut event = support::event("visitor.erased", "/web", &format!("x{n}"), &visitor, json!({ "visitor": visitor }));
        event["time"] = json!(format!("{:.6}", Timestamp::from_microsecond(time).unwrap()));
        behind.entry(place).or_insert(event);
    }
}
