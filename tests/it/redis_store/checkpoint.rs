//! A partition as a whole: from a checkpoint into memory, and from memory into Redis, in pieces.

use super::*;

#[tokio::test]
async fn the_next_process_goes_on_from_the_checkpoint() {
    let (url, prefix) = (redis::single(), redis::prefix());
    let folder = tempfile::tempdir().unwrap();
    let checkpoints: Arc<dyn Checkpoints> = Arc::new(ObjectCheckpoints::folder(folder.path()).unwrap());
    let open = async |partitions| RedisStore::open(&url, &prefix, partitions, WIDE, Some(checkpoints.clone())).await.unwrap();
    let log = [counted("c", "A", "X", 5), adjusted("a", "A", "X", -2), adjusted("a", "A", "X", -2), adjusted("b", "A", "X", 1)];
    let first = open(1).await;
    follow(&first, &log, 2, 1).await;
    // What is applied and not committed is no part of it: its dead letters may not be kept yet.
    first.apply(0, batch(&log, 2, 4)).await.unwrap();
    first.release(0).await;
    assert_eq!(open(1).await.resume(0).await.unwrap(), None);
    let second = open(1).await;
    follow(&second, &log, 2, 1).await;
    second.release(0).await;
    let third = open(1).await;
    assert_eq!(third.resume(0).await.unwrap(), Some(1));
    // With the ids: the copy changes nothing.
    let applied = third.apply(0, batch(&log, 2, 4)).await.unwrap();
    assert_eq!((applied.applied, applied.duplicates), (1, 1));
    follow(&third, &log, 4, 1).await;
    assert_same(&third, &log, 4, WIDE, "after the checkpoint").await;
    // Another log's checkpoints are told apart.
    let other = RedisStore::open(&url, &redis::prefix(), 2, WIDE, Some(checkpoints.clone())).await.unwrap();
    let refused = other.resume(0).await.unwrap_err().to_string();
    assert!(refused.contains("have 1 partitions, but the event log has 2"), "{refused}");
}

#[tokio::test]
async fn a_large_partition_is_written_anew_in_pieces() {
    for url in [redis::single(), redis::cluster()] {
        let (prefix, other) = (redis::prefix(), redis::prefix());
        // More keys than a piece may have, of more products than are looked up at once.
        let mut log = Vec::new();
        for n in 0..300 {
            let sku = format!("S{n:03}");
            log.push(upserted(&format!("u{n}"), &sku, ["Alba", "Birk"][n % 2]));
            let markets = if n < 150 { 12 } else { 1 };
            log.extend((0..markets).map(|market| price(&format!("p{n}-{market}"), &sku, &format!("M{market}"), "7.50")));
        }
        let events = log.len();
        // A replay of another log was given up: its head goes, its products are left.
        let foreign: Vec<Value> = (0..600).map(|n| upserted(&format!("f{n}"), &format!("T{n:03}"), "Alba")).collect();
        let live = open(&url, &prefix).await;
        follow(&live.next_generation().await.unwrap(), &foreign, 600, 600).await;
        let again = live.next_generation().await.unwrap();
        follow(&again, &log, events, events).await;
        live.switch_to(again.generation(), live.seal().await.unwrap()).await.unwrap();
        let (reader, fresh) = (open(&url, &prefix).await, open(&url, &other).await);
        assert_same(&reader, &log, events, WIDE, "over what was there").await;
        // In one call, of more values than are set at once there.
        follow(&fresh, &log, events, events).await;
        assert_same(&fresh, &log, events, WIDE, "in one call").await;
        let scope = Scope::parse(["brand=Alba"]).unwrap();
        let listed = reader.scan(None, 1000, &scope).await.unwrap();
        assert_eq!(listed, fresh.scan(None, 1000, &scope).await.unwrap());
        assert_eq!(listed.len(), 150);
    }
}

#[tokio::test]
async fn a_commit_over_what_redis_lost_is_refused_until_it_is_whole_again() {
    let (url, prefix) = (redis::single(), redis::prefix());
    let log = [counted("c", "A", "X", 5), upserted("u", "B", "Alba"), counted("c2", "C", "X", 6), adjusted("a", "C", "X", 1)];
    let store = open(&url, &prefix).await;
    follow(&store, &log, 1, 1).await;
    let mut behind = connection().await;
    let older = backup(&mut behind, &prefix).await;
    store.apply(0, batch(&log, 1, 2)).await.unwrap();
    store.commit(0, complete_to(2)).await.unwrap();
    // An older state, then none: each is noticed by the next commit, without anybody asking.
    wipe(&mut behind, &prefix).await;
    restore(&mut behind, &older).await;
    store.apply(0, batch(&log, 2, 3)).await.unwrap();
    let refused = store.commit(0, complete_to(3)).await;
    assert!(matches!(refused, Err(ApplyError::Moved { stands: Some(0), expected: Some(1) })), "{refused:?}");
    follow(&store, &log, 3, 1).await;
    assert_same(&store, &log, 3, WIDE, "after an older state came back").await;
    wipe(&mut behind, &prefix).await;
    let refused = store.commit(0, complete_to(3)).await;
    assert!(matches!(refused, Err(ApplyError::Moved { stands: None, expected: Some(2) })), "{refused:?}");
    follow(&store, &log, 4, 1).await;
    assert_same(&store, &log, 4, WIDE, "after all was lost").await;
}
