//! Whoever keeps every answer there ever was, of all ranges, granularities, slices and revisions, and adds and subtracts them in whatever
//! way, finds no cell, and no visitor, that fewer than k stand behind.
//!
//! Each event has an action of its own, so that the transitions of a cell tell which events are in it: a cell is a vector over events.
//! What can be found by elimination is the space that these vectors span.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tollgate::clock::Micros;
use tollgate::feature::{EmbeddedStore, FeatureStore};
use tollgate::journey::product::{self, Product};

use super::log::{Log, Run, bounds};
use crate::support::{self, full};

const EVENTS: usize = 180;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
/// Counting modulo a prime this large: what rational elimination finds, it finds.
const PRIME: u128 = (1 << 61) - 1;

type Cell = BTreeSet<usize>;

/// What is known: rows in echelon form, by their first column.
#[derive(Default)]
struct Known(BTreeMap<usize, Vec<u64>>);

fn times(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % PRIME) as u64
}

fn inverse(a: u64) -> u64 {
    let (mut result, mut base, mut left) = (1, a, PRIME - 2);
    while left > 0 {
        if left & 1 == 1 {
            result = times(result, base);
        }
        base = times(base, base);
        left >>= 1;
    }
    result
}

impl Known {
    /// What is left of a vector once all that is known is taken away.
    fn reduce(&self, mut row: Vec<u64>) -> Vec<u64> {
        for (column, known) in &self.0 {
            let factor = row[*column];
            if factor != 0 {
                for (value, known) in row.iter_mut().zip(known) {
                    *value = (u128::from(*value) + PRIME - u128::from(times(factor, *known))) as u64 % PRIME as u64;
                }
            }
        }
        row
    }

    fn add(&mut self, cell: &Cell) {
        let mut row = self.reduce(vector(cell));
        let Some(first) = row.iter().position(|value| *value != 0) else { return };
        let factor = inverse(row[first]);
        row.iter_mut().for_each(|value| *value = times(*value, factor));
        for known in self.0.values_mut() {
            let factor = known[first];
            for (value, new) in known.iter_mut().zip(&row) {
                *value = (u128::from(*value) + PRIME - u128::from(times(factor, *new))) as u64 % PRIME as u64;
            }
        }
        self.0.insert(first, row);
    }

    fn tells(&self, cell: &Cell) -> bool {
        self.reduce(vector(cell)).iter().all(|value| *value == 0)
    }
}

fn vector(cell: &Cell) -> Vec<u64> {
    (0..EVENTS).map(|event| u64::from(cell.contains(&event))).collect()
}

struct Shop {
    product: Product,
    /// By event: who, when, of which brand; none without a brand.
    events: Vec<(String, i64, Option<&'static str>)>,
}

impl Shop {
    fn generate(rng: &mut ChaCha8Rng, begin: i64) -> Self {
        let names: Vec<String> = (0..EVENTS).map(|n| format!("e{n}")).collect();
        let text = format!(
            "name = \"shop\"\nk = 10\nlateness = \"10m\"\nwindow = \"1h\"\nunit = \"session\"\nsteps = [\"any\"]\ntotal = {}\ndimensions = \
             {}\n[actions]\nany = {names:?}\n",
            true,
            if rng.random_bool(0.7) { "[\"brand\"]" } else { "[]" },
        );
        let product = Product { k: rng.random_range(2..=4), ..product::parse(&text).unwrap() };
        let (visitors, hours) = (rng.random_range(8..60), rng.random_range(3..60));
        let busy: Vec<i64> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..hours)).collect();
        let brands: &[Option<&'static str>] = match rng.random_range(0..3) {
            0 => &[Some("Alba"), Some("Birk")],
            1 => &[Some("Alba"), Some("Alba"), Some("Alba"), Some("Birk"), None],
            _ => &[Some("Alba"), Some("Birk"), Some("Cora"), None],
        };
        let mut events: Vec<_> = (0..EVENTS)
            .map(|_| {
                let hour = if rng.random_bool(0.5) { *busy.choose(rng).unwrap() } else { rng.random_range(0..hours) };
                let time = begin + hour * HOUR + rng.random_range(0..60) * MINUTE;
                (format!("v{}", rng.random_range(0..visitors)), time, *brands.choose(rng).unwrap())
            })
            .collect();
        events.sort_by_key(|(_, time, _)| *time);
        Self { product, events }
    }

    fn event(&self, n: usize) -> Value {
        let (visitor, time, brand) = &self.events[n];
        json!({
            "specversion": "1.0", "id": format!("e{n}"), "source": "/web", "type": "journey.recorded", "subject": visitor,
            "time": Micros(*time).timestamp().to_string(),
            "data": { "visitor": visitor, "action": format!("e{n}"), "brand": brand },
        })
    }

    fn visitors(&self, cell: &Cell) -> usize {
        cell.iter().map(|event| &self.events[*event].0).collect::<BTreeSet<_>>().len()
    }
}

/// The events of a cell that is answered.
fn events_of(line: &Value) -> Option<Cell> {
    let pairs = line["transitions"].as_array()?.iter();
    let actions = pairs.flat_map(|pair| [&pair[0], &pair[1]]).filter_map(|action| action.as_str()?.strip_prefix('e'));
    Some(actions.map(|number| number.parse().unwrap()).collect())
}

