//! The event log on Kafka: one topic, one event a message, keyed by its subject.
//!
//! The group only says which partitions are whose; where reading begins is the feature store's word ([`Positions`]), and nothing is ever
//! committed to Kafka. The topic stamps messages when it takes them (`message.timestamp.type=LogAppendTime`): retention of ids and
//! freshness go by that time, not by what producers say.

mod consumer;
mod producer;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use self::producer::Sender;
use self::reader::KafkaReader;
use super::log::{EventLog, EventReader, LogError, NewRecord, Position, Positions};
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// A broker has this long to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What exactly-once rests on: not for settings to change.
const OURS: [&str; 12] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "partition.assignment.strategy",
    "partitioner",
    "statistics.interval.ms",
];

/// Where the topic is, and how to get there.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, with commas between.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// Projectors of one group share the partitions. None: this process reads all of them.
    pub group: Option<String>,
    /// The largest event.
    pub event_bytes_max: usize,
    /// Whether the topic must stamp messages when it takes them. A broker that cannot, librdkafka's mock, serves tests alone.
    pub must_stamp: bool,
    /// More for librdkafka, by its names: TLS, SASL, time-outs.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// The brokers of `kafka://b1,b2`.
    pub fn brokers(url: &str) -> Option<&str> {
        url.strip_prefix("kafka://").filter(|brokers| !brokers.is_empty())
    }

    /// Refuses, in words, what would take exactly-once away.
    pub fn check(properties: &BTreeMap<String, String>) -> anyhow::Result<()> {
        for name in properties.keys() {
            ensure!(
                !OURS.contains(&name.as_str()),
                "the setting events.kafka.\"{name}\" is Tollgate's own: what it promises rests on it; take it away"
            );
        }
        Ok(())
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "tollgate");
        // Names of hosts are looked up again after a broker moved; and a broker that comes back is found soon.
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

/// What librdkafka says, in our log. A broker that is away is not our failure: clients try again, and lag shows it.
fn told(level: RDKafkaLogLevel, kind: &str, message: &str) {
    // A setting for consumers is given to producers too, and the other way round.
    if kind == "CONFWARN" {
        return;
    }
    match level {
        RDKafkaLogLevel::Debug => tracing::debug!(kind, message, "librdkafka"),
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => tracing::info!(kind, message, "librdkafka"),
        _ => tracing::warn!(kind, message, "librdkafka"),
    }
}

/// Of clients without callbacks of their own.
#[derive(Clone)]
struct Told;

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, kind: &str, message: &str) {
        told(level, kind, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
    }
}

impl ConsumerContext for Told {}

/// The event log in a topic.
pub struct KafkaLog {
    options: KafkaOptions,
    partitions: u16,
    sender: Sender,
    clock: Clock,
}

impl KafkaLog {
    /// Connects, and sees that the topic is there and is what it must be.
    pub async fn open(options: KafkaOptions, clock: Clock, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        KafkaOptions::check(&options.properties)?;
        let admin: AdminClient<Told> =
            options.client().create_with_context(Told).context("the settings of events.kafka cannot be used")?;
        let stamped = [ResourceSpecifier::Topic(&options.topic)];
        let asked = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let partitions = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || partitions_of(&options)).await??
        };
        // A client that may not read a topic's configuration finds it out by the first message.
        match admin.describe_configs(&stamped, &asked).await.map(|found| found.into_iter().next()) {
            Ok(Some(Ok(found))) => {
                let stamp = found.get("message.timestamp.type").and_then(|entry| entry.value.clone());
                ensure!(
                    !options.must_stamp || stamp.as_deref() != Some("CreateTime"),
                    "the topic {} has the time that producers say: set message.timestamp.type=LogAppendTime on it",
                    options.topic
                );
            }
            Ok(Some(Err(error))) => tracing::warn!(%error, topic = options.topic, "the topic's configuration cannot be read"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, topic = options.topic, "the topic's configuration cannot be read"),
        }
        let sender = Sender::new(&options, metrics)?;
        tracing::info!(topic = options.topic, partitions, "the event log is Kafka's");
        Ok(Self { options, partitions, sender, clock })
    }
}

/// How many partitions the topic has.
fn partitions_of(options: &KafkaOptions) -> anyhow::Result<u16> {
    let consumer: BaseConsumer<Told> =
        options.client().create_with_context(Told).context("the settings of events.kafka cannot be used")?;
    let metadata = consumer
        .fetch_metadata(Some(&options.topic), ANSWER_TIMEOUT)
        .with_context(|| format!("no broker of {} answers: start Kafka, or set events.url to where it is", options.bootstrap))?;
    let found = metadata.topics().iter().find(|topic| topic.name() == options.topic);
    let partitions = found.filter(|topic| topic.error().is_none()).map_or(0, |topic| topic.partitions().len());
    ensure!(
        partitions > 0,
        "the topic {} is not there: create it with message.timestamp.type=LogAppendTime, or set events.topic to its name",
        options.topic
    );
    u16::try_from(partitions).with_context(|| format!("the topic {} has more than 65535 partitions", options.topic))
}

#[async_trait]
impl EventLog for KafkaLog {
    fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Durable when it returns. Kafka takes each message by itself: after an error some may be there, and a second try leaves copies,
    /// which count once.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        self.sender.append(records).await
    }

    async fn earliest(&self) -> anyhow::Result<Vec<Option<u64>>> {
        let (options, partitions) = (self.options.clone(), self.partitions);
        let asked = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<Option<u64>>> {
            let consumer: BaseConsumer<Told> = options.client().create_with_context(Told)?;
            let begin = |partition: u16| {
                let (low, _) = consumer.fetch_watermarks(&options.topic, i32::from(partition), ANSWER_TIMEOUT)?;
                Ok(u64::try_from(low).ok().and_then(|low| low.checked_sub(1)))
            };
            (0..partitions).map(begin).collect()
        });
        asked.await?.context("where the event log begins cannot be asked")
    }

    async fn reader(&self, after: &[Option<u64>]) -> anyhow::Result<Box<dyn EventReader>> {
        let positions = Arc::new(Fixed(after.to_vec()));
        Ok(Box::new(KafkaReader::assign_all(&self.options, self.partitions, positions, self.clock.clone()).await?))
    }

    async fn follow(&self, positions: Arc<dyn Positions>) -> anyhow::Result<Box<dyn EventReader>> {
        let reader = match &self.options.group {
            None => KafkaReader::assign_all(&self.options, self.partitions, positions, self.clock.clone()).await?,
            Some(_) => KafkaReader::join(&self.options, self.partitions, positions, self.clock.clone())?,
        };
        Ok(Box::new(reader))
    }
}

struct Fixed(Vec<Option<u64>>);

#[async_trait]
impl Positions for Fixed {
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>> {
        Ok(self.0.get(usize::from(partition)).copied().flatten())
    }
}
