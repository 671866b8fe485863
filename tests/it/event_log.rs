//! The contract suite of the event log: every backend passes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::event::{EmbeddedLog, EventLog, EventReader, NewRecord};
use tollgate::segment::Options;

use crate::support;

pub(crate) const PARTITIONS: u16 = 4;

fn embedded(folder: &Path) -> Arc<dyn EventLog> {
    let options = Options { segment_bytes: 4096, durability: Durability::Fsync };
    Arc::new(EmbeddedLog::open(folder, PARTITIONS, options, Clock::system()).unwrap())
}

async fn read_to_end(reader: &mut dyn EventReader) -> BTreeMap<u16, Vec<(u64, Bytes)>> {
    let mut found: BTreeMap<u16, Vec<(u64, Bytes)>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    while ended.len() < usize::from(PARTITIONS) {
        let batch = reader.next(Duration::ZERO).await.unwrap();
        for record in batch.records {
            assert!(!ended.contains(&record.at.partition), "nothing was appended meanwhile");
            found.entry(record.at.partition).or_default().push((record.at.offset, record.payload));
        }
        ended.extend(batch.ends.into_iter().map(|(partition, _)| partition));
    }
    found
}

/// Append, read from any offset, over restarts; `reopen` gives the same log again.
pub(crate) async fn suite(reopen: impl AsyncFn() -> Arc<dyn EventLog>) {
    let (seed, mut rng) = support::rng("event log suite");
    let mut expected: BTreeMap<u16, Vec<(u64, Bytes)>> = BTreeMap::new();
    for restart in 0..4 {
        let log = reopen().await;
        for n in 0..50 {
            let records: Vec<NewRecord> = (0..rng.random_range(1..6))
                .map(|k| NewRecord {
                    partition: rng.random_range(0..PARTITIONS),
                    subject: "S".into(),
                    payload: Bytes::from(format!("{restart}/{n}/{k}").repeat(20)),
                })
                .collect();
            let positions = log.append(records.clone()).await.unwrap();
            for (record, position) in records.into_iter().zip(positions) {
                assert_eq!(record.partition, position.partition);
                let of = expected.entry(position.partition).or_default();
                assert!(of.last().is_none_or(|(last, _)| *last < position.offset), "offsets ascend; seed {seed}");
                of.push((position.offset, record.payload));
            }
        }
        let mut from_start = log.reader(&vec![None; usize::from(PARTITIONS)]).await.unwrap();
        assert_eq!(read_to_end(&mut *from_start).await, expected, "seed {seed}");
        // From the middle of each partition.
        let mut after = Vec::new();
        let mut rest = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let records = expected.get(&partition).cloned().unwrap_or_default();
            let cut = rng.random_range(0..=records.len());
            after.push(cut.checked_sub(1).map(|last| records[last].0));
            if cut < records.len() {
                rest.insert(partition, records[cut..].to_vec());
            }
        }
        let mut from_middle = log.reader(&after).await.unwrap();
        assert_eq!(read_to_end(&mut *from_middle).await, rest, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_log_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    suite(async || embedded(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_waits_for_what_comes_and_says_how_far_it_has_seen() {
    let folder = tempfile::tempdir().unwrap();
    let log = embedded(folder.path());
    let mut reader = log.reader(&[None; PARTITIONS as usize]).await.unwrap();
    let before = Clock::system().now();
    let idle = reader.next(Duration::from_millis(20)).await.unwrap();
    assert!(idle.records.is_empty());
    assert!(idle.ends.iter().all(|(_, complete_to)| *complete_to >= before), "an idle end moves freshness on");
    let (batch, appended) = tokio::join!(reader.next(Duration::from_secs(20)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        log.append(vec![NewRecord { partition: 1, subject: "S".into(), payload: Bytes::from_static(b"x") }]).await.unwrap()
    });
    let batch = batch.unwrap();
    assert_eq!(batch.records[0].at, appended[0]);
    // What is appended from now on must lie past every instant that was claimed as complete.
    let claimed: Vec<Micros> = batch.ends.iter().map(|(_, complete_to)| *complete_to).collect();
    log.append(vec![NewRecord { partition: 1, subject: "S".into(), payload: Bytes::from_static(b"y") }]).await.unwrap();
    let next = reader.next(Duration::from_secs(20)).await.unwrap();
    assert!(claimed.iter().all(|claimed| next.records[0].appended >= *claimed));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    drop(embedded(folder.path()));
    let options = Options { segment_bytes: 4096, durability: Durability::Fsync };
    let error = EmbeddedLog::open(folder.path(), 5, options, Clock::system()).err().unwrap().to_string();
    assert!(error.contains("has 4 partitions, but events.partitions is 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_what_a_snapshot_still_needs_and_a_reader_past_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 4096, durability: Durability::Fsync };
    let log = EmbeddedLog::open(folder.path(), 1, options, Clock::system()).unwrap();
    let mut last = 0;
    for _ in 0..30 {
        last =
            log.append(vec![NewRecord { partition: 0, subject: "S".into(), payload: Bytes::from(vec![7; 1000]) }]).await.unwrap()
                [0]
            .offset;
    }
    let (all_old, segments) = (Micros(i64::MAX), || std::fs::read_dir(folder.path()).unwrap().count());
    let before = segments();
    log.retire(Micros(0), &[Some(last)]).unwrap();
    log.retire(all_old, &[None]).unwrap();
    assert_eq!(segments(), before, "neither young segments nor those behind no snapshot go");
    log.retire(all_old, &[Some(15)]).unwrap();
    assert!(segments() < before);
    assert!(log.reader(&[Some(15)]).await.is_ok());
    let error = log.reader(&[None]).await.err().unwrap().to_string();
    assert!(error.contains("no longer reaches back"), "{error}");
}
