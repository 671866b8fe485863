//! A partner that asks for ten times its rate gets its rate, and its neighbour does not feel it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{plan, products, stocked};
use crate::support::{Database, Gateway, Kind, ask, full};

/// Of the greedy partner's plan.
const UNITS_PER_SECOND: u32 = 100;
/// What each of its requests asks for.
const UNITS: usize = 2;
/// It asks ten times as fast as it may.
const INTERVAL: Duration = Duration::from_millis(2);

/// What became of the greedy partner's requests.
#[derive(Default)]
struct Tally {
    units: AtomicU64,
    refused: AtomicU64,
    asked: AtomicU64,
}

/// The greedy partner, until it is told to stop.
struct Greedy {
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Greedy {
    /// On a thread of its own, so that what its client does is not in the gateway's way.
    fn begin(gateway: &Gateway, key: &str) -> Self {
        let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let asking = greedy(gateway.url("/graphql"), key.to_owned(), tally.clone(), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { tally, stop, thread: std::thread::spawn(move || runtime.block_on(asking)) }
    }

    async fn end(self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Release);
        tokio::task::spawn_blocking(|| self.thread.join()).await.unwrap().unwrap();
        self.tally
    }
}

/// Asks at ten times the rate until `stop`, each request on its own: a slow answer does not hold the next one back.
async fn greedy(url: String, key: String, tally: Arc<Tally>, stop: Arc<AtomicBool>) {
    let (http, body) = (reqwest::Client::new(), products(UNITS, UNITS));
    let mut tick = tokio::time::interval(INTERVAL);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Acquire) {
        tick.tick().await;
        let (http, url, key, body, tally) = (http.clone(), url.clone(), key.clone(), body.clone(), tally.clone());
        under_way.spawn(async move {
            let answer = ask(&http, &url, &key, body).await;
            tally.asked.fetch_add(1, Ordering::Relaxed);
            match answer.status {
                200 => tally.units.fetch_add(answer.units(), Ordering::Relaxed),
                429 => tally.refused.fetch_add(1, Ordering::Relaxed),
                other => panic!("{other}: {answer:?}"),
            };
        });
        while let Some(done) = under_way.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
}

async fn gateway(database: &Database) -> (Gateway, String, String) {
    let plans = plan("greedy", UNITS_PER_SECOND, 10, "concurrency = 1000") + &plan("calm", 100_000, 100_000, "");
    let gateway = stocked(database, &plans).await;
    let (greedy, calm) = (gateway.partner("G", "greedy", &[]).await.key, gateway.partner("C", "calm", &[]).await.key);
    (gateway, greedy, calm)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_rate_gets_the_rate() {
    let database = Database::new(Kind::Sqlite).await;
    let (gateway, key, _) = gateway(&database).await;
    let greedy = Greedy::begin(&gateway, &key);
    let tally = greedy.tally.clone();
    // The burst is gone by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before) = (Instant::now(), tally.units.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(if full() { 20 } else { 5 })).await;
    let (seconds, units) = (begun.elapsed().as_secs_f64(), tally.units.load(Ordering::Relaxed) - before);
    greedy.end().await;
    let (asked, refused) = (tally.asked.load(Ordering::Relaxed), tally.refused.load(Ordering::Relaxed));
    let share = units as f64 / (seconds * f64::from(UNITS_PER_SECOND));
    println!("{units} units in {seconds:.2} s, {share:.3} of the rate; {asked} requests, {refused} refused");
    assert!(asked * UNITS as u64 > 5 * (seconds * f64::from(UNITS_PER_SECOND)) as u64, "only {asked} requests: nothing is shown");
    assert!((0.95..=1.05).contains(&share), "{units} units in {seconds:.2} s");
    gateway.stop().await;
}

/// The neighbour's latencies while it asks for `duration`, at an even pace.
async fn latencies(gateway: &Gateway, key: &str, body: &Value, duration: Duration) -> Vec<Duration> {
    let (begun, url, mut found) = (Instant::now(), gateway.url("/graphql"), Vec::new());
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while begun.elapsed() < duration {
        tick.tick().await;
        let asked = Instant::now();
        let answer = ask(&gateway.http, &url, key, body.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        found.push(asked.elapsed());
    }
    found
}

fn percentile(of: &mut [Duration], percent: usize) -> Duration {
    of.sort();
    of[(of.len() * percent / 100).min(of.len() - 1)]
}

fn median(of: &mut [Duration]) -> Duration {
    percentile(of, 50)
}

/// The figure is asserted in a release build under `--full` alone: on a busy machine, a debug build measures the machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_neighbour_is_not_felt() {
    let database = Database::new(Kind::Sqlite).await;
    let (gateway, key, calm_key) = gateway(&database).await;
    let body = json!({ "query": super::ONE });
    let (rounds, round) = if full() { (10, Duration::from_secs(2)) } else { (3, Duration::from_millis(600)) };
    latencies(&gateway, &calm_key, &body, Duration::from_millis(200)).await;
    let (mut calm, mut loaded) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut before = latencies(&gateway, &calm_key, &body, round).await;
        let greedy = Greedy::begin(&gateway, &key);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut during = latencies(&gateway, &calm_key, &body, round).await;
        let tally = greedy.end().await;
        assert!(tally.refused.load(Ordering::Relaxed) > 0, "nobody was greedy");
        calm.push(percentile(&mut before, 99));
        loaded.push(percentile(&mut during, 99));
    }
    println!("p99 by round, calm {calm:?}, beside a greedy partner {loaded:?}");
    let ratio = median(&mut loaded).as_secs_f64() / median(&mut calm).as_secs_f64();
    println!("median p99: {ratio:.2} × calm");
    if full() && !cfg!(debug_assertions) {
        assert!(ratio <= 1.2, "{ratio:.2} × calm");
    }
    gateway.stop().await;
}
