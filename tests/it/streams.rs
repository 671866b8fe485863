//! Kafka in, Redis in the middle, gateways and projectors as processes of their own: what embedded parts do, on the engines that
//! people run.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tollgate::clock::Clock;
use tollgate::event::partition_of;

use crate::support::kafka::Kafka;
use crate::support::redis::{self, Redis};
use crate::support::topic::{Topic, is_real};
use crate::support::{Database, Kind, Process, adjusted, counted, graphql, per_unit, plan, price, retail, tollgate, upserted};

const PARTITIONS: u16 = 6;

/// A machine that shares a topic, a Redis and a database with others.
async fn machine(topic: &Topic, redis: &str) -> Database {
    Database::new(Kind::Postgres)
        .await
        .and("events.url", &format!("kafka://{}", topic.bootstrap))
        .and("events.topic", &topic.name)
        .and("events.kafka.session_timeout_ms", "6000")
        .and("features.url", redis)
        .and("features.prefix", &redis::prefix())
}

fn key(machine: &Database) -> String {
    let plan = plan("p", &format!("currency = \"USD\"{}", per_unit("inventory", 0, "0.01")));
    tollgate(machine, &["plan", "apply", machine.file("plan.toml", &plan).to_str().unwrap()]).ok();
    tollgate(machine, &["partner", "create", "Ada", "--plan", "p"]).ok();
    tollgate(machine, &["key", "issue", "Ada"]).ok().trim().to_owned()
}

