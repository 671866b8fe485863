//! The contract suite of the feature store: every backend passes it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::clock::{Clock, Micros};
use tollgate::event::{EmbeddedLog, Identity, Position, Record, partition_of};
use tollgate::feature::{ChangeBatch, EmbeddedStore, FeatureStore, Limits, Read, RedisStore, Scope, Wanted};
use tollgate::projector::fold;

use crate::support::{adjusted, compensated, counted, price, redis, upserted};

const PARTITIONS: u16 = 3;
const LIMITS: Limits = Limits { dedup_window: Duration::from_secs(3600), dedup_ids_max: 1000, history_kept: 100 };
const APPENDED: Micros = Micros(1_780_000_000_000_000);

/// Applies events, each where its subject belongs.
async fn apply(store: &dyn FeatureStore, events: &[Value]) {
    for partition in 0..PARTITIONS {
        store.resume(partition).await.unwrap();
    }
    for event in events {
        let partition = partition_of(event["subject"].as_str().unwrap(), PARTITIONS);
        let after = store.resume(partition).await.unwrap();
        let at = Position { partition, offset: after.map_or(0, |last| last + 1) };
        let (change, invalid) = fold(Record { at, appended: APPENDED, payload: Bytes::from(event.to_string()) }, PARTITIONS);
        assert_eq!(invalid, None);
        store.apply(partition, ChangeBatch { after, changes: vec![change] }).await.unwrap();
    }
    for partition in 0..PARTITIONS {
        store.commit(partition, Some(APPENDED)).await.unwrap();
    }
}

fn ask(sku: &str, location: &str, market: &str) -> Read {
    let wanted = Wanted { locations: vec![location.into()], markets: vec![market.into()], histories: Vec::new() };
    Read { sku: sku.into(), wanted: wanted.into() }
}

