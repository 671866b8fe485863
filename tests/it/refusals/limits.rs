//! How much, and what: rate, concurrency, quota, spend, cost, structure; and what the plan does not have.

use serde_json::json;

use super::picture::{self, Ask};
use crate::support::{Answer, Database, Gateway, Kind, counted, issue, per_unit, plan, price, upserted};

const ONE: &str = "{ product(sku: \"A\") { inventory(location: \"X\") { onHand } } }";
/// Of inventory alone.
fn stock(id: &str, settings: &str) -> String {
    plan(id, &format!("products = [\"inventory\"]\n{settings}"))
}

fn plans() -> String {
    [
        stock("slow", "rate = { units_per_second = 1, burst = 3 }"),
        stock("narrow", "rate = { units_per_second = 1000, burst = 1000 }\nconcurrency = 1"),
        stock("quota", "rate = { units_per_second = 1000, burst = 1000 }\nquota = { units = 2, then = \"refuse\" }"),
        stock(
            "capped",
            &format!(
                "rate = {{ units_per_second = 1000, burst = 1000 }}\nspend_cap = \"2.00\"{}",
                per_unit("inventory", 0, "1.00")
            ),
        ),
        stock("small", "rate = { units_per_second = 1000, burst = 1000 }\nquery_units_max = 5"),
        plan(
            "unlisted",
            "rate = { units_per_second = 1000, burst = 1000 }\ndenied_fields = [\"pricing.listAmount\", \"catalog.supplier\"]",
        ),
    ]
    .concat()
}

async fn stocked(database: &Database) -> Gateway {
    let gateway = Gateway::start(database).await;
    gateway.plans(&plans()).await;
    let producer = gateway.producer().await;
    gateway.feed(&producer, &[upserted("u", "A", "Alba"), counted("c", "A", "X", 7), price("p", "A", "X", "12.50")]).await;
    gateway
}

/// Asks until it is refused.
async fn refused(gateway: &Gateway, ask: &Ask) -> Answer {
    for _ in 0..50 {
        let answer = ask.of(gateway).await;
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("50 answers and no refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_quota_spend_and_cost() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = stocked(&database).await;
    for (name, plan, key, status) in [
        ("rate_exceeded", "slow", &[][..], 429),
        ("rate_of_the_key_exceeded", "quota", &["--units-per-second", "1", "--burst", "1"], 429),
        ("quota_exceeded", "quota", &[], 429),
        ("quota_of_the_key_exceeded", "quota", &["--quota", "1"], 429),
        ("spend_cap_reached", "capped", &[], 402),
    ] {
        gateway.partner(name, plan, &[]).await;
        let key = issue(&database, &[&[name], key].concat()).key;
        gateway.refresh().await;
        let ask = Ask::query(&key, if name == "rate_of_the_key_exceeded" { "{ viewer { name } }" } else { ONE });
        let answer = refused(&gateway, &ask).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        picture::assert(name, &ask, &answer);
    }
    let small = gateway.partner("small", "small", &[]).await;
    let many = json!({
        "query": "query($skus: [ID!]!) { products(skus: $skus) { inventory(location: \"X\") { onHand } } }",
        "variables": { "skus": ["A", "B", "C", "D", "E", "F"] },
    });
    let ask = Ask::body(&small.key, &many.to_string());
    let answer = ask.of(&gateway).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "COST_ESTIMATED_TOO_EXPENSIVE"), "{answer:?}");
    picture::assert("cost_estimated_too_expensive", &ask, &answer);

    let nested = format!("{{ a{} }}", "{a".repeat(200) + &"}".repeat(200));
    let repeated = format!("{{ {} }}", (0..600).map(|n| format!("a{n}:__typename ")).collect::<String>());
    let long = " ".repeat(40_000) + "{ __typename }";
    for (name, query) in [("query_too_deep", nested), ("query_with_too_many_aliases", repeated), ("query_too_long", long)] {
        let ask = Ask::query(&small.key, &query);
        let answer = ask.of(&gateway).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "QUERY_TOO_COMPLEX"), "{answer:?}");
        picture::assert(name, &ask, &answer);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_at_once() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = stocked(&database).await;
    let partner = gateway.partner("P", "narrow", &[]).await;
    let ask = Ask::query(&partner.key, "{ catalog(first: 100) { nodes { sku } } }");
    for _ in 0..20 {
        let answers = futures_util::future::join_all((0..32).map(|_| ask.of(&gateway))).await;
        if let Some(answer) = answers.iter().find(|answer| answer.status != 200) {
            picture::assert("concurrency_exceeded", &ask, answer);
            gateway.stop().await;
            return;
        }
    }
    panic!("640 requests, and never two at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_fields() {
    let database = Database::new(Kind::Sqlite).await;
    let gateway = stocked(&database).await;
    let (stock, unlisted) = (gateway.partner("S", "small", &[]).await, gateway.partner("U", "unlisted", &[]).await);
    let restricted = issue(&database, &["U", "--product", "inventory"]).key;
    gateway.refresh().await;
    let both = "{ product(sku: \"A\") { sku inventory(location: \"X\") { onHand } price(market: \"X\") { amount } } }";
    for (name, key, query) in [
        ("field_of_a_product_outside_the_plan", &stock.key, both),
        ("field_of_a_product_outside_the_key", &restricted, both),
        (
            "field_outside_the_plan",
            &unlisted.key,
            "{ product(sku: \"A\") { title supplier price(market: \"X\") { amount listAmount } } }",
        ),
        ("field_outside_the_plan_alone", &unlisted.key, "{ product(sku: \"A\") { price(market: \"X\") { listAmount } } }"),
        ("field_with_bad_input", &unlisted.key, "{ catalog(first: 1000) { nodes { sku } } }"),
        ("field_with_a_bad_cursor", &unlisted.key, "{ catalog(after: \"x\") { nodes { sku } } }"),
    ] {
        let ask = Ask::query(key, query);
        let answer = ask.of(&gateway).await;
        assert!(answer.status == 200 && !answer.code().is_empty(), "{name}: {answer:?}");
        picture::assert(name, &ask, &answer);
    }
    gateway.stop().await;
}
