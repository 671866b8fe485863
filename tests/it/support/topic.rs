//! Topics on the broker that scripts/test starts, or on one of a test's own.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use tollgate::clock::Clock;
use tollgate::event::{KafkaLog, KafkaOptions};
use tollgate::telemetry::Metrics;

/// A topic of a test's own.
#[derive(Clone)]
pub(crate) struct Topic {
    pub(crate) bootstrap: String,
    pub(crate) name: String,
}

/// librdkafka's mock cluster, where scripts/test could not have Apache Kafka, and said so.
static MOCK: LazyLock<Mock> = LazyLock::new(|| {
    let (topics, asked) = mpsc::channel::<(String, i32, mpsc::Sender<()>)>();
    let (bootstrap, started) = mpsc::channel();
    // It lives on one thread.
    std::thread::spawn(move || {
        let cluster = MockCluster::new(1).unwrap();
        bootstrap.send(cluster.bootstrap_servers()).unwrap();
        for (name, partitions, done) in asked {
            cluster.create_topic(&name, partitions, 1).unwrap();
            done.send(()).unwrap();
        }
    });
    Mock { bootstrap: started.recv().unwrap(), topics: Mutex::new(topics) }
});

struct Mock {
    bootstrap: String,
    topics: Mutex<mpsc::Sender<(String, i32, mpsc::Sender<()>)>>,
}

/// Whether there is a real broker. What the mock cannot do (transactions, retention, stamps) is not tested on it.
pub(crate) fn is_real() -> bool {
    std::env::var("TOLLGATE_TEST_KAFKA_MOCK").is_err()
}

pub(crate) fn broker() -> String {
    if !is_real() {
        return MOCK.bootstrap.clone();
    }
    std::env::var("TOLLGATE_TEST_KAFKA")
        .expect("TOLLGATE_TEST_KAFKA is not set: run the tests with scripts/test, which starts Apache Kafka")
}

impl Topic {
    /// On the shared broker.
    pub(crate) async fn new(partitions: u16) -> Self {
        Self::on(&broker(), partitions, &[]).await
    }

    pub(crate) async fn on(bootstrap: &str, partitions: u16, settings: &[(&str, &str)]) -> Self {
        let topic = Self { bootstrap: bootstrap.to_owned(), name: format!("t-{:016x}", rand::random::<u64>()) };
        if !is_real() {
            let (done, made) = mpsc::channel();
            MOCK.topics.lock().send((topic.name.clone(), i32::from(partitions), done)).unwrap();
            made.recv().unwrap();
            return topic;
        }
        let mut new = NewTopic::new(&topic.name, i32::from(partitions), TopicReplication::Fixed(1));
        if settings.iter().all(|(name, _)| *name != "message.timestamp.type") {
            new = new.set("message.timestamp.type", "LogAppendTime");
        }
        for (name, value) in settings {
            new = new.set(name, value);
        }
        for outcome in topic.admin().create_topics([&new], &Self::patient()).await.unwrap() {
            outcome.unwrap();
        }
        topic
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().unwrap()
    }

    fn patient() -> AdminOptions {
        AdminOptions::new().operation_timeout(Some(Duration::from_secs(30))).request_timeout(Some(Duration::from_secs(30)))
    }

    /// More partitions than it was made with.
    pub(crate) async fn grow(&self, partitions: usize) {
        let more = NewPartitions::new(&self.name, partitions);
        for outcome in self.admin().create_partitions([&more], &Self::patient()).await.unwrap() {
            outcome.unwrap();
        }
    }

    /// Deletes what lies below `offset`, as retention would.
    pub(crate) async fn forget_below(&self, partition: i32, offset: i64) {
        let mut below = rdkafka::TopicPartitionList::new();
        below.add_partition_offset(&self.name, partition, rdkafka::Offset::Offset(offset)).unwrap();
        self.admin().delete_records(&below, &Self::patient()).await.unwrap();
    }

    pub(crate) fn options(&self, group: Option<&str>) -> KafkaOptions {
        KafkaOptions {
            bootstrap: self.bootstrap.clone(),
            topic: self.name.clone(),
            group: group.map(str::to_owned),
            event_bytes_max: 1 << 20,
            must_stamp: is_real(),
            // The least that a broker takes: tests kill readers without a word.
            properties: BTreeMap::from([("session.timeout.ms".to_owned(), "6000".to_owned())]),
        }
    }

    pub(crate) async fn log(&self, group: Option<&str>) -> anyhow::Result<Arc<KafkaLog>> {
        Ok(Arc::new(KafkaLog::open(self.options(group), Clock::system(), Arc::new(Metrics::default())).await?))
    }
}
