//! The feature store in Redis where it is not alone: other processes write, Redis loses what it had, servers die. Whatever happens, it
//! ends as the embedded store that saw the same events once.

mod checkpoint;
mod generation;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tollgate::clock::Micros;
use tollgate::feature::{
    ApplyError, ChangeBatch, Checkpoints, EmbeddedStore, FeatureStore, Limits, ObjectCheckpoints, PriceHistory, Read, RedisStore,
    Scope, Wanted,
};
use tollgate::projector::fold;

use crate::exactly_once::{START, generate, record};
use crate::support::redis::Redis;
use crate::support::{self, adjusted, compensated, counted, full, price, redis, upserted};

const WIDE: Limits = Limits { dedup_window: Duration::from_secs(1 << 20), dedup_ids_max: 1 << 20, history_kept: 100 };

async fn open(url: &str, prefix: &str) -> RedisStore {
    RedisStore::open(url, prefix, 1, WIDE, None).await.unwrap()
}

fn batch(log: &[Value], from: usize, to: usize) -> ChangeBatch {
    let changes = (from..to).map(|n| fold(record(n as u64, &log[n]), 1).0).collect();
    ChangeBatch { after: from.checked_sub(1).map(|last| last as u64), changes }
}

/// Complete up to this, when the first `events` are applied.
fn complete_to(events: usize) -> Option<Micros> {
    Some(Micros(START + 1000 * i64::try_from(events).unwrap() - 1))
}

