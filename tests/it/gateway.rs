//! Queries: what is answered, what is hidden, what is counted.

use serde_json::{Value, json};

use crate::support::{Database, Gateway, counted, graphql, on_both_databases, price, upserted};

/// Two brands, two places.
async fn stocked(gateway: &Gateway) {
    let producer = gateway.producer().await;
    let mut events = Vec::new();
    for (sku, brand) in [("A1", "Alba"), ("A2", "Alba"), ("B1", "Birk"), ("B2", "Birk")] {
        events.push(upserted(&format!("u{sku}"), sku, brand));
        for place in ["X", "Y"] {
            events.push(counted(&format!("c{sku}{place}"), sku, place, 7));
            events.push(price(&format!("p{sku}{place}"), sku, place, "12.50"));
        }
    }
    let report = gateway.feed(&producer, &events).await;
    assert_eq!(report, json!({ "accepted": events.len(), "duplicates": 0, "rejected": [] }));
}

fn units(answer: &Value) -> u64 {
    answer["extensions"]["usage"]["units"].as_u64().unwrap()
}

on_both_databases! {
    async fn an_answer_has_values_freshness_and_its_usage(database: Database) {
        let gateway = Gateway::start(&database).await;
        stocked(&gateway).await;
        let partner = gateway.partner("P", "wide", &[]).await;
        let answer = gateway
            .query(
                &partner.key,
                "{ product(sku: \"A1\") { sku title brand category supplier \
                   inventory(location: \"X\") { location onHand reserved available updatedAt freshness { asOf lagMs } } \
                   price(market: \"X\") { market currency amount listAmount updatedAt freshness { asOf lagMs } } } }",
            )
            .await;
        let product = &answer["data"]["product"];
        assert_eq!(product["title"], "Title of A1");
        assert_eq!(product["inventory"]["onHand"], "7");
        assert_eq!(product["inventory"]["available"], "7");
        assert_eq!(product["inventory"]["updatedAt"], "2026-01-05T08:00:00.000Z");
        assert_eq!((&product["price"]["amount"], &product["price"]["currency"]), (&json!("12.50"), &json!("EUR")));
        assert!(product["price"]["freshness"]["lagMs"].as_i64().unwrap() < 10_000);
        assert_eq!(answer["extensions"]["usage"]["byProduct"], json!({ "inventory": 1, "pricing": 1 }));
        assert!(answer["extensions"]["usage"]["requestId"].as_str().unwrap().starts_with("req_"));

        let answer = gateway.query(&partner.key, "{ products(skus: [\"B2\", \"none\", \"A1\"]) { sku inventory(location: \"X\") { onHand } } }").await;
        let skus: Vec<&Value> = answer["data"]["products"].as_array().unwrap().iter().map(|product| &product["sku"]).collect();
        assert_eq!(skus, [&json!("B2"), &Value::Null, &json!("A1")]);
        assert_eq!(units(&answer), 2);

        // The ledger has it, and so has the partner's own view of it.
        gateway.running.app.ship().await.unwrap();
        let usage = gateway.query(&partner.key, "{ usage { lines { meter plan units amount } totals { currency amount } asOf } viewer { plan products } }").await;
        // inventory: 3 units, 3 included → 0.00; pricing: 1 × 0.0333 → 0.03.
        assert_eq!(usage["data"]["usage"]["lines"], json!([
            { "meter": "inventory", "plan": "wide@1", "units": "3", "amount": "0.00" },
            { "meter": "pricing", "plan": "wide@1", "units": "1", "amount": "0.03" },
            { "meter": "requests", "plan": "wide@1", "units": "2", "amount": "0.00" },
        ]));
        assert_eq!(usage["data"]["usage"]["totals"], json!([{ "currency": "EUR", "amount": "0.03" }]));
        assert_eq!(units(&usage), 0);
        assert_eq!(usage["data"]["viewer"], json!({ "plan": "wide@1", "products": ["inventory", "pricing"] }));
        gateway.stop().await;
    }

    async fn what_is_not_yours_looks_like_what_is_not_there(database: Database) {
        let gateway = Gateway::start(&database).await;
        stocked(&gateway).await;
        let partner = gateway.partner("P", "wide", &["brand=Alba", "location=X"]).await;
        let ask = |sku: &str, place: &str| {
            format!("{{ product(sku: \"{sku}\") {{ title inventory(location: \"{place}\") {{ onHand }} price(market: \"X\") {{ amount }} }} }}")
        };
        let (theirs, nowhere) = (gateway.query(&partner.key, &ask("B1", "X")).await, gateway.query(&partner.key, &ask("none", "X")).await);
        assert_eq!(theirs["data"], nowhere["data"]);
        assert_eq!((units(&theirs), units(&nowhere)), (0, 0));
        assert!(theirs.get("errors").is_none());
        let (hidden, unknown) = (gateway.query(&partner.key, &ask("A1", "Y")).await, gateway.query(&partner.key, &ask("A1", "none")).await);
        assert_eq!(hidden["data"], unknown["data"]);
        assert_eq!((units(&hidden), units(&unknown)), (1, 1), "the price alone");
        let catalog = gateway.query(&partner.key, "{ catalog(first: 100) { nodes { sku } pageInfo { hasNextPage } } }").await;
        assert_eq!(catalog["data"]["catalog"], json!({ "nodes": [{ "sku": "A1" }, { "sku": "A2" }], "pageInfo": { "hasNextPage": false } }));

        // A product outside of the plan is told from the plan alone: the same for what is there and what is not.
        let stock = gateway.partner("S", "stock", &[]).await;
        let denied = gateway.query(&stock.key, &ask("A1", "X")).await;
        assert_eq!(denied["data"]["product"], json!({ "title": "Title of A1", "inventory": { "onHand": "7" }, "price": null }));
        assert_eq!(denied["errors"][0]["extensions"]["code"], "NOT_ENTITLED");
        assert_eq!(units(&denied), 1, "what is denied costs nothing");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unit_for_each_value_answered_however_it_is_asked() {
    let database = Database::new(crate::support::Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    stocked(&gateway).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let stock = "inventory(location: \"X\")";
    for (query, expected) in [
        // Fields of one response key are one value in the answer.
        (format!("{{ product(sku: \"A1\") {{ {stock} {{ onHand }} {stock} {{ reserved }} ...F }} }} fragment F on Product {{ {stock} {{ available }} }}"), 1),
        ("{ product(sku: \"A1\") { sku } product(sku: \"A1\") { price(market: \"X\") { amount } price(market: \"X\") { currency } } }".to_owned(), 1),
        (format!("{{ product(sku: \"A1\") {{ a: {stock} {{ onHand }} b: {stock} {{ onHand }} }} }}"), 2),
        (format!("{{ a: product(sku: \"A1\") {{ {stock} {{ onHand }} }} b: product(sku: \"A1\") {{ {stock} {{ onHand }} }} }}"), 2),
        (format!("{{ products(skus: [\"A1\", \"A1\", \"B1\"]) {{ {stock} {{ onHand }} }} }}"), 3),
        (format!("{{ catalog(first: 3) {{ edges {{ node {{ {stock} {{ onHand }} }} }} nodes {{ {stock} {{ onHand }} }} }} }}"), 6),
        (format!("query($no: Boolean = false) {{ product(sku: \"A1\") {{ {stock} @include(if: $no) {{ onHand }} }} }}"), 0),
        // That it is there is told, whatever is skipped of it.
        (format!("{{ product(sku: \"A1\") {{ {stock} {{ onHand @skip(if: true) }} }} }}"), 1),
        (format!("{{ product(sku: \"A1\") {{ {stock} {{ __typename }} }} }}"), 1),
        ("query($f: Int) { catalog(first: $f) { nodes { sku } } }".to_owned(), 0),
        ("{ product(sku: \"A1\") { price(market: \"X\") @skip(if: true) { amount } ... @skip(if: false) { price(market: \"X\") { amount @skip(if: true) } } price(market: \"X\") { currency } } }".to_owned(), 1),
        ("{ product(sku: \"A1\") { sku title } viewer { name } __typename }".to_owned(), 0),
        (format!("{{ product(sku: \"none\") {{ {stock} {{ onHand }} }} }}"), 0),
        ("{ __schema { queryType { name } } }".to_owned(), 0),
    ] {
        let answer = gateway.query(&partner.key, &query).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        assert_eq!(units(&answer), expected, "{query}: {answer}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_pages_through_everything_once() {
    let database = Database::new(crate::support::Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    let producer = gateway.producer().await;
    let events: Vec<Value> = (0..45).map(|n| upserted(&format!("u{n}"), &format!("S{n:03}"), "Alba")).collect();
    gateway.feed(&producer, &events).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    let (mut after, mut found, mut pages) = (Value::Null, Vec::new(), 0);
    loop {
        let body = json!({
            "query": "query($after: String) { catalog(first: 20, after: $after) { edges { cursor node { sku } } pageInfo { hasNextPage endCursor hasPreviousPage } } }",
            "variables": { "after": after },
        });
        let (status, answer) = graphql(&gateway.http, &gateway.url("/graphql"), &partner.key, body).await;
        assert_eq!(status, 200, "{answer}");
        let catalog = &answer["data"]["catalog"];
        found.extend(catalog["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["sku"].as_str().unwrap().to_owned()));
        pages += 1;
        after = catalog["pageInfo"]["endCursor"].clone();
        if catalog["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(found, (0..45).map(|n| format!("S{n:03}")).collect::<Vec<_>>());
    for (arguments, words) in
        [("first: 0", "must be 1 to 100"), ("first: 101", "must be 1 to 100"), ("after: \"S001\"", "no cursor")]
    {
        let answer = gateway.query(&partner.key, &format!("{{ catalog({arguments}) {{ nodes {{ sku }} }} }}")).await;
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT");
        assert!(error["message"].as_str().unwrap().contains(words), "{answer}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_past_its_rate_is_told_how_long_to_wait_and_others_are_not_held_up() {
    let database = Database::new(crate::support::Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    // 1 a second, 5 at once.
    let (slow, other) = (gateway.partner("P", "stock", &[]).await, gateway.partner("Q", "stock", &[]).await);
    let ask = async |key: &str| {
        gateway
            .http
            .post(gateway.url("/graphql"))
            .bearer_auth(key)
            .json(&json!({ "query": "{ __typename }" }))
            .send()
            .await
            .unwrap()
    };
    for left in [4, 3, 2, 1, 0] {
        let response = ask(&slow.key).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["ratelimit-policy"], "\"rate\";q=5;w=5");
        assert_eq!(response.headers()["ratelimit"], format!("\"rate\";r={left};t={}", 5 - left));
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
    let refused = ask(&slow.key).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["errors"][0]["extensions"]["code"], "RATE_LIMITED");
    assert_eq!(ask(&other.key).await.status(), 200);
    gateway.running.app.ship().await.unwrap();
    assert_eq!(
        database.number("select cast(sum(units) as bigint) from usage_cell where meter = 'requests'").await,
        6,
        "refusals are not usage"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_say_how_it_stands() {
    let database = Database::new(crate::support::Kind::Sqlite).await;
    let gateway = Gateway::start(&database).await;
    stocked(&gateway).await;
    let partner = gateway.partner("P", "wide", &[]).await;
    gateway.query(&partner.key, "{ product(sku: \"A1\") { inventory(location: \"X\") { onHand } } }").await;
    gateway.query("tg_live_wrong", "{ __typename }").await;
    gateway.running.app.ship().await.unwrap();
    let get = async |path: &str| {
        let url = format!("http://{}{path}", gateway.running.operator_address);
        let response = gateway.http.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "tollgate_requests_total{code=\"OK\"} 1",
        "tollgate_requests_total{code=\"UNAUTHENTICATED\"} 1",
        "tollgate_gate_step_seconds_count{step=\"authenticate\"} 1",
        "tollgate_gate_step_seconds_count{step=\"journal\"} 1",
        "tollgate_units_total{product=\"inventory\"} 1",
        "tollgate_journal_records_total 1",
        "tollgate_journal_shipped_records_total 1",
        "tollgate_journal_backlog_records 0",
        "tollgate_events_total{outcome=\"accepted\"} 20",
        "tollgate_projector_events_total{outcome=\"applied\"} 20",
        "tollgate_projector_lag_seconds{partition=\"0\"} ",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await, (200, "{\"status\":\"ready\"}".to_owned()));
    let sdl = gateway.http.get(gateway.url("/schema.graphql")).send().await.unwrap().text().await.unwrap();
    assert_eq!(sdl, tollgate::product::sdl());
    gateway.stop().await;
}
