//! Three gateways on one Redis and one PostgreSQL: a partner that asks for ten times its rate over all of them gets its rate; so it does,
//! in parts, while Redis is away; and again once it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use super::{FREE, ONE, plan};
use crate::support::redis::{self, Redis};
use crate::support::topic::{Topic, is_real};
use crate::support::{Database, Kind, Process, ask, counted, issue, price, tollgate, upserted};

const RATE: u32 = 40;
const BURST: u32 = 40;
const GATEWAYS: u32 = 3;

/// What may be past burst and rate: ARCHITECTURE.md, for requests of one unit, where an exchange may take a whole second.
fn overshoot() -> f64 {
    let (n, rate, burst) = (f64::from(GATEWAYS), f64::from(RATE), f64::from(BURST));
    (n - 1.0) * (burst / n + rate * 1.0 / n)
}

/// A request that was let in, which it was between these.
#[derive(Clone, Copy, Debug)]
struct LetIn {
    sent: Instant,
    answered: Instant,
    units: u64,
}

/// Asks all of them together for ten times the rate, each request on its own.
async fn ask_for(gateways: &[Process], key: &str, query: &'static str, time: Duration) -> Vec<LetIn> {
    let let_in = Arc::new(Mutex::new(Vec::new()));
    let http = reqwest::Client::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / (10 * RATE));
    let mut under_way = JoinSet::new();
    let begun = Instant::now();
    for gateway in gateways.iter().cycle() {
        if begun.elapsed() > time {
            break;
        }
        tick.tick().await;
        let (url, http, key, let_in) =
            (format!("http://{}/graphql", gateway.address), http.clone(), key.to_owned(), let_in.clone());
        under_way.spawn(async move {
            let sent = Instant::now();
            let answer = ask(&http, &url, &key, json!({ "query": query })).await;
            let answered = Instant::now();
            match answer.status {
                200 if query == FREE => let_in.lock().push(LetIn { sent, answered, units: 1 }),
                200 => let_in.lock().push(LetIn { sent, answered, units: answer.units() }),
                _ => assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMITED"), "{answer:?}"),
            }
        });
    }
    under_way.join_all().await;
    let_in.lock().clone()
}

/// Over any time at all, no more than rate, burst and `more` allow.
fn hold_to_the_rate(what: &str, let_in: &[LetIn], more: f64) {
    let (mut most, mut busiest_10_s) = (f64::MIN, 0);
    for first in let_in {
        let mut within: Vec<_> = let_in.iter().filter(|other| other.sent >= first.sent).collect();
        within.sort_unstable_by_key(|other| other.answered);
        let mut units = 0;
        for other in within {
            units += other.units;
            let seconds = (other.answered - first.sent).as_secs_f64();
            if seconds <= 10.0 {
                busiest_10_s = busiest_10_s.max(units);
            }
            most = most.max(units as f64 - f64::from(RATE) * seconds);
        }
    }
    let past = most - f64::from(BURST);
    println!("{what}: at most {busiest_10_s} units in 10 s; {past:.1} past rate and burst, of {more:.1} that may be");
    assert!(past <= more, "{what}");
}

/// And not far less.
fn get_the_rate(what: &str, let_in: &[LetIn]) {
    let (begun, ended) =
        (let_in.iter().map(|let_in| let_in.sent).min().unwrap(), let_in.iter().map(|let_in| let_in.answered).max().unwrap());
    let (units, seconds) = (let_in.iter().map(|let_in| let_in.units).sum::<u64>(), (ended - begun).as_secs_f64());
    println!("{what}: {units} units in {seconds:.2} s");
    assert!(units as f64 >= 0.9 * f64::from(RATE) * seconds, "{what}: {units} units in {seconds} s");
}

async fn metric(gateway: &Process, name: &str) -> f64 {
    let text = reqwest::get(format!("http://{}/metrics", gateway.operators)).await.unwrap().text().await.unwrap();
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name}{{}} "))).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

async fn until(gateways: &[Process], name: &str, value: f64) {
    let begun = Instant::now();
    for gateway in gateways {
        while metric(gateway, name).await != value {
            assert!(begun.elapsed() < Duration::from_secs(60), "{name} does not get {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_gets_its_rate_from_three_gateways_together() {
    if !is_real() {
        return;
    }
    let mut redis = Redis::start(false).await;
    let topic = Topic::new(2).await;
    let database = Database::new(Kind::Postgres)
        .await
        .and("events.url", &format!("kafka://{}", topic.bootstrap))
        .and("events.topic", &topic.name)
        .and("features.url", &redis.url())
        .and("features.prefix", &redis::prefix());
    let file = database.file("plan.toml", &plan("p", RATE, BURST, "concurrency = 1000"));
    tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = issue(&database, &["Ada"]).key;
    let events: String = [upserted("u", "A", "Alba"), counted("c", "A", "X", 7), price("p", "A", "X", "12.50")]
        .map(|event| format!("{event}\n"))
        .concat();
    tollgate(&database, &["ingest", database.file("events.ndjson", &events).to_str().unwrap()]).ok();
    let (second, third) = (database.beside(), database.beside());
    // The first one applies the log too.
    let gateways = [Process::serve(&database), Process::gateway(&second), Process::gateway(&third)];
    until(&gateways, "tollgate_rate_replicas", 3.0).await;
    until(&gateways, "tollgate_rate_shared", 1.0).await;
    let begun = Instant::now();
    while tollgate(&database, &["features", "dump"]).ok().lines().count() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the events are not applied");
    }

    let let_in = ask_for(&gateways, &key, ONE, Duration::from_secs(12)).await;
    hold_to_the_rate("together", &let_in, overshoot());
    get_the_rate("together", &let_in);

    redis.kill();
    until(&gateways, "tollgate_rate_shared", 0.0).await;
    // What needs no features is answered.
    let let_in_alone = ask_for(&gateways, &key, FREE, Duration::from_secs(6)).await;
    hold_to_the_rate("Redis away", &let_in_alone, overshoot());
    get_the_rate("Redis away", &let_in_alone);
    until(&gateways, "tollgate_rate_shared", 0.0).await;

    redis.restart().await;
    until(&gateways, "tollgate_rate_shared", 1.0).await;
    until(&gateways, "tollgate_rate_replicas", 3.0).await;
    let let_in_again = ask_for(&gateways, &key, FREE, Duration::from_secs(4)).await;
    hold_to_the_rate("Redis back", &let_in_again, overshoot());
    get_the_rate("Redis back", &let_in_again);

    gateways.into_iter().for_each(Process::terminate);
    let billed = database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'inventory'").await;
    assert_eq!(billed as u64, let_in.iter().map(|let_in| let_in.units).sum::<u64>());
}
