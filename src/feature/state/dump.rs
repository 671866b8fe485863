//! The canonical dump: values, versions and event times; no offsets and no append times, so that the same events give the
//! same dump from every backend and every kind of log.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use super::Product;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Catalog<'a> {
    kind: &'static str,
    sku: &'a str,
    title: &'a str,
    brand: &'a str,
    category: &'a str,
    supplier: &'a str,
    version: Option<i64>,
    time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inventory<'a> {
    kind: &'static str,
    sku: &'a str,
    location: &'a str,
    on_hand: i64,
    reserved: i64,
    version: Option<i64>,
    time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Price<'a> {
    kind: &'static str,
    sku: &'a str,
    market: &'a str,
    currency: &'a str,
    amount: String,
    list_amount: Option<String>,
    version: Option<i64>,
    time: String,
    valid_from: Option<String>,
}

/// Writes the lines of `products`, which come in ascending order of their SKUs.
pub(in crate::feature) fn dump<'a>(products: impl Iterator<Item = (&'a Arc<str>, &'a Product)>) -> anyhow::Result<String> {
    let mut out = String::new();
    for (sku, product) in products {
        for entry in product.details.timeline() {
            let details = &entry.value;
            line(
                &mut out,
                &Catalog {
                    kind: "catalog",
                    sku,
                    title: &details.title,
                    brand: &details.brand,
                    category: &details.category,
                    supplier: &details.supplier,
                    version: entry.rank.version,
                    time: entry.rank.time.timestamp().to_string(),
                },
            )?;
        }
        for (location, stock) in &product.stock {
            let level = stock.level();
            line(
                &mut out,
                &Inventory {
                    kind: "inventory",
                    sku,
                    location,
                    on_hand: level.on_hand,
                    reserved: level.reserved,
                    version: stock.version(),
                    time: level.updated_at.timestamp().to_string(),
                },
            )?;
        }
        for (market, prices) in &product.prices {
            for entry in prices.timeline() {
                line(
                    &mut out,
                    &Price {
                        kind: "price",
                        sku,
                        market,
                        currency: entry.value.currency.code(),
                        amount: entry.value.amount.to_string(),
                        list_amount: entry.value.list_amount.map(|amount| amount.to_string()),
                        version: entry.rank.version,
                        time: entry.rank.time.timestamp().to_string(),
                        valid_from: entry.from.map(|from| from.timestamp().to_string()),
                    },
                )?;
            }
        }
    }
    Ok(out)
}

fn line(out: &mut String, entity: &impl Serialize) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string(entity)?)?;
    Ok(())
}
