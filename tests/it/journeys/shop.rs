//! The sessions of a shop, from a public data set: every number of every cell equals the oracle's.

use std::collections::HashSet;
use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tollgate::clock::Micros;
use tollgate::event::partition_of;
use tollgate::feature::{EmbeddedStore, FeatureStore, RedisStore};
use tollgate::journey::product::{self, Product};
use tollgate::journey::reading::closes_all;

use super::brute::{self, Spec};
use super::equal::{as_dumped, check, dumped};
use super::generate;
use super::log::{Log, Run, bounds};
use crate::support::redis;

const PARTITIONS: u16 = 3;

/// The real file that scripts/test made; where PyPI could not be reached, which it says, a generated one.
pub(super) fn events() -> Vec<Value> {
    if let Ok(path) = std::env::var("TOLLGATE_TEST_SHOP") {
        return std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let spec = generate::spec(&mut rng);
    // As the real one: in order, each once, and nothing taken back.
    let mut events = generate::generate(&mut rng, &spec, 3000);
    let mut seen = HashSet::new();
    events.retain(|event| event["type"] == "journey.recorded" && seen.insert(event["id"].to_string()));
    events.sort_by_key(brute::micros);
    events
}

pub(super) fn spec(visitor_unit: bool, source_sessions: bool) -> Spec {
    Spec {
        name: "shop",
        lateness_s: 600,
        window_s: 3600,
        visitor_unit,
        source_sessions,
        dimensions: vec!["platform"],
        total: true,
        actions: vec![
            ("view", vec!["product_view", "catalog", "search", "view", "look"]),
            ("add_to_cart", vec!["add_to_cart", "wishlist_add", "quick_add"]),
            ("checkout", vec!["shipping_details", "payment_details", "checkout", "pay"]),
            ("purchase", vec!["purchase", "buy", "buy_now"]),
            ("other", vec!["home", "promo_page", "support_chat"]),
        ],
        steps: vec!["view", "add_to_cart", "checkout", "purchase"],
        retention_period: "week",
        retention_timezone: "Europe/Berlin",
        retention_periods: 12,
    }
}

async fn every_number(spec: &Spec, product: &Product, store: Arc<dyn FeatureStore>) {
    let events = events();
    let last = events.iter().map(brute::micros).max().unwrap();
    let mut log = Log::new(PARTITIONS, Micros(last + 1));
    let mut of = vec![Vec::new(); usize::from(PARTITIONS)];
    for event in &events {
        log.add(event);
        let partition = usize::from(partition_of(event["subject"].as_str().unwrap(), PARTITIONS));
        of[partition].push((log.records[partition].last().unwrap().0.0, event.clone()));
    }
    log.pass(closes_all(Micros(last), &[Arc::new(product.clone())]));
    let mut run = Run::new(store, &log).await;
    run.finish(&mut log, &mut ChaCha8Rng::seed_from_u64(1)).await;
    let expected = as_dumped(spec, product, brute::expected(spec, &of, false));
    let found = dumped(run.lines().await);
    println!("{} events, {} cells and periods", events.len(), expected.len());
    // No event of the file is late.
    check(spec, &found, &expected, "the shop");
}

#[tokio::test]
async fn every_number_of_a_real_shop_is_the_oracles() {
    for (visitor_unit, source_sessions) in [(false, false), (false, true), (true, false), (true, true)] {
        let spec = spec(visitor_unit, source_sessions);
        let product = Product { k: 0, ..product::parse(&spec.toml()).unwrap() };
        let bounds = bounds(std::slice::from_ref(&product));
        let folder = tempfile::tempdir().unwrap();
        let embedded = EmbeddedStore::open(folder.path(), PARTITIONS, bounds.clone()).unwrap();
        every_number(&spec, &product, Arc::new(embedded)).await;
        let in_redis = RedisStore::open(&redis::single(), &redis::prefix(), PARTITIONS, bounds, None).await.unwrap();
        every_number(&spec, &product, Arc::new(in_redis)).await;
    }
}
