//! Invariant 1: answers that clients received equal records in the ledger, across kill -9 of anything at random moments: the
//! gateway here, PostgreSQL and the invoice run in the files beside. And the preview equals one computed by hand from the raw
//! journal.

mod invoices;
mod outage;
mod replicas;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Executor, Row};
use tokio::task::JoinSet;

use crate::support::{self, Database, Kind, Process, counted, full, graphql, on_both_databases, per_unit, plan, price, tollgate};

const CLIENTS: usize = 6;

/// Every record of the journal, in the archive and on this disk, read by the format's description alone. A segment may be in both.
fn journal(data_dir: &Path) -> Vec<Value> {
    let replica = std::fs::read_to_string(data_dir.join("replica")).unwrap();
    let folders = [data_dir.join("archive/journal").join(replica.trim()), data_dir.join("journal")];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().map(|entry| entry.unwrap().path());
    let files: BTreeMap<_, _> = files.map(|file| (file.file_name().unwrap().to_owned(), file)).collect();
    let mut records = Vec::new();
    for file in files.into_values() {
        let bytes = std::fs::read(&file).unwrap();
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut at = 16 + u32_at(8) as usize;
        while at < bytes.len() {
            let (length, crc) = (u32_at(at) as usize, u32_at(at + 4));
            assert_eq!(crc32c::crc32c(&bytes[at + 8..at + 16 + length]), crc, "{} at {at}", file.display());
            // The body: sequence (8), previous hash (32), JSON.
            records.push(serde_json::from_slice(&bytes[at + 16 + 40..at + 16 + length]).unwrap());
            at += 16 + length;
        }
    }
    records
}

/// Clients that ask one question after the other.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: JoinSet<Vec<(String, u64)>>,
}

impl Load {
    fn begin(process: &Process, keys: &[String], rng: &mut ChaCha8Rng) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            let rng = ChaCha8Rng::seed_from_u64(rng.random());
            let url = format!("http://{}/graphql", process.address);
            clients.spawn(client(url, keys[n % keys.len()].clone(), rng, stop.clone(), answers.clone()));
        }
        Self { stop, answers, clients }
    }

    /// How many answers were received until now.
    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// The answers' request ids and units, once each client has the last one that it waits for.
    async fn end(self) -> Vec<(String, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

/// What one client saw until it was told to stop, or the gateway went away.
async fn client(
    url: String,
    key: String,
    mut rng: ChaCha8Rng,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
) -> Vec<(String, u64)> {
    let http = reqwest::Client::new();
    let mut received = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let query = match rng.random_range(0..4) {
            0 => "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } } }",
            1 => "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } price(market: \"X\") { amount } } }",
            2 => "{ products(skus: [\"A\", \"B\", \"none\"]) { sku price(market: \"X\") { amount } } }",
            _ => "{ viewer { name } }",
        };
        let request = http.post(&url).bearer_auth(&key).json(&json!({ "query": query })).send().await;
        let Ok(response) = request else { break };
        let status = response.status();
        // An answer that was cut off was not received.
        let Ok(body) = response.json::<Value>().await else { break };
        assert_eq!(status, 200, "{body}");
        let usage = &body["extensions"]["usage"];
        received.push((usage["requestId"].as_str().unwrap().to_owned(), usage["units"].as_u64().unwrap()));
        answers.fetch_add(1, Ordering::Relaxed);
    }
    received
}

fn plans() -> String {
    let charges = [("inventory", 100, "0.0125"), ("pricing", 0, "0.0333"), ("requests", 0, "0.00007")];
    plan("p", &charges.map(|(meter, included, price)| per_unit(meter, included, price)).concat())
}