/// Asks again until `is_it` likes what it sees.
async fn until<T: std::fmt::Debug>(what: &str, mut ask: impl AsyncFnMut() -> T, is_it: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let seen = ask().await;
        if is_it(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn metric(process: &Process, name: &str) -> f64 {
    let text = reqwest::get(format!("http://{}/metrics", process.operators)).await.unwrap().text().await.unwrap();
    let values = text.lines().filter(|line| line.starts_with(name));
    values.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

async fn real_sales_through(redis: &str) {
    let embedded = Database::new(Kind::Sqlite).await;
    let file = retail(&embedded);
    let file = file.to_str().unwrap();
    tollgate(&embedded, &["ingest", file]).ok();
    let expected = tollgate(&embedded, &["features", "dump"]).ok();
    let events = std::fs::read_to_string(file).unwrap().lines().count();

    let topic = Topic::new(PARTITIONS).await;
    let projecting = machine(&topic, redis).await;
    let (serving, feeding) = (projecting.beside(), projecting.beside());
    let projector = Process::projector(&projecting);
    let gateway = Process::gateway(&serving);
    let accepted = format!("accepted {events}, duplicates 0, rejected 0\n");
    assert_eq!(tollgate(&feeding, &["ingest", file]).ok(), accepted);
    // At its beginning, a partition is being written.
    let dump = async || tollgate(&feeding, &["features", "dump"]).stdout;
    until("the projector applies all", dump, |dump| *dump == expected).await;
    let stock: Vec<Value> = expected
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entity| entity["kind"] == "inventory")
        .collect();
    assert!(stock.len() > 1000 && stock.iter().all(|entity| entity["onHand"] == 20));

    // The gateway, which applies nothing itself, sells it.
    let (key, http, url) = (key(&serving), reqwest::Client::new(), format!("http://{}/graphql", gateway.address));
    let query = "query($s: [ID!]!) { products(skus: $s) { sku inventory(location: \"S367\") { onHand freshness { lagMs } } } }";
    for chunk in stock.chunks(100) {
        let skus: Vec<_> = chunk.iter().map(|entity| &entity["sku"]).collect();
        let (status, answer) = graphql(&http, &url, &key, json!({ "query": query, "variables": { "s": skus } })).await;
        assert_eq!(status, 200, "{answer}");
        for (sku, product) in skus.iter().zip(answer["data"]["products"].as_array().unwrap()) {
            assert_eq!((&product["sku"], &product["inventory"]["onHand"]), (*sku, &json!("20")));
        }
    }

    // Twice is once: Kafka takes the copies, the projector counts them.
    assert_eq!(tollgate(&feeding, &["ingest", file]).ok(), accepted);
    let duplicates = async || metric(&projector, "tollgate_projector_events_total{outcome=\"duplicate\"}").await;
    until("the copies are counted", duplicates, |found| *found == events as f64).await;
    assert_eq!(dump().await, expected);

    // kill -9, and another one takes over from what is in Redis and in the checkpoints.
    projector.kill();
    let elsewhere = projecting.beside();
    let another = Process::projector(&elsewhere);
    let sale = adjusted("after-the-kill", stock[0]["sku"].as_str().unwrap(), "S367", -1);
    tollgate(&feeding, &["ingest", feeding.file("sale.ndjson", &sale.to_string()).to_str().unwrap()]).ok();
    let sold = |line: &str| {
        let mut entity: Value = serde_json::from_str(line).unwrap();
        if entity["kind"] == "inventory" && entity["sku"] == stock[0]["sku"] {
            entity["onHand"] = json!(19);
        }
        entity
    };
    let changed: Vec<Value> = expected.lines().map(sold).collect();
    let found = async || dump().await.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    until("another projector goes on", found, |found| {
        found.iter().zip(&changed).all(|(found, expected)| {
            // The sale is younger than the count.
            ["kind", "sku", "onHand"].iter().all(|field| found[field] == expected[field])
        }) && found.len() == changed.len()
    })
    .await;
    another.terminate();
    let verified = tollgate(&feeding, &["replay", "--verify"]).ok();
    assert!(verified.contains("the same as the live store, byte for byte"), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_stores_sales_go_through_kafka_into_redis() {
    if is_real() {
        real_sales_through(&redis::single()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_stores_sales_go_through_kafka_into_a_cluster() {
    if is_real() {
        real_sales_through(&redis::cluster()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_still_shows_as_growing_lag() {
    if !is_real() {
        return;
    }
    let (kafka, redis) = (Kafka::start().await, Redis::start(false).await);
    let topic = Topic::on(&kafka.bootstrap(), 1, &[]).await;
    let projecting = machine(&topic, &redis.url()).await;
    let (serving, feeding) = (projecting.beside(), projecting.beside());
    let projector = Process::projector(&projecting);
    let gateway = Process::gateway(&serving);
    let (key, http, url) = (key(&serving), reqwest::Client::new(), format!("http://{}/graphql", gateway.address));
    let query = json!({ "query": "{ product(sku: \"A\") { inventory(location: \"X\") { onHand freshness { lagMs } } } }" });
    let file = feeding.file("one.ndjson", &counted("c", "A", "X", 5).to_string());
    tollgate(&feeding, &["ingest", file.to_str().unwrap()]).ok();
    let lag = async || {
        let (_, answer) = graphql(&http, &url, &key, query.clone()).await;
        answer["data"]["product"]["inventory"]["freshness"]["lagMs"].as_u64()
    };
    until("it is fresh", lag, |lag| lag.is_some_and(|lag| lag < 1000)).await;
    let grows = |lag: &Option<u64>| lag.is_some_and(|lag| lag > 3000);

    kafka.suspend();
    until("the broker stands still", lag, grows).await;
    assert!(metric(&gateway, "tollgate_projector_lag_seconds").await > 3.0);
    kafka.resume();
    until("it is fresh again", lag, |lag| lag.is_some_and(|lag| lag < 1000)).await;

    projector.kill();
    until("the projector is dead", lag, grows).await;
    let projector = Process::projector(&projecting);
    until("it is fresh again", lag, |lag| lag.is_some_and(|lag| lag < 1000)).await;

    redis.suspend();
    assert!(metric(&gateway, "tollgate_projector_lag_seconds").await.is_infinite(), "what cannot be read is not fresh");
    redis.resume();
    until("it is fresh again", lag, |lag| lag.is_some_and(|lag| lag < 1000)).await;
    drop((projector, gateway));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_of_the_contract_is_kept_aside_and_stops_nobody() {
    if !is_real() {
        return;
    }
    let topic = Topic::on(&crate::support::topic::broker(), PARTITIONS, &[("max.message.bytes", "12000000")]).await;
    let projecting = machine(&topic, &redis::single()).await;
    let projector = Process::projector(&projecting);
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &topic.bootstrap)
        .set("message.max.bytes", "12000000")
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let with = |mut event: Value, change: &dyn Fn(&mut Value)| {
        change(&mut event);
        event.to_string()
    };
    let tomorrow = Clock::system().now().plus(Duration::from_secs(26 * 3600));
    let huge = with(upserted("huge", "A", "Alba"), &|event| event["data"]["title"] = json!("x".repeat(10 << 20)));
    let bad: Vec<(&str, String, &str)> = vec![
        ("A", "no JSON at all".into(), "is not"),
        ("A", huge.clone(), "bytes"),
        ("A", with(counted("b1", "A", "X", 1), &|event| event["data"]["onHand"] = json!("five")), "expected i64"),
        ("A", with(counted("b2", "A", "X", 1), &|event| event["data"]["onHand"] = json!(-5)), "onHand"),
        ("A", with(counted("b3", "A", "X", 1), &|event| event["type"] = json!("inventory.guessed")), "inventory.guessed"),
        ("A", with(counted("b4", "A", "X", 1), &|event| event["time"] = json!(tomorrow.to_string())), "24 h"),
        ("A", with(price("b5", "A", "DE", "1.00"), &|event| event["data"]["currency"] = json!("XQQ")), "XQQ"),
        ("A", String::new(), ""),
    ];
    let send = async |key: &str, partition: u16, payload: &str| {
        let message = FutureRecord::to(&topic.name).key(key).partition(i32::from(partition)).payload(payload);
        producer.send(message, Duration::from_secs(30)).await.unwrap();
    };
    let at_home = partition_of("A", PARTITIONS);
    for (key, payload, _) in &bad {
        send(key, at_home, payload).await;
    }
    // In a partition that is not its subject's.
    let lost = counted("b6", "A", "X", 1).to_string();
    send("A", (at_home + 1) % PARTITIONS, &lost).await;
    // An adjustment may go below zero; and behind all that was bad, a good one counts.
    send("A", at_home, &counted("good", "A", "X", 2).to_string()).await;
    send("A", at_home, &adjusted("below", "A", "X", -7).to_string()).await;
    let dump = async || tollgate(&projecting, &["features", "dump"]).stdout;
    let dump = until("the good ones count", dump, |dump| dump.contains("\"onHand\":-5")).await;
    assert_eq!(dump.lines().count(), 1, "{dump}");

    let letters = async || {
        let listed = tollgate(&projecting, &["deadletter", "list", "--format", "json"]).ok();
        serde_json::from_str::<Vec<Value>>(&listed).unwrap()
    };
    let letters = until("all that was bad is kept", letters, |letters| letters.len() == bad.len() + 1).await;
    let reason_of = |payload: &str| {
        let sha256 = tollgate::event::deadletter::Payload::of(payload.as_bytes()).sha256;
        let letter = letters.iter().find(|letter| letter["payload"]["sha256"] == json!(sha256)).unwrap();
        letter["reason"].as_str().unwrap().to_owned()
    };
    for (_, payload, words) in &bad {
        assert!(reason_of(payload).contains(words), "{words}: {}", reason_of(payload));
    }
    assert!(reason_of(&lost).contains("key messages by subject"));
    let kept = letters.iter().find(|letter| letter["payload"]["bytes"] == json!(huge.len())).unwrap();
    assert_eq!(kept["payload"]["text"].as_str().unwrap(), &huge[..64 << 10], "the first 64 KiB are kept");
    assert_eq!(metric(&projector, "tollgate_projector_dead_letters_total").await, bad.len() as f64 + 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_in_python_keeps_the_contract() {
    // Without Python's library scripts/test says so, and CI refuses it.
    let (Ok(python), true) = (std::env::var("TOLLGATE_TEST_PRODUCER"), is_real()) else { return };
    let topic = Topic::new(PARTITIONS).await;
    let projecting = machine(&topic, &redis::single()).await;
    let projector = Process::projector(&projecting);
    let produce = |more: &[&str]| {
        let mut command = std::process::Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/producer/producer.py"));
        command.args(["--bootstrap", &topic.bootstrap, "--topic", &topic.name]).args(more).output().unwrap()
    };
    let ran = produce(&["--count", "300", "--seed", "7"]);
    assert!(ran.status.success(), "{ran:?}");

    // What it sent, as the embedded parts understand it.
    let log = topic.log(None).await.unwrap();
    let mut reader = tollgate::event::EventLog::reader(&*log, &[None; PARTITIONS as usize]).await.unwrap();
    let (mut sent, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
    while ended.len() < usize::from(PARTITIONS) {
        let batch = reader.next(Duration::from_millis(20)).await.unwrap();
        sent.extend(batch.records.into_iter().map(|record| String::from_utf8(record.payload.to_vec()).unwrap()));
        ended.extend(batch.ends.into_iter().map(|(partition, _)| partition));
    }
    assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("delivered {} events to {}\n", sent.len(), topic.name));
    let embedded = Database::new(Kind::Sqlite).await;
    let file = embedded.file("sent.ndjson", &sent.join("\n"));
    let told = tollgate(&embedded, &["ingest", file.to_str().unwrap()]).ok();
    assert!(told.ends_with("rejected 0\n") && !told.contains("duplicates 0,"), "{told}");
    let expected = tollgate(&embedded, &["features", "dump"]).ok();
    assert_eq!(expected.lines().count(), 60, "20 SKUs, each with details, a level and a price");
    let dump = async || tollgate(&projecting, &["features", "dump"]).stdout;
    until("all that it sent is applied", dump, |dump| *dump == expected).await;

    // A file, and one that is none.
    let ran = produce(&["--file", file.to_str().unwrap()]);
    assert!(ran.status.success(), "{ran:?}");
    let copies = sent.len() as f64;
    let duplicates = async || metric(&projector, "tollgate_projector_events_total{outcome=\"duplicate\"}").await;
    until("the copies are counted", duplicates, |found| *found >= copies).await;
    assert_eq!(dump().await, expected);
    assert_eq!(metric(&projector, "tollgate_projector_dead_letters_total").await, 0.0);
    let wrong = embedded.file("wrong.ndjson", "{\"id\": 1}\n");
    let ran = produce(&["--file", wrong.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code() == Some(1) && said.contains("has no specversion") && said.lines().count() == 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_the_live_stores_place_without_a_gap() {
    if !is_real() {
        return;
    }
    let redis = Redis::start(false).await;
    let topic = Topic::new(PARTITIONS).await;
    let projecting = machine(&topic, &redis.url()).await;
    let (serving, feeding) = (projecting.beside(), projecting.beside());
    let (projector, gateway) = (Process::projector(&projecting), Process::gateway(&serving));
    let (key, http, url) = (key(&serving), reqwest::Client::new(), format!("http://{}/graphql", gateway.address));
    let feed = |name: &str, events: &[Value]| {
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        tollgate(&feeding, &["ingest", feeding.file(name, &lines).to_str().unwrap()]).ok()
    };
    let skus: Vec<String> = (0..300).map(|n| format!("S{n:03}")).collect();
    let first: Vec<Value> = skus.iter().map(|sku| counted(&format!("c-{sku}"), sku, "X", 100)).collect();
    feed("first.ndjson", &first);
    let lines = async || tollgate(&feeding, &["features", "dump"]).stdout.lines().count();
    until("all is there", lines, |lines| *lines == skus.len()).await;

    // Somebody lost a key.
    let mut connection = redis.connection().await;
    let lost: Vec<String> = ::redis::cmd("KEYS").arg("*:v:S007").query_async(&mut connection).await.unwrap();
    assert_eq!(lost.len(), 1);
    let () = ::redis::cmd("DEL").arg(&lost).query_async(&mut connection).await.unwrap();
    let told = tollgate(&projecting, &["replay", "--verify"]);
    assert!(told.code == 1 && told.stderr.contains("differs from the live one"), "{told:?}");

    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking = tokio::spawn({
        let stop = stop.clone();
        async move {
            // In every partition.
            let query = "{ products(skus: [\"S001\", \"S002\", \"S003\", \"S004\", \"S005\", \"S006\", \"S008\", \"S009\"]) \
                { inventory(location: \"X\") { onHand } } }";
            let (mut asked, mut left) = (0, [100; 8]);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (status, answer) = graphql(&http, &url, &key, json!({ "query": query })).await;
                assert_eq!(status, 200, "{answer}");
                for (n, left) in left.iter_mut().enumerate() {
                    let on_hand = &answer["data"]["products"][n]["inventory"]["onHand"];
                    let on_hand: i64 = on_hand.as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
                    assert!(on_hand <= *left, "nothing goes back: {on_hand} after {left}");
                    *left = on_hand;
                }
                asked += 1;
            }
            asked
        }
    });
    let selling = async || {
        for round in 0..20 {
            let sales: Vec<Value> = skus.iter().map(|sku| adjusted(&format!("s{round}-{sku}"), sku, "X", -1)).collect();
            let name = format!("{round}.ndjson");
            feed(&name, &sales);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let replaying = tokio::task::spawn_blocking({
        let environment = projecting.environment();
        move || std::process::Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("replay").envs(environment).output().unwrap()
    });
    let ((), replayed) = tokio::join!(selling(), replaying);
    let replayed = replayed.unwrap();
    assert!(replayed.status.success(), "{replayed:?}");

    let dump = async || tollgate(&feeding, &["features", "dump"]).stdout;
    until("all of it is sold twenty times", dump, |dump| dump.matches("\"onHand\":80").count() == skus.len()).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let asked: u64 = asking.await.unwrap();
    println!("{asked} answers while the store was replayed");
    let told = tollgate(&projecting, &["replay", "--verify"]).ok();
    assert!(told.contains("the same as the live store, byte for byte"), "{told}");
    let old: Vec<String> = ::redis::cmd("KEYS").arg("*:g0:*").query_async(&mut connection).await.unwrap();
    assert_eq!(old, Vec::<String>::new(), "what was replaced is removed");
    drop((projector, gateway));
}
