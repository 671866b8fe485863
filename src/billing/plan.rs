//! Plans: what is sold, how fast, and at what price. Written by the operator in TOML, published as immutable versions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{bail, ensure};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::PlanId;
use crate::metering::{Deniable, Product, Terms, Weighted};
use crate::money::{Currency, Money};

mod charge;

pub use charge::{Charge, Model, Tiers};
use charge::{exact, some_exact};

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
    /// Requests in flight.
    #[serde(default = "concurrency")]
    pub concurrency: u32,
    /// The largest estimate of one query; the rate's burst where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_units_max: Option<u64>,
    /// How much a billing month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Money a billing month, in the plan's currency.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_exact")]
    pub spend_cap: Option<Decimal>,
    /// What is staler is marked, and waived.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span")]
    pub freshness_max: Option<Duration>,
    /// Fields that it does not include.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied_fields: BTreeSet<Deniable>,
    /// Units that one object of a type counts, where that is not what the schema says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Weighted, u32>,
    /// A fixed fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_fee: Option<BaseFee>,
    /// What a whole month costs at least, in the plan's currency; prorated by days.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_exact")]
    pub minimum: Option<Decimal>,
    /// Off the base fee and the usage.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_exact")]
    pub discount_percent: Option<Decimal>,
    /// Days that are free for who begins with this plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_days: Option<u16>,
    /// At what price; a meter without a charge is free.
    #[serde(default, rename = "charge")]
    pub charges: Vec<Charge>,
}

/// How fast a partner may ask: a steady rate, and a burst on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Units a second.
    pub units_per_second: u32,
    /// Units at once, after a pause.
    pub burst: u32,
}

/// Units a billing month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How many.
    pub units: u64,
    /// What happens past them.
    pub then: Overage,
}

/// What happens past a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overage {
    /// Nothing more is answered in this period.
    Refuse,
    /// It goes on, and the charges bill it.
    Bill,
}

fn concurrency() -> u32 {
    64
}

/// A duration in words, such as "5s".
mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.collect_str(&humantime::format_duration(*span)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| serde::de::Error::custom(format!("\"{text}\" is no duration: write for example freshness_max = \"5s\""));
        humantime::parse_duration(&text).map(Some).map_err(wrong)
    }
}

/// A plan's fixed fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseFee {
    /// Money for a whole month, in the plan's currency; prorated by days.
    #[serde(deserialize_with = "exact")]
    pub amount: Decimal,
    /// On which invoice it stands.
    pub due: Due,
}

