//! A real store's sales as a file of events.

use std::path::PathBuf;

use serde_json::json;

use super::{Database, event};

/// The real file that scripts/test made; where PyPI could not be reached, which it says, a generated store of the same shape.
pub(crate) fn retail(database: &Database) -> PathBuf {
    if let Ok(path) = std::env::var("TOLLGATE_TEST_RETAIL") {
        return path.into();
    }
    let mut lines = String::new();
    for sku in 0..2000 {
        let (sku, sold) = (format!("P{sku}"), sku % 7);
        let opening = json!({ "sku": sku, "location": "S367", "onHand": sold + 20, "reserved": 0, "version": 1 });
        let title = json!({ "sku": sku, "title": "T", "brand": "B", "category": "C", "supplier": "M" });
        lines.push_str(&format!("{}\n", event("catalog.product.upserted", "/catalog", &format!("c{sku}"), &sku, title)));
        lines.push_str(&format!("{}\n", event("inventory.counted", "/pos/367", &format!("o{sku}"), &sku, opening)));
        for n in 0..sold {
            let amount = format!("{}.{:02}", n + 1, n);
            let price = json!({ "sku": sku, "market": "S367", "currency": "USD", "amount": amount, "version": n + 1 });
            lines.push_str(&format!("{}\n", event("price.set", "/pos/367", &format!("p{sku}-{n}"), &sku, price)));
            let sale = json!({ "sku": sku, "location": "S367", "delta": -1, "reason": "sale" });
            lines.push_str(&format!("{}\n", event("inventory.adjusted", "/pos/367", &format!("s{sku}-{n}"), &sku, sale)));
        }
    }
    database.file("retail.ndjson", &lines)
}
