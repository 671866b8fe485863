//! A case: what the oracle and the code under test are both given. Decimals stand as the text that an operator writes.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::calendar::{Month, Zones};

/// One partner: what it is sold, what it used, and when its invoices are cut.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) zones: Zones,
    pub(crate) plans: Vec<PlanVersion>,
    /// By start; they do not overlap.
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) records: Vec<Record>,
    /// Percent.
    pub(crate) tax_rate: String,
    /// In the order in which they are made.
    pub(crate) cuts: Vec<Cut>,
}

/// An invoice run of a month.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) month: Month,
    /// Its invoices are voided before the next cut, which is of the same month.
    pub(crate) voided: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct PlanVersion {
    pub(crate) id: &'static str,
    pub(crate) version: i64,
    pub(crate) currency: &'static str,
    /// Decimal places of the currency.
    pub(crate) places: u32,
    pub(crate) base_fee: Option<BaseFee>,
    pub(crate) minimum: Option<String>,
    pub(crate) discount_percent: Option<String>,
    pub(crate) trial_days: Option<u32>,
    pub(crate) charges: Vec<Charge>,
}

#[derive(Clone, Debug)]
pub(crate) struct BaseFee {
    pub(crate) amount: String,
    pub(crate) in_advance: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) meter: &'static str,
    pub(crate) included: u64,
    pub(crate) model: Model,
}

#[derive(Clone, Debug)]
pub(crate) enum Model {
    PerUnit(String),
    Graduated(Vec<Tier>),
    Volume(Vec<Tier>),
    Package { units: u64, price: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(crate) up_to: Option<u64>,
    pub(crate) price: String,
}

/// On a plan version for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    /// Which of the case's plans.
    pub(crate) plan: usize,
    pub(crate) start: i64,
    /// The first instant past it.
    pub(crate) end: Option<i64>,
}

/// An answer's usage.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) at: i64,
    /// Which of the case's plans it was admitted under.
    pub(crate) plan: usize,
    /// A record in test mode is never rated.
    pub(crate) live: bool,
    /// By product.
    pub(crate) units: BTreeMap<&'static str, u64>,
    pub(crate) waived: BTreeMap<&'static str, u64>,
    /// The first of the case's cuts that knows of it.
    pub(crate) arrives: usize,
}

impl Record {
    /// Whether a meter counts anything of it, be it nothing.
    pub(crate) fn is_counted(&self, meter: &str) -> bool {
        meter == "requests" || self.units.contains_key(meter) || self.waived.contains_key(meter)
    }

    /// What a meter counts of it: rated and waived units.
    pub(crate) fn counted(&self, meter: &str) -> (u64, u64) {
        let of = |units: &BTreeMap<&'static str, u64>| units.get(meter).copied().unwrap_or(0);
        if meter == "requests" { (1, 0) } else { (of(&self.units), of(&self.waived)) }
    }
}

/// Every meter.
pub(crate) const METERS: [&str; 3] = ["inventory", "pricing", "requests"];

impl PlanVersion {
    pub(crate) fn name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }

    /// As the operator writes it.
    pub(crate) fn toml(&self) -> String {
        let mut text = format!(
            "[[plan]]\nid = \"{}\"\nversion = {}\nname = \"{}\"\ncurrency = \"{}\"\nproducts = [\"inventory\", \"pricing\"]\n\
             rate = {{ units_per_second = 100000, burst = 1000000 }}\n",
            self.id, self.version, self.id, self.currency
        );
        if let Some(fee) = &self.base_fee {
            let due = if fee.in_advance { "advance" } else { "arrears" };
            writeln!(text, "base_fee = {{ amount = \"{}\", due = \"{due}\" }}", fee.amount).unwrap();
        }
        for (name, decimal) in [("minimum", &self.minimum), ("discount_percent", &self.discount_percent)] {
            if let Some(decimal) = decimal {
                writeln!(text, "{name} = \"{decimal}\"").unwrap();
            }
        }
        if let Some(days) = self.trial_days {
            writeln!(text, "trial_days = {days}").unwrap();
        }
        for charge in &self.charges {
            text += &charge.toml();
        }
        text
    }
}

impl Charge {
    fn toml(&self) -> String {
        let tiers = |tiers: &[Tier]| {
            let tier = |tier: &Tier| {
                let up_to = tier.up_to.map(|bound| format!("up_to = {bound}, ")).unwrap_or_default();
                format!("{{ {up_to}unit_price = \"{}\" }}", tier.price)
            };
            format!("tiers = [{}]", tiers.iter().map(tier).collect::<Vec<_>>().join(", "))
        };
        let (model, price) = match &self.model {
            Model::PerUnit(price) => ("per_unit", format!("unit_price = \"{price}\"")),
            Model::Graduated(steps) => ("graduated", tiers(steps)),
            Model::Volume(steps) => ("volume", tiers(steps)),
            Model::Package { units, price } => ("package", format!("package_units = {units}\npackage_price = \"{price}\"")),
        };
        let included = if self.included == 0 { String::new() } else { format!("included = {}\n", self.included) };
        format!("\n[[plan.charge]]\nmeter = \"{}\"\nmodel = \"{model}\"\n{included}{price}\n", self.meter)
    }
}
