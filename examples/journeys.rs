//! What journeys cost: a million sessions through the fold beside as many inventory events, what is kept of them, and how long reads take.
//!
//!     cargo run --release --example journeys -- [SESSIONS] [redis://HOST:PORT]

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tollgate::clock::Micros;
use tollgate::event::{NewRecord, Position, Record, own, partition_of};
use tollgate::feature::{Bounds, ChangeBatch, EmbeddedStore, FeatureStore, Limits, RedisStore};
use tollgate::journey::calendar::{Granularity, hour_of};
use tollgate::journey::message::Slice;
use tollgate::journey::reading::closes_all;
use tollgate::journey::{Entry, VisitorKey, product};
use tollgate::projector::fold;

const PARTITIONS: u16 = 12;
const BATCH: usize = 2000;
/// A year of sessions.
const DAYS: i64 = 365;
/// 2025-01-01.
const BEGIN: i64 = 1_735_689_600_000_000;
const PRODUCT: &str = r#"
name = "shop"
k = 50
lateness = "10m"
window = "24h"
unit = "session"
steps = ["view", "add_to_cart", "purchase"]
dimensions = ["brand"]
[actions]
view = ["view"]
add_to_cart = ["add"]
purchase = ["buy"]
[retention]
period = "week"
periods = 12
"#;

fn journey(n: u64, visitor: u64, time: i64, action: &str, brand: u64) -> (String, String) {
    let (subject, time) = (format!("v{visitor}"), Micros(time).timestamp());
    let event = format!(
        r#"{{"specversion":"1.0","id":"j{n}","source":"/web","type":"journey.recorded","subject":"{subject}","time":"{time}","data":{{"visitor":"{subject}","action":"{action}","brand":"B{brand}"}}}}"#
    );
    (subject, event)
}

fn adjusted(n: u64, sku: u64, time: i64) -> (String, String) {
    let (subject, time) = (format!("P{sku}"), Micros(time).timestamp());
    let event = format!(
        r#"{{"specversion":"1.0","id":"a{n}","source":"/pos","type":"inventory.adjusted","subject":"{subject}","time":"{time}","data":{{"sku":"{subject}","location":"L{}","delta":-1,"reason":"sale"}}}}"#,
        n % 3
    );
    (subject, event)
}

/// The events of a day's sessions, in order.
fn day(rng: &mut ChaCha8Rng, day: i64, sessions: u64, next: &mut u64) -> Vec<(i64, (String, String))> {
    let mut events = Vec::new();
    for _ in 0..sessions {
        // Two in three come again, one in three was never here.
        let visitor = if rng.random_bool(0.66) { rng.random_range(0..100_000) } else { 1_000_000 + *next };
        let (mut time, brand) = (BEGIN + day * 86_400_000_000 + rng.random_range(0..86_400_000_000), rng.random_range(0..10));
        for step in 0..rng.random_range(2..8) {
            let action = match step {
                2 => "add",
                4 => "buy",
                _ => "view",
            };
            *next += 1;
            events.push((time, journey(*next, visitor, time, action, brand)));
            time += rng.random_range(1_000_000..300_000_000);
        }
    }
    events.sort_by_key(|(time, _)| *time);
    events
}

struct Log {
    store: Arc<dyn FeatureStore>,
    next: Vec<u64>,
    spent: Duration,
    now: Micros,
}

impl Log {
    async fn apply(&mut self, events: Vec<(u16, Micros, Bytes)>) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut by_partition: Vec<Vec<_>> = vec![Vec::new(); usize::from(PARTITIONS)];
        for (partition, appended, payload) in events {
            self.now = self.now.max(appended);
            let next = &mut self.next[usize::from(partition)];
            let at = Position { partition, offset: *next };
            *next += 1;
            by_partition[usize::from(partition)].push(fold(Record { at, appended, payload }, PARTITIONS).0);
        }
        for (partition, changes) in (0..).zip(by_partition) {
            let (Some(first), Some(last)) = (changes.first(), changes.last()) else { continue };
            let (after, appended) = (first.offset.checked_sub(1), last.appended);
            self.store.apply(partition, ChangeBatch { after, changes }).await?;
            self.store.commit(partition, Some(appended)).await?;
        }
        self.spent += began.elapsed();
        Ok(())
    }

    async fn tell(&mut self) -> anyhow::Result<usize> {
        let mut said = 0;
        for partition in 0..PARTITIONS {
            for told in self.store.untold(partition, &|_| 0, 200 << 10) {
                let NewRecord { partition: home, payload, .. } =
                    own::told(partition_of(&told.product, PARTITIONS), &told, Micros(0))?;
                said += told.messages.len();
                self.store.heard(partition, &told.product, told.messages.last().map_or(0, |message| message.number));
                self.apply(vec![(home, self.now, payload)]).await?;
            }
        }
        Ok(said)
    }
}

