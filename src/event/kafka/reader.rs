//! Out of the topic: messages in the order of each partition, and how far each is known to be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message, Timestamp};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::consumer::{Context, Place, State};
use super::{ANSWER_TIMEOUT, KafkaOptions};
use crate::clock::{Clock, Micros};
use crate::event::log::{Batch, EventReader, Position, Positions, Record};

/// A batch is bounded by both: the feature store applies all of it at once.
const BATCH_MESSAGES_MAX: usize = 2000;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Where partitions end is asked this often: what freshness of an idle partition grows by.
const ENDS_EVERY: Duration = Duration::from_millis(100);
/// A projector that was killed keeps its partitions from the others for so long.
const SESSION: Duration = Duration::from_secs(10);

type Client = Arc<BaseConsumer<Context>>;

/// Reads a share of the topic.
pub(super) struct KafkaReader {
    consumer: Option<Client>,
    asking: JoinHandle<()>,
}

fn consumer(options: &KafkaOptions, partitions: u16, positions: Arc<dyn Positions>) -> anyhow::Result<Client> {
    let mut config = options.client();
    if !options.properties.contains_key("session.timeout.ms") {
        config.set("session.timeout.ms", SESSION.as_millis().to_string());
    }
    if !options.properties.contains_key("fetch.wait.max.ms") {
        config.set("fetch.wait.max.ms", "100");
    }
    // Partitions that stay where they are go on being read while others move.
    config.set("partition.assignment.strategy", "cooperative-sticky");
    config.set("group.id", options.group.as_deref().unwrap_or("tollgate"));
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    // A position that the log does not have is for people to decide about, never to be jumped over.
    config.set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true").set("statistics.interval.ms", "1000");
    let context = Context {
        topic: options.topic.clone(),
        partitions,
        must_stamp: options.must_stamp,
        positions,
        runtime: Handle::current(),
        state: Default::default(),
    };
    Ok(Arc::new(config.create_with_context(context).context("the settings of events.kafka cannot be used for consuming")?))
}

impl KafkaReader {
    /// One of a group: the broker says which partitions.
    pub(super) fn join(
        options: &KafkaOptions,
        partitions: u16,
        positions: Arc<dyn Positions>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let consumer = consumer(options, partitions, positions)?;
        consumer.subscribe(&[&options.topic])?;
        Ok(Self::new(consumer, clock))
    }

    /// All partitions, whoever else reads them.
    pub(super) async fn assign_all(
        options: &KafkaOptions,
        partitions: u16,
        positions: Arc<dyn Positions>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let consumer = consumer(options, partitions, positions.clone())?;
        let mut begins = Vec::new();
        for partition in 0..partitions {
            begins.push((partition, positions.resume(partition).await?));
        }
        let assigned = consumer.clone();
        tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            let context = assigned.context();
            let mut list = TopicPartitionList::new();
            for (partition, after) in begins {
                let next = context.begin(&assigned, i32::from(partition), after)?;
                list.add_partition_offset(&context.topic, i32::from(partition), Offset::Offset(next))?;
                let mut state = context.state.lock();
                state.places.insert(i32::from(partition), Place { next, at_end: false });
                state.given.push((partition, after));
            }
            Ok(assigned.assign(&list)?)
        })
        .await??;
        Ok(Self::new(consumer, clock))
    }

    fn new(consumer: Client, clock: Clock) -> Self {
        let asking = tokio::spawn(ask_ends(Arc::downgrade(&consumer), clock));
        Self { consumer: Some(consumer), asking }
    }

    fn client(&self) -> anyhow::Result<Client> {
        self.consumer.clone().context("the reader is closed")
    }
}

impl Drop for KafkaReader {
    /// Leaving a group waits for brokers: not here.
    fn drop(&mut self) {
        self.asking.abort();
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

/// Asks again and again where the partitions end. An instant at which a partition ended where we stand is one up to which all is read:
/// when nothing comes, that is what freshness grows by, and it stops with the broker.
async fn ask_ends(consumer: std::sync::Weak<BaseConsumer<Context>>, clock: Clock) {
    loop {
        tokio::time::sleep(ENDS_EVERY).await;
        let Some(consumer) = consumer.upgrade() else { return };
        let asked_at = clock.now();
        let asked = tokio::task::spawn_blocking(move || -> Result<(), KafkaError> {
            let mut list = consumer.assignment()?;
            if list.count() == 0 {
                return Ok(());
            }
            list.set_all_offsets(Offset::End)?;
            let found = consumer.offsets_for_times(list, ANSWER_TIMEOUT)?;
            let end = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
                Offset::Offset(end) if element.error().is_ok() => Some((element.partition(), end)),
                _ => None,
            };
            let ends = found.elements().iter().filter_map(end).collect();
            consumer.context().state.lock().ends = Some((asked_at, ends));
            Ok(())
        });
        if let Ok(Err(error)) = asked.await {
            tracing::debug!(%error, "where the event log ends cannot be asked; freshness stands still");
        }
    }
}

#[async_trait]
impl EventReader for KafkaReader {
    async fn next(&mut self, wait: Duration) -> anyhow::Result<Batch> {
        let consumer = self.client()?;
        // Even a caller in no hurry must not spin.
        let wait = wait.max(Duration::from_millis(1));
        tokio::task::spawn_blocking(move || poll(&consumer, wait)).await?
    }

