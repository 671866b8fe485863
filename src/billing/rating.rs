//! Rating: (usage, plan version) → lines. Pure, and exact until the one rounding of each line.

use std::collections::BTreeMap;

use anyhow::Context;
use rust_decimal::Decimal;
use serde::Serialize;

use super::plan::{Charge, Model, Plan};
use crate::metering::{Counted, Meter};
use crate::money::Money;

/// One line of a bill: a meter under a plan version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The charge's meter.
    pub meter: Meter,
    /// The plan version's name: `starter@1`.
    pub plan: String,
    /// All units of the period, less the waived ones.
    pub units: u64,
    /// Those that were staler than the plan promised.
    pub waived: u64,
    /// Those that cost nothing.
    pub included: u64,
    /// Those that are charged.
    pub billable: u64,
    /// Exact money for one; none for a meter without a charge.
    pub unit_price: Option<Decimal>,
    /// Rounded once.
    pub amount: Money,
}

/// How a line is shown outside: numbers as decimal text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineView {
    meter: &'static str,
    plan: String,
    units: u64,
    waived_units: u64,
    included_units: u64,
    billable_units: u64,
    unit_price: Option<String>,
    amount: String,
}

impl From<&Line> for LineView {
    fn from(line: &Line) -> Self {
        Self {
            meter: line.meter.as_str(),
            plan: line.plan.clone(),
            units: line.units,
            waived_units: line.waived,
            included_units: line.included,
            billable_units: line.billable,
            unit_price: line.unit_price.map(|price| price.to_string()),
            amount: line.amount.to_string(),
        }
    }
}

/// Rates a period's units under one plan version. A line for each charge, used or not, and one, free, for each other meter
/// that was used.
pub fn rate(plan: &Plan, counted: &BTreeMap<Meter, Counted>) -> anyhow::Result<Vec<Line>> {
    let name = format!("{}@{}", plan.id, plan.version);
    let mut lines = Vec::new();
    for charge in &plan.charges {
        let used = counted.get(&charge.meter).copied().unwrap_or_default();
        lines.push(charged(plan, name.clone(), charge, used)?);
    }
    for (&meter, &used) in counted.iter().filter(|(meter, _)| plan.charges.iter().all(|charge| charge.meter != **meter)) {
        lines.push(Line {
            meter,
            plan: name.clone(),
            units: used.units,
            waived: used.waived,
            included: used.units,
            billable: 0,
            unit_price: None,
            amount: Money::zero(plan.currency),
        });
    }
    Ok(lines)
}

fn charged(plan: &Plan, name: String, charge: &Charge, counted: Counted) -> anyhow::Result<Line> {
    let Counted { units, waived } = counted;
    let (included, billable, exact) = match charge.model {
        Model::PerUnit => {
            let billable = units.saturating_sub(charge.included);
            (units - billable, billable, Decimal::from(billable).checked_mul(charge.unit_price))
        }
    };
    let amount = exact
        .and_then(|exact| Money::round(exact, plan.currency))
        .with_context(|| format!("{units} units of {} under {name} are more money than can be counted", charge.meter))?;
    Ok(Line { meter: charge.meter, plan: name, units, waived, included, billable, unit_price: Some(charge.unit_price), amount })
}

/// The sum of lines in one currency.
pub fn total(lines: &[Line], plan: &Plan) -> anyhow::Result<Money> {
    lines
        .iter()
        .try_fold(Money::zero(plan.currency), |sum, line| sum.checked_add(line.amount))
        .context("the lines add up to more money than can be counted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::plan;

    fn starter(included: u64, price: &str) -> Plan {
        plan::parse(&format!(
            "[[plan]]\nid = \"starter\"\nversion = 1\nname = \"S\"\ncurrency = \"EUR\"\nproducts = [\"inventory\", \"pricing\"]\n\
             rate = {{ units_per_second = 1, burst = 1 }}\n\
             [[plan.charge]]\nmeter = \"inventory\"\nmodel = \"per_unit\"\nincluded = {included}\nunit_price = \"{price}\""
        ))
        .unwrap()
        .remove(0)
    }

    fn used(units: u64) -> Counted {
        Counted { units, waived: 3 }
    }

    #[test]
    fn only_units_past_the_included_ones_cost_and_the_line_is_rounded_once() {
        let plan = starter(100, "0.0333");
        // 107 − 100 = 7 × 0.0333 = 0.2331 → 0.23; rounding each unit would give 7 × 0.03 = 0.21.
        let lines = rate(&plan, &BTreeMap::from([(Meter::Inventory, used(107)), (Meter::Pricing, used(5))])).unwrap();
        assert_eq!((lines[0].billable, lines[0].amount.to_string()), (7, "0.23".into()));
        // No charge names pricing: it is shown, and free.
        assert_eq!((lines[1].meter, lines[1].units, lines[1].amount.minor), (Meter::Pricing, 5, 0));
        assert_eq!(total(&lines, &plan).unwrap().to_string(), "0.23");
    }

    #[test]
    fn a_charge_that_was_not_used_has_its_line() {
        let lines = rate(&starter(100, "1"), &BTreeMap::new()).unwrap();
        assert_eq!((lines.len(), lines[0].units, lines[0].amount.minor), (1, 0, 0));
    }

    #[test]
    fn money_that_cannot_be_counted_is_an_error_and_not_a_wrong_number() {
        assert!(rate(&starter(0, "1000000"), &BTreeMap::from([(Meter::Inventory, used(u64::MAX))])).is_err());
    }
}
