//! `tollgate key list`: a compact table, or everything as JSON.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::output::{self, Format};
use crate::billing::plan::Rate;
use crate::clock::Micros;
use crate::directory::KeyTerms;
use crate::directory::key_store::{ApiKey, Secret};

pub(super) fn print(keys: &[ApiKey], now: Micros, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&keys.iter().map(|key| whole(key, now)).collect::<Vec<_>>());
    }
    let columns = ["key", "partner", "mode", "state", "last used", "expires", "restricted to"];
    output::table(&columns, &[], keys.iter().map(|key| row(key, now)))
}

fn whole(key: &ApiKey, now: Micros) -> Value {
    let text = |at: Option<Micros>| at.map(|at| at.to_string());
    let rate = |rate: Rate| json!({ "unitsPerSecond": rate.units_per_second, "burst": rate.burst });
    let secret = |secret: &Secret| json!({ "createdAt": secret.created_at.to_string(), "endsAt": text(secret.ends_at) });
    let KeyTerms { mode, expires_at, products, addresses, budget } = &key.terms;
    json!({
        "id": key.id,
        "partner": key.partner,
        "mode": mode.as_str(),
        "state": key.state(now).as_str(),
        "createdAt": key.created_at.to_string(),
        "expiresAt": text(*expires_at),
        "revokedAt": text(key.revoked_at),
        "suspended": key.suspended,
        "lastUsedAt": text(key.last_used_at),
        "products": products,
        "addresses": (!addresses.is_empty()).then(|| addresses.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "budget": budget.map(|budget| json!({ "rate": budget.rate.map(rate), "quotaUnits": budget.quota_units })),
        "secrets": key.secrets.iter().filter(|secret| secret.is_good(now)).map(secret).collect::<Vec<_>>(),
    })
}

fn row(key: &ApiKey, now: Micros) -> Vec<String> {
    let text = |at: Option<Micros>| at.map(|at| at.to_string());
    vec![
        key.id.to_string(),
        key.partner.to_string(),
        key.terms.mode.as_str().to_owned(),
        key.state(now).as_str().to_owned(),
        text(key.last_used_at).unwrap_or_else(|| "never".to_owned()),
        text(key.terms.expires_at).unwrap_or_default(),
        restrictions(&key.terms),
    ]
}

fn restrictions(terms: &KeyTerms) -> String {
    let mut all = Vec::new();
    if let Some(products) = &terms.products {
        all.push(products.iter().map(|product| product.as_str()).collect::<Vec<_>>().join(" "));
    }
    if !terms.addresses.is_empty() {
        all.push(format!("from {}", terms.addresses.iter().map(short).collect::<Vec<_>>().join(" ")));
    }
    if let Some(rate) = terms.budget.and_then(|budget| budget.rate) {
        all.push(format!("{} units/s burst {}", rate.units_per_second, rate.burst));
    }
    if let Some(quota) = terms.budget.and_then(|budget| budget.quota_units) {
        all.push(format!("{quota} units/month"));
    }
    all.join(", ")
}

fn short(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{KeyBudget, terms};

    #[test]
    fn restrictions_are_told_on_one_line() {
        assert_eq!(restrictions(&KeyTerms::default()), "");
        let terms = KeyTerms {
            products: terms::products(["pricing", "inventory"]).unwrap(),
            addresses: ["10.0.0.0/8", "203.0.113.9"].map(|text| terms::network(text).unwrap()).to_vec(),
            budget: Some(KeyBudget { rate: Some(Rate { units_per_second: 5, burst: 10 }), quota_units: Some(1000) }),
            ..KeyTerms::default()
        };
        let expected = "inventory pricing, from 10.0.0.0/8 203.0.113.9, 5 units/s burst 10, 1000 units/month";
        assert_eq!(restrictions(&terms), expected);
    }
}