    async fn go_to(&mut self, partition: u16, after: Option<u64>) -> anyhow::Result<()> {
        let consumer = self.client()?;
        tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            let context = consumer.context();
            let number = i32::from(partition);
            if !context.state.lock().places.contains_key(&number) {
                return Ok(());
            }
            let next = context.begin(&consumer, number, after)?;
            consumer.seek(&context.topic, number, Offset::Offset(next), ANSWER_TIMEOUT)?;
            if let Some(place) = context.state.lock().places.get_mut(&number) {
                *place = Place { next, at_end: false };
            }
            Ok(())
        })
        .await?
    }

    async fn close(mut self: Box<Self>) {
        self.asking.abort();
        if let Some(consumer) = self.consumer.take() {
            drop(tokio::task::spawn_blocking(move || drop(consumer)).await);
        }
    }
}

fn poll(consumer: &BaseConsumer<Context>, wait: Duration) -> anyhow::Result<Batch> {
    let context = consumer.context();
    let mut batch = Batch::default();
    let (mut bytes, mut drained) = (0, true);
    let until = Instant::now() + wait;
    loop {
        let left = if batch.records.is_empty() { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        let Some(polled) = consumer.poll(left) else { break };
        match polled {
            Ok(message) => {
                let record = record(&message, context.must_stamp)?;
                bytes += record.payload.len();
                if let Some(place) = context.state.lock().places.get_mut(&message.partition()) {
                    *place = Place { next: message.offset() + 1, at_end: false };
                    batch.records.push(record);
                }
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                if let Some(place) = context.state.lock().places.get_mut(&partition) {
                    place.at_end = true;
                }
            }
            Err(error) => judge(&context.topic, error)?,
        }
        if batch.records.len() >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX {
            drained = false;
            break;
        }
        if context.state.lock().must_be_told() {
            break;
        }
    }
    let mut state = context.state.lock();
    if let Some(failure) = state.failure.take() {
        return Err(failure);
    }
    if drained && batch.records.is_empty() {
        state.pass_markers();
    }
    batch.given = std::mem::take(&mut state.given);
    batch.taken = std::mem::take(&mut state.taken).into_iter().collect();
    if let Some((asked_at, ends)) = state.ends.take() {
        batch.ends = state.reached(asked_at, &ends);
    }
    Ok(batch)
}

impl State {
    fn must_be_told(&self) -> bool {
        self.failure.is_some() || !self.given.is_empty() || !self.taken.is_empty()
    }

    /// Markers of transactions take offsets that nobody is given: behind the last event there may be nothing else up to the end.
    fn pass_markers(&mut self) {
        for (partition, place) in &mut self.places {
            if place.at_end
                && let Some(&end) = self.fetched_to.get(partition)
            {
                place.next = place.next.max(end);
            }
        }
    }

    fn reached(&self, asked_at: Micros, ends: &BTreeMap<i32, i64>) -> Vec<(u16, Micros)> {
        let read = |(partition, end): (&i32, &i64)| self.places.get(partition).is_some_and(|place| place.next >= *end);
        ends.iter().filter(|end| read(*end)).map(|(partition, _)| (*partition as u16, asked_at)).collect()
    }
}

fn record(message: &BorrowedMessage<'_>, must_stamp: bool) -> anyhow::Result<Record> {
    let appended = match message.timestamp() {
        Timestamp::LogAppendTime(appended) => appended,
        Timestamp::CreateTime(created) if !must_stamp => created,
        _ => bail!(
            "the topic {} has the time that producers say: set message.timestamp.type=LogAppendTime on it; messages that it has already \
             are refused",
            message.topic()
        ),
    };
    Ok(Record {
        at: Position { partition: message.partition() as u16, offset: message.offset() as u64 },
        appended: Micros(appended.saturating_mul(1000)),
        payload: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
    })
}

/// What reading cannot go on after is an error; the rest librdkafka mends by itself, and is told.
fn judge(topic: &str, error: KafkaError) -> anyhow::Result<()> {
    use RDKafkaErrorCode::{AutoOffsetReset, Fatal, GroupAuthorizationFailed, OffsetOutOfRange, TopicAuthorizationFailed};
    match error.rdkafka_error_code() {
        Some(OffsetOutOfRange | AutoOffsetReset) => bail!(
            "the topic {topic} no longer has what comes next for the feature store: bring back a checkpoint, or begin a new layout ({error})"
        ),
        Some(Fatal | GroupAuthorizationFailed | TopicAuthorizationFailed) => bail!("the topic {topic} cannot be read: {error}"),
        _ => {
            tracing::warn!(%error, topic, "Kafka");
            Ok(())
        }
    }
}
