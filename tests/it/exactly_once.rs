//! Invariant 2: events applied twice, late, reordered, compensated before or after they come, in any batches and over any
//! restarts, leave the store as if each had been applied once, in order. The oracle looks at the whole log at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tollgate::clock::Micros;
use tollgate::event::{Position, Record};
use tollgate::feature::{ApplyError, ChangeBatch, EmbeddedStore, FeatureStore, Limits};
use tollgate::projector::fold;

use crate::support::{self, adjusted, compensated, counted, full, price};

const WIDE: Limits = Limits { dedup_window: Duration::from_secs(1 << 20), dedup_ids_max: 1 << 20, history_kept: 1000 };
pub(crate) const START: i64 = 1_780_000_000_000_000;

pub(crate) fn record(offset: u64, event: &Value) -> Record {
    Record {
        at: Position { partition: 0, offset },
        appended: Micros(START + 1000 * i64::try_from(offset).unwrap()),
        payload: Bytes::from(event.to_string()),
    }
}

/// A few SKUs, so that events meet each other.
pub(crate) fn generate(rng: &mut ChaCha8Rng, length: usize) -> Vec<Value> {
    generate_of(rng, length, &["A", "B", "C"])
}

/// A stream with duplicates, disorder, and compensations of all sorts.
pub(crate) fn generate_of(rng: &mut ChaCha8Rng, length: usize, skus: &[&str]) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    for n in 0..length {
        let id = format!("e{n}");
        let sku = skus.choose(rng).unwrap();
        let place = ["X", "Y"].choose(rng).unwrap();
        let mut event = match rng.random_range(0..10) {
            0 => support::upserted(&id, sku, ["Alba", "Birk"].choose(rng).unwrap()),
            1 | 2 => counted(&id, sku, place, rng.random_range(0..100)),
            3..=5 => adjusted(&id, sku, place, rng.random_range(-9..10)),
            6 | 7 => price(&id, sku, place, &format!("{}.{:02}", rng.random_range(1..50), rng.random_range(0..100))),
            _ => {
                // Of any event: earlier, later, itself a compensation, of another subject, or one that never comes.
                let target = format!("e{}", rng.random_range(0..length + 3));
                compensated(&id, sku, &target)
            }
        };
        event["time"] = json!(format!("2026-01-05T08:00:{:02}Z", rng.random_range(0..60)));
        if rng.random_bool(0.5) && event["type"] != "inventory.adjusted" && event["type"] != "event.compensated" {
            event["data"]["version"] = json!(rng.random_range(0..6));
        }
        if event["type"] == "price.set" && rng.random_bool(0.3) {
            event["data"]["validFrom"] = json!(format!("2026-02-0{}T00:00:00Z", rng.random_range(1..4)));
        }
        events.push(event);
    }
    // Compensations find their subject more often than by chance.
    let subjects: HashMap<String, Value> =
        events.iter().map(|e| (e["id"].as_str().unwrap().to_owned(), e["subject"].clone())).collect();
    for event in &mut events {
        if event["type"] == "event.compensated"
            && rng.random_bool(0.8)
            && let Some(subject) = subjects.get(event["data"]["compensates"].as_str().unwrap())
        {
            event["subject"] = subject.clone();
        }
    }
    // Duplicates anywhere, then some disorder.
    for _ in 0..length / 4 {
        let copy = events.choose(rng).unwrap().clone();
        events.insert(rng.random_range(0..=events.len()), copy);
    }
    for chunk in events.chunks_mut(7) {
        if rng.random_bool(0.3) {
            chunk.shuffle(rng);
        }
    }
    events
}

