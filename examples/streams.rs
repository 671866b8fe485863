//! What `scripts/bench-streams` measures: how long an event takes from its append until an answer shows it, under load, and how many
//! events a second are applied at most.
//!
//! `streams make BROKERS TOPIC PARTITIONS` makes a topic. `streams load BROKERS TOPIC GRAPHQL_URL KEY RATE SECONDS` appends RATE events a second, among them probes, asks the gateway for the
//! probed value all the time, and prints one line of JSON. `streams fill BROKERS TOPIC EVENTS` appends as fast as it can, and
//! `streams caught-up METRICS_URL EVENTS` waits until a projector has applied so many, and says in how many seconds.

#![expect(clippy::print_stdout, reason = "its answer goes to the script")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};
use tollgate::clock::Clock;
use tollgate::event::partition_of;

const SKUS: u64 = 20_000;
/// The load comes in slices of this length.
const SLICE: Duration = Duration::from_millis(5);
/// Between two questions. Without, asking would take all that is left of the machine.
const ASK_PAUSE: Duration = Duration::from_millis(1);
const PROBE_EVERY: Duration = Duration::from_millis(23);

type Client = ThreadedProducer<Acknowledgements>;

/// When the broker had each probe, by its number.
#[derive(Clone, Default)]
struct Acknowledgements(Arc<Mutex<BTreeMap<usize, Instant>>>);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    /// A probe's number; 0 for all else.
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, probe: usize) {
        if probe > 0 && delivered.is_ok() {
            self.0.lock().insert(probe, Instant::now());
        }
    }
}

/// One that was seen.
#[derive(Clone, Copy)]
struct Seen {
    /// Into the run.
    at: Duration,
    /// From its sending until the broker had it, and until an answer showed it.
    acknowledged_after: Duration,
    seen_after: Duration,
}

struct Topic {
    client: Client,
    acknowledged: Acknowledgements,
    name: String,
    partitions: u16,
}

impl Topic {
    fn open(brokers: &str, name: &str) -> anyhow::Result<Self> {
        let acknowledged = Acknowledgements::default();
        let client: Client = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            .set("queue.buffering.max.messages", "500000")
            .create_with_context(acknowledged.clone())?;
        let metadata = client.client().fetch_metadata(Some(name), Duration::from_secs(20))?;
        let partitions = metadata.topics().first().context("no such topic")?.partitions().len();
        Ok(Self { client, acknowledged, name: name.to_owned(), partitions: u16::try_from(partitions)? })
    }

