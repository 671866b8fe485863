//! Into the topic: each message acknowledged by all replicas that are in sync before the caller hears of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{KafkaOptions, Told};
use crate::event::log::{LogError, NewRecord, Position};
use crate::telemetry::Metrics;

/// Messages that wait for their acknowledgement, at most; who brings more waits.
const QUEUE_MESSAGES_MAX: u32 = 100_000;
const QUEUE_KIB_MAX: u32 = 65_536;
/// A message that is not acknowledged by then is given up.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Who finds the queue full looks again so often.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);
/// CloudEvents are text that repeats itself: what the frame around an event adds.
const FRAME_BYTES: usize = 4096;

pub(super) struct Sender {
    producer: FutureProducer<Told>,
    topic: String,
    metrics: Arc<Metrics>,
}

impl Sender {
    pub(super) fn new(options: &KafkaOptions, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let mut config = options.client();
        let unless_set = |config: &mut rdkafka::ClientConfig, name: &str, value: String| {
            if !options.properties.contains_key(name) {
                config.set(name, value);
            }
        };
        unless_set(&mut config, "compression.type", "lz4".into());
        unless_set(&mut config, "linger.ms", "2".into());
        unless_set(&mut config, "queue.buffering.max.messages", QUEUE_MESSAGES_MAX.to_string());
        unless_set(&mut config, "queue.buffering.max.kbytes", QUEUE_KIB_MAX.to_string());
        unless_set(&mut config, "delivery.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
        unless_set(&mut config, "message.max.bytes", (options.event_bytes_max + FRAME_BYTES).max(1_000_000).to_string());
        config.set("acks", "all").set("enable.idempotence", "true");
        let producer = config.create_with_context(Told).context("the settings of events.kafka cannot be used for producing")?;
        Ok(Self { producer, topic: options.topic.clone(), metrics })
    }

    pub(super) async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        let begun = Instant::now();
        let mut acknowledgements = Vec::with_capacity(records.len());
        for record in &records {
            acknowledgements.push(self.enqueue(record, begun).await?);
        }
        // All are waited for, whatever becomes of the first: what the counters say is what happened.
        let mut positions = Vec::with_capacity(records.len());
        let mut failed = None;
        for answer in join_all(acknowledgements).await {
            match answer.map_err(|_| KafkaError::Canceled).and_then(|answer| answer.map_err(|(error, _)| error)) {
                Ok(Delivery { partition, offset, .. }) => {
                    positions.push(Position { partition: partition as u16, offset: offset.max(0) as u64 });
                }
                Err(error) => failed = Some(self.failed(&error)),
            }
        }
        self.metrics.events_sent(positions.len() as u64, begun.elapsed());
        failed.map_or(Ok(positions), Err)
    }

    /// Puts a message into the queue, waiting while it is full.
    async fn enqueue(&self, record: &NewRecord, begun: Instant) -> Result<DeliveryFuture, LogError> {
        loop {
            let message = FutureRecord::to(&self.topic)
                .partition(i32::from(record.partition))
                .key(record.subject.as_bytes())
                .payload(&record.payload[..]);
            match self.producer.send_result(message) {
                Ok(acknowledgement) => return Ok(acknowledgement),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if begun.elapsed() < DELIVERY_TIMEOUT => {
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Err((error, _)) => return Err(self.failed(&error)),
            }
        }
    }

    fn failed(&self, error: &KafkaError) -> LogError {
        let kind = error.rdkafka_error_code().map_or_else(|| "other".to_owned(), |code| format!("{code:?}"));
        self.metrics.event_not_sent(kind);
        LogError(error.to_string())
    }
}
