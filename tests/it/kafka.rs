//! The event log on a real Kafka: the contract suite, and what only Kafka does: groups, retention, transactions, topics that are not
//! what they must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, FutureProducer, FutureRecord, Producer, ThreadedProducer};
use tollgate::clock::{Clock, Micros};
use tollgate::event::{EventLog, EventReader, NewRecord, Positions};

use crate::event_log::{PARTITIONS, suite};
use crate::support::topic::{Topic, is_real};

/// Where a test's store would stand; and how often each partition was asked for.
#[derive(Default)]
struct Stands(Mutex<BTreeMap<u16, (Option<u64>, usize)>>);

#[async_trait]
impl Positions for Stands {
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>> {
        let mut stands = self.0.lock();
        let (at, asked) = stands.entry(partition).or_default();
        *asked += 1;
        Ok(*at)
    }
}

fn record(partition: u16, text: &str) -> NewRecord {
    NewRecord { partition, subject: "S".into(), payload: Bytes::copy_from_slice(text.as_bytes()) }
}

/// Reads until `done` says so, for a minute at most.
async fn read_until(reader: &mut dyn EventReader, mut done: impl FnMut(&tollgate::event::Batch) -> bool) {
    let begun = Instant::now();
    loop {
        let batch = reader.next(Duration::from_millis(50)).await.unwrap();
        if done(&batch) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "what was waited for did not come");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_passes_the_suite() {
    let topic = Topic::new(PARTITIONS).await;
    suite(async || topic.log(None).await.unwrap() as Arc<dyn EventLog>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_end_moves_on_and_never_past_what_comes_next() {
    if !is_real() {
        return;
    }
    let topic = Topic::new(1).await;
    let log = topic.log(None).await.unwrap();
    let mut reader = log.reader(&[None]).await.unwrap();
    for n in 0..5 {
        let before = Clock::system().now();
        let mut claimed = Micros(0);
        read_until(&mut *reader, |batch| {
            claimed = batch.ends.first().map_or(claimed, |(_, to)| claimed.max(*to));
            claimed > before
        })
        .await;
        let at = log.append(vec![record(0, &format!("{n}"))]).await.unwrap()[0];
        let mut found = None;
        read_until(&mut *reader, |batch| {
            if let Some(first) = batch.records.first() {
                found = Some((first.at, first.appended));
            }
            found.is_some()
        })
        .await;
        let (found_at, appended) = found.unwrap();
        assert_eq!(found_at, at);
        // The log's clock counts milliseconds.
        assert!(appended.0 + 999 >= claimed.0, "{appended:?} was claimed to be read by {claimed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_shares_partitions_and_each_begins_where_the_store_stands() {
    let topic = Topic::new(4).await;
    let log = topic.log(Some("shared")).await.unwrap();
    let texts: Vec<_> =
        (0..10).flat_map(|n| (0..4).map(move |partition| record(partition, &format!("{partition}/{n}")))).collect();
    log.append(texts).await.unwrap();
    let stands = Arc::new(Stands::default());
    for partition in 0..4 {
        stands.0.lock().insert(partition, (Some(4), 0));
    }
    let mut first = log.follow(stands.clone()).await.unwrap();
    let mut given = BTreeMap::new();
    let mut found: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    read_until(&mut *first, |batch| {
        given.extend(batch.given.iter().copied());
        for record in &batch.records {
            found.entry(record.at.partition).or_default().push(record.at.offset);
        }
        found.values().map(Vec::len).sum::<usize>() == 20
    })
    .await;
    assert_eq!(given, (0..4).map(|partition| (partition, Some(4))).collect());
    assert!(found.values().all(|offsets| *offsets == [5, 6, 7, 8, 9]), "{found:?}");

    // Another one joins: it gets a share, and begins where the store stands by then.
    for partition in 0..4 {
        stands.0.lock().insert(partition, (Some(7), 0));
    }
    let mut second = log.follow(stands.clone()).await.unwrap();
    let (mut left, mut seconds) = ((0..4).collect::<Vec<u16>>(), BTreeMap::new());
    let mut read: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    let begun = Instant::now();
    while left.len() != 2 || seconds.len() != 2 || read.values().map(Vec::len).sum::<usize>() < 4 {
        let batch = first.next(Duration::from_millis(50)).await.unwrap();
        left.retain(|partition| !batch.taken.contains(partition));
        assert!(batch.records.is_empty(), "what it had read is not given to it again");
        let batch = second.next(Duration::from_millis(50)).await.unwrap();
        seconds.extend(batch.given.iter().copied());
        for record in &batch.records {
            read.entry(record.at.partition).or_default().push(record.at.offset);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{left:?} {seconds:?} {read:?}");
    }
    assert!(seconds.keys().all(|partition| !left.contains(partition)));
    assert!(seconds.values().all(|at| *at == Some(7)) && read.values().all(|offsets| *offsets == [8, 9]), "{seconds:?} {read:?}");

    // It goes: its partitions come back, and are begun anew.
    drop(second);
    let mut back = BTreeMap::new();
    read_until(&mut *first, |batch| {
        back.extend(batch.given.iter().copied());
        back.len() == 2
    })
    .await;
    assert_eq!(back, seconds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_back_and_forth() {
    let topic = Topic::new(1).await;
    let log = topic.log(None).await.unwrap();
    log.append((0..20).map(|n| record(0, &n.to_string())).collect()).await.unwrap();
    let mut reader = log.reader(&[None]).await.unwrap();
    for (after, first) in [(None, 0), (Some(14), 15), (Some(3), 4), (None, 0)] {
        reader.go_to(0, after).await.unwrap();
        let mut found = Vec::new();
        read_until(&mut *reader, |batch| {
            found.extend(batch.records.iter().map(|record| record.at.offset));
            found.last() == Some(&19)
        })
        .await;
        assert_eq!(found, (first..20).collect::<Vec<u64>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactions_marker_is_no_event_and_no_lag() {
    if !is_real() {
        return;
    }
    let topic = Topic::new(1).await;
    let log = topic.log(None).await.unwrap();
    let mut reader = log.reader(&[None]).await.unwrap();
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", &topic.bootstrap).set("transactional.id", &topic.name).create().unwrap();
    let producer = Arc::new(producer);
    let name = topic.name.clone();
    tokio::task::spawn_blocking(move || {
        let patience = Duration::from_secs(30);
        producer.init_transactions(patience).unwrap();
        for (text, is_committed) in [("kept", true), ("dropped", false)] {
            producer.begin_transaction().unwrap();
            producer.send(BaseRecord::<str, str>::to(&name).partition(0).payload(text)).map_err(|(error, _)| error).unwrap();
            producer.flush(patience).unwrap();
            if is_committed {
                producer.commit_transaction(patience).unwrap();
            } else {
                producer.abort_transaction(patience).unwrap();
            }
        }
    })
    .await
    .unwrap();
    let after = Clock::system().now();
    let mut found = Vec::new();
    read_until(&mut *reader, |batch| {
        found.extend(batch.records.iter().map(|record| record.payload.clone()));
        batch.ends.iter().any(|(_, to)| *to > after)
    })
    .await;
    assert_eq!(found, ["kept"], "the end is seen behind the markers; what was aborted is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_cannot_do_are_refused_in_words() {
    if !is_real() {
        return;
    }
    let bootstrap = crate::support::topic::broker();
    let missing = Topic { bootstrap: bootstrap.clone(), name: "nobody-made-this".into() };
    let refused = missing.log(None).await.err().unwrap().to_string();
    assert!(refused.contains("the topic nobody-made-this is not there: create it"), "{refused}");

    let unstamped = Topic::on(&bootstrap, 1, &[("message.timestamp.type", "CreateTime")]).await;
    let refused = unstamped.log(None).await.err().unwrap().to_string();
    assert!(refused.contains("set message.timestamp.type=LogAppendTime"), "{refused}");

    let nobody = Topic { bootstrap: "127.0.0.1:1".into(), name: "t".into() };
    let refused = nobody.log(None).await.err().unwrap().to_string();
    assert!(refused.contains("no broker of 127.0.0.1:1 answers"), "{refused}");

    let topic = Topic::new(1).await;
    let log = topic.log(None).await.unwrap();
    log.append((0..10).map(|n| record(0, &n.to_string())).collect()).await.unwrap();
    let refused = log.reader(&[Some(30)]).await.err().unwrap().to_string();
    assert!(refused.contains("ends at 10, before the feature store's position 31"), "{refused}");
    topic.forget_below(0, 6).await;
    let refused = log.reader(&[Some(3)]).await.err().unwrap().to_string();
    assert!(refused.contains("no longer reaches back"), "{refused}");
    assert!(log.reader(&[Some(5)]).await.is_ok());

    let grown = Topic::new(1).await;
    let log = grown.log(Some("grown")).await.unwrap();
    grown.grow(2).await;
    let mut reader = log.follow(Arc::new(Stands::default())).await.unwrap();
    let begun = Instant::now();
    let refused = loop {
        match reader.next(Duration::from_millis(50)).await {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(60), "a grown topic was not refused"),
        }
    };
    assert!(refused.contains("grew from 1 partitions"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_any_producer_sends_is_read_as_it_is() {
    let topic = Topic::new(1).await;
    let log = topic.log(None).await.unwrap();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer: FutureProducer =
            ClientConfig::new().set("bootstrap.servers", &topic.bootstrap).set("compression.type", compression).create().unwrap();
        let payload = compression.repeat(100);
        producer.send(FutureRecord::<str, str>::to(&topic.name).payload(&payload), Duration::from_secs(30)).await.unwrap();
    }
    // A message without a payload.
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &topic.bootstrap).create().unwrap();
    producer.send(FutureRecord::<str, str>::to(&topic.name).key("k"), Duration::from_secs(30)).await.unwrap();
    let mut reader = log.reader(&[None]).await.unwrap();
    let mut found = Vec::new();
    read_until(&mut *reader, |batch| {
        found.extend(batch.records.iter().map(|record| record.payload.clone()));
        found.len() == 6
    })
    .await;
    let expected: Vec<_> =
        ["none", "gzip", "snappy", "lz4", "zstd"].iter().map(|name| name.repeat(100)).chain([String::new()]).collect();
    assert_eq!(found, expected);
}