async fn suite(store: Arc<dyn FeatureStore>) {
    let unknown = store.get_many(&[ask("A", "X", "DE")], &Scope::all(), APPENDED).await.unwrap();
    assert!(unknown[0].as_of.is_none(), "without a position the answer is not known");

    let mut scheduled = price("p2", "A", "DE", "9.00");
    scheduled["data"]["validFrom"] = json!("2030-01-01T00:00:00Z");
    let events = [
        upserted("u", "A", "Alba"),
        counted("c", "A", "X", 5),
        adjusted("a", "B", "X", -2),
        price("p", "A", "DE", "7.50"),
        scheduled,
    ];
    apply(&*store, &events).await;
    let found = store
        .get_many(&[ask("B", "X", "DE"), ask("Z", "X", "DE"), ask("A", "X", "DE"), ask("A", "Y", "AT")], &Scope::all(), APPENDED)
        .await
        .unwrap();
    let level = |n: usize| found[n].product.as_ref().unwrap().stock[0].map(|level| level.on_hand);
    let amount = |n: usize| found[n].product.as_ref().unwrap().prices[0].map(|price| price.amount.to_string());
    assert_eq!((level(0), amount(0)), (Some(-2), None), "answers come in the order asked");
    assert!(found[1].product.is_none() && found[1].as_of == Some(APPENDED));
    assert_eq!((level(2), amount(2)), (Some(5), Some("7.50".into())));
    assert_eq!((level(3), amount(3)), (None, None));
    // A future price takes effect at its instant, without an event.
    let then: Micros = "2030-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().into();
    for (now, expected) in [(Micros(then.0 - 1), "7.50"), (then, "9.00")] {
        let found = store.get_many(&[ask("A", "X", "DE")], &Scope::all(), now).await.unwrap();
        assert_eq!(found[0].product.as_ref().unwrap().prices[0].unwrap().amount.to_string(), expected);
    }

    let skus: Vec<String> = (0..30).map(|n| format!("S{n:02}")).collect();
    let many: Vec<Value> =
        skus.iter().map(|sku| upserted(&format!("u{sku}"), sku, if sku.ends_with('5') { "Birk" } else { "Cora" })).collect();
    apply(&*store, &many).await;
    let scan = async |after: Option<&str>, limit, scope: &[&str]| {
        let found = store.scan(after, limit, &Scope::parse(scope.iter().copied()).unwrap()).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(scan(Some("S"), 4, &[]).await, ["S00", "S01", "S02", "S03"]);
    assert_eq!(scan(None, 10, &["brand=Birk"]).await, ["S05", "S15", "S25"]);
    assert_eq!(scan(Some("S05"), 1, &["brand=Birk", "category=Tea"]).await, ["S15"]);
    assert_eq!(scan(None, 3, &["brand=Birk", "brand=Alba"]).await, ["A", "S05", "S15"]);
    assert!(scan(None, 10, &["brand=Birk", "supplier=nobody"]).await.is_empty());
    // What changes its brand changes places, and comes back when that is compensated.
    apply(&*store, &[upserted("u2S05", "S05", "Cora")]).await;
    assert_eq!(scan(None, 10, &["brand=Birk"]).await, ["S15", "S25"]);
    apply(&*store, &[compensated("xS05", "S05", "u2S05")]).await;
    assert_eq!(scan(None, 10, &["brand=Birk"]).await, ["S05", "S15", "S25"]);

    // B has no details: its stock at X is all that makes it known.
    let sees = async |scope: &[&str]| {
        let scope = Scope::parse(scope.iter().copied()).unwrap();
        let found = store.get_many(&[ask("B", "X", "DE"), ask("A", "X", "DE")], &scope, APPENDED).await.unwrap();
        let stock = |n: usize| found[n].product.as_ref().map(|product| product.stock[0].map(|level| level.on_hand));
        (stock(0), stock(1))
    };
    assert_eq!(sees(&["location=X"]).await, (Some(Some(-2)), Some(Some(5))));
    assert_eq!(sees(&["location=Y"]).await, (None, Some(None)));
    assert_eq!(sees(&["brand=Alba"]).await, (None, Some(Some(5))));
    assert_eq!(sees(&["market=DE", "location=X"]).await, (Some(Some(-2)), Some(Some(5))));
    assert_eq!(scan(None, 2, &["location=Y"]).await, ["A", "S00"]);

    let seen = |id: &str, now| store.has_seen(partition_of("A", PARTITIONS), Identity::of("/t", id), now);
    assert!(seen("c", APPENDED) && !seen("never", APPENDED));
    assert!(!seen("c", APPENDED.plus(Duration::from_secs(3601))), "past the window another copy counts again");
    store.commit(0, Some(Micros(APPENDED.0 - 1))).await.unwrap();
    assert_eq!(store.standings().await.unwrap()[0].as_of, Some(APPENDED), "freshness does not go back");
}

#[tokio::test]
async fn the_embedded_store_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    suite(Arc::new(EmbeddedStore::open(folder.path(), PARTITIONS, LIMITS).unwrap())).await;
}

#[tokio::test]
async fn the_store_in_redis_passes_the_suite() {
    suite(Arc::new(RedisStore::open(&redis::single(), &redis::prefix(), PARTITIONS, LIMITS, None).await.unwrap())).await;
}

#[tokio::test]
async fn the_store_in_a_redis_cluster_passes_the_suite() {
    suite(Arc::new(RedisStore::open(&redis::cluster(), &redis::prefix(), PARTITIONS, LIMITS, None).await.unwrap())).await;
}

