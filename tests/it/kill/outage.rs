//! PostgreSQL is killed under load, suspended, and away for a while: serving goes on, and the backlog drains exactly.

use std::time::{Duration, Instant};

use rand::Rng;

use super::{Load, hold, prepare, serve, suspend_in_transaction};
use crate::support::postgres::Postgres;
use crate::support::{self, Database, full};

/// A shipper that failed for long tries again within this time.
const DRAIN_MAX: Duration = Duration::from_secs(25);

/// Waits until the ledger counts as many answers.
async fn drained(database: &Database, answers: usize) {
    let began = Instant::now();
    loop {
        let counted =
            database.number("select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter = 'requests'").await;
        if usize::try_from(counted).unwrap() >= answers {
            return;
        }
        assert!(began.elapsed() < DRAIN_MAX, "{counted} of {answers} answers are in the ledger after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_goes_on_without_postgres_and_the_backlog_drains_exactly() {
    let (seed, mut rng) = support::rng("serving_goes_on_without_postgres_and_the_backlog_drains_exactly");
    let mut postgres = Postgres::start().await;
    let database = Database::on(&postgres.url()).await;
    let keys = prepare(&database);
    let process = serve(&database);
    let mut received = Vec::new();
    let (kills, away) = if full() { (100, Duration::from_secs(60)) } else { (4, Duration::from_secs(5)) };
    let mut mid_transaction = 0;
    for kill in 0..kills {
        let load = Load::begin(&process, &keys, &mut rng);
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..500))).await;
        let held = kill % 2 == 0
            && suspend_in_transaction(&database, |name| process.signal(name), rng.random_range(0..3), || true).await;
        postgres.kill();
        mid_transaction += usize::from(held);
        process.signal("CONT");
        let before = load.answers();
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..300))).await;
        assert!(load.answers() > before, "serving goes on");
        postgres.restart().await;
        received.extend(load.end().await);
    }

    // Suspended: connections stay open and say nothing.
    let load = Load::begin(&process, &keys, &mut rng);
    tokio::time::sleep(Duration::from_millis(100)).await;
    postgres.suspend();
    let before = load.answers();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let during_suspension = load.answers() - before;
    assert!(during_suspension > 50, "serving goes on: {during_suspension}");
    postgres.resume();
    received.extend(load.end().await);
    drained(&database, received.len()).await;

    // Away for long.
    let load = Load::begin(&process, &keys, &mut rng);
    postgres.kill();
    let before = load.answers();
    tokio::time::sleep(away).await;
    let during_outage = load.answers() - before;
    received.extend(load.end().await);
    assert!(during_outage > 50 * away.as_secs(), "serving goes on: {during_outage} answers in {away:?}");
    postgres.restart().await;
    let back = Instant::now();
    drained(&database, received.len()).await;
    let told = format!(
        "seed {seed}: PostgreSQL killed {kills} times, {mid_transaction} of them with a shipment open; {during_suspension} answers while it \
         was suspended for 1 s, {during_outage} while it was away for {away:?}, all in the ledger {:?} after it was back",
        back.elapsed()
    );
    process.terminate();
    // Nobody lost the gateway, so nothing was in flight that was not received.
    hold(std::slice::from_ref(&database), &received, 0, &told).await;
    assert!(mid_transaction > 0, "{told}");
}
