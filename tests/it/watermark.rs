//! What a replica promises of its journal, and that whatever breaks a promise is marked as late: what a month's close stands on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::Row;
use tokio::sync::watch;
use tollgate::clock::{Clock, Micros};
use tollgate::config::Durability;
use tollgate::db::Db;
use tollgate::ids::ReplicaId;
use tollgate::metering::replica_store::{self, Replica};
use tollgate::metering::{InFlight, Journal, Mode, Product, Shipper, UsageRecord, parse_frame};
use tollgate::segment::{Item, Options};
use tollgate::telemetry::Metrics;

use crate::support::{self, Gateway, on_both_databases};

const CELL: i64 = 15 * 60 * 1_000_000;
const OPTIONS: Options = Options { segment_bytes: 4096, durability: Durability::Fsync };

fn record(partner: &str, at: Micros, n: u64) -> UsageRecord {
    UsageRecord {
        v: 1,
        request: format!("req_{n}").into(),
        at,
        partner: partner.into(),
        key: "key".into(),
        mode: Mode::Live,
        plan: "p".into(),
        plan_version: 1,
        units: [(Product::Inventory, 2)].into(),
        waived_units: BTreeMap::new(),
    }
}

async fn replica(db: &Db) -> Replica {
    let mut found = replica_store::replicas(&mut db.read().await.unwrap()).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

async fn late(db: &Db) -> Vec<(String, i64)> {
    let rows = sqlx::query("select partner_id, cell_start from usage_late order by partner_id, cell_start");
    let rows = rows.fetch_all(&mut *db.read().await.unwrap()).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Waits until the promise is at or past `instant`.
async fn promised(db: &Db, instant: Micros) {
    for _ in 0..1000 {
        if replica(db).await.watermark >= instant {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was promised up to {instant}");
}

on_both_databases! {
    async fn an_idle_replica_promises_every_second_and_never_past_who_is_in_flight(database: Database) {
        let before = Db::open(&Gateway::settings(&database).database_url(), 2, &database.data_dir()).await.unwrap();
        let earliest = before.now().await.unwrap();
        let gateway = Gateway::start(&database).await;
        let db = gateway.running.db().clone();
        let app = &gateway.running.app;
        let first = replica(&db).await;
        // SQLite tells milliseconds.
        assert!(first.watermark.0 >= earliest.0 - 1000 && first.epoch == 1 && first.retired_at.is_none());
        promised(&db, app.clock.now()).await;
        let (at, admission) = app.gate.in_flight.admit(&app.clock, app.clock.now());
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let held = replica(&db).await;
        assert!(held.watermark <= at, "{held:?} was promised while somebody admitted at {at} is in flight");
        assert!(held.reported_at.since(at) > Duration::from_secs(1), "held back, but reported: {held:?}");
        drop(admission);
        promised(&db, Micros(at.0 + 1)).await;
        gateway.stop().await;
        let stopped = replica(&before).await;
        assert!(stopped.watermark > at);

        // A start promises nothing of its own: what it had promised stays, and goes on from there.
        let gateway = Gateway::start(&database).await;
        let again = replica(&before).await;
        assert!(again.epoch == 2 && again.watermark >= stopped.watermark);
        gateway.stop().await;
    }

    async fn usage_behind_the_promise_or_of_a_retired_replica_is_late(database: Database) {
        let gateway = Gateway::start(&database).await;
        let (db, app) = (gateway.running.db().clone(), gateway.running.app.clone());
        promised(&db, app.clock.now()).await;
        let stands = replica(&db).await;
        let cell = |at: Micros| at.0.div_euclid(CELL) * CELL;
        // In time: at the promise itself, and later.
        for (n, at) in [(1, Micros(stands.watermark.0 + 3_600_000_000)), (2, app.clock.now())] {
            app.journal.append(record("in time", at, n)).await.unwrap().durable().await.unwrap();
        }
        // An hour before it; twice in one cell.
        let old = Micros(stands.watermark.0 - 3_600_000_000);
        for n in [3, 4] {
            app.journal.append(record("late", old, n)).await.unwrap().durable().await.unwrap();
        }
        let mut test = record("never rated", old, 5);
        test.mode = Mode::Test;
        app.journal.append(test).await.unwrap().durable().await.unwrap();
        app.ship().await.unwrap();
        assert_eq!(late(&db).await, [("late".to_owned(), cell(old))]);

        let id = stands.id;
        let mut transaction = db.begin().await.unwrap();
        let now = app.clock.now();
        let error = replica_store::retire(&mut transaction, &id, false, now).await.unwrap_err().to_string();
        assert!(error.contains("seems to run") && error.contains("--force"), "{error}");
        let none = replica_store::retire(&mut transaction, &ReplicaId::from("rep_x"), true, now).await.unwrap_err().to_string();
        assert!(none.contains("there is no replica rep_x"), "{none}");
        assert_eq!(replica_store::retire(&mut transaction, &id, true, now).await.unwrap(), now);
        assert_eq!(replica_store::retire(&mut transaction, &id, false, Micros(now.0 + 5)).await.unwrap(), now, "since then");
        transaction.commit().await.unwrap();
        let soon = Micros(app.clock.now().0 + 2 * CELL);
        app.journal.append(record("retired", soon, 6)).await.unwrap().durable().await.unwrap();
        app.ship().await.unwrap();
        assert_eq!(late(&db).await, [("late".to_owned(), cell(old)), ("retired".to_owned(), cell(soon))]);
        let counted = database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await;
        assert_eq!(counted, 5);
        gateway.stop().await;
    }

    /// A close reads promises, late cells and sums in one snapshot. Whatever of the promised time it did not see must be late.
    async fn what_a_snapshot_missed_of_the_promised_time_is_late(database: Database) {
        let (seed, mut rng) = support::rng("what_a_snapshot_missed_of_the_promised_time_is_late");
        let settings = Gateway::settings(&database);
        let db = Db::open(&settings.database_url(), 8, &database.data_dir()).await.unwrap();
        let clock = Clock::manual(Micros(1_780_000_000_000_000));
        let id = ReplicaId::new(clock.now(), &mut rng);
        let mut transaction = db.begin().await.unwrap();
        let begun = replica_store::begin_epoch(&mut transaction, &id, 0, clock.now()).await.unwrap();
        transaction.commit().await.unwrap();
        let folder = database.data_dir().join("journal");
        let journal = Arc::new(Journal::open(&folder, id, begun.epoch, OPTIONS, clock.clone()).unwrap());
        let in_flight = Arc::new(InFlight::new(&clock));
        let (ship_now, asked) = watch::channel(0);
        let every = Duration::from_millis(2);
        let metrics = Arc::new(Metrics::default());
        let (shipper, _) = Shipper::new(journal.clone(), in_flight.clone(), db.clone(), clock.clone(), every, metrics, asked);
        let (stop, stopping) = watch::channel(false);
        let shipper = tokio::spawn(shipper.run(stopping));

        let clients: Vec<_> = (0..4_u64)
            .map(|client| {
                let (clock, journal, in_flight) = (clock.clone(), journal.clone(), in_flight.clone());
                let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
                tokio::spawn(async move {
                    for n in 0..300 {
                        // Time passes by minutes, so that cells fill and end; by one client, so that it never goes back.
                        if client == 0 {
                            clock.anchor(clock.now().plus(Duration::from_secs(rng.random_range(0..300))));
                        }
                        let (at, admission) = in_flight.admit(&clock, clock.now());
                        tokio::time::sleep(Duration::from_micros(rng.random_range(0..4000))).await;
                        let name = if rng.random_bool(0.05) { "restored" } else { "in time" };
                        let number = client * 1000 + n;
                        if name == "restored" {
                            let old = Micros(at.0 - rng.random_range(0..16 * CELL));
                            journal.append(record(name, old, number)).await.unwrap().durable().await.unwrap();
                        } else {
                            let on_its_way = journal.append_admitted(record(name, at, number), admission).await.unwrap();
                            // A client that went away does not wait.
                            if rng.random_bool(0.7) {
                                on_its_way.durable().await.unwrap();
                            }
                        }
                    }
                })
            })
            .collect();

        let sums = async || {
            let mut snapshot = db.snapshot().await.unwrap();
            let rows = sqlx::query("select partner_id, cell_start, records from usage_cell where meter = 'requests'");
            let rows = rows.fetch_all(&mut *snapshot).await.unwrap();
            // Read second, on purpose: only one snapshot makes these two belong together.
            let watermark = replica_store::replicas(&mut snapshot).await.unwrap()[0].watermark;
            let sums = rows.iter().map(|row| ((row.get::<String, _>(0), row.get::<i64, _>(1)), row.get::<i64, _>(2)));
            (watermark, sums.collect::<BTreeMap<_, _>>())
        };
        let mut seen = Vec::new();
        while clients.iter().any(|client| !client.is_finished()) {
            ship_now.send_modify(|asked| *asked += 1);
            seen.push(sums().await);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        for client in clients {
            client.await.unwrap();
        }
        // Behind everything that nobody waited for.
        journal.seal().await.unwrap();
        stop.send_replace(true);
        shipper.await.unwrap();
        let (watermark, last) = sums().await;
        assert_eq!(watermark, clock.now(), "seed {seed}: nobody is in flight any more");
        assert_eq!(last.values().sum::<i64>(), 4 * 300, "seed {seed}");
        let late = late(&db).await;
        assert!(late.iter().all(|(partner, _)| partner == "restored"), "seed {seed}: {late:?}");
        let mut missed = 0;
        for (watermark, sums) in &seen {
            let promised = last.iter().filter(|((_, start), _)| start + CELL <= watermark.0);
            for (cell, records) in promised.filter(|(cell, records)| sums.get(*cell).copied().unwrap_or(0) < **records) {
                missed += 1;
                assert!(late.contains(cell), "seed {seed}: {records} records of {cell:?} came behind {watermark}");
            }
        }
        let promises: std::collections::BTreeSet<_> = seen.iter().map(|(watermark, _)| watermark).collect();
        println!("seed {seed}: {} snapshots, {} promises, {} late cells, {missed} times missed", seen.len(), promises.len(), late.len());
        assert!(promises.len() > 5 && missed > 0, "seed {seed}: too little happened to mean anything");
    }
}

/// Whoever is out of flight is in what the journal then holds, whether anybody waited or not.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_out_of_flight_is_in_the_journal() {
    let (seed, mut rng) = support::rng("who_is_out_of_flight_is_in_the_journal");
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let journal = Arc::new(Journal::open(folder.path(), "rep_1".into(), 1, OPTIONS, clock.clone()).unwrap());
    let in_flight = Arc::new(InFlight::new(&clock));
    let clients: Vec<_> = (0..8_u64)
        .map(|client| {
            let (clock, journal, in_flight) = (clock.clone(), journal.clone(), in_flight.clone());
            let mut rng = ChaCha8Rng::seed_from_u64(rng.random());
            tokio::spawn(async move {
                for n in 0..250 {
                    let (at, admission) = in_flight.admit(&clock, clock.now());
                    let on_its_way = journal.append_admitted(record("p", at, client * 1000 + n), admission).await.unwrap();
                    if rng.random_bool(0.5) {
                        on_its_way.durable().await.unwrap();
                    }
                }
            })
        })
        .collect();
    let mut reader = journal.reader(|_| 0).unwrap();
    let (mut read, mut checked) = (Vec::new(), Vec::new());
    loop {
        let finished = clients.iter().all(tokio::task::JoinHandle::is_finished);
        let complete_before = in_flight.complete_before(&clock);
        loop {
            let (items, at_end) = reader.read().unwrap();
            read.extend(items.into_iter().filter_map(|item| match item {
                Item::Frame(body) => Some(parse_frame(&body).unwrap().1.at),
                Item::Segment(_) => None,
            }));
            if at_end.is_some() {
                break;
            }
        }
        checked.push((complete_before, read.len()));
        if finished && read.len() == 8 * 250 {
            break;
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    for (complete_before, length) in &checked {
        let behind = read[*length..].iter().filter(|at| *at < complete_before).count();
        assert_eq!(behind, 0, "seed {seed}: {behind} records came behind {complete_before}");
    }
    let moved: std::collections::BTreeSet<_> = checked.iter().map(|(complete_before, _)| complete_before).collect();
    assert!(moved.len() > 1, "seed {seed}: nothing was said that could be wrong");
}
