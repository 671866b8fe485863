//! Invariant 1: answers that clients received equal records in the ledger, across kill -9 at random moments; and the preview
//! equals one computed by hand from the raw journal.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use crate::support::{self, Process, counted, full, graphql, on_both_databases, per_unit, plan, price, tollgate};

const CLIENTS: usize = 6;

/// Every record of the journal, in the archive and on this disk, read by the format's description alone. A segment may be in both.
fn journal(data_dir: &Path) -> Vec<Value> {
    let replica = std::fs::read_to_string(data_dir.join("replica")).unwrap();
    let folders = [data_dir.join("archive/journal").join(replica.trim()), data_dir.join("journal")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
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

/// What one client saw until the gateway went away.
async fn client(process: &Process, key: String, seed: u64) -> Vec<(String, u64)> {
    use rand::SeedableRng;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let url = format!("http://{}/graphql", process.address);
    let http = reqwest::Client::new();
    let mut received = Vec::new();
    loop {
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
    }
    received
}

fn plans() -> String {
    let charges = [("inventory", 100, "0.0125"), ("pricing", 0, "0.0333"), ("requests", 0, "0.00007")];
    plan("p", &charges.map(|(meter, included, price)| per_unit(meter, included, price)).concat())
}

/// units past `included` × `price` / 10^`places`, in cents, half up: integers alone.
fn cents(units: i128, included: i128, price: i128, places: u32) -> i128 {
    let scale = 10_i128.pow(places - 2);
    ((units - included).max(0) * price + scale / 2) / scale
}

on_both_databases! {
    async fn answers_received_are_records_counted(database: Database) {
        let (seed, mut rng) = support::rng("answers_received_are_records_counted");
        let plans = database.file("plans.toml", &plans());
        tollgate(&database, &["plan", "apply", plans.to_str().unwrap()]).ok();
        let mut keys = Vec::new();
        for name in ["One", "Two"] {
            let id = tollgate(&database, &["partner", "create", name, "--plan", "p"]).ok();
            keys.push(tollgate(&database, &["key", "issue", id.trim()]).ok().trim().to_owned());
        }
        let events: String = [counted("c", "A", "X", 5), price("pa", "A", "X", "1.00"), price("pb", "B", "X", "2.00")].iter().map(|e| format!("{e}\n")).collect();
        let file = database.file("events.ndjson", &events);
        tollgate(&database, &["ingest", file.to_str().unwrap()]).ok();

        let kills = if full() { 50 } else { 5 };
        let mut received: Vec<(String, u64)> = Vec::new();
        for _ in 0..kills {
            let process = Process::serve(&database);
            let seeds: Vec<u64> = (0..CLIENTS).map(|_| rng.random()).collect();
            let clients = (0..CLIENTS).map(|n| client(&process, keys[n % 2].clone(), seeds[n]));
            // Sometimes before anything was shipped, sometimes in the middle of it.
            let wait = Duration::from_millis(rng.random_range(30..900));
            let run = async {
                let kill = async {
                    tokio::time::sleep(wait).await;
                    let pid = process.pid();
                    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
                };
                let (seen, ()) = tokio::join!(futures_util::future::join_all(clients), kill);
                seen
            };
            received.extend(run.await.into_iter().flatten());
            process.kill();
        }
        // One more start ships what was left, one more answer proves that it serves.
        let process = Process::serve(&database);
        let url = format!("http://{}/graphql", process.address);
        let (status, last) = graphql(&reqwest::Client::new(), &url, &keys[0], json!({ "query": "{ viewer { name } }" })).await;
        assert_eq!((status, &last["data"]["viewer"]["name"]), (200, &json!("One")));
        received.push((last["extensions"]["usage"]["requestId"].as_str().unwrap().to_owned(), 0));
        process.terminate();

        let records = journal(&database.data_dir());
        let journaled: HashSet<&str> = records.iter().map(|record| record["request"].as_str().unwrap()).collect();
        let lost = received.iter().filter(|(id, _)| !journaled.contains(id.as_str())).count();
        let duplicated = records.len() - journaled.len();
        let ids: HashSet<&str> = received.iter().map(|(id, _)| id.as_str()).collect();
        let extra = journaled.iter().filter(|id| !ids.contains(*id)).count();
        let counted = database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await;
        println!(
            "seed {seed}, {:?}: {kills} kills, received {}, in the ledger {counted}, lost {lost}, duplicated {duplicated}, extra (in flight at a kill) {extra}",
            database.kind,
            received.len()
        );
        assert_eq!((lost, duplicated), (0, 0), "seed {seed}");
        assert_eq!(usize::try_from(counted).unwrap(), records.len(), "seed {seed}: the ledger counts each record once");
        assert!(extra <= CLIENTS * kills, "seed {seed}: {extra} extra records, but only {} requests were in flight", CLIENTS * kills);
        assert!(received.len() > kills * 10, "seed {seed}: too few answers to mean anything");

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
