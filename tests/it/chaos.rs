//! Producers, three projectors of one group, Redis and the broker are killed and paused at random while a stream with deltas,
//! duplicates, disorder and compensations flows: the feature store ends as after a calm run.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::exactly_once::generate_of;
use crate::support::kafka::Kafka;
use crate::support::redis::Redis;
use crate::support::topic::{Topic, is_real};
use crate::support::{self, Database, Kind, Process, full, tollgate};

const PROJECTORS: usize = 3;
const EVENTS_A_CHUNK: usize = 400;

/// All that can be killed.
struct World {
    kafka: Kafka,
    redis: Redis,
    machines: Vec<Database>,
    projectors: Vec<Option<Process>>,
    producer: Database,
}

impl World {
    async fn new(appendonly: bool) -> Self {
        let kafka = Kafka::start().await;
        let redis = Redis::start(appendonly).await;
        let topic = Topic::on(&kafka.bootstrap(), 6, &[]).await;
        let shared = || async {
            Database::new(Kind::Sqlite)
                .await
                .and("events.url", &format!("kafka://{}", topic.bootstrap))
                .and("events.topic", &topic.name)
                .and("events.kafka.session_timeout_ms", "6000")
                .and("features.url", &redis.url())
        };
        let mut machines = Vec::new();
        for _ in 0..PROJECTORS {
            machines.push(shared().await);
        }
        let producer = shared().await;
        let projectors = machines.iter().map(|machine| Some(Process::projector(machine))).collect();
        Self { kafka, redis, machines, projectors, producer }
    }

    /// Sends a file, as often as it takes: a copy counts once.
    fn produce(&self, file: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["ingest", file])
            .envs(self.producer.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Something happens to somebody; what was killed or paused is back when this returns.
    async fn disturb(&mut self, rng: &mut ChaCha8Rng, producing: &mut Child) -> &'static str {
        let pause = Duration::from_millis(rng.random_range(50..2500));
        let one = rng.random_range(0..PROJECTORS);
        match rng.random_range(0..10) {
            0..=2 => {
                if let Some(process) = self.projectors[one].take() {
                    process.kill();
                }
                tokio::time::sleep(pause / 4).await;
                self.projectors[one] = Some(Process::projector(&self.machines[one]));
                "a projector is killed"
            }
            3 | 4 => {
                // Sometimes past its session: it wakes up as a zombie.
                let pause = if rng.random_bool(0.3) { Duration::from_secs(8) } else { pause };
                if let Some(process) = &self.projectors[one] {
                    process.signal("STOP");
                    tokio::time::sleep(pause).await;
                    process.signal("CONT");
                }
                "a projector is paused"
            }
            5 => {
                self.redis.kill();
                tokio::time::sleep(pause / 2).await;
                self.redis.restart().await;
                "Redis is killed"
            }
            6 => {
                self.redis.suspend();
                tokio::time::sleep(pause).await;
                self.redis.resume();
                "Redis is paused"
            }
            7 => {
                self.kafka.kill();
                tokio::time::sleep(pause / 4).await;
                self.kafka.restart().await;
                "the broker is killed"
            }
            8 => {
                self.kafka.suspend();
                tokio::time::sleep(pause).await;
                self.kafka.resume();
                "the broker is paused"
            }
            _ => {
                drop(producing.kill());
                "the producer is killed"
            }
        }
    }
}

async fn survive(appendonly: bool, disturbances: usize) {
    if !is_real() {
        return;
    }
    let (seed, mut rng) = support::rng("chaos");
    let mut world = World::new(appendonly).await;
    let skus: Vec<String> = (0..60).map(|n| format!("S{n:02}")).collect();
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    let calm = Database::new(Kind::Sqlite).await;
    let events = generate_of(&mut rng, EVENTS_A_CHUNK * disturbances.max(4), &skus);
    let mut happened = 0;
    for (n, chunk) in events.chunks(events.len().div_ceil(disturbances)).enumerate() {
        let lines: String = chunk.iter().map(|event| format!("{event}\n")).collect();
        let file = calm.file(&format!("{n}.ndjson"), &lines);
        let file = file.to_str().unwrap();
        let begun = Instant::now();
        let mut disturbed = false;
        loop {
            let mut producing = world.produce(file);
            if !disturbed {
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
                let what = world.disturb(&mut rng, &mut producing).await;
                println!("chunk {n}: {what}");
                disturbed = true;
                happened += 1;
            }
            if producing.wait().unwrap().success() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(180), "chunk {n} was not taken; seed {seed}");
        }
        tollgate(&calm, &["ingest", file]).ok();
    }
    assert_eq!(happened, disturbances);
    let expected = tollgate(&calm, &["features", "dump"]).ok();
    let begun = Instant::now();
    loop {
        let dump = tollgate(&world.producer, &["features", "dump"]);
        if dump.stdout == expected {
            break;
        }
        let difference = dump.stdout.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert!(begun.elapsed() < Duration::from_secs(120), "seed {seed}: {difference:?} {}", dump.stderr);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Nothing moves any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(tollgate(&world.producer, &["features", "dump"]).ok(), expected, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_ends_as_after_a_calm_run_with_a_durable_redis() {
    survive(true, if full() { 100 } else { 10 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_ends_as_after_a_calm_run_with_a_redis_that_forgets() {
    survive(false, if full() { 100 } else { 10 }).await;
}