async fn attack(rng: &mut ChaCha8Rng, context: &str) -> (usize, usize) {
    // A Friday at the end of a month.
    let begin: Micros = "2026-01-30T06:00:00Z".parse::<jiff::Timestamp>().unwrap().into();
    let shop = Shop::generate(rng, begin.0);
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(rng.random_range(1..=3), Micros(begin.0 + 90 * 24 * HOUR));
    let store = EmbeddedStore::open(folder.path(), log.partitions(), bounds(std::slice::from_ref(&shop.product))).unwrap();
    let store: Arc<dyn FeatureStore> = Arc::new(store);
    let mut run = Run::new(store, &log).await;

    let (mut seen, mut known, mut revised) = (BTreeSet::new(), Known::default(), 0);
    let mut look = |lines: Vec<Value>| {
        for line in lines {
            if let Some(cell) = events_of(&line) {
                let visitors = shop.visitors(&cell);
                // A revision may take somebody out of what was released with just enough.
                assert!(line["revision"] != 0 || visitors >= shop.product.k as usize, "{visitors} visitors, {context}\n{line}");
                revised += usize::from(line["revision"] != 0);
                if seen.insert(cell.clone()) {
                    known.add(&cell);
                }
            }
        }
    };
    let mut late = Vec::new();
    for n in 0..EVENTS {
        if rng.random_bool(0.1) {
            late.push(n);
            continue;
        }
        log.add(&shop.event(n));
        if rng.random_bool(0.1) {
            log.pass(Micros(shop.events[n].1));
            run.finish(&mut log, rng).await;
            look(run.lines().await);
        }
        while rng.random_bool(0.04) {
            let of = rng.random_range(0..=n);
            let (visitor, time, _) = &shop.events[of];
            let time = Micros(*time).timestamp().to_string();
            let (kind, data) = if rng.random_bool(0.5) {
                ("visitor.erased", json!({ "visitor": visitor }))
            } else {
                ("event.compensated", json!({ "compensates": format!("e{of}"), "reason": "any" }))
            };
            log.add(&json!({
                "specversion": "1.0", "id": format!("x{}", rng.random::<u64>()), "source": "/web", "type": kind, "subject": visitor,
                "time": time, "data": data,
            }));
        }
    }
    // All that is late, many at once, and some who go.
    late.iter().for_each(|n| log.add(&shop.event(*n)));
    for days in [1, 3, 8, 35, 36] {
        log.pass(Micros(shop.events[EVENTS - 1].1 + days * 24 * HOUR));
        run.finish(&mut log, rng).await;
        look(run.lines().await);
        let gone: BTreeSet<String> = (0..rng.random_range(0..12)).map(|_| shop.events.choose(rng).unwrap().0.clone()).collect();
        for visitor in gone {
            log.add(&json!({
                "specversion": "1.0", "id": format!("x{}", rng.random::<u64>()), "source": "/web", "type": "visitor.erased",
                "subject": visitor, "time": "2026-03-20T00:00:00Z", "data": { "visitor": visitor },
            }));
        }
        run.finish(&mut log, rng).await;
        look(run.lines().await);
    }

    for row in known.0.values() {
        let found: Cell = (0..EVENTS).filter(|event| row[*event] != 0).collect();
        let visitors = shop.visitors(&found);
        assert!(visitors >= shop.product.k as usize, "elimination finds {visitors} visitors, {context}: {found:?}");
    }
    // Every cell that is too small, of events as they happened; every visitor; every event.
    let mut targets: BTreeSet<Cell> = (0..EVENTS).map(|event| Cell::from([event])).collect();
    for brand in [None, Some("Alba"), Some("Birk"), Some("Cora")] {
        for by in tollgate::journey::calendar::Granularity::ALL {
            let mut cells: BTreeMap<_, Cell> = BTreeMap::new();
            let of_brand = shop.events.iter().enumerate().filter(|(_, (.., of))| brand.is_none() || brand == *of);
            for (n, (_, time, _)) in of_brand {
                cells.entry(by.of(tollgate::journey::calendar::hour_of(Micros(*time))).number).or_default().insert(n);
            }
            targets.extend(cells.into_values());
        }
    }
    for visitor in shop.events.iter().map(|(visitor, ..)| visitor) {
        targets.insert((0..EVENTS).filter(|event| shop.events[*event].0 == *visitor).collect());
    }
    for target in targets.iter().filter(|target| shop.visitors(target) < shop.product.k as usize) {
        assert!(!known.tells(target), "elimination tells of {target:?}, {context}");
    }
    (seen.len(), revised)
}

#[tokio::test]
async fn no_elimination_tells_of_fewer_than_k() {
    let (seed, mut rng) = support::rng("no_elimination_tells_of_fewer_than_k");
    let (mut cells, mut revisions) = (0, 0);
    for n in 0..if full() { 3000 } else { 200 } {
        let (seen, revised) = attack(&mut rng, &format!("seed {seed}, case {n}")).await;
        cells += seen;
        revisions += revised;
    }
    println!("{cells} answers of different events, {revisions} looks at revised cells");
    assert!(cells > 1000 && revisions > 10, "it attacks something");
}
