//! Plans: what is sold, how fast, and at what price. Written by the operator in TOML, published as immutable versions.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::PlanId;
use crate::metering::{Meter, Product};
use crate::money::Currency;

/// A plan version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The operator's name for it: lower-case letters, digits and dashes.
    pub id: PlanId,
    /// From 1. A published version never changes; a change is the next version.
    pub version: i64,
    /// As partners and invoices show it.
    pub name: String,
    /// Of all its prices.
    pub currency: Currency,
    /// What a partner on it may ask for.
    pub products: BTreeSet<Product>,
    /// How fast.
    pub rate: Rate,
    /// At what price; a meter without a charge is free.
    #[serde(default, rename = "charge")]
    pub charges: Vec<Charge>,
}

/// How fast a partner may ask: a steady rate, and a burst on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Requests at once, after a pause.
    pub burst: u32,
}

/// One price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// What it counts.
    pub meter: Meter,
    /// How units become money.
    pub model: Model,
    /// Units of each period that cost nothing.
    #[serde(default)]
    pub included: u64,
    /// Money for one unit, exact; may be finer than the currency's minor unit.
    #[serde(deserialize_with = "exact")]
    pub unit_price: Decimal,
}

/// Text only: a TOML or JSON number would have been a float on its way here.
fn exact<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = String::deserialize(deserializer)?;
    Decimal::from_str_exact(&text)
        .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is no decimal: write for example unit_price = \"0.002\"")))
}

/// How units become money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Each unit past the included ones costs the same.
    PerUnit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    plan: Vec<Plan>,
}

/// The plans of a TOML file, checked.
pub fn parse(text: &str) -> anyhow::Result<Vec<Plan>> {
    let file: File = toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", crate::config::toml_sentence(text, &error)))?;
    ensure!(!file.plan.is_empty(), "it holds no plan: begin one with [[plan]]");
    let mut ids = BTreeSet::new();
    for plan in &file.plan {
        plan.check()?;
        ensure!(ids.insert(plan.id.as_str()), "the plan \"{}\" stands in it twice", plan.id);
    }
    Ok(file.plan)
}

impl Plan {
    fn check(&self) -> anyhow::Result<()> {
        let id = self.id.as_str();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !id.is_empty() && id.len() <= 64 && id.chars().all(plain),
            "the plan id \"{}\" must be 1 to 64 lower-case letters, digits and dashes",
            id.escape_default()
        );
        ensure!(self.version >= 1, "the plan \"{id}\" has version {}: versions begin at 1", self.version);
        ensure!(!self.name.trim().is_empty() && self.name.len() <= 200, "the plan \"{id}\" needs a name of 1 to 200 bytes");
        ensure!(!self.products.is_empty(), "the plan \"{id}\" sells no product: name some in products = [\"inventory\", …]");
        ensure!(
            (1..=100_000).contains(&self.rate.requests_per_second),
            "the plan \"{id}\" has rate.requests_per_second = {}: give 1 to 100000",
            self.rate.requests_per_second
        );
        ensure!(
            (1..=1_000_000).contains(&self.rate.burst),
            "the plan \"{id}\" has rate.burst = {}: give 1 to 1000000",
            self.rate.burst
        );
        let mut meters = BTreeSet::new();
        for charge in &self.charges {
            let meter = charge.meter;
            ensure!(meters.insert(meter), "the plan \"{id}\" charges the meter \"{meter}\" twice: keep one charge of it");
            if let Some(product) = meter.product().filter(|product| !self.products.contains(product)) {
                bail!(
                    "the plan \"{id}\" charges the meter \"{meter}\" but does not sell {product}: add it to products, or drop the charge"
                );
            }
            let price = charge.unit_price;
            ensure!(
                !price.is_sign_negative() && price.scale() <= 12 && price <= Decimal::from(1_000_000),
                "the plan \"{id}\" has unit_price = \"{price}\" for \"{meter}\": give 0 to 1000000 with at most 12 decimal places"
            );
        }
        Ok(())
    }

    /// The body that is stored; equal bodies are the same version.
    pub fn body(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// A stored body.
    pub fn from_body(body: &str) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTER: &str = r#"
        [[plan]]
        id = "starter"
        version = 1
        name = "Starter"
        currency = "EUR"
        products = ["inventory", "pricing"]
        rate = { requests_per_second = 20, burst = 40 }

        [[plan.charge]]
        meter = "inventory"
        model = "per_unit"
        included = 1000
        unit_price = "0.002"
    "#;

    #[test]
    fn a_plan_survives_being_stored() {
        let plan = parse(STARTER).unwrap().remove(0);
        assert_eq!(Plan::from_body(&plan.body().unwrap()).unwrap(), plan);
        assert_eq!(plan.charges[0].unit_price.to_string(), "0.002");
    }

    #[test]
    fn an_impossible_plan_is_told_in_one_sentence() {
        for (from, to, words) in [
            ("id = \"starter\"", "id = \"Star ter\"", "plan id"),
            ("version = 1", "version = 0", "begin at 1"),
            ("currency = \"EUR\"", "currency = \"EUX\"", "no currency of ISO 4217"),
            ("\"pricing\"]", "\"gold\"]", "unknown variant"),
            ("[\"inventory\", \"pricing\"]", "[\"pricing\"]", "does not sell inventory"),
            ("[\"inventory\", \"pricing\"]", "[]", "sells no product"),
            ("requests_per_second = 20", "requests_per_second = 0", "requests_per_second"),
            ("burst = 40", "burst = 0", "rate.burst"),
            ("\"0.002\"", "\"-0.002\"", "unit_price"),
            ("\"0.002\"", "\"cheap\"", "no decimal"),
            ("\"0.002\"", "0.002", "expected a string"),
            ("included = 1000", "included = -1", "line 13: invalid value"),
            ("included = 1000", "colour = 1", "unknown field"),
            ("model = \"per_unit\"", "model = \"free\"", "unknown variant"),
            ("meter = \"inventory\"", "meter = \"weather\"", "unknown variant"),
            ("[[plan]]", "[[tax]]\n[[plan]]", "unknown field"),
            ("[[plan]]", "[[plan", "line 2"),
        ] {
            assert!(STARTER.contains(from), "{from}");
            let error = format!("{:#}", parse(&STARTER.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(words), "{to:?} gave: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let twice = format!("{STARTER}{}", STARTER);
        assert!(parse(&twice).unwrap_err().to_string().contains("twice"));
        assert!(parse("").unwrap_err().to_string().contains("no plan"));
    }
}