/// What the projector does: brings the store to where the first `until` events of `log` are applied and seen.
async fn follow(store: &dyn FeatureStore, log: &[Value], until: usize, step: usize) {
    let mut failures = 0;
    let mut at = None;
    loop {
        let from = match at {
            Some(at) => at,
            None => match store.resume(0).await {
                Ok(stands) => stands.map_or(0, |last| last as usize + 1),
                Err(error) => {
                    failures += 1;
                    assert!(failures < 100, "{error:#}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let to = (from + step).min(until);
        let taken = async {
            if from < to {
                store.apply(0, batch(log, from, to)).await?;
            }
            store.commit(0, complete_to(to.max(from))).await
        };
        match taken.await {
            Ok(()) if to == until => return,
            Ok(()) => at = Some(to),
            Err(error) => {
                failures += 1;
                assert!(failures < 100, "{error:#}");
                at = None;
            }
        }
    }
}

/// What the embedded store says after the same events.
async fn embedded(log: &[Value], until: usize, limits: Limits) -> EmbeddedStore {
    let store = EmbeddedStore::empty(Path::new("/nowhere"), 1, limits);
    if until > 0 {
        store.apply(0, batch(log, 0, until)).await.unwrap();
    }
    store.commit(0, complete_to(until)).await.unwrap();
    store
}

/// Everything that can be asked of the SKUs of [`generate`], in words.
async fn answers(store: &dyn FeatureStore) -> Vec<String> {
    let history = |market: &str, from, to, limit| PriceHistory { market: market.into(), from, to, limit };
    let some: Micros = "2026-01-05T08:00:30Z".parse::<jiff::Timestamp>().unwrap().into();
    let wanted = Arc::new(Wanted {
        locations: vec!["X".into(), "Y".into(), "Z".into()],
        markets: vec!["Y".into(), "X".into(), "Z".into()],
        histories: vec![history("X", None, None, 100), history("Y", Some(some), None, 3), history("X", None, Some(some), 2)],
    });
    let plain = Arc::new(Wanted { markets: vec!["X".into()], ..Wanted::default() });
    let mut reads: Vec<Read> = ["C", "A", "nothing", "B", "A"].map(|sku| Read { sku: sku.into(), wanted: wanted.clone() }).into();
    reads.push(Read { sku: "A".into(), wanted: plain });
    let mut told = Vec::new();
    for scope in [&[][..], &["brand=Alba"], &["brand=Alba", "category=Tea"], &["location=X"], &["market=Y", "location=Y"]] {
        let scope = Scope::parse(scope.iter().copied()).unwrap();
        for now in ["2026-01-05T07:00:00Z", "2026-01-05T08:00:20Z", "2026-02-01T12:00:00Z", "2027-01-01T00:00:00Z"] {
            let now: Micros = now.parse::<jiff::Timestamp>().unwrap().into();
            told.push(format!("{scope:?} {now}: {:?}", store.get_many(&reads, &scope, now).await.unwrap()));
        }
        for (after, limit) in [(None, 1), (None, 10), (Some("A"), 1), (Some("B"), 2)] {
            told.push(format!("{scope:?} {after:?} {limit}: {:?}", store.scan(after, limit, &scope).await.unwrap()));
        }
    }
    told
}

async fn assert_same(store: &dyn FeatureStore, log: &[Value], until: usize, limits: Limits, what: &str) {
    let expected = embedded(log, until, limits).await;
    assert_eq!(store.dump().await.unwrap(), expected.dump().await.unwrap(), "{what}");
    for (found, expected) in answers(store).await.into_iter().zip(answers(&expected).await) {
        assert_eq!(found, expected, "{what}");
    }
    let standing = store.standings().await.unwrap()[0];
    assert_eq!((standing.applied, standing.as_of), (until.checked_sub(1).map(|last| last as u64), complete_to(until)), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_stream_over_any_restarts_ends_as_in_the_embedded_store() {
    let (seed, mut rng) = support::rng("any_stream_over_any_restarts_ends_as_in_the_embedded_store");
    for case in 0..if full() { 600 } else { 60 } {
        let length = rng.random_range(1..60);
        let log = generate(&mut rng, length);
        let limits = if rng.random_bool(0.5) {
            WIDE
        } else {
            Limits {
                dedup_window: Duration::from_millis(rng.random_range(1..60)),
                dedup_ids_max: rng.random_range(1..60),
                history_kept: rng.random_range(1..5),
            }
        };
        let url = if case % 4 == 3 { redis::cluster() } else { redis::single() };
        let prefix = redis::prefix();
        let folder = tempfile::tempdir().unwrap();
        let checkpoints: Option<Arc<dyn Checkpoints>> =
            if rng.random_bool(0.5) { Some(Arc::new(ObjectCheckpoints::folder(folder.path()).unwrap())) } else { None };
        let what = format!("seed {seed}, case {case}, {limits:?}, {} events", log.len());
        let open = async || RedisStore::open(&url, &prefix, 1, limits, checkpoints.clone()).await.unwrap();
        // Two processes: the partition goes to and fro between them, and now and then one of them dies.
        let mut stores = [open().await, open().await];
        let mut until = 0;
        while until < log.len() {
            until = (until + rng.random_range(1..=20)).min(log.len());
            let one = rng.random_range(0..2);
            follow(&stores[one], &log, until, rng.random_range(1..=12)).await;
            match rng.random_range(0..5) {
                0 => stores[one] = open().await,
                1 => stores[one].release(0).await,
                _ => {}
            }
        }
        assert_same(&stores[rng.random_range(0..2)], &log, until, limits, &what).await;
        assert_same(&open().await, &log, until, limits, &what).await;
    }
}

/// Values that Redis has under a prefix, to be brought back.
async fn backup(connection: &mut MultiplexedConnection, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let keys: Vec<String> = ::redis::cmd("KEYS").arg(format!("*{prefix}*")).query_async(connection).await.unwrap();
    let mut values = Vec::new();
    for key in keys {
        let value: Vec<u8> = ::redis::cmd("DUMP").arg(&key).query_async(connection).await.unwrap();
        values.push((key, value));
    }
    values
}

async fn wipe(connection: &mut MultiplexedConnection, prefix: &str) {
    let keys: Vec<String> = ::redis::cmd("KEYS").arg(format!("*{prefix}*")).query_async(connection).await.unwrap();
    for key in keys {
        ::redis::cmd("DEL").arg(key).exec_async(connection).await.unwrap();
    }
}

async fn restore(connection: &mut MultiplexedConnection, values: &[(String, Vec<u8>)]) {
    for (key, value) in values {
        ::redis::cmd("RESTORE").arg(key).arg(0).arg(value).exec_async(connection).await.unwrap();
    }
}

async fn connection() -> MultiplexedConnection {
    ::redis::Client::open(redis::single()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_loses_or_forgets_is_written_again() {
    let (seed, mut rng) = support::rng("what_redis_loses_or_forgets_is_written_again");
    let mut behind = connection().await;
    for case in 0..if full() { 200 } else { 30 } {
        let log = generate(&mut rng, 60);
        let prefix = redis::prefix();
        let folder = tempfile::tempdir().unwrap();
        let checkpoints: Arc<dyn Checkpoints> = Arc::new(ObjectCheckpoints::folder(folder.path()).unwrap());
        let open = async || RedisStore::open(&redis::single(), &prefix, 1, WIDE, Some(checkpoints.clone())).await.unwrap();
        let mut store = open().await;
        let mut older = Vec::new();
        let mut until = 0;
        while until < log.len() {
            until = (until + rng.random_range(1..=20)).min(log.len());
            follow(&store, &log, until, rng.random_range(1..=12)).await;
            match rng.random_range(0..6) {
                0 => older = backup(&mut behind, &prefix).await,
                1 => wipe(&mut behind, &prefix).await,
                2 if !older.is_empty() => {
                    wipe(&mut behind, &prefix).await;
                    restore(&mut behind, &older).await;
                }
                3 => store.release(0).await,
                4 => store = open().await,
                _ => {}
            }
        }
        // Once more, past whatever was done last.
        follow(&store, &log, until, 12).await;
        assert_same(&open().await, &log, until, WIDE, &format!("seed {seed}, case {case}")).await;
    }
}

#[tokio::test]
async fn who_lost_a_partition_changes_nothing_more_and_can_come_back() {
    let (url, prefix) = (redis::single(), redis::prefix());
    let log = [
        upserted("u", "A", "Alba"),
        counted("c", "A", "X", 5),
        price("p", "A", "DE", "7.50"),
        upserted("u2", "A", "Birk"),
        counted("c2", "A", "X", 6),
        compensated("x", "A", "u2"),
        upserted("u3", "B", "Cora"),
    ];
    let (zombie, owner) = (open(&url, &prefix).await, open(&url, &prefix).await);
    follow(&zombie, &log, 3, 3).await;
    follow(&owner, &log, 4, 1).await;
    let seen = owner.dump().await.unwrap();
    let standing = owner.standings().await.unwrap()[0].as_of;
    // It has read more than the other by now, and claims to be complete far ahead.
    zombie.apply(0, batch(&log, 3, 6)).await.unwrap();
    let refused = zombie.commit(0, complete_to(500)).await;
    assert!(matches!(refused, Err(ApplyError::Moved { stands: Some(3), expected: Some(2) })), "{refused:?}");
    assert_eq!(owner.dump().await.unwrap(), seen);
    assert_eq!(owner.standings().await.unwrap()[0].as_of, standing, "freshness is not claimed by who lost the partition");
    // It goes on from what it has folded: the other wrote less.
    assert_eq!(zombie.resume(0).await.unwrap(), Some(5));
    zombie.commit(0, complete_to(6)).await.unwrap();
    assert_same(&zombie, &log, 6, WIDE, "the one that came back").await;
    // And the other reads what it missed.
    assert_eq!(owner.resume(0).await.unwrap(), Some(3));
    follow(&owner, &log, 7, 7).await;
    assert_same(&owner, &log, 7, WIDE, "the other").await;
}

#[tokio::test]
async fn a_batch_that_nobody_committed_is_seen_by_nobody() {
    let (url, prefix) = (redis::single(), redis::prefix());
    let log = [counted("c", "A", "X", 5), counted("c2", "A", "X", 6)];
    let (writer, reader) = (open(&url, &prefix).await, open(&url, &prefix).await);
    follow(&writer, &log, 1, 1).await;
    let before = reader.dump().await.unwrap();
    writer.apply(0, batch(&log, 1, 2)).await.unwrap();
    assert_eq!(reader.dump().await.unwrap(), before);
    writer.commit(0, None).await.unwrap();
    assert_ne!(reader.dump().await.unwrap(), before);
    // Who folds nothing knows no ids, and says so; what was let go of is not applied to.
    assert_eq!((reader.standings().await.unwrap()[0].ids, writer.standings().await.unwrap()[0].ids), (0, 2));
    writer.release(0).await;
    let refused = writer.apply(0, batch(&log, 1, 2)).await;
    assert!(matches!(refused, Err(ApplyError::Moved { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_a_batch_whole_with_its_own_freshness() {
    for url in [redis::single(), redis::cluster()] {
        let prefix = redis::prefix();
        let writer = open(&url, &prefix).await;
        writer.resume(0).await.unwrap();
        let log: Vec<Value> = (0..400)
            .flat_map(|n| ["A", "B"].map(|sku| counted(&format!("{sku}{n}"), sku, "X", n)))
            .enumerate()
            .map(|(n, mut event)| {
                event["data"]["version"] = n.into();
                event
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, reader) = (stop.clone(), open(&url, &prefix).await);
        let reading = tokio::spawn(async move {
            let wanted = Arc::new(Wanted { locations: vec!["X".into()], ..Wanted::default() });
            let reads = ["A", "B"].map(|sku| Read { sku: sku.into(), wanted: wanted.clone() });
            let mut seen = std::collections::BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                let found = reader.get_many(&reads, &Scope::all(), Micros(START)).await.unwrap();
                let level = |n: usize| found[n].product.as_ref().map(|product| product.stock[0].unwrap().on_hand);
                assert_eq!(level(0), level(1), "half a batch was seen");
                if let Some(level) = level(0) {
                    assert_eq!(found[0].as_of, complete_to(level as usize), "with the freshness of another instant");
                    seen.insert(level);
                }
            }
            seen.len()
        });
        for n in 0..400 {
            writer.apply(0, batch(&log, 2 * n, 2 * n + 2)).await.unwrap();
            writer.commit(0, complete_to(n)).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let seen = reading.await.unwrap();
        assert!(seen > 10, "{seen} of 400 batches were looked at");
    }
}

async fn calls(connection: &mut MultiplexedConnection) -> std::collections::BTreeMap<String, u64> {
    let info: String = ::redis::cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
    let of = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(of).collect()
}

#[tokio::test]
async fn however_much_is_asked_it_is_one_command() {
    let server = Redis::start(false).await;
    let log: Vec<Value> = (0..50).map(|n| price(&format!("p{n}"), &format!("S{n}"), "DE", "7.50")).collect();
    follow(&open(&server.url(), "tg").await, &log, 50, 50).await;
    let store = open(&server.url(), "tg").await;
    let history = PriceHistory { market: "DE".into(), from: None, to: None, limit: 10 };
    let wanted = Arc::new(Wanted { markets: vec!["DE".into()], histories: vec![history], ..Wanted::default() });
    let reads: Vec<Read> = (0..60).map(|n| Read { sku: format!("S{n}"), wanted: wanted.clone() }).collect();
    let mut behind = server.connection().await;
    let before = calls(&mut behind).await;
    let found = store.get_many(&reads, &Scope::all(), Micros(START)).await.unwrap();
    let mut after = calls(&mut behind).await;
    assert_eq!(found.iter().filter(|found| found.product.as_ref().is_some_and(|p| p.histories[0].is_some())).count(), 50);
    for (name, calls) in before {
        *after.get_mut(&name).unwrap() -= calls;
    }
    // INFO is this test's own.
    after.retain(|name, calls| *calls > 0 && name != "info");
    assert_eq!(after, [("mget".to_owned(), 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_or_hangs_is_told_of_and_comes_back() {
    let (_, mut rng) = support::rng("a_server_that_dies_or_hangs_is_told_of_and_comes_back");
    for keeps_its_data in [true, false] {
        let mut server = Redis::start(keeps_its_data).await;
        let (writer, reader) = (open(&server.url(), "tg").await, open(&server.url(), "tg").await);
        let log = generate(&mut rng, 60);
        follow(&writer, &log, 20, 5).await;
        writer.apply(0, batch(&log, 20, 25)).await.unwrap();

        server.kill();
        let begun = Instant::now();
        assert!(reader.scan(None, 1, &Scope::all()).await.is_err());
        assert!(reader.get_many(&[Read { sku: "A".into(), ..Read::default() }], &Scope::all(), Micros(START)).await.is_err());
        assert!(matches!(writer.commit(0, complete_to(25)).await, Err(ApplyError::Failed(_))));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        server.restart().await;
        follow(&writer, &log, 40, 5).await;
        assert_same(&reader, &log, 40, WIDE, "after the server's death").await;

        server.suspend();
        let begun = Instant::now();
        assert!(reader.standings().await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        writer.apply(0, batch(&log, 40, 50)).await.unwrap();
        // Whether it took effect nobody knows yet: the server has it in its inbox.
        assert!(matches!(writer.commit(0, complete_to(50)).await, Err(ApplyError::Failed(_))));
        server.resume();
        follow(&writer, &log, log.len(), 5).await;
        assert_same(&reader, &log, log.len(), WIDE, "after the server hung").await;
    }
}

#[tokio::test]
async fn a_partition_without_a_position_is_no_empty_one() {
    let (url, prefix) = (redis::single(), redis::prefix());
    let (writer, reader) = (open(&url, &prefix).await, open(&url, &prefix).await);
    assert!(reader.scan(None, 1, &Scope::all()).await.unwrap_err().to_string().contains("has no position yet"));
    // A log without an event is complete as well.
    follow(&writer, &[], 0, 1).await;
    assert!(reader.scan(None, 1, &Scope::all()).await.unwrap().is_empty());
    assert_eq!(reader.standings().await.unwrap()[0].as_of, complete_to(0));
    let log = [counted("c", "A", "X", 5)];
    follow(&writer, &log, 1, 1).await;
    let mut behind = connection().await;
    let head: String = {
        let keys: Vec<String> = ::redis::cmd("KEYS").arg(format!("*{prefix}*:h")).query_async(&mut behind).await.unwrap();
        keys[0].clone()
    };
    ::redis::cmd("SET").arg(head).arg("~other -").exec_async(&mut behind).await.unwrap();
    assert!(reader.scan(None, 1, &Scope::all()).await.unwrap_err().to_string().contains("is being written anew"));
    let found = reader.get_many(&[Read { sku: "A".into(), ..Read::default() }], &Scope::all(), Micros(START)).await.unwrap();
    assert!(found[0].product.is_none() && found[0].as_of.is_none());
    // Whoever did it is gone: the partition's holder takes over.
    follow(&writer, &log, 1, 1).await;
    assert_same(&reader, &log, 1, WIDE, "taken over").await;
}

#[tokio::test]
async fn a_store_for_another_log_is_refused_in_words_that_keep_the_password() {
    let (url, prefix) = (redis::single(), redis::prefix());
    drop(open(&url, &prefix).await);
    let refused = RedisStore::open(&url, &prefix, 2, WIDE, None).await.err().unwrap().to_string();
    assert!(refused.contains("has 1 partitions, but the event log has 2"), "{refused}");
    let with_password = url.replace("redis://", "redis://me:s3cret@");
    let refused = format!("{:#}", RedisStore::open(&with_password, &prefix, 1, WIDE, None).await.err().unwrap());
    assert!(refused.contains("cannot be reached") && !refused.contains("s3cret"), "{refused}");
    let nobody = RedisStore::open("redis://:s3cret@127.0.0.1:1", &prefix, 1, WIDE, None).await.err().unwrap();
    assert!(!format!("{nobody:#}").contains("s3cret"), "{nobody:#}");
}

#[tokio::test]
async fn narrow_scopes_page_through_their_own_lists() {
    let (seed, mut rng): (u64, ChaCha8Rng) = support::rng("narrow_scopes_page_through_their_own_lists");
    let brands = ["Alba", "Birk", "Cora"];
    let log: Vec<Value> = (0..600)
        .map(|n| {
            let sku = format!("S{:03}", rng.random_range(0..200));
            let mut event = upserted(&format!("u{n}"), &sku, brands.choose(&mut rng).unwrap());
            event["data"]["category"] = (*["Tea", "Pots"].choose(&mut rng).unwrap()).into();
            if rng.random_bool(0.2) { counted(&format!("u{n}"), &sku, "X", 1) } else { event }
        })
        .collect();
    let expected = embedded(&log, log.len(), WIDE).await;
    for url in [redis::single(), redis::cluster()] {
        let store = open(&url, &redis::prefix()).await;
        follow(&store, &log, log.len(), 37).await;
        for scope in [&["brand=Alba"][..], &["brand=Alba", "brand=Birk", "category=Pots"], &["location=X"], &["supplier=none"]] {
            let scope = Scope::parse(scope.iter().copied()).unwrap();
            for limit in [1, 7, 1000] {
                let mut after: Option<Arc<str>> = None;
                loop {
                    let page = store.scan(after.as_deref(), limit, &scope).await.unwrap();
                    assert_eq!(page, expected.scan(after.as_deref(), limit, &scope).await.unwrap(), "seed {seed}, {scope:?}");
                    let Some(last) = page.last() else { break };
                    after = Some(last.clone());
                }
            }
        }
    }
}