/// Two partners with a key each, and something to ask for.
fn prepare(database: &Database) -> Vec<String> {
    let plans = database.file("plans.toml", &plans());
    tollgate(database, &["plan", "apply", plans.to_str().unwrap()]).ok();
    let mut keys = Vec::new();
    for name in ["One", "Two"] {
        let id = tollgate(database, &["partner", "create", name, "--plan", "p"]).ok();
        keys.push(tollgate(database, &["key", "issue", id.trim()]).ok().trim().to_owned());
    }
    stock(database);
    keys
}

/// Something to ask for.
fn stock(database: &Database) {
    let events = [counted("c", "A", "X", 5), price("pa", "A", "X", "1.00"), price("pb", "B", "X", "2.00")];
    let events: String = events.iter().map(|event| format!("{event}\n")).collect();
    let file = database.file("events.ndjson", &events);
    tollgate(database, &["ingest", file.to_str().unwrap()]).ok();
}

/// A gateway that ships all the time.
fn serve(database: &Database) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("serve").env("TOLLGATE__JOURNAL__SHIP_EVERY", "1ms");
    Process::start(command, database)
}

/// Whether somebody who is suspended is in the middle of a transaction that writes.
async fn is_in_transaction(database: &Database, connection: &mut AnyConnection) -> bool {
    match database.kind {
        Kind::Sqlite => {
            if connection.execute("begin immediate").await.is_err() {
                return true;
            }
            connection.execute("rollback").await.unwrap();
            false
        }
        Kind::Postgres => {
            let open = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
                        and state = 'idle in transaction' and query ~ '^(insert|update|delete)'";
            sqlx::query(open).fetch_one(connection).await.unwrap().try_get::<i64, _>(0).unwrap() > 0
        }
    }
}