/// What the log says, read in plain lines: first copies only, less what was compensated, in the order of the log.
fn oracle(log: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut seen = HashSet::new();
    let firsts: Vec<(usize, &Value)> = log.iter().enumerate().filter(|(_, e)| seen.insert(e["id"].as_str().unwrap())).collect();
    let undone: HashSet<(&str, &str)> = firsts
        .iter()
        .filter(|(_, e)| e["type"] == "event.compensated")
        .map(|(_, e)| (e["data"]["compensates"].as_str().unwrap(), e["subject"].as_str().unwrap()))
        .collect();
    let left: Vec<(usize, &Value)> = firsts
        .iter()
        .filter(|(_, e)| !undone.contains(&(e["id"].as_str().unwrap(), e["subject"].as_str().unwrap())))
        .copied()
        .collect();
    let beats =
        |new: (usize, &Value), old: (usize, &Value)| match (new.1["data"]["version"].as_i64(), old.1["data"]["version"].as_i64())
        {
            (Some(new), Some(old)) => new > old,
            _ => (new.1["time"].as_str(), new.0) > (old.1["time"].as_str(), old.0),
        };
    let winner = |candidates: &[(usize, &'_ Value)]| -> Option<usize> {
        let mut best: Option<(usize, &Value)> = None;
        for &candidate in candidates {
            if best.is_none_or(|best| beats(candidate, best)) {
                best = Some(candidate);
            }
        }
        best.map(|best| best.0)
    };
    let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for sku in ["A", "B", "C"] {
        let of = |kind: &str| -> Vec<(usize, &Value)> {
            left.iter().filter(|(_, e)| e["type"] == kind && e["subject"] == sku).copied().collect()
        };
        let mut lines = Vec::new();
        if let Some(best) = winner(&of("catalog.product.upserted")) {
            let (e, data) = (&log[best], &log[best]["data"]);
            lines.push(json!({ "kind": "catalog", "sku": sku, "title": data["title"], "brand": data["brand"], "category": data["category"],
                "supplier": data["supplier"], "version": data["version"], "time": e["time"] }));
        }
        for place in ["X", "Y"] {
            let stock: Vec<(usize, &Value)> =
                left.iter().filter(|(_, e)| e["subject"] == sku && e["data"]["location"] == place).copied().collect();
            let (mut on_hand, mut time, mut count): (i64, String, Option<(usize, &Value)>) = (0, String::new(), None);
            for &(at, e) in &stock {
                if let Some(delta) = e["data"]["delta"].as_i64() {
                    on_hand += delta;
                    time = time.max(e["time"].as_str().unwrap().to_owned());
                } else if count.is_none_or(|before| beats((at, e), before)) {
                    on_hand = e["data"]["onHand"].as_i64().unwrap();
                    e["time"].as_str().unwrap().clone_into(&mut time);
                    count = Some((at, e));
                }
            }
            if !stock.is_empty() {
                lines.push(json!({ "kind": "inventory", "sku": sku, "location": place, "onHand": on_hand, "reserved": 0,
                    "version": count.map_or(&Value::Null, |(_, e)| &e["data"]["version"]), "time": time }));
            }
        }
        for market in ["X", "Y"] {
            let set: Vec<(usize, &Value)> = of("price.set").into_iter().filter(|(_, e)| e["data"]["market"] == market).collect();
            let mut last = None;
            for now in ["2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z"] {
                let begun: Vec<_> =
                    set.iter().filter(|(_, e)| e["data"]["validFrom"].as_str().is_none_or(|from| from <= now)).copied().collect();
                let best = winner(&begun);
                if let Some(at) = best
                    && best != last
                {
                    let (e, data) = (&log[at], &log[at]["data"]);
                    lines.push(json!({ "kind": "price", "sku": sku, "market": market, "currency": "EUR", "amount": data["amount"], "listAmount": null,
                        "version": data["version"], "time": e["time"], "validFrom": data["validFrom"] }));
                    last = best;
                }
            }
        }
        expected.insert(sku.to_owned(), lines);
    }
    expected
}

async fn by_sku(store: &EmbeddedStore) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = ["A", "B", "C"].map(|sku| (sku.to_owned(), Vec::new())).into();
    for line in store.dump().await.unwrap().lines() {
        let entity: Value = serde_json::from_str(line).unwrap();
        found.get_mut(entity["sku"].as_str().unwrap()).unwrap().push(entity);
    }
    found
}

/// Applies the log in random batches; now and then the process dies and comes back from its last snapshot.
async fn apply(rng: &mut ChaCha8Rng, folder: &Path, log: &[Value], limits: Limits) -> EmbeddedStore {
    let mut store = EmbeddedStore::open(folder, 1, limits).unwrap();
    let mut at = 0;
    while at < log.len() {
        let end = (at + rng.random_range(1..=12)).min(log.len());
        let changes = (at..end).map(|n| fold(record(n as u64, &log[n]), 1).0).collect();
        let after = at.checked_sub(1).map(|last| last as u64);
        store.apply(0, ChangeBatch { after, changes }).await.unwrap();
        at = end;
        if rng.random_bool(0.1) {
            store.checkpoint().unwrap();
        }
        if rng.random_bool(0.1) {
            store = EmbeddedStore::open(folder, 1, limits).unwrap();
            at = store.standings().await.unwrap()[0].applied.map_or(0, |last| last as usize + 1);
        }
    }
    store
}

