//! Every number of every cell equals that of the oracle: whatever the product, the events, the batches and the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tollgate::clock::Micros;
use tollgate::feature::{EmbeddedStore, FeatureStore, ObjectCheckpoints, RedisStore};
use tollgate::journey::product::{self, Product};

use super::brute::{self, Spec};
use super::generate;
use super::log::{Log, Run, bounds};
use crate::support::{self, redis};

const PATHS_MAX: usize = 20;

fn day(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn name(cell: &Value) -> String {
    format!("{} {} {} {} {}", cell["kind"], cell["slice"], cell["by"], cell["from"], cell["period"])
}

/// The oracle's cells, as the dump has them.
pub(super) fn as_dumped(spec: &Spec, product: &Product, cells: Vec<Value>) -> BTreeMap<String, Value> {
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for mut cell in cells {
        let of = name(&cell);
        match cell["kind"].as_str().unwrap() {
            "retention" => {
                let row = found.entry(of).or_insert_with(|| {
                    json!({ "kind": "retention", "product": spec.name, "slice": cell["slice"], "period": cell["period"], "cohorts": [] })
                });
                row["cohorts"].as_array_mut().unwrap().push(json!([cell["cohort"], cell["visitors"]]));
            }
            "journey" => {
                let number = |action: &Value| product.action(action.as_str().unwrap()).map_or(255, u32::from);
                let object = cell.as_object_mut().unwrap();
                let seconds = object.remove("convertSeconds").unwrap();
                if object["converted"] != 0 {
                    object.insert("timeToConvert".into(), duration(&seconds));
                }
                object.remove("convertVisitors");
                let steps =
                    object["funnel"].as_array().unwrap().iter().map(|step| json!([step["units"], median(&step["seconds"])]));
                let steps: Vec<Value> = steps.collect();
                object.insert("funnel".into(), json!(steps));
                let paths = object["paths"].as_array_mut().unwrap();
                paths.sort_by_key(|path| {
                    let actions: Vec<u32> = path[0].as_array().unwrap().iter().map(number).collect();
                    (-path[1].as_i64().unwrap(), actions)
                });
                paths.truncate(PATHS_MAX);
                found.insert(of, cell);
            }
            _ => {}
        }
    }
    found
}

fn pairs(seconds: &Value) -> Vec<(i64, i64)> {
    seconds.as_array().unwrap().iter().map(|pair| (pair[0].as_i64().unwrap(), pair[1].as_i64().unwrap())).collect()
}

fn all(seconds: &Value) -> Vec<i64> {
    let mut all: Vec<i64> = pairs(seconds).iter().flat_map(|(seconds, n)| vec![*seconds; usize::try_from(*n).unwrap()]).collect();
    all.sort_unstable();
    all
}

fn median(seconds: &Value) -> Value {
    let all = all(seconds);
    if all.is_empty() { Value::Null } else { json!(all[(all.len() - 1) / 2] + all[all.len() / 2]) }
}

fn duration(seconds: &Value) -> Value {
    let all = all(seconds);
    json!({ "count": all.len(), "seconds": all.iter().sum::<i64>(), "medianDoubled": median(seconds) })
}

/// The dump's cells, without those of nobody, which a bound of nobody lets through.
pub(super) fn dumped(lines: Vec<Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for mut line in lines {
        let of = name(&line);
        let object = line.as_object_mut().unwrap();
        if object.get("timeToConvert").is_some_and(|of| of["count"] == 0) {
            object.remove("timeToConvert");
        }
        object.remove("revision");
        if let Some(transitions) = object.get_mut("transitions") {
            let text = |pair: &Value, n: usize| pair[n].as_str().unwrap().to_owned();
            transitions.as_array_mut().unwrap().sort_by_key(|pair| (text(pair, 0), text(pair, 1)));
        }
        let is_of_nobody = is_of_nobody(object);
        match object["kind"].as_str().unwrap() {
            "retention" => _ = found.insert(of, line),
            "journey" if !is_of_nobody => {
                // A layer of nobody may be there or not.
                let nothing = [
                    ("sessions", json!(0)),
                    ("visitors", json!(0)),
                    ("transitions", json!([])),
                    ("paths", json!([])),
                    ("carts", json!(0)),
                    ("abandoned", json!(0)),
                    ("converted", json!(0)),
                ];
                for (field, value) in nothing {
                    object.entry(field).or_insert(value);
                }
                found.insert(of, line);
            }
            _ => {}
        }
    }
    found
}

pub(super) fn check(spec: &Spec, found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>, context: &str) {
    let steps = json!(vec![json!([0, null]); spec.steps.len()]);
    for (name, expected) in expected {
        let mut line = found.get(name).unwrap_or_else(|| panic!("{name} is missing, {context}\n{expected}")).clone();
        if line["kind"] == "journey" {
            line.as_object_mut().unwrap().entry("funnel").or_insert(steps.clone());
        }
        assert_eq!(line, *expected, "{name}, {context}");
    }
    for (name, line) in found {
        assert!(expected.contains_key(name), "{name} is too much, {context}\n{line}");
    }
}

/// Leaves of a cell what somebody in time stands behind; whether that is anything.
fn without_late_only(spec: &Spec, cell: &mut Value, in_time: Option<&Value>) -> bool {
    if cell["kind"] == "retention" {
        return true;
    }
    let Some(in_time) = in_time else { return false };
    let cell = cell.as_object_mut().unwrap();
    if in_time["sessions"] == 0 {
        let nothing = [("sessions", json!(0)), ("visitors", json!(0)), ("transitions", json!([])), ("paths", json!([]))];
        cell.extend(nothing.map(|(field, value)| (field.to_owned(), value)));
        cell.extend(["carts", "abandoned", "converted"].map(|field| (field.to_owned(), json!(0))));
    }
    if in_time.get("timeToConvert").is_none() {
        cell.remove("timeToConvert");
    }
    if spec.visitor_unit && in_time["funnel"][0][0] == 0 {
        cell.insert("funnel".into(), json!(vec![json!([0, null]); spec.steps.len()]));
    }
    !is_of_nobody(cell)
}

fn is_of_nobody(cell: &serde_json::Map<String, Value>) -> bool {
    cell.get("sessions").is_none_or(|n| *n == 0)
        && cell.get("funnel").is_none_or(|steps| steps.as_array().unwrap().iter().all(|step| step[0] == 0))
}

/// `open` opens the store as a process does that starts, after what was there is saved, or is not.
async fn case(rng: &mut ChaCha8Rng, context: &str, open: impl AsyncFn(&Product, u16, bool) -> Arc<dyn FeatureStore>) {
    let spec = generate::spec(rng);
    let mut product = product::parse(&spec.toml()).unwrap();
    // Whatever is counted is told.
    product.k = 0;
    let length = rng.random_range(1..250);
    let events = generate::generate(rng, &spec, length);
    let times = events.iter().map(brute::micros);
    let last = times.max().unwrap();
    // The clock of a third of the logs is behind that of producers.
    let begin = if rng.random_bool(0.3) { last - rng.random_range(0..86_000_000_000) } else { last + 1 };
    let mut log = Log::new(rng.random_range(1..=4), Micros(begin));
    let partitions = log.partitions();
    let mut run = Run::new(open(&product, partitions, false).await, &log).await;
    let mut events_of = vec![Vec::new(); usize::from(partitions)];
    for event in &events {
        log.add(event);
        let partition = tollgate::event::partition_of(event["subject"].as_str().unwrap(), partitions);
        let (appended, _) = log.records[usize::from(partition)].last().unwrap();
        events_of[usize::from(partition)].push((appended.0, event.clone()));
        while rng.random_bool(0.05) {
            let most = rng.random_range(1..30);
            run.apply(&log, rng.random_range(0..partitions), most).await;
            run.tell(&mut log, rng);
        }
        if rng.random_bool(0.01) {
            run = Run::new(open(&product, partitions, rng.random_bool(0.7)).await, &log).await;
        }
    }
    run.finish(&mut log, rng).await;
    // All that began is over, and weeks and months are not: what was late is not told yet.
    let soon = Micros(last).plus(product.window + product.lateness + Duration::from_secs(26 * 3600));
    log.pass(soon);
    run.finish(&mut log, rng).await;
    let short = |cells: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        let decided = |cell: &Value| {
            let begin: Micros = cell["from"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().into();
            begin.plus(product.window + product.lateness + day(1)) <= soon
        };
        cells.into_iter().filter(|(_, cell)| (cell["by"] == "hour" || cell["by"] == "day") && decided(cell)).collect()
    };
    let expected = as_dumped(&spec, &product, brute::expected(&spec, &events_of, false));
    check(&spec, &short(dumped(run.lines().await)), &short(expected), &format!("first, {context}"));

    log.pass(Micros(last).plus(day(34)));
    run.finish(&mut log, rng).await;
    let in_time = as_dumped(&spec, &product, brute::expected(&spec, &events_of, false));
    let mut expected = as_dumped(&spec, &product, brute::expected(&spec, &events_of, true));
    let mut found = dumped(run.lines().await);
    // What nobody stood behind in time was decided on as such: late events begin no cell.
    for cells in [&mut expected, &mut found] {
        cells.retain(|name, cell| without_late_only(&spec, cell, in_time.get(name)));
    }
    check(&spec, &found, &expected, &format!("at last, {context}"));
}

#[tokio::test]
async fn every_number_is_the_oracles_in_the_embedded_store() {
    let (seed, mut rng) = support::rng("every_number_is_the_oracles_in_the_embedded_store");
    for n in 0..1000 {
        let (folder, held) = (tempfile::tempdir().unwrap(), Mutex::new(None::<Arc<EmbeddedStore>>));
        let open = async |product: &Product, partitions, saves| -> Arc<dyn FeatureStore> {
            let before = held.lock().unwrap().take();
            before.filter(|_| saves).into_iter().for_each(|before| _ = before.checkpoint().unwrap());
            let store = EmbeddedStore::open(folder.path(), partitions, bounds(std::slice::from_ref(product)));
            let store = Arc::new(store.unwrap());
            *held.lock().unwrap() = Some(store.clone());
            let store: Arc<dyn FeatureStore> = store;
            store
        };
        case(&mut rng, &format!("seed {seed}, case {n}"), open).await;
    }
}

#[tokio::test]
async fn every_number_is_the_oracles_in_redis() {
    let (seed, mut rng) = support::rng("every_number_is_the_oracles_in_redis");
    for n in 0..1000 {
        let (folder, prefix) = (tempfile::tempdir().unwrap(), redis::prefix());
        let held = Mutex::new(None::<Arc<RedisStore>>);
        let open = async |product: &Product, partitions, saves| -> Arc<dyn FeatureStore> {
            let before = held.lock().unwrap().take();
            if let Some(before) = before.filter(|_| saves) {
                for partition in 0..partitions {
                    before.release(partition).await;
                }
            }
            let (bounds, checkpoints) =
                (bounds(std::slice::from_ref(product)), ObjectCheckpoints::folder(folder.path()).unwrap());
            let store = RedisStore::open(&redis::single(), &prefix, partitions, bounds, Some(Arc::new(checkpoints))).await;
            let store = Arc::new(store.unwrap());
            *held.lock().unwrap() = Some(store.clone());
            let store: Arc<dyn FeatureStore> = store;
            store
        };
        case(&mut rng, &format!("seed {seed}, case {n}"), open).await;
    }
}
