//! Limits over HTTP: a partner gets what its plan says, whatever it asks for and however often; what is money is exact, also
//! across restarts; the headers add up.

mod model;
mod neighbours;
mod replicas;
mod shared;
mod together;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rand::Rng;
use serde_json::{Value, json};

use crate::support::{
    self, Answer, Database, Gateway, Kind, Process, ask, counted, graphql, issue, on_both_databases, price, tollgate, upserted,
};

/// One unit.
const ONE: &str = "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } } }";
const FREE: &str = "{ viewer { name } }";

/// A plan of this rate, with what `more` says.
fn plan(id: &str, rate: u32, burst: u32, more: &str) -> String {
    support::plan(id, &format!("rate = {{ units_per_second = {rate}, burst = {burst} }}\n{more}"))
}

/// A gateway with one product, and these plans.
async fn stocked(database: &Database, plans: &str) -> Gateway {
    let gateway = Gateway::start(database).await;
    gateway.plans(plans).await;
    let producer = gateway.producer().await;
    gateway.feed(&producer, &[upserted("u", "A", "Alba"), counted("c", "A", "X", 7), price("p", "A", "X", "12.50")]).await;
    gateway
}

/// `n` units asked for, of which `there` are there.
fn products(n: usize, there: usize) -> Value {
    let skus: Vec<String> = (0..n).map(|place| if place < there { "A".to_owned() } else { format!("none{place}") }).collect();
    json!({ "query": "query($skus: [ID!]!) { products(skus: $skus) { inventory(location: \"X\") { onHand } } }", "variables": { "skus": skus } })
}

/// All of them, 64 at once.
async fn at_once(gateway: &Gateway, key: &str, bodies: Vec<Value>) -> Vec<Answer> {
    let url = gateway.url("/graphql");
    stream::iter(bodies).map(|body| ask(&gateway.http, &url, key, body)).buffer_unordered(64).collect().await
}

/// What was billed, of answers and refusals that are all of `code`.
#[track_caller]
fn billed(answers: &[Answer], status: u16, code: &str) -> u64 {
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        assert!(answer.json().get("data").is_none());
    }
    answers.iter().map(Answer::units).sum()
}

async fn in_the_ledger(gateway: &Gateway, database: &Database) -> i64 {
    gateway.running.app.ship().await.unwrap();
    database.number("select cast(coalesce(sum(units), 0) as bigint) from usage_cell where meter <> 'requests'").await
}

