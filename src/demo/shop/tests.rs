//! The shop's promises on every event, whatever it says. What trade itself promises is in [`trade`].
#![allow(clippy::unwrap_used)]

mod trade;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::journey::OPEN_MAX;
use super::pricing::PROMOTIONS_MAX;
use super::stock::UNDOABLE_MAX;
use super::{Example, Shop};

const TICKS: usize = 50_000;

/// The seed shows with the output of a test that fails.
fn shop(seed: u64) -> Shop {
    eprintln!("seed {seed}");
    Shop::new(seed, "test")
}

fn start() -> Timestamp {
    "2026-11-03T08:00:00Z".parse().unwrap()
}

/// `now` at each tick: uneven steps, at times none.
fn moments() -> impl Iterator<Item = Timestamp> {
    (0..).scan(start(), |now, step: i64| {
        *now += SignedDuration::from_micros(step * 7919 % 400_001);
        Some(*now)
    })
}

fn events(shop: &mut Shop, ticks: usize) -> Vec<Value> {
    let mut events = shop.opening(start());
    for now in moments().take(ticks) {
        events.extend(shop.tick(now));
    }
    events
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("{field} in {event}"))
}

fn bytes(seed: u64) -> String {
    events(&mut shop(seed), 5_000).iter().map(|event| format!("{event}\n")).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    for seed in [0, 1, 7, u64::MAX] {
        assert_eq!(bytes(seed), bytes(seed));
        assert_ne!(bytes(seed), bytes(seed ^ 2));
    }
}

#[test]
fn runs_differ_in_their_source_alone() {
    let other = |run: &str| events(&mut Shop::new(5, run), 500);
    let (first, second) = (other("a"), other("b"));
    assert_ne!(first, second);
    for (first, mut second) in first.into_iter().zip(second) {
        assert_eq!(second["source"], "/demo/shop/b");
        second["source"] = "/demo/shop/a".into();
        assert_eq!(first, second);
    }
}

#[test]
fn ids_are_unique_each_tick_gives_something_and_memory_is_bounded() {
    let mut shop = shop(11);
    let mut ids = HashSet::new();
    let opening = shop.opening(start());
    let ticks = moments().take(TICKS);
    let mut check = |events: Vec<Value>| {
        assert!(!events.is_empty());
        for event in events {
            assert!(ids.insert(text(&event, "id").to_owned()), "twice: {event}");
        }
    };
    check(opening);
    let mut busiest = 0;
    for now in ticks {
        let events = shop.tick(now);
        assert!(events.len() <= 8, "one or a few: {events:?}");
        check(events);
        busiest = busiest.max(shop.visits.open_len());
        assert!(shop.visits.open_len() <= OPEN_MAX);
        assert!(shop.prices.promotions_len() <= PROMOTIONS_MAX);
        assert!(shop.stock.undoable_len() <= UNDOABLE_MAX);
    }
    assert!(busiest > OPEN_MAX / 3, "sessions interleave: {busiest}");
}

/// What each type's data must and may hold, by the contract.
fn fields(kind: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        "catalog.product.upserted" => (&["sku", "title", "brand", "category", "supplier"], &[]),
        "inventory.counted" => (&["sku", "location", "onHand", "reserved"], &[]),
        "inventory.adjusted" => (&["sku", "location", "delta", "reason"], &[]),
        "price.set" => (&["sku", "market", "currency", "amount"], &["listAmount"]),
        "journey.recorded" => (&["visitor", "session", "action", "dimensions"], &["sku", "brand", "value"]),
        "event.compensated" => (&["compensates", "reason"], &[]),
        other => panic!("a type of its own: {other}"),
    }
}

#[test]
fn every_event_is_whole() {
    let mut last = Timestamp::MIN;
    let mut kinds = BTreeSet::new();
    for event in events(&mut shop(21), 20_000) {
        let names: Vec<&String> = event.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 7, "{event}");
        assert_eq!(text(&event, "specversion"), "1.0");
        assert_eq!(text(&event, "source"), "/demo/shop/test");
        let time: Timestamp = text(&event, "time").parse().unwrap();
        assert_eq!(format!("{time:.3}"), text(&event, "time"));
        assert!(last <= time);
        last = time;

        let kind = text(&event, "type");
        kinds.insert(kind.to_owned());
        let data = &event["data"];
        let (must, may) = fields(kind);
        for name in must {
            assert!(!data[name].is_null(), "{name} in {event}");
        }
        for name in data.as_object().unwrap().keys() {
            assert!(must.contains(&name.as_str()) || may.contains(&name.as_str()), "{name} in {event}");
        }
        match kind {
            "journey.recorded" => assert_eq!(data["visitor"], event["subject"]),
            "event.compensated" => assert!(text(&event, "subject").starts_with("SKU-")),
            _ => assert_eq!(data["sku"], event["subject"]),
        }
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn the_mix_is_that_of_a_shop() {
    let mut shop = shop(51);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    shop.opening(start());
    for now in moments().take(TICKS) {
        let first = shop.tick(now).swap_remove(0);
        let kind = match first["data"]["reason"].as_str() {
            Some(reason) => reason,
            None => text(&first, "type"),
        };
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    let permille = |kind: &str| counts.get(kind).copied().unwrap_or(0) * 1000 / TICKS;
    for (kind, least, most) in [
        ("journey.recorded", 430, 480),
        ("sale", 370, 450),
        ("restock", 30, 100),
        ("price.set", 40, 60),
        ("inventory.counted", 15, 25),
        ("mis-scanned", 1, 9),
        ("catalog.product.upserted", 1, 9),
    ] {
        let share = permille(kind);
        assert!((least..=most).contains(&share), "{kind} {share}‰ of {counts:?}");
    }
}

#[test]
fn the_opening_names_everything_once_and_the_example_exists() {
    let mut shop = shop(61);
    let skus: Vec<String> = shop.skus().map(str::to_owned).collect();
    let Example { sku, location, market, brand } = shop.example();
    let opening = shop.opening(start());
    assert_eq!(skus.len(), 320);
    assert_eq!(opening.len(), 320 * (1 + 5 + 3));
    let of = |field: &str| -> BTreeSet<String> {
        opening.iter().filter_map(|event| event["data"][field].as_str()).map(str::to_owned).collect()
    };
    assert_eq!(of("sku"), skus.into_iter().collect());
    assert_eq!(of("title").len(), 320);
    assert_eq!((of("brand").len(), of("supplier").len(), of("category").len()), (24, 10, 8));
    let has =
        |fields: &[(&str, &str)]| opening.iter().any(|event| fields.iter().all(|(name, value)| event["data"][name] == *value));
    assert!(has(&[("sku", &sku), ("brand", brand)]));
    assert!(has(&[("sku", &sku), ("location", location)]));
    assert!(has(&[("sku", &sku), ("market", market)]));
}

#[test]
fn time_never_runs_back() {
    let mut shop = shop(71);
    shop.opening(start());
    let event = shop.tick(start() - SignedDuration::from_hours(1)).swap_remove(0);
    assert_eq!(text(&event, "time"), "2026-11-03T08:00:00.000Z");
}
