//! A real store's sales through a running gateway: every SKU closes where it must, twice is once, and restarts and rebuilds
//! give the same bytes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Database, Kind, Process, graphql, per_unit, plan, retail, tollgate};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_stores_sales_close_where_they_must() {
    let database = Database::new(Kind::Sqlite).await;
    let file = retail(&database);
    let events: Vec<Value> =
        std::fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    println!("{} events of {}", events.len(), file.display());
    let file = file.to_str().unwrap();
    // The last price of each SKU, by the file's own order.
    let mut last_price = BTreeMap::new();
    for event in events.iter().filter(|event| event["type"] == "price.set") {
        last_price.insert(event["subject"].as_str().unwrap(), event["data"]["amount"].as_str().unwrap());
    }
    let skus: Vec<&str> =
        events.iter().filter(|e| e["type"] == "inventory.counted").map(|e| e["subject"].as_str().unwrap()).collect();
    assert!(skus.len() > 1000);

    let process = Process::serve(&database);
    let n = events.len();
    assert_eq!(tollgate(&database, &["ingest", file]).ok(), format!("accepted {n}, duplicates 0, rejected 0\n"));
    let dump = tollgate(&database, &["features", "dump"]).ok();
    let (mut stock, mut prices) = (0, 0);
    for line in dump.lines() {
        let entity: Value = serde_json::from_str(line).unwrap();
        match entity["kind"].as_str().unwrap() {
            "inventory" => {
                assert_eq!(entity["onHand"], 20, "{line}");
                stock += 1;
            }
            "price" => {
                assert_eq!(entity["amount"], last_price[entity["sku"].as_str().unwrap()], "{line}");
                prices += 1;
            }
            _ => {}
        }
    }
    assert_eq!((stock, prices), (skus.len(), last_price.len()));
    assert_eq!(tollgate(&database, &["ingest", file]).ok(), format!("accepted 0, duplicates {n}, rejected 0\n"));
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), dump, "a second time changes nothing");

    // Sold over GraphQL, all of it, and billed.
    let plan = plan("p", &format!("currency = \"USD\"{}", per_unit("inventory", 0, "0.01")));
    tollgate(&database, &["plan", "apply", database.file("plan.toml", &plan).to_str().unwrap()]).ok();
    tollgate(&database, &["partner", "create", "Ada", "--plan", "p"]).ok();
    let key = tollgate(&database, &["key", "issue", "Ada"]).ok();
    let (http, url) = (reqwest::Client::new(), format!("http://{}/graphql", process.address));
    let query = "query($s: [ID!]!) { products(skus: $s) { sku inventory(location: \"S367\") { onHand } price(market: \"S367\") { amount currency } } }";
    for chunk in skus.chunks(100) {
        let (status, answer) = graphql(&http, &url, key.trim(), json!({ "query": query, "variables": { "s": chunk } })).await;
        assert_eq!(status, 200, "{answer}");
        for (sku, product) in chunk.iter().zip(answer["data"]["products"].as_array().unwrap()) {
            assert_eq!((&product["sku"], &product["inventory"]["onHand"]), (&json!(sku), &json!("20")));
            assert_eq!(product["price"]["amount"].as_str(), last_price.get(sku).copied());
        }
    }
    let preview: Value = serde_json::from_str(&tollgate(&database, &["invoice", "preview", "--format", "json"]).ok()).unwrap();
    // One unit of inventory for each SKU, a cent each.
    assert_eq!(preview[0]["totals"][0]["amount"], format!("{}.{:02}", skus.len() / 100, skus.len() % 100));

    // kill -9, a clean restart, and a rebuild from the log alone.
    process.kill();
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), dump);
    Process::serve(&database).terminate();
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), dump);
    let verified = tollgate(&database, &["replay", "--verify"]).ok();
    assert!(verified.contains("the same as the live store, byte for byte"), "{verified}");
    std::fs::remove_dir_all(database.data_dir().join("snapshots")).unwrap();
    assert_eq!(tollgate(&database, &["features", "dump"]).ok(), dump);
}