on_both_databases! {
    async fn a_quota_is_used_up_to_the_unit_and_stays_used_up(database: Database) {
        let mut gateway = stocked(&database, &plan("q", 100_000, 100_000, "quota = { units = 100, then = \"refuse\" }")).await;
        let partner = gateway.partner("P", "q", &[]).await;
        let (_, mut rng) = support::rng("a_quota_is_used_up_to_the_unit_and_stays_used_up");
        // What is reserved is more than what is billed: the estimate knows nothing of unknown SKUs.
        let mixed = (0..192).map(|_| {
            let n = rng.random_range(1..=6);
            products(n, rng.random_range(0..=n))
        });
        let mut answers = at_once(&gateway, &partner.key, mixed.collect()).await;
        let so_far = billed(&answers, 429, "QUOTA_EXCEEDED");
        assert!(so_far <= 100 && answers.iter().any(|answer| answer.status == 429), "{so_far} of 100");
        answers.extend(at_once(&gateway, &partner.key, vec![json!({ "query": ONE }); 128]).await);
        assert_eq!(billed(&answers, 429, "QUOTA_EXCEEDED"), 100);
        assert_eq!(in_the_ledger(&gateway, &database).await, 100);

        for round in 0..2 {
            let refused = gateway.ask(&partner.key, ONE).await;
            assert_eq!((refused.status, refused.code().as_str()), (429, "QUOTA_EXCEEDED"), "after {round} restarts: {refused:?}");
            let quota = refused.limit("quota").unwrap();
            assert_eq!((quota.q, quota.r), (100, 0), "{refused:?}");
            // It begins anew with the month.
            assert!(refused.retry_after().unwrap().abs_diff(quota.t) <= 2 && quota.t <= quota.w, "{refused:?}");
            assert!((28..=31).map(|days| days * 86_400).any(|seconds| seconds == quota.w), "{refused:?}");
            gateway.stop().await;
            gateway = Gateway::start(&database).await;
        }
        gateway.stop().await;
    }

    async fn a_spend_cap_is_kept_to_the_cent(database: Database) {
        // The first 3 units are free; 30 × 0.0333 = 0.999, 31 × 0.0333 = 1.0323.
        let charge = "spend_cap = \"1.00\"\n[[plan.charge]]\nmeter = \"inventory\"\nmodel = \"per_unit\"\nincluded = 3\nunit_price = \"0.0333\"";
        let gateway = stocked(&database, &plan("s", 100_000, 100_000, charge)).await;
        let partner = gateway.partner("P", "s", &[]).await;
        let mut answers = at_once(&gateway, &partner.key, (0..96).map(|n| products(1 + n % 4, 1)).collect()).await;
        answers.extend(at_once(&gateway, &partner.key, vec![json!({ "query": ONE }); 96]).await);
        assert_eq!(billed(&answers, 402, "SPEND_CAP_REACHED"), 33);
        assert_eq!(in_the_ledger(&gateway, &database).await, 33);
        let month = &gateway.running.app.clock.now().to_string()[..7];
        let preview: Value =
            serde_json::from_str(&tollgate(&database, &["invoice", "preview", "--period", month, "--format", "json"]).ok()).unwrap();
        assert!(preview.to_string().contains("\"1.00\""), "{preview}");
        gateway.stop().await;

        let gateway = Gateway::start(&database).await;
        let refused = gateway.ask(&partner.key, ONE).await;
        assert_eq!((refused.status, refused.code().as_str()), (402, "SPEND_CAP_REACHED"), "{refused:?}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_outlives_kill_9_with_nothing_shipped() {
    let database = Database::new(Kind::Sqlite).await;
    let file = database.file("plan.toml", &plan("q", 1000, 1000, "quota = { units = 5, then = \"refuse\" }"));
    tollgate(&database, &["plan", "apply", file.to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "q"]).ok();
    let key = issue(&database, &["Ada"]).key;
    let events = database.file("events.ndjson", &format!("{}\n", counted("c", "A", "X", 1)));
    tollgate(&database, &["ingest", events.to_str().unwrap()]).ok();
    let http = reqwest::Client::new();
    for (asked, left) in [(3, 2), (2, 0), (0, 0)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        // The journal alone knows what this start answers.
        command.arg("serve").env("TOLLGATE__JOURNAL__SHIP_EVERY", "1h");
        let process = Process::start(command, &database);
        let url = format!("http://{}/graphql", process.address);
        for _ in 0..asked {
            let (status, answer) = graphql(&http, &url, &key, json!({ "query": ONE })).await;
            assert_eq!((status, &answer["extensions"]["usage"]["units"]), (200, &json!(1)), "{answer}");
        }
        if left == 0 {
            let refused = ask(&http, &url, &key, json!({ "query": ONE })).await;
            assert_eq!((refused.status, refused.code().as_str()), (429, "QUOTA_EXCEEDED"), "{refused:?}");
        } else {
            let free = ask(&http, &url, &key, json!({ "query": FREE })).await;
            assert_eq!(free.limit("quota").unwrap().r, left, "{free:?}");
        }
        process.kill();
    }
    let process = Process::serve(&database);
    process.terminate();
    assert_eq!(database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'inventory'").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_a_quota_that_bills_it_goes_on_and_what_is_refused_uses_nothing() {
    let database = Database::new(Kind::Sqlite).await;
    let plans = plan("bill", 1000, 1000, "quota = { units = 3, then = \"bill\" }")
        + &plan("refuse", 1000, 1000, "query_units_max = 4\nquota = { units = 10, then = \"refuse\" }");
    let gateway = stocked(&database, &plans).await;
    let billing = gateway.partner("P", "bill", &[]).await;
    for left in [2, 1, 0, 0, 0, 0] {
        let answer = gateway.ask(&billing.key, ONE).await;
        assert_eq!((answer.status, answer.units(), answer.limit("quota").unwrap().r), (200, 1, left), "{answer:?}");
    }
    let refusing = gateway.partner("Q", "refuse", &[]).await;
    let url = gateway.url("/graphql");
    for (body, status, left) in [
        (json!({ "query": "{ nothing }" }), 400, 10),
        (products(5, 5), 400, 10),
        (json!({ "query": "{ catalog(first: 1000) { nodes { sku } } }" }), 200, 10),
        (json!({ "query": FREE }), 200, 10),
        (products(4, 0), 200, 10),
        (products(4, 3), 200, 7),
        (products(4, 4), 200, 3),
        // More than is left is refused, though less would be billed.
        (products(4, 1), 429, 3),
        (products(3, 1), 200, 2),
    ] {
        let answer = ask(&gateway.http, &url, &refusing.key, body).await;
        assert_eq!((answer.status, answer.limit("quota").unwrap().r), (status, left), "{answer:?}");
    }
    assert_eq!(in_the_ledger(&gateway, &database).await, 6 + 8);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn test_keys_use_no_quota_no_spend_and_no_rate_of_the_live_ones() {
    let database = Database::new(Kind::Sqlite).await;
    let charge = "quota = { units = 2, then = \"refuse\" }\nspend_cap = \"0.02\"\n\
                  [[plan.charge]]\nmeter = \"inventory\"\nmodel = \"per_unit\"\nunit_price = \"0.01\"";
    let gateway = stocked(&database, &plan("q", 1, 12, charge)).await;
    let partner = gateway.partner("P", "q", &[]).await;
    let test = issue(&database, &["P", "--mode", "test"]).key;
    gateway.refresh().await;
    let sample = gateway.ask(&test, "{ viewer { keyMode } catalog(first: 3) { nodes { sku } } }").await;
    assert_eq!(sample.json()["data"]["viewer"]["keyMode"], "test", "{sample:?}");
    let nodes = sample.json()["data"]["catalog"]["nodes"].as_array().unwrap().clone();
    assert!(nodes.len() == 3 && !nodes.contains(&json!({ "sku": "A" })), "the sample set, not the store: {sample:?}");
    // Past the live quota, and to the end of the rate, which is a cell of its own.
    let answers = at_once(&gateway, &test, vec![json!({ "query": ONE }); 30]).await;
    let answered = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((10..=14).contains(&answered), "{answered}");
    assert!(answers.iter().filter(|answer| answer.status != 200).all(|answer| answer.code() == "RATE_LIMITED"));
    assert_eq!(in_the_ledger(&gateway, &database).await, 0);
    for left in [1, 0] {
        let live = gateway.ask(&partner.key, ONE).await;
        assert_eq!((live.status, live.limit("quota").unwrap().r), (200, left), "{live:?}");
    }
    assert_eq!(in_the_ledger(&gateway, &database).await, 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_at_once_than_the_plan_allows_is_told_to_come_back_and_nothing_is_held_on_to() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = stocked(&database, &plan("c", 100_000, 1_000_000, "concurrency = 2")).await;
    let partner = gateway.partner("P", "c", &[]).await;
    let scan = json!({ "query": "{ catalog(first: 100) { nodes { sku title inventory(location: \"X\") { onHand } } } }" });
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..5 {
        for answer in at_once(&gateway, &partner.key, vec![scan.clone(); 64]).await {
            if answer.status == 200 {
                answered += 1;
            } else {
                refused += 1;
                assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMITED"), "{answer:?}");
                assert_eq!(answer.retry_after(), Some(1), "{answer:?}");
            }
        }
        // Clients that go away leave their places behind.
        let gone: Vec<_> = (0..16).map(|_| gateway.ask(&partner.key, FREE)).collect();
        drop(tokio::time::timeout(Duration::from_millis(2), futures_util::future::join_all(gone)).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..3 {
            assert_eq!(gateway.ask(&partner.key, FREE).await.status, 200, "a place is held on to");
        }
    }
    println!("{answered} answered, {refused} refused");
    assert!(answered >= 10 && refused >= 10, "{answered} answered, {refused} refused");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_extensions_add_up_and_who_waits_as_told_is_answered() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = stocked(&database, &plan("h", 5, 50, "quota = { units = 500, then = \"refuse\" }")).await;
    let partner = gateway.partner("P", "h", &[]).await;
    let url = gateway.url("/graphql");
    let (begun, mut charged, mut billed) = (Instant::now(), 0, 0);
    for n in [1, 7, 0, 3, 10, 2, 8] {
        let body = if n == 0 { json!({ "query": FREE }) } else { products(n, n.div_ceil(2)) };
        let answer = ask(&gateway.http, &url, &partner.key, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // What was asked is charged, and never less than 1; what is answered is billed.
        charged += n.max(1) as u64;
        billed += n.div_ceil(2) as u64;
        let refilled = (begun.elapsed().as_secs_f64() * 5.0) as u64 + 1;
        let (rate, quota) = (answer.limit("rate").unwrap(), answer.limit("quota").unwrap());
        assert_eq!((rate.q, rate.w), (50, 10), "{answer:?}");
        assert!((50 - charged..=50.min(50 - charged + refilled)).contains(&rate.r), "{charged} charged: {answer:?}");
        assert!(rate.t.abs_diff((50 - rate.r).div_ceil(5)) <= 1, "{answer:?}");
        assert_eq!((quota.q, quota.r), (500, 500 - billed), "{answer:?}");
        let cost = &answer.json()["extensions"]["cost"];
        assert_eq!((&cost["requestedQueryCost"], &cost["actualQueryCost"]), (&json!(n), &json!(n.div_ceil(2))), "{answer:?}");
        let expected = json!({ "maximumAvailable": 50, "currentlyAvailable": rate.r, "restoreRate": 5 });
        assert_eq!(cost["throttleStatus"], expected, "{answer:?}");
    }
    // Not enough is left for 40: then it is told when there will be.
    let refused = ask(&gateway.http, &url, &partner.key, products(40, 1)).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "RATE_LIMITED"), "{refused:?}");
    let cost = &refused.json()["errors"][0]["extensions"]["cost"];
    assert_eq!(cost["requestedQueryCost"], 40, "{refused:?}");
    let wait = refused.retry_after().unwrap();
    assert!((1..=8).contains(&wait), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let answer = ask(&gateway.http, &url, &partner.key, products(40, 1)).await;
    assert_eq!(answer.status, 200, "after the {wait} s that it was told: {answer:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_partners_and_a_keys_budget_comes_on_top() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = stocked(&database, &plan("k", 1, 40, "quota = { units = 30, then = \"refuse\" }")).await;
    let partner = gateway.partner("P", "k", &[]).await;
    let small = issue(&database, &["P", "--units-per-second", "1", "--burst", "6", "--quota", "4"]).key;
    gateway.refresh().await;
    let names = ["rate", "quota", "key-rate", "key-quota"];
    let left = |answer: &Answer| -> BTreeMap<&str, (u64, u64)> {
        names.into_iter().filter_map(|name| Some((name, answer.limit(name).map(|limit| (limit.q, limit.r))?))).collect()
    };
    let first = gateway.ask(&small, ONE).await;
    let seen = left(&first);
    assert_eq!((seen["quota"], seen["key-quota"]), ((30, 29), (4, 3)), "{first:?}");
    assert_eq!((seen["rate"].0, seen["key-rate"].0), (40, 6), "{first:?}");
    for _ in 0..3 {
        assert_eq!(gateway.ask(&small, ONE).await.status, 200);
    }
    // The key's quota ends here, the partner's does not; the other key knows of no budget.
    let refused = gateway.ask(&small, ONE).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "QUOTA_EXCEEDED"), "{refused:?}");
    let other = gateway.ask(&partner.key, ONE).await;
    assert_eq!((other.status, left(&other)["quota"], left(&other).contains_key("key-rate")), (200, (30, 25), false), "{other:?}");
    // What the key's rate refuses is not taken from the partner's.
    let before = left(&gateway.ask(&partner.key, FREE).await)["rate"].1;
    let hurried = at_once(&gateway, &small, vec![json!({ "query": FREE }); 20]).await;
    let passed = hurried.iter().filter(|answer| answer.status == 200).count() as u64;
    assert!(passed <= 8, "{passed} passed a burst of 6");
    let after = left(&gateway.ask(&partner.key, FREE).await)["rate"].1;
    assert!(before <= after + passed + 1, "{before} before, {after} after {passed}");
    // And what one key takes of the partner's rate is gone for the other.
    at_once(&gateway, &partner.key, vec![json!({ "query": FREE }); 60]).await;
    let refused = gateway.ask(&partner.key, FREE).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "RATE_LIMITED"), "{refused:?}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (one, other) = (gateway.ask(&small, FREE).await, gateway.ask(&partner.key, FREE).await);
    assert!(one.status == 429 || other.status == 429, "both from one unit: {one:?} {other:?}");
    gateway.stop().await;
}