#[tokio::test]
async fn a_damaged_snapshot_gives_way_to_the_one_before_and_two_to_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), PARTITIONS, LIMITS).unwrap();
    apply(&store, &[counted("c", "A", "X", 5)]).await;
    assert_eq!(store.checkpoint().unwrap(), None, "with one snapshot nothing may be let go of");
    let older = store.dump().await.unwrap();
    apply(&store, &[counted("c2", "A", "X", 6)]).await;
    assert!(store.checkpoint().unwrap().is_some());
    let mut snapshots: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    snapshots.sort();
    let damage = |path: &std::path::Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    damage(&snapshots[1]);
    assert_eq!(EmbeddedStore::open(folder.path(), PARTITIONS, LIMITS).unwrap().dump().await.unwrap(), older);
    damage(&snapshots[0]);
    let error = EmbeddedStore::open(folder.path(), PARTITIONS, LIMITS).err().unwrap().to_string();
    assert!(error.contains("no snapshot in"), "{error}");
}

#[tokio::test]
async fn a_narrow_scope_pages_as_if_there_was_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), 1, Limits { dedup_ids_max: 1 << 20, ..LIMITS }).unwrap();
    let changes = (0..36_000)
        .map(|n| {
            let event = upserted(&format!("u{n}"), &format!("S{n:06}"), if n % 9000 == 7 { "Rare" } else { "Many" });
            let at = Position { partition: 0, offset: n as u64 };
            fold(Record { at, appended: APPENDED, payload: Bytes::from(event.to_string()) }, 1).0
        })
        .collect();
    store.apply(0, ChangeBatch { after: None, changes }).await.unwrap();
    let scope = Scope::parse(["brand=Rare"]).unwrap();
    let first = store.scan(None, 3, &scope).await.unwrap();
    assert_eq!(first.iter().map(|sku| &**sku).collect::<Vec<_>>(), ["S000007", "S009007", "S018007"]);
    assert_eq!(store.scan(Some(&first[2]), 3, &scope).await.unwrap().len(), 1);
    // A store that was opened from a snapshot has the same index.
    store.checkpoint().unwrap();
    let reopened = EmbeddedStore::open(folder.path(), 1, LIMITS).unwrap();
    assert_eq!(reopened.scan(None, 3, &scope).await.unwrap(), first);
}

#[tokio::test]
async fn a_hundred_scheduled_prices_leave_the_one_in_force_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), 1, Limits { history_kept: 5, ..LIMITS }).unwrap();
    let mut events = vec![price("p", "A", "DE", "7.50")];
    for day in 0..120 {
        let mut scheduled = price(&format!("s{day}"), "A", "DE", "9.00");
        scheduled["time"] = json!("2026-01-05T09:00:00Z");
        let begins = Micros(APPENDED.0 + 86_400_000_000 * (day + 1));
        scheduled["data"]["validFrom"] = json!(begins.to_string());
        events.push(scheduled);
    }
    let changes = events
        .iter()
        .enumerate()
        .map(|(n, event)| {
            let at = Position { partition: 0, offset: n as u64 };
            fold(Record { at, appended: APPENDED, payload: Bytes::from(event.to_string()) }, 1).0
        })
        .collect();
    let applied = store.apply(0, ChangeBatch { after: None, changes }).await.unwrap();
    store.commit(0, Some(APPENDED)).await.unwrap();
    assert_eq!(applied.refused.len(), 21, "the price in force and 99 to come");
    assert!(applied.refused[0].reason.contains("100 prices of this market are scheduled already"));
    let found = store.get_many(&[ask("A", "X", "DE")], &Scope::all(), APPENDED).await.unwrap();
    assert_eq!(found[0].product.as_ref().unwrap().prices[0].unwrap().amount.to_string(), "7.50");
}

#[tokio::test]
async fn a_log_that_ends_before_the_stores_position_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let options = tollgate::segment::Options { segment_bytes: 1 << 20, durability: tollgate::config::Durability::Fsync };
    let log = EmbeddedLog::open(folder.path(), 1, options, Clock::system()).unwrap();
    let error = log.check_reaches(&[Some(3)]).unwrap_err().to_string();
    assert!(error.contains("ends before the position of the feature store's snapshot"), "{error}");
}
