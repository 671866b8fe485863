//! The command line: with a gateway and without one, on both databases, in effect within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    self, Database, Kind, Process, adjusted, counted, graphql, on_both_databases, per_unit, price, tollgate, upserted,
};

fn json_of(database: &Database, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.extend(["--format", "json"]);
    serde_json::from_str(&tollgate(database, &arguments).ok()).unwrap()
}

fn plan() -> String {
    support::plan("p", &per_unit("inventory", 0, "0.5"))
}

async fn status(process: &Process, key: &str) -> (u16, String) {
    let url = format!("http://{}/graphql", process.address);
    let (status, answer) = graphql(&reqwest::Client::new(), &url, key, json!({ "query": "{ viewer { name } }" })).await;
    (status, answer["errors"][0]["message"].as_str().unwrap_or_default().to_owned())
}

/// A change takes effect on a running gateway within a second.
async fn within_a_second(process: &Process, key: &str, expected: u16) -> String {
    let begun = Instant::now();
    loop {
        let (found, message) = status(process, key).await;
        if found == expected {
            return message;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{found} instead of {expected} after a second: {message}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

on_both_databases! {
    async fn commands_work_beside_a_gateway_and_take_effect_within_a_second(database: Database) {
        let process = Process::serve(&database);
        let plans = database.file("plans.toml", &plan());
        let plans = plans.to_str().unwrap();
        assert_eq!(tollgate(&database, &["plan", "apply", plans, "--dry-run"]).ok(), "p@1 would be published\n");
        assert_eq!(json_of(&database, &["plan", "list"]), json!([]));
        assert_eq!(tollgate(&database, &["plan", "apply", plans]).ok(), "p@1 published\n");
        assert_eq!(tollgate(&database, &["plan", "apply", plans]).ok(), "p@1 unchanged\n");
        let changed = database.file("changed.toml", &plan().replace("0.5", "0.6"));
        let refused = tollgate(&database, &["plan", "apply", changed.to_str().unwrap()]).failed();
        assert!(refused.contains("is published and says something else: a change is a new version, set version = 2"), "{refused}");
        let next = database.file("next.toml", &plan().replace("0.5", "0.6").replace("version = 1", "version = 2"));
        assert_eq!(tollgate(&database, &["plan", "apply", next.to_str().unwrap()]).ok(), "p@2 published\n");
        assert_eq!(json_of(&database, &["plan", "show", "p"])[0]["plan"]["charge"][0]["unit_price"], "0.5");

        let id = tollgate(&database, &["partner", "create", "Ada", "--plan", "p", "--scope", "brand=Alba"]).ok();
        let id = id.trim();
        let partner = json_of(&database, &["partner", "show", "Ada"]);
        assert_eq!((&partner["id"], &partner["plan"], &partner["scope"]), (&json!(id), &json!("p@2"), &json!(["brand=Alba"])));
        let taken = tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).failed();
        assert!(taken.contains("there is a partner \"Ada\" already"), "{taken}");

        let key = tollgate(&database, &["key", "issue", id]).ok();
        let key = key.trim();
        within_a_second(&process, key, 200).await;
        tollgate(&database, &["partner", "suspend", "Ada"]).ok();
        assert_eq!(within_a_second(&process, key, 403).await, "Your access is suspended. Ask your provider.");
        tollgate(&database, &["partner", "resume", "Ada"]).ok();
        within_a_second(&process, key, 200).await;
        // The whole key may be pasted: it is what one has at hand when it leaked.
        tollgate(&database, &["key", "revoke", key]).ok();
        assert_eq!(within_a_second(&process, key, 401).await, "This key was revoked. Ask for a new one.");
        assert_eq!(json_of(&database, &["key", "list", "--partner", "Ada"])[0]["state"], "revoked");

        let second = json_of(&database, &["key", "issue", "Ada", "--expires", "2999-01-31"]);
        let second = second["key"].as_str().unwrap();
        within_a_second(&process, second, 200).await;
        assert_eq!(json_of(&database, &["key", "list"])[1]["expiresAt"], "2999-01-31T00:00:00.000Z");

        // What was answered is on the bill at once: the gateway ships when it is asked.
        let units = json_of(&database, &["usage", "show"]);
        let requests = units.as_array().unwrap().iter().find(|row| row["meter"] == "requests").unwrap();
        assert_eq!(requests["units"], database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await);
        assert!(requests["units"].as_u64().unwrap() >= 3);
        assert_eq!(json_of(&database, &["invoice", "preview", "--period", "2020-01"])[0]["totals"][0]["amount"], "0.00");

        let producer = tollgate(&database, &["producer", "issue", "Till", "--source", "/t", "--source", "/u"]).ok();
        assert!(producer.starts_with("tg_producer_"));
        assert_eq!(json_of(&database, &["producer", "list"])[0]["sources"], json!(["/t", "/u"]));
        tollgate(&database, &["producer", "revoke", producer.trim()]).ok();
        assert_eq!(json_of(&database, &["producer", "list"])[0]["state"], "revoked");
        process.terminate();

        // Without a gateway the same commands work.
        assert_eq!(tollgate(&database, &["migrate"]).ok(), "The schema is up to date.\n");
        assert_eq!(json_of(&database, &["partner", "list"])[0]["name"], "Ada");
        assert_eq!(json_of(&database, &["usage", "show"]), units);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_told_when_it_expired() {
    let database = Database::new(Kind::Sqlite).await;
    let plans = database.file("plans.toml", &plan());
    tollgate(&database, &["plan", "apply", plans.to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let soon = jiff::Timestamp::from_microsecond(tollgate::clock::Clock::system().now().0 + 1_500_000).unwrap();
    let key = tollgate(&database, &["key", "issue", "Ada", "--expires", &soon.to_string()]).ok();
    let process = Process::serve(&database);
    assert_eq!(status(&process, key.trim()).await.0, 200);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let (found, message) = status(&process, key.trim()).await;
    assert_eq!(found, 401);
    assert!(message.starts_with("This key expired at "), "{message}");
    process.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_reached_wherever_it_is_and_says_the_same() {
    let database = Database::new(Kind::Sqlite).await;
    let events =
        [upserted("u", "A", "Alba"), counted("c", "A", "X", 10), adjusted("a", "A", "X", -4), price("p", "B", "DE", "3.20")];
    let ndjson: String = events.iter().map(|event| format!("{event}\n")).collect();
    let file = database.file("events.ndjson", &ndjson);
    let ingest = ["ingest", file.to_str().unwrap()];
    assert_eq!(tollgate(&database, &ingest).ok(), "accepted 4, duplicates 0, rejected 0\n");
    let offline = tollgate(&database, &["features", "dump"]).ok();
    assert_eq!(
        offline,
        "{\"kind\":\"catalog\",\"sku\":\"A\",\"title\":\"Title of A\",\"brand\":\"Alba\",\"category\":\"Tea\",\"supplier\":\"S1\",\"version\":null,\"time\":\"2026-01-05T08:00:00Z\"}\n\
         {\"kind\":\"inventory\",\"sku\":\"A\",\"location\":\"X\",\"onHand\":6,\"reserved\":0,\"version\":null,\"time\":\"2026-01-05T08:00:00Z\"}\n\
         {\"kind\":\"price\",\"sku\":\"B\",\"market\":\"DE\",\"currency\":\"EUR\",\"amount\":\"3.20\",\"listAmount\":null,\"version\":null,\"time\":\"2026-01-05T08:00:00Z\",\"validFrom\":null}\n"
    );
    let process = Process::serve(&database);
    assert_eq!(tollgate(&database, &ingest).ok(), "accepted 0, duplicates 4, rejected 0\n");
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), offline);
    let same = "Rebuilt from 4 events: the same as the live store, byte for byte.\n";
    assert_eq!(tollgate(&database, &["replay", "--verify"]).ok(), same);
    assert_eq!(tollgate(&database, &["replay"]).ok(), "Rebuilt from 4 events; nothing differed.\n");
    process.kill();
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), offline, "after kill -9");
    assert_eq!(tollgate(&database, &["replay", "--verify"]).ok(), same);
    // From the log alone.
    std::fs::remove_dir_all(database.data_dir().join("snapshots")).unwrap();
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), offline);
}