    fn send(&self, sku: &str, payload: &str, probe: usize) -> anyhow::Result<()> {
        loop {
            let partition = i32::from(partition_of(sku, self.partitions));
            let record = BaseRecord::with_opaque_to(&self.name, probe).partition(partition).key(sku).payload(payload);
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

/// A sale, or now and then a price, of one of many SKUs.
fn event(run: u32, n: u64) -> (String, String) {
    let sku = format!("SKU-{:06}", n.wrapping_mul(2_654_435_761) % SKUS);
    let time = "2026-11-20T10:00:00Z";
    let text = if n.is_multiple_of(10) {
        format!(
            r#"{{"specversion":"1.0","id":"{run:x}-{n}","source":"/bench","type":"price.set","subject":"{sku}","time":"{time}","data":{{"sku":"{sku}","market":"DE","currency":"EUR","amount":"{}.{:02}"}}}}"#,
            1 + n % 90,
            n % 100
        )
    } else {
        format!(
            r#"{{"specversion":"1.0","id":"{run:x}-{n}","source":"/bench","type":"inventory.adjusted","subject":"{sku}","time":"{time}","data":{{"sku":"{sku}","location":"BER-1","delta":-1,"reason":"sale"}}}}"#
        )
    };
    (sku, text)
}

fn probe(run: u32, n: u64) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{run:x}-probe-{n}","source":"/bench","type":"inventory.counted","subject":"PROBE","time":"2026-11-20T10:00:00Z","data":{{"sku":"PROBE","location":"BER-1","onHand":{n},"reserved":0,"version":{n}}}}}"#
    )
}

/// Asks again and again, and notes when each probe was first seen.
async fn watch(
    url: String,
    key: String,
    sent: Arc<Mutex<VecDeque<(u64, Instant)>>>,
    until: Instant,
) -> anyhow::Result<Vec<(u64, Instant, Instant)>> {
    let http = reqwest::Client::new();
    let body = json!({ "query": "{ product(sku: \"PROBE\") { inventory(location: \"BER-1\") { onHand } } }" });
    let mut found = Vec::new();
    while Instant::now() < until {
        let answer =
            http.post(&url).bearer_auth(&key).header("accept", "application/graphql-response+json").json(&body).send().await?;
        let answer: Value = answer.json().await?;
        let seen_at = Instant::now();
        let inventory = &answer["data"]["product"]["inventory"];
        let Some(seen) = inventory["onHand"].as_str().and_then(|seen| seen.parse::<u64>().ok()) else {
            ensure!(answer["errors"].is_null(), "{answer}");
            continue;
        };
        {
            let mut sent = sent.lock();
            while sent.front().is_some_and(|(n, _)| *n <= seen) {
                found.extend(sent.pop_front().map(|(n, at)| (n, at, seen_at)));
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Ok(found)
}

/// Worse seconds than this are named.
const SLOW: Duration = Duration::from_millis(50);

fn told(mut seen: Vec<Seen>) -> Value {
    let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let percentile = |times: &mut dyn Iterator<Item = Duration>, percent: usize| {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().map(ms)
    };
    let mut slow: BTreeMap<u64, Duration> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.seen_after > SLOW) {
        let worst = slow.entry(seen.at.as_secs()).or_default();
        *worst = (*worst).max(seen.seen_after);
    }
    let slow: Vec<_> = slow.into_iter().map(|(second, worst)| json!([second, ms(worst)])).collect();
    seen.sort_unstable_by_key(|seen| seen.at);
    let second_half = &seen[seen.len() / 2..];
    json!({
        "probes": seen.len(),
        "p50Ms": percentile(&mut seen.iter().map(|seen| seen.seen_after), 50),
        "p99Ms": percentile(&mut seen.iter().map(|seen| seen.seen_after), 99),
        "maxMs": seen.iter().map(|seen| seen.seen_after).max().map(ms),
        "p99MsOfSecondHalf": percentile(&mut second_half.iter().map(|seen| seen.seen_after), 99),
        "acknowledgedP50Ms": percentile(&mut seen.iter().map(|seen| seen.acknowledged_after), 50),
        "acknowledgedP99Ms": percentile(&mut seen.iter().map(|seen| seen.acknowledged_after), 99),
        "acknowledgedMaxMs": seen.iter().map(|seen| seen.acknowledged_after).max().map(ms),
        "slowSeconds": slow,
    })
}

async fn load(topic: Topic, url: String, key: String, rate: u64, seconds: u64) -> anyhow::Result<()> {
    let run: u32 = rand::random();
    // A new producer waits for the broker, and its first events would all come at once.
    let (sku, text) = event(rand::random(), 0);
    topic.send(&sku, &text, 0)?;
    topic.client.flush(Duration::from_secs(60))?;
    let sent = Arc::new(Mutex::new(VecDeque::new()));
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let acknowledged = topic.acknowledged.clone();
    let watching = tokio::spawn(watch(url, key, sent.clone(), until + Duration::from_secs(2)));
    let sending = std::thread::spawn(move || -> anyhow::Result<u64> {
        // A count has twelve digits at most.
        let base = Clock::system().now().0.unsigned_abs() / 1000 % 100_000_000_000;
        let (mut n, mut probed_at) = (0, begun);
        while Instant::now() < until {
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            while n < due {
                let (sku, text) = event(run, n);
                topic.send(&sku, &text, 0)?;
                n += 1;
            }
            if probed_at.elapsed() >= PROBE_EVERY {
                probed_at = Instant::now();
                // Ascending over runs, so that an old value is never taken for a new one.
                let number = base + begun.elapsed().as_millis() as u64;
                let text = probe(run, number);
                sent.lock().push_back((number, Instant::now()));
                topic.send("PROBE", &text, usize::try_from(number)?)?;
            }
            std::thread::sleep(SLICE);
        }
        topic.client.flush(Duration::from_secs(60))?;
        Ok(n)
    });
    let found = watching.await??;
    let events = sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(found.len() > 10, "the probes were not seen");
    let acknowledged = acknowledged.0.lock();
    let seen = |&(number, sent, seen): &(u64, Instant, Instant)| {
        let had = acknowledged.get(&usize::try_from(number).ok()?)?;
        Some(Seen {
            at: sent.duration_since(begun),
            acknowledged_after: had.duration_since(sent),
            seen_after: seen.duration_since(sent),
        })
    };
    let mut told = told(found.iter().filter_map(seen).collect());
    told["eventsPerSecond"] = json!(events / seconds);
    println!("{told}");
    Ok(())
}

async fn make(brokers: &str, name: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime");
    let patient = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for made in admin.create_topics([&topic], &patient).await? {
        made.map_err(|(name, error)| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

fn fill(topic: &Topic, events: u64) -> anyhow::Result<()> {
    let (run, begun) = (rand::random(), Instant::now());
    for n in 0..events {
        let (sku, text) = event(run, n);
        topic.send(&sku, &text, 0)?;
    }
    topic.client.flush(Duration::from_secs(120))?;
    println!("{}", json!({ "events": events, "seconds": begun.elapsed().as_secs_f64() }));
    Ok(())
}

async fn caught_up(url: &str, events: f64) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let text = reqwest::get(url).await?.text().await?;
        let line = text.lines().find(|line| line.starts_with("tollgate_projector_events_total{outcome=\"applied\"}"));
        let applied: f64 = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0.0);
        if applied >= events {
            println!("{}", json!({ "applied": applied, "seconds": begun.elapsed().as_secs_f64() }));
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(600), "only {applied} of {events} were applied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", brokers, topic, partitions] => make(brokers, topic, partitions.parse()?).await,
        ["load", brokers, topic, url, key, rate, seconds] => {
            load(Topic::open(brokers, topic)?, url.to_owned(), key.to_owned(), rate.parse()?, seconds.parse()?).await
        }
        ["fill", brokers, topic, events] => fill(&Topic::open(brokers, topic)?, events.parse()?),
        ["caught-up", url, events] => caught_up(url, events.parse()?).await,
        _ => bail!("see the first lines of examples/streams.rs"),
    }
}
