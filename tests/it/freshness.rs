//! What a plan promises of freshness: staler answers are marked, and cost nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, counted, on_both_databases, per_unit, plan, price, upserted};

const ASK: &str = "{ products(skus: [\"A1\", \"none\", \"B1\"]) { inventory(location: \"X\") { onHand freshness { stale lagMs asOf } } \
                   priceHistory(market: \"X\") { amount freshness { stale } } } }";

fn usage(answer: &Value) -> (u64, u64, u64) {
    let usage = &answer["extensions"]["usage"];
    let actual = answer["extensions"]["cost"]["actualQueryCost"].as_u64().unwrap();
    (actual, usage["units"].as_u64().unwrap(), usage["waivedUnits"].as_u64().unwrap())
}

on_both_databases! {
    async fn what_is_staler_than_promised_is_marked_and_waived(database: Database) {
        let gateway = Gateway::start(&database).await;
        let charges = per_unit("inventory", 0, "0.50") + &per_unit("pricing", 0, "0.25");
        gateway.plans(&plan("fresh", &format!("freshness_max = \"700ms\"{charges}"))).await;
        let producer = gateway.producer().await;
        let mut events = Vec::new();
        for sku in ["A1", "B1"] {
            events.extend([upserted(&format!("u{sku}"), sku, "Alba"), counted(&format!("c{sku}"), sku, "X", 7)]);
            events.push(price(&format!("p{sku}"), sku, "X", "12.50"));
        }
        gateway.feed(&producer, &events).await;
        let (fresh, wide) = (gateway.partner("F", "fresh", &[]).await, gateway.partner("W", "wide", &[]).await);

        // 2 × (1 stock level + 1 past price)
        let answer = gateway.query(&fresh.key, ASK).await;
        assert_eq!(usage(&answer), (4, 4, 0), "{answer}");
        assert_eq!(answer["data"]["products"][0]["inventory"]["freshness"]["stale"], false);

        let held = gateway.running.app.engine.hold().await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        let answer = gateway.query(&fresh.key, ASK).await;
        assert_eq!(usage(&answer), (4, 0, 4), "{answer}");
        let freshness = &answer["data"]["products"][2]["inventory"]["freshness"];
        assert!(freshness["stale"] == true && freshness["lagMs"].as_u64().unwrap() > 700, "{answer}");
        assert_eq!(answer["data"]["products"][2]["priceHistory"], json!([{ "amount": "12.50", "freshness": { "stale": true } }]));
        assert_eq!(answer["extensions"]["usage"]["byProduct"], json!({}));
        // A plan that promises nothing bills what it answers.
        assert_eq!(usage(&gateway.query(&wide.key, ASK).await), (4, 4, 0));
        drop(held);

        gateway.running.app.ship().await.unwrap();
        for (column, meter, expected) in [("units", "inventory", 2), ("waived_units", "inventory", 2), ("units", "pricing", 2), ("waived_units", "pricing", 2)] {
            let sum = gateway.sum(column, meter, "fresh").await;
            assert_eq!(sum, expected, "{column} of {meter}");
        }
        // 2 × 0.50 + 2 × 0.25, and nothing for what was stale.
        let bill = gateway.query(&fresh.key, "{ usage { lines { kind meter units value amount } totals { amount } } }").await;
        assert_eq!(bill["data"]["usage"], json!({
            "lines": [
                { "kind": "usage", "meter": "inventory", "units": "2", "value": null, "amount": "1.00" },
                { "kind": "usage", "meter": "pricing", "units": "2", "value": null, "amount": "0.50" },
                { "kind": "usage", "meter": "requests", "units": "2", "value": null, "amount": "0.00" },
                { "kind": "waived", "meter": "inventory", "units": "2", "value": "1.00", "amount": "0.00" },
                { "kind": "waived", "meter": "pricing", "units": "2", "value": "0.50", "amount": "0.00" },
            ],
            "totals": [{ "amount": "1.50" }],
        }));
        gateway.stop().await;
    }
}