/// Suspends a process in the middle of a transaction that writes: the one that it is found in after `passed` others. False when it
/// ended, or was in none for a while; then it is not suspended.
async fn suspend_in_transaction(database: &Database, signal: impl Fn(&str), passed: u32, mut runs: impl FnMut() -> bool) -> bool {
    let mut connection = database.connect().await;
    if database.kind == Kind::Sqlite {
        connection.execute("pragma busy_timeout = 0").await.unwrap();
    }
    let mut found = 0;
    for _ in 0..400 {
        if !runs() {
            return false;
        }
        signal("STOP");
        if is_in_transaction(database, &mut connection).await {
            if found == passed {
                return true;
            }
            found += 1;
        }
        signal("CONT");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    false
}

/// Holds the answers against the journals of gateways on one database, and the journals against the ledger: lost 0, duplicated 0, each record counted once.
/// Gives the journals' records; `in_flight_max` may be more than the answers are.
async fn hold(gateways: &[Database], received: &[(String, u64)], in_flight_max: usize, told: &str) -> Vec<Value> {
    let records: Vec<Value> = gateways.iter().flat_map(|gateway| journal(&gateway.data_dir())).collect();
    let database = &gateways[0];
    let journaled: HashSet<&str> = records.iter().map(|record| record["request"].as_str().unwrap()).collect();
    let lost = received.iter().filter(|(id, _)| !journaled.contains(id.as_str())).count();
    let duplicated = records.len() - journaled.len();
    let ids: HashSet<&str> = received.iter().map(|(id, _)| id.as_str()).collect();
    let extra = journaled.iter().filter(|id| !ids.contains(*id)).count();
    let counted = database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await;
    println!(
        "{told}: received {}, in the ledger {counted}, lost {lost}, duplicated {duplicated}, extra (in flight at a kill) {extra}",
        received.len()
    );
    assert_eq!((lost, duplicated), (0, 0), "{told}");
    assert_eq!(usize::try_from(counted).unwrap(), records.len(), "{told}: the ledger counts each record once");
    for meter in ["inventory", "pricing"] {
        let text = format!("select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter = '{meter}'");
        let mut connection = database.connect().await;
        let counted: i64 = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_one(&mut connection).await.unwrap().try_get(0).unwrap();
        let used: u64 = records.iter().map(|record| record["units"][meter].as_u64().unwrap_or(0)).sum();
        assert_eq!(u64::try_from(counted).unwrap(), used, "{told}: units of {meter}");
    }
    assert!(extra <= in_flight_max, "{told}: {extra} extra records, but only {in_flight_max} requests were in flight");
    records
}

/// units past `included` × `price` / 10^`places`, in cents, half up: integers alone.
fn cents(units: i128, included: i128, price: i128, places: u32) -> i128 {
    let scale = 10_i128.pow(places - 2);
    ((units - included).max(0) * price + scale / 2) / scale
}

on_both_databases! {
    async fn answers_received_are_records_counted(database: Database) {
        let (seed, mut rng) = support::rng("answers_received_are_records_counted");
        let keys = prepare(&database);
        let kills = if full() { 100 } else { 5 };
        let mut received: Vec<(String, u64)> = Vec::new();
        let mut mid_transaction = 0;
        for kill in 0..kills {
            let process = serve(&database);
            let load = Load::begin(&process, &keys, &mut rng);
            // Sometimes before anything was shipped.
            tokio::time::sleep(Duration::from_millis(rng.random_range(30..900))).await;
            if kill % 2 == 1 {
                let signal = |name: &str| process.signal(name);
                let found = suspend_in_transaction(&database, signal, rng.random_range(0..3), || true).await;
                mid_transaction += usize::from(found);
            }
            process.kill();
            received.extend(load.end().await);
        }
        // One more start ships what was left, one more answer proves that it serves.
        let process = Process::serve(&database);
        let url = format!("http://{}/graphql", process.address);
        let (status, last) = graphql(&reqwest::Client::new(), &url, &keys[0], json!({ "query": "{ viewer { name } }" })).await;
        assert_eq!((status, &last["data"]["viewer"]["name"]), (200, &json!("One")));
        received.push((last["extensions"]["usage"]["requestId"].as_str().unwrap().to_owned(), 0));
        process.terminate();

        let told = format!("seed {seed}, {:?}: {kills} kills, {mid_transaction} of them mid-ship", database.kind);
        let records = hold(std::slice::from_ref(&database), &received, CLIENTS * kills, &told).await;
        assert!(received.len() > kills * 10, "{told}: too few answers to mean anything");
        assert!(mid_transaction > 0, "{told}");

        // The preview, from raw usage and the plan's numbers.
        let previews: Value = serde_json::from_str(&tollgate(&database, &["invoice", "preview", "--format", "json"]).ok()).unwrap();
        for preview in previews.as_array().unwrap() {
            let mut used: BTreeMap<&str, i128> = BTreeMap::new();
            for record in records.iter().filter(|record| record["partner"] == preview["partner"]) {
                *used.entry("requests").or_default() += 1;
                for (product, units) in record["units"].as_object().unwrap() {
                    *used.entry(product.as_str()).or_default() += i128::from(units.as_u64().unwrap());
                }
            }
            let of = |meter: &str| used.get(meter).copied().unwrap_or(0);
            // The 100 included units are those of a whole month; of the partner's first one it has the days from today on.
            let shown: Value = serde_json::from_str(&tollgate(&database, &["partner", "show", preview["partner"].as_str().unwrap(), "--format", "json"]).ok()).unwrap();
            let today: jiff::civil::Date = shown["createdAt"].as_str().unwrap()[..10].parse().unwrap();
            let included = (100 * i128::from(today.days_in_month() - today.day() + 1) + i128::from(today.days_in_month()) - 1) / i128::from(today.days_in_month());
            let expected = cents(of("inventory"), included, 125, 4) + cents(of("pricing"), 0, 333, 4) + cents(of("requests"), 0, 7, 5);
            assert!(of("requests") > 0);
            let total = preview["totals"][0]["amount"].as_str().unwrap().replace('.', "").parse::<i128>().unwrap();
            assert_eq!(total, expected, "seed {seed}: {preview:#}");
        }
    }
}
