//! Three gateways on one PostgreSQL, each with its journal and its replica id: one or two of them are killed or suspended at a time,
//! while all are asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IteratorRandom;
use sqlx::Row;

use super::{CLIENTS, Load, hold, prepare, serve, stock};
use crate::support::{self, Database, Kind, Process, full, tollgate};

const GATEWAYS: usize = 3;

/// Whether somebody has been in a transaction that writes for so long that it must be who is suspended.
async fn is_one_stuck(database: &Database) -> bool {
    let stuck = "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction' \
                 and query ~ '^(insert|update|delete)' and state_change < clock_timestamp() - interval '30 milliseconds'";
    let mut connection = database.connect().await;
    sqlx::query(stuck).fetch_one(&mut connection).await.unwrap().try_get::<i64, _>(0).unwrap() > 0
}

fn replica(gateway: &Database) -> String {
    std::fs::read_to_string(gateway.data_dir().join("replica")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_three_gateways_are_records_counted() {
    let (seed, mut rng) = support::rng("answers_of_three_gateways_are_records_counted");
    let database = Database::new(Kind::Postgres).await;
    let keys = prepare(&database);
    let gateways = [database.beside(), database.beside(), database];
    gateways[..2].iter().for_each(stock);

    let (mut processes, mut loads): (Vec<Process>, Vec<Load>) = (Vec::new(), Vec::new());
    for gateway in &gateways {
        processes.push(serve(gateway));
    }
    loads.extend(processes.iter().map(|process| Load::begin(process, &keys, &mut rng)));
    let ids: Vec<String> = gateways.iter().map(replica).collect();

    let rounds = if full() { 60 } else { 6 };
    let (mut received, mut kills, mut mid_ship, mut suspensions) = (Vec::new(), 0, 0, 0);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(30..600))).await;
        let hit = (0..GATEWAYS).choose_multiple(&mut rng, 1 + usize::from(round % 3 == 2));
        if round % 4 == 3 {
            // Out for a while, with its connections open, and back: nobody else's requests or shipments wait for it.
            let (victim, other) = (hit[0], (hit[0] + 1) % GATEWAYS);
            processes[victim].signal("STOP");
            let (before, began) = (loads[other].answers(), Instant::now());
            tokio::time::sleep(Duration::from_millis(rng.random_range(300..1500))).await;
            while loads[other].answers() == before {
                assert!(began.elapsed() < Duration::from_secs(30), "seed {seed}: serving goes on");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            processes[victim].signal("CONT");
            suspensions += 1;
            continue;
        }
        for victim in hit {
            if round % 2 == 0 {
                // Caught in the middle of a shipment, when it works out.
                for _ in 0..30 {
                    processes[victim].signal("STOP");
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    if is_one_stuck(&gateways[victim]).await {
                        mid_ship += 1;
                        break;
                    }
                    processes[victim].signal("CONT");
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..5))).await;
                }
            }
            // Dead before the next one wants its folder.
            processes.remove(victim).kill();
            kills += 1;
            processes.insert(victim, serve(&gateways[victim]));
            let load = Load::begin(&processes[victim], &keys, &mut rng);
            received.extend(std::mem::replace(&mut loads[victim], load).end().await);
        }
    }
    for load in loads {
        received.extend(load.end().await);
    }
    // A clean stop ships what is left.
    processes.into_iter().for_each(Process::terminate);

    let told = format!("seed {seed}: three gateways, {kills} kills, {mid_ship} of them mid-ship, {suspensions} suspensions");
    hold(&gateways, &received, CLIENTS * kills, &told).await;
    assert!(received.len() > 20 * rounds, "{told}: too few answers to mean anything");
    assert!(mid_ship > 0, "{told}");

    // Each kept its id, and the ledger has of each what is in its own journal.
    assert_eq!(gateways.iter().map(replica).collect::<Vec<_>>(), ids);
    let mut of_each = BTreeMap::new();
    let mut connection = gateways[0].connect().await;
    let counted = "select replica_id, cast(sum(units) as bigint) from usage_cell where meter = 'requests' group by replica_id";
    for row in sqlx::query(counted).fetch_all(&mut connection).await.unwrap() {
        of_each.insert(row.get::<String, _>(0), row.get::<i64, _>(1) as usize);
    }
    let journaled = |gateway: &Database| (replica(gateway), super::journal(&gateway.data_dir()).len());
    assert_eq!(of_each, gateways.iter().map(journaled).collect(), "{told}");

    // One data folder is one gateway's.
    let running = serve(&gateways[0]);
    let second = tollgate(&gateways[0], &["serve"]);
    assert!(second.code == 1 && second.stderr.contains("is in use by another tollgate process"), "{second:?}");
    running.terminate();
}
