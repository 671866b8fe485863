//! Events of the contract, written by hand rather than by the code under test.

use serde_json::{Value, json};

pub(crate) fn event(kind: &str, source: &str, id: &str, subject: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": source, "type": kind, "subject": subject,
        "time": "2026-01-05T08:00:00.000Z", "data": data,
    })
}

pub(crate) fn upserted(id: &str, sku: &str, brand: &str) -> Value {
    let data = json!({ "sku": sku, "title": format!("Title of {sku}"), "brand": brand, "category": "Tea", "supplier": "S1" });
    event("catalog.product.upserted", "/t", id, sku, data)
}

pub(crate) fn counted(id: &str, sku: &str, location: &str, on_hand: i64) -> Value {
    let data = json!({ "sku": sku, "location": location, "onHand": on_hand, "reserved": 0 });
    event("inventory.counted", "/t", id, sku, data)
}

pub(crate) fn adjusted(id: &str, sku: &str, location: &str, delta: i64) -> Value {
    event("inventory.adjusted", "/t", id, sku, json!({ "sku": sku, "location": location, "delta": delta, "reason": "sale" }))
}

pub(crate) fn price(id: &str, sku: &str, market: &str, amount: &str) -> Value {
    event("price.set", "/t", id, sku, json!({ "sku": sku, "market": market, "currency": "EUR", "amount": amount }))
}

pub(crate) fn compensated(id: &str, sku: &str, compensates: &str) -> Value {
    event("event.compensated", "/t", id, sku, json!({ "compensates": compensates, "reason": "mistake" }))
}
