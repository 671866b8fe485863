//! What librdkafka calls back: partitions come and go, and each is begun where the feature store stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::{ANSWER_TIMEOUT, told};
use crate::clock::Micros;
use crate::event::log::Positions;

/// How one partition of ours is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Everything below this offset was given out, or holds no event.
    pub(super) next: i64,
    /// Its end was seen, and nothing came since.
    pub(super) at_end: bool,
}

/// What callbacks leave for the reader.
#[derive(Default)]
pub(super) struct State {
    pub(super) places: BTreeMap<i32, Place>,
    pub(super) given: Vec<(u16, Option<u64>)>,
    pub(super) taken: BTreeSet<u16>,
    /// A partition could not be begun.
    pub(super) failure: Option<anyhow::Error>,
    /// Where each partition ended, and when that was asked.
    pub(super) ends: Option<(Micros, BTreeMap<i32, i64>)>,
    /// The end of each partition as the fetcher saw it, behind markers of transactions.
    pub(super) fetched_to: BTreeMap<i32, i64>,
}

pub(super) struct Context {
    pub(super) topic: String,
    pub(super) partitions: u16,
    pub(super) must_stamp: bool,
    pub(super) positions: Arc<dyn Positions>,
    pub(super) runtime: Handle,
    pub(super) state: Mutex<State>,
}

impl Context {
    /// Where `partition` is to be read from; refuses, in words, where the log does not have what lies behind `after`.
    pub(super) fn begin(&self, consumer: &BaseConsumer<Self>, partition: i32, after: Option<u64>) -> anyhow::Result<i64> {
        let topic = &self.topic;
        ensure!(
            partition < i32::from(self.partitions),
            "the topic {topic} grew from {} partitions: subjects moved to others; make a new topic, and replay into a new layout",
            self.partitions
        );
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, ANSWER_TIMEOUT)
            .with_context(|| format!("where partition {partition} of {topic} begins and ends cannot be asked"))?;
        let next = after.map_or(0, |after| after as i64 + 1);
        ensure!(
            low <= next,
            "the topic {topic} no longer reaches back to where the feature store stands (partition {partition} begins at {low}, the store \
             needs {next}): bring back a checkpoint, or begin a new layout from what is left"
        );
        ensure!(
            next <= high,
            "partition {partition} of the topic {topic} ends at {high}, before the feature store's position {next}: the topic was made \
             anew, or lost messages; begin a new layout"
        );
        Ok(next)
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> anyhow::Result<()> {
        let mut from = TopicPartitionList::new();
        for element in list.elements() {
            let partition = element.partition();
            let after = self.runtime.block_on(self.positions.resume(partition as u16))?;
            let next = self.begin(consumer, partition, after)?;
            from.add_partition_offset(&self.topic, partition, Offset::Offset(next))?;
            let mut state = self.state.lock();
            state.places.insert(partition, Place { next, at_end: false });
            state.taken.remove(&(partition as u16));
            state.given.push((partition as u16, after));
        }
        consumer.incremental_assign(&from)?;
        Ok(())
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let ends = topic.partitions.iter().map(|(partition, of)| (*partition, of.eof_offset)).collect();
        self.state.lock().fetched_to = ends;
    }

    fn log(&self, level: RDKafkaLogLevel, kind: &str, message: &str) {
        told(level, kind, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let mut state = self.state.lock();
                for element in list.elements() {
                    let partition = element.partition();
                    state.places.remove(&partition);
                    state.given.retain(|(given, _)| i32::from(*given) != partition);
                    state.taken.insert(partition as u16);
                }
                drop(state);
                consumer.incremental_unassign(list).map_err(Into::into)
            }
            _ => consumer.unassign().map_err(Into::into),
        };
        if let Err(error) = done {
            self.state.lock().failure = Some(error);
        }
    }
}