fn resident() -> anyhow::Result<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).context("no resident pages")?.parse::<u64>()? * 4096)
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort();
    format!(
        "{:.2} ms, p99 {:.2} ms",
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() * 99 / 100].as_secs_f64() * 1e3
    )
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let sessions: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let redis = arguments.next();
    let limits = Limits { dedup_window: Duration::from_secs(24 * 3600), dedup_ids_max: 1_000_000, history_kept: 100 };
    let product = Arc::new(product::parse(PRODUCT)?);
    let bounds = Bounds { limits, visitors: VisitorKey::new(&[7; 32]), products: vec![product.clone()] };
    let folder = std::env::temp_dir().join(format!("tollgate-journeys-{}", std::process::id()));
    let embedded = Arc::new(EmbeddedStore::open(&folder, PARTITIONS, bounds.clone())?);
    let store: Arc<dyn FeatureStore> = match &redis {
        Some(url) => Arc::new(RedisStore::open(url, &format!("bench{}", std::process::id()), PARTITIONS, bounds, None).await?),
        None => embedded.clone(),
    };
    for partition in 0..PARTITIONS {
        store.resume(partition).await?;
    }
    let mut log = Log { store: store.clone(), next: vec![0; usize::from(PARTITIONS)], spent: Duration::ZERO, now: Micros(0) };
    let (mut rng, mut next, mut events) = (ChaCha8Rng::seed_from_u64(1), 0, 0_u64);
    let (mut of_journeys, mut of_inventory, mut last) = (Duration::ZERO, Duration::ZERO, 0);
    let before = resident()?;
    let record = |(time, (subject, event)): (i64, (String, String))| {
        (partition_of(&subject, PARTITIONS), Micros(time), Bytes::from(event))
    };
    for number in 0..DAYS {
        let mut day = day(&mut rng, number, sessions / DAYS as u64, &mut next);
        while !day.is_empty() {
            let batch: Vec<_> = day.drain(..day.len().min(BATCH)).collect();
            last = batch.last().map_or(last, |(time, _)| *time);
            let of = batch.len() as u64;
            // Side by side: as many sales at the same time.
            let sales = (0..of).map(|n| (last, adjusted(events + n, rng.random_range(0..20_000), last))).map(record).collect();
            log.spent = Duration::ZERO;
            log.apply(sales).await?;
            of_inventory += log.spent;
            log.spent = Duration::ZERO;
            log.apply(batch.into_iter().map(record).collect()).await?;
            log.tell().await?;
            of_journeys += log.spent;
            events += of;
        }
    }
    let rate = |spent: Duration| events as f64 / spent.as_secs_f64();
    println!("{sessions} sessions, {events} events of journeys, as many of inventory, side by side in batches of {BATCH}");
    println!("journeys  {:>9.0} events/s (with what partitions tell)", rate(of_journeys));
    println!("inventory {:>9.0} events/s: journeys are {:.2} of it", rate(of_inventory), rate(of_journeys) / rate(of_inventory));
    let visitors: usize = store.sizes().iter().map(|(.., size)| size.visitors).sum();
    let grown = resident()? - before;
    println!("memory grew by {:.0} MiB, inventory and event ids included; {visitors} visitors kept", grown as f64 / 1048576.0);

    let closes = closes_all(Micros(last), std::slice::from_ref(&product));
    let began = Instant::now();
    let marks = (0..PARTITIONS).map(|partition| (partition, closes, own::watermark(partition, closes).payload)).collect();
    log.apply(marks).await?;
    while log.tell().await? > 0 {}
    println!("closing all: {:.1} s", began.elapsed().as_secs_f64());
    let cells: usize = store.sizes().iter().map(|(.., size)| size.cells).sum();
    let answers: Vec<usize> = (0..PARTITIONS)
        .filter_map(|partition| store.counted(partition))
        .flat_map(|journeys| journeys.answers().filter_map(|(_, _, answer)| Some(answer.write().ok()?.len())).collect::<Vec<_>>())
        .collect();
    let bytes: usize = answers.iter().sum();
    println!(
        "{cells} cells are answered, {:.1} MiB as stored, {} bytes each",
        bytes as f64 / 1048576.0,
        bytes / answers.len().max(1)
    );

    let first = hour_of(Micros(BEGIN));
    for (name, by, count) in [
        ("an hour", Granularity::Hour, 1),
        ("a week by the hour", Granularity::Hour, 168),
        ("a year by the day", Granularity::Day, 365),
    ] {
        let mut times = Vec::new();
        for n in 0..200 {
            let begin = first + 24 * (n % 300);
            let mut bucket = by.of(begin);
            let mut entries = vec![Entry::Progress];
            for _ in 0..count {
                entries.push(Entry::Cell(Slice::Total, bucket));
                bucket = bucket.next();
            }
            let began = Instant::now();
            store.answers("shop", &entries).await?;
            times.push(began.elapsed());
        }
        println!("reading {name}: {}", median(times));
    }
    if redis.is_none() {
        embedded.checkpoint()?;
        let snapshot =
            std::fs::read_dir(&folder)?.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum::<u64>();
        println!("a snapshot of all: {:.0} MiB", snapshot as f64 / 1048576.0);
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