#[tokio::test]
async fn the_store_is_what_a_slow_reading_of_the_whole_log_says() {
    let (seed, mut rng) = support::rng("the_store_is_what_a_slow_reading_of_the_whole_log_says");
    for case in 0..if full() { 5000 } else { 400 } {
        let length = rng.random_range(1..60);
        let log = generate(&mut rng, length);
        let folder = tempfile::tempdir().unwrap();
        let store = apply(&mut rng, folder.path(), &log, WIDE).await;
        let told: Vec<String> = log.iter().map(Value::to_string).collect();
        assert_eq!(by_sku(&store).await, oracle(&log), "seed {seed}, case {case}:\n{}", told.join("\n"));
    }
}

#[tokio::test]
async fn whatever_the_bounds_the_batches_and_restarts_do_not_matter() {
    let (seed, mut rng) = support::rng("whatever_the_bounds_the_batches_and_restarts_do_not_matter");
    for case in 0..if full() { 3000 } else { 300 } {
        let length = rng.random_range(1..80);
        let log = generate(&mut rng, length);
        let limits = Limits {
            dedup_window: Duration::from_millis(rng.random_range(1..60)),
            dedup_ids_max: rng.random_range(1..60),
            history_kept: rng.random_range(1..5),
        };
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = apply(&mut rng, one.path(), &log, limits).await.dump().await.unwrap();
        let second = apply(&mut rng, other.path(), &log, limits).await.dump().await.unwrap();
        let told: Vec<String> = log.iter().map(Value::to_string).collect();
        assert_eq!(first, second, "seed {seed}, case {case}, {limits:?}:\n{}", told.join("\n"));
    }
}

#[tokio::test]
async fn a_batch_applies_only_behind_the_offset_that_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), 1, WIDE).unwrap();
    let change = |offset, id: &str| fold(record(offset, &adjusted(id, "A", "X", 1)), 1).0;
    let batch = |after, offset, id| ChangeBatch { after, changes: vec![change(offset, id)] };
    // Offsets may have gaps: what counts is the last one applied.
    store.apply(0, batch(None, 4, "a")).await.unwrap();
    for wrong in [None, Some(3), Some(5)] {
        let refused = store.apply(0, batch(wrong, 9, "b")).await;
        assert!(matches!(refused, Err(ApplyError::Moved { stands: Some(4), .. })), "{refused:?}");
    }
    store.apply(0, batch(Some(4), 9, "b")).await.unwrap();
    assert_eq!(by_sku(&store).await["A"][0]["onHand"], 2);
}

#[tokio::test]
async fn a_value_past_the_kept_history_is_not_undone_but_an_adjustment_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), 1, Limits { history_kept: 2, ..WIDE }).unwrap();
    let mut log = vec![counted("c", "A", "X", 100), adjusted("old", "A", "X", -30)];
    log.extend((0..5).map(|n| adjusted(&format!("a{n}"), "A", "X", -1)));
    log.extend([compensated("u1", "A", "old"), compensated("u2", "A", "c"), compensated("u3", "A", "old")]);
    let changes = log.iter().enumerate().map(|(n, event)| fold(record(n as u64, event), 1).0).collect();
    let applied = store.apply(0, ChangeBatch { after: None, changes }).await.unwrap();
    // 100 − 30 − 5 × 1 + 30 = 95: the old adjustment comes back once, the count stays.
    assert_eq!(by_sku(&store).await["A"][0]["onHand"], 95);
    assert_eq!(applied.refused.len(), 1, "{applied:?}");
    assert!(applied.refused[0].reason.contains("no longer in the kept history"), "{applied:?}");
}

#[tokio::test]
async fn a_compensation_whose_event_never_comes_is_refused_after_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { dedup_window: Duration::from_millis(5), ..WIDE };
    let store = EmbeddedStore::open(folder.path(), 1, limits).unwrap();
    let log = [compensated("u", "A", "never"), adjusted("a", "A", "X", 1)];
    // 1 ms an offset: offset 10 is past the window.
    let first = fold(record(0, &log[0]), 1).0;
    let later = fold(record(10, &log[1]), 1).0;
    let applied = store.apply(0, ChangeBatch { after: None, changes: vec![first, later] }).await.unwrap();
    assert_eq!(applied.refused.len(), 1);
    assert!(applied.refused[0].reason.contains("did not come within the dedup window"), "{applied:?}");
}