/// When a base fee is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Due {
    /// With the invoice of the month before.
    Advance,
    /// With the month's own invoice.
    Arrears,
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
            (1..=100_000_000).contains(&self.rate.units_per_second),
            "the plan \"{id}\" has rate.units_per_second = {}: give 1 to 100000000",
            self.rate.units_per_second
        );
        ensure!(
            (1..=1_000_000_000).contains(&self.rate.burst),
            "the plan \"{id}\" has rate.burst = {}: give 1 to 1000000000",
            self.rate.burst
        );
        self.check_limits()?;
        self.check_fees()?;
        let mut meters = BTreeSet::new();
        for charge in &self.charges {
            let meter = charge.meter;
            ensure!(meters.insert(meter), "the plan \"{id}\" charges the meter \"{meter}\" twice: keep one charge of it");
            if let Some(product) = meter.product().filter(|product| !self.products.contains(product)) {
                bail!(
                    "the plan \"{id}\" charges the meter \"{meter}\" but does not sell {product}: add it to products, or drop the charge"
                );
            }
            charge.check(id)?;
        }
        Ok(())
    }

    fn check_limits(&self) -> anyhow::Result<()> {
        let (id, burst) = (&self.id, u64::from(self.rate.burst));
        ensure!(
            (1..=10_000).contains(&self.concurrency),
            "the plan \"{id}\" has concurrency = {}: give 1 to 10000",
            self.concurrency
        );
        if let Some(largest) = self.query_units_max {
            ensure!(
                (1..=burst).contains(&largest),
                "the plan \"{id}\" has query_units_max = {largest}: give 1 to rate.burst, which is {burst}; more could never be admitted"
            );
        }
        ensure!(
            self.quota.is_none_or(|quota| (1..=1_000_000_000_000_000).contains(&quota.units)),
            "the plan \"{id}\" has quota.units out of 1 to 10^15: leave quota out for a plan without one"
        );
        if let Some(cap) = self.spend_cap {
            let exponent = self.currency.exponent();
            ensure!(
                cap > Decimal::ZERO && cap <= Decimal::from(1_000_000_000_000_u64) && cap.normalize().scale() <= exponent,
                "the plan \"{id}\" has spend_cap = \"{cap}\": give more than 0, with at most the {exponent} decimal places of {}",
                self.currency.code()
            );
        }
        ensure!(
            self.freshness_max.is_none_or(|max| (Duration::from_millis(1)..=Duration::from_secs(86_400 * 365)).contains(&max)),
            "the plan \"{id}\" has a freshness_max out of 1ms to 365 days: leave it out for a plan without a promise"
        );
        let largest = self.query_units_max();
        if let Some((weighted, weight)) = self.weights.iter().find(|(_, weight)| u64::from(**weight) > largest) {
            let name = weighted.type_name();
            bail!(
                "the plan \"{id}\" weighs {name} at {weight}, but admits no query above {largest} units: lower it, or raise query_units_max or rate.burst"
            );
        }
        if let Some((weighted, weight)) = self.weights.iter().find(|(_, weight)| **weight > 1000) {
            bail!("the plan \"{id}\" weighs {} at {weight}: give 0 to 1000 units", weighted.type_name());
        }
        Ok(())
    }

    fn check_fees(&self) -> anyhow::Result<()> {
        let id = &self.id;
        let base_fee = self.base_fee.map(|fee| ("base_fee.amount", fee.amount));
        for (name, amount) in base_fee.into_iter().chain(self.minimum.map(|amount| ("minimum", amount))) {
            let money = Money::of(amount, self.currency).filter(|money| money.minor > 0);
            ensure!(
                money.is_some() && amount <= Decimal::from(1_000_000_000),
                "the plan \"{id}\" has {name} = \"{amount}\": give more than 0, up to 1000000000, with at most the {} decimal places of {}",
                self.currency.exponent(),
                self.currency.code()
            );
        }
        if let Some(percent) = self.discount_percent {
            ensure!(
                percent > Decimal::ZERO && percent <= Decimal::ONE_HUNDRED && percent.normalize().scale() <= 4,
                "the plan \"{id}\" has discount_percent = \"{percent}\": give more than 0, up to 100, with at most 4 decimal places"
            );
        }
        ensure!(
            self.trial_days.is_none_or(|days| (1..=366).contains(&days)),
            "the plan \"{id}\" has trial_days out of 1 to 366: leave it out for a plan without a trial"
        );
        Ok(())
    }

    /// Its name with its version: `starter@1`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// The largest estimate that it admits.
    pub fn query_units_max(&self) -> u64 {
        self.query_units_max.unwrap_or(u64::from(self.rate.burst))
    }

    /// What a request under it may read, and what that counts.
    pub fn terms(&self) -> Terms {
        let weight = |weighted| self.weights.get(&weighted).copied().unwrap_or(Weighted::UNITS);
        Terms::new(self.products.iter().copied(), self.denied_fields.iter().copied(), weight)
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
        rate = { units_per_second = 20, burst = 40 }

        [[plan.charge]]
        meter = "inventory"
        model = "per_unit"
        included = 1000
        unit_price = "0.002"
    "#;

    #[test]
    fn a_plan_survives_being_stored() {
        let fees = "version = 1\nbase_fee = { amount = \"49\", due = \"advance\" }\nminimum = \"100.00\"\ntrial_days = 14";
        let more = "\n[[plan.charge]]\nmeter = \"pricing\"\nmodel = \"graduated\"\n\
             tiers = [{ up_to = 10, unit_price = \"1\" }, { unit_price = \"0.5\" }]\n\
             [[plan.charge]]\nmeter = \"requests\"\nmodel = \"package\"\npackage_units = 10\npackage_price = \"2\"";
        let rich = parse(&(STARTER.replace("version = 1", fees) + more)).unwrap().remove(0);
        assert_eq!(Plan::from_body(&rich.body().unwrap()).unwrap(), rich);
        let Model::Graduated(tiers) = &rich.charges[1].model else { panic!("{rich:?}") };
        let tiers: Vec<_> = tiers.iter().map(|(from, to, price)| (from, to, price.to_string())).collect();
        assert_eq!(tiers, [(1, Some(10), "1".into()), (11, None, "0.5".into())]);
        let plan = parse(STARTER).unwrap().remove(0);
        assert_eq!(Plan::from_body(&plan.body().unwrap()).unwrap(), plan);
        assert_eq!(plan.charges[0].model, Model::PerUnit("0.002".parse().unwrap()));
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
            ("units_per_second = 20", "units_per_second = 0", "units_per_second"),
            ("burst = 40", "burst = 0", "rate.burst"),
            ("version = 1", "version = 1\nconcurrency = 0", "concurrency = 0"),
            ("version = 1", "version = 1\nquery_units_max = 41", "which is 40"),
            ("version = 1", "version = 1\nquota = { units = 0, then = \"refuse\" }", "quota.units"),
            ("version = 1", "version = 1\nquota = { units = 5, then = \"stop\" }", "unknown variant"),
            ("version = 1", "version = 1\nspend_cap = \"5.001\"", "2 decimal places of EUR"),
            ("version = 1", "version = 1\nspend_cap = 5", "expected a string"),
            ("version = 1", "version = 1\nfreshness_max = \"soon\"", "no duration"),
            ("version = 1", "version = 1\nfreshness_max = \"0s\"", "freshness_max"),
            ("version = 1", "version = 1\ndenied_fields = [\"pricing.colour\"]", "unknown variant"),
            ("version = 1", "version = 1\nweights = { Price = 41 }", "no query above 40 units"),
            ("version = 1", "version = 1\nweights = { Product = 1 }", "unknown variant"),
            ("\"0.002\"", "\"-0.002\"", "unit_price"),
            ("\"0.002\"", "\"cheap\"", "no decimal"),
            ("\"0.002\"", "0.002", "expected a string"),
            ("included = 1000", "included = -1", "line 13: invalid value"),
            ("included = 1000", "colour = 1", "unknown field"),
            ("model = \"per_unit\"", "model = \"free\"", "unknown variant"),
            ("meter = \"inventory\"", "meter = \"weather\"", "unknown variant"),
            ("unit_price = \"0.002\"", "", "which has unit_price alone"),
            ("unit_price = \"0.002\"", "unit_price = \"1\"\ntiers = []", "which has unit_price alone"),
            ("\"per_unit\"", "\"graduated\"", "which has tiers alone"),
            ("version = 1", "version = 1\nbase_fee = { amount = \"5.001\", due = \"advance\" }", "2 decimal places of EUR"),
            ("version = 1", "version = 1\nbase_fee = { amount = \"-5\", due = \"advance\" }", "more than 0"),
            ("version = 1", "version = 1\nbase_fee = { amount = \"5\", due = \"later\" }", "unknown variant"),
            ("version = 1", "version = 1\nminimum = \"0\"", "minimum"),
            ("version = 1", "version = 1\ndiscount_percent = \"100.5\"", "discount_percent"),
            ("version = 1", "version = 1\ntrial_days = 0", "trial_days"),
            ("[[plan]]", "[[tax]]\n[[plan]]", "unknown field"),
            ("[[plan]]", "[[plan", "line 2"),
        ] {
            assert!(STARTER.contains(from), "{from}");
            let error = format!("{:#}", parse(&STARTER.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(words), "{to:?} gave: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let model = |text: &str| STARTER.replace("model = \"per_unit\"", text).replace("unit_price = \"0.002\"", "");
        let tiers = |text: &str| model(&format!("model = \"volume\"\ntiers = [{text}]"));
        for (text, words) in [
            (tiers(""), "are empty"),
            (tiers("{ up_to = 5, unit_price = \"1\" }"), "leave up_to out of the last one"),
            (tiers("{ unit_price = \"1\" }, { unit_price = \"1\" }"), "only the last has no end"),
            (tiers("{ up_to = 5, unit_price = \"2\" }, { up_to = 5, unit_price = \"1\" }, { unit_price = \"1\" }"), "overlap"),
            (tiers("{ up_to = 0, unit_price = \"2\" }, { unit_price = \"1\" }"), "overlap"),
            (tiers("{ unit_price = \"-1\" }"), "unit_price = \"-1\""),
            (model("model = \"package\"\npackage_units = 0\npackage_price = \"1\""), "package_units = 0"),
            (model("model = \"package\"\npackage_units = 10"), "package_units and package_price alone"),
        ] {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(words), "{text} gave: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let twice = format!("{STARTER}{}", STARTER);
        assert!(parse(&twice).unwrap_err().to_string().contains("twice"));
        assert!(parse("").unwrap_err().to_string().contains("no plan"));
    }
}
