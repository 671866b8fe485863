//! From one generation of keys to the next.

use super::*;

#[tokio::test]
async fn a_replay_is_written_beside_and_read_from_one_instant_on() {
    let (url, prefix) = (redis::single(), redis::prefix());
    let log = [adjusted("a", "A", "X", 1), adjusted("b", "A", "X", 2), upserted("u", "B", "Alba")];
    let (live, reader) = (open(&url, &prefix).await, open(&url, &prefix).await);
    follow(&live, &log, 3, 3).await;
    let before = reader.dump().await.unwrap();
    // A replay that was given up leaves something behind.
    let given_up = live.next_generation().await.unwrap();
    follow(&given_up, &[counted("other", "Z", "X", 9)], 1, 1).await;
    let next = live.next_generation().await.unwrap();
    follow(&next, &log, 2, 1).await;
    assert_eq!(reader.dump().await.unwrap(), before);
    live.switch_to(next.generation(), live.seal().await.unwrap()).await.unwrap();
    assert!(matches!(live.apply(0, batch(&log, 2, 3)).await, Err(ApplyError::Moved { .. })));
    let deadline = Instant::now() + Duration::from_secs(5);
    while reader.generation() != next.generation() {
        drop(reader.standings().await.unwrap());
        assert!(Instant::now() < deadline, "the other generation was not seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_same(&reader, &log, 2, WIDE, "the replayed one").await;
    follow(&live, &log, 3, 3).await;
    assert_same(&reader, &log, 3, WIDE, "gone on from there").await;
}

#[tokio::test]
async fn nothing_is_written_to_a_sealed_generation_until_the_switch_or_the_replays_death() {
    for url in [redis::single(), redis::cluster()] {
        let prefix = redis::prefix();
        let log =
            [adjusted("a", "A", "X", 1), adjusted("b", "A", "X", 2), adjusted("c", "A", "X", 4), adjusted("d", "A", "X", 8)];
        let (writer, other) = (open(&url, &prefix).await, open(&url, &prefix).await);
        follow(&writer, &log, 1, 1).await;
        let write = async |from: usize| {
            writer.apply(0, batch(&log, from, from + 1)).await.unwrap();
            writer.commit(0, complete_to(from + 1)).await
        };
        let stands = async || other.standings().await.unwrap()[0].applied;
        let half = Duration::from_millis(500);

        // Who is sealed out waits, and goes on once the replay says that it gave up.
        let seal = other.seal().await.unwrap();
        let (written, ()) = tokio::join!(write(1), async {
            tokio::time::sleep(half).await;
            assert_eq!(stands().await, Some(0));
            other.break_seal(seal).await.unwrap();
        });
        written.unwrap();
        assert_eq!(stands().await, Some(1));

        // A replay that says nothing any more is waited for, and then does not get through with it.
        let (lost, began) = (other.seal().await.unwrap(), Instant::now());
        write(2).await.unwrap();
        assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
        assert_eq!(stands().await, Some(2));
        let refused = other.switch_to(other.generation() + 1, lost).await.unwrap_err().to_string();
        assert!(refused.contains("try again"), "{refused}");

        // Neither does one that another one came before; and the later one's seal holds.
        let (first, second) = (other.seal().await.unwrap(), other.seal().await.unwrap());
        assert!(other.switch_to(other.generation() + 1, first).await.is_err());
        let next = other.next_generation().await.unwrap();
        follow(&next, &log, 3, 3).await;
        let (written, ()) = tokio::join!(write(3), async {
            tokio::time::sleep(half).await;
            assert_eq!(stands().await, Some(2));
            other.switch_to(next.generation(), second).await.unwrap();
        });
        assert!(matches!(written, Err(ApplyError::Moved { .. })), "{written:?}");
        follow(&writer, &log, 4, 1).await;
        assert_same(&other, &log, 4, WIDE, "gone on from there").await;
    }
}
