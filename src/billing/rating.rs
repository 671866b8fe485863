//! Rating: (plan version, days, usage) → what is due for a month. Pure, and exact until the one rounding of each line
//! (docs/billing.md, A plan version's lines for a month).

use std::collections::BTreeMap;

use anyhow::Context;

use super::document::{Days, Kind, Pricing, Step};
use super::plan::{Charge, Due as FeeDue, Model, Plan, Tiers};
use crate::metering::Meter;
use crate::money::{Exact, Money};

/// What was used of a meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterUse {
    /// Units that are rated.
    pub rated: u64,
    /// Units that are shown, and not billed.
    pub waived: u64,
    /// Units in a free trial, waived ones among them.
    pub trial: u64,
}

/// What was used under one plan version in a month.
pub type Used = BTreeMap<Meter, MeterUse>;

/// One line of what is due, before earlier invoices are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// What for.
    pub kind: Kind,
    /// Whose units; none for what is not usage.
    pub meter: Option<Meter>,
    /// For what is prorated.
    pub days: Option<Days>,
    /// For usage, trial and waived.
    pub units: Option<u64>,
    /// For usage.
    pub pricing: Option<Pricing>,
    /// For waived.
    pub value: Option<Money>,
    /// Rounded once.
    pub amount: Money,
}

impl Due {
    fn of(kind: Kind, amount: Money) -> Self {
        Self { kind, meter: None, days: None, units: None, pricing: None, value: None, amount }
    }
}

/// All that is due for a month under one plan version: `days` are those that belong to it.
pub fn rate(plan: &Plan, days: Days, used: &Used) -> anyhow::Result<Vec<Due>> {
    let mut lines: Vec<_> = base_fee(plan, days)?.into_iter().collect();
    for charge in &plan.charges {
        let units = used.get(&charge.meter).copied().unwrap_or_default().rated;
        lines.push(charged(plan, charge, days, units)?);
    }
    let is_charged = |meter: Meter| plan.charges.iter().any(|charge| charge.meter == meter);
    for (&meter, of) in used.iter().filter(|(meter, of)| !is_charged(**meter) && of.rated > 0) {
        let pricing = Pricing { model: "none".to_owned(), included: 0, steps: Vec::new() };
        let free = Due::of(Kind::Usage, Money::zero(plan.currency));
        lines.push(Due { meter: Some(meter), units: Some(of.rated), pricing: Some(pricing), ..free });
    }
    let unbilled =
        |kind, meter, units| Due { meter: Some(meter), units: Some(units), ..Due::of(kind, Money::zero(plan.currency)) };
    for (&meter, of) in used.iter().filter(|(_, of)| of.trial > 0) {
        lines.push(unbilled(Kind::Trial, meter, of.trial));
    }
    for (&meter, of) in used.iter().filter(|(_, of)| of.waived > 0) {
        let value = waived_value(plan, meter, days, *of)?;
        lines.push(Due { value: Some(value), ..unbilled(Kind::Waived, meter, of.waived) });
    }
    lines.extend(discount(plan, &lines)?);
    lines.extend(minimum(plan, days, &lines)?);
    Ok(lines)
}

/// What is due for a month ahead of it: the base fee, where it is paid in advance, and the discount on it.
pub fn rate_in_advance(plan: &Plan, days: Days) -> anyhow::Result<Vec<Due>> {
    if plan.base_fee.is_none_or(|fee| fee.due != FeeDue::Advance) {
        return Ok(Vec::new());
    }
    let mut lines: Vec<_> = base_fee(plan, days)?.into_iter().collect();
    lines.extend(discount(plan, &lines)?);
    Ok(lines)
}

/// The most that the usage lines' sum can be in minor units, for a spend cap, where of each meter at least and at most so much is
/// used; none when it cannot be counted. Volume prices fall at the edge of a tier: fewer units may cost more.
pub fn usage_total_max(plan: &Plan, days: Days, units: impl Fn(Meter) -> (u64, u64)) -> Option<i64> {
    plan.charges.iter().try_fold(0_i64, |sum, charge| {
        let (least, most) = units(charge.meter);
        let (least, most) = (billable(charge, days, least), billable(charge, days, most));
        let mut dearest = amount(charge, most)?.round(plan.currency)?.minor;
        if let Model::Volume(tiers) = &charge.model {
            let edges = tiers.ending.iter().map(|(end, _)| *end).filter(|end| (least..most).contains(end));
            for units in edges {
                dearest = dearest.max(amount(charge, units)?.round(plan.currency)?.minor);
            }
        }
        sum.checked_add(dearest)
    })
}

/// The sum of lines; none when it cannot be counted.
pub fn total(plan: &Plan, lines: &[Due]) -> Option<Money> {
    lines.iter().try_fold(Money::zero(plan.currency), |sum, line| sum.checked_add(line.amount))
}

fn too_much(plan: &Plan, what: &str) -> String {
    format!("{what} under {} is more money than can be counted", plan.reference())
}

fn base_fee(plan: &Plan, days: Days) -> anyhow::Result<Option<Due>> {
    let Some(fee) = plan.base_fee.filter(|_| days.counted > 0) else { return Ok(None) };
    let amount = Money::of(fee.amount, plan.currency).and_then(|whole| whole.share(days.counted, days.of));
    let amount = amount.with_context(|| too_much(plan, "the base fee"))?;
    Ok(Some(Due { days: Some(days), ..Due::of(Kind::BaseFee, amount) }))
}

/// The units of a whole month that cost nothing, for so many days: in the partner's favour.
fn included(charge: &Charge, days: Days) -> u64 {
    let share = (u128::from(charge.included) * u128::from(days.counted)).div_ceil(u128::from(days.of.max(1)));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn billable(charge: &Charge, days: Days, units: u64) -> u64 {
    units.saturating_sub(included(charge, days))
}

fn charged(plan: &Plan, charge: &Charge, days: Days, units: u64) -> anyhow::Result<Due> {
    let billable = billable(charge, days, units);
    let priced = amount(charge, billable).and_then(|exact| Some((exact.round(plan.currency)?, steps(charge, billable)?)));
    let (amount, steps) = priced.with_context(|| too_much(plan, &format!("{units} units of {}", charge.meter)))?;
    let model = match charge.model {
        Model::PerUnit(_) => "per_unit",
        Model::Graduated(_) => "graduated",
        Model::Volume(_) => "volume",
        Model::Package { .. } => "package",
    };
    let pricing = Pricing { model: model.to_owned(), included: included(charge, days), steps };
    let prorated = (charge.included > 0).then_some(days);
    Ok(Due {
        meter: Some(charge.meter),
        days: prorated,
        units: Some(units),
        pricing: Some(pricing),
        ..Due::of(Kind::Usage, amount)
    })
}

/// The part of a tier that `billable` units reach.
fn in_tier(billable: u64, from: u64, to: Option<u64>) -> u64 {
    to.map_or(billable, |to| billable.min(to)).saturating_sub(from - 1)
}

/// The tier that `billable` units fall into as a whole.
fn volume_tier(tiers: &Tiers, billable: u64) -> (u64, Option<u64>, rust_decimal::Decimal) {
    let whole = tiers.iter().find(|(_, to, _)| to.is_none_or(|to| billable <= to));
    // The last tier has no end, so there is always one.
    whole.unwrap_or((1, None, tiers.last))
}

/// What units past the included ones cost, before rounding.
fn amount(charge: &Charge, billable: u64) -> Option<Exact> {
    match &charge.model {
        Model::PerUnit(price) => Exact::of(*price)?.times(billable),
        Model::Graduated(tiers) => tiers
            .iter()
            .try_fold(Exact::default(), |sum, (from, to, price)| sum.plus(Exact::of(price)?.times(in_tier(billable, from, to))?)),
        Model::Volume(tiers) => Exact::of(volume_tier(tiers, billable).2)?.times(billable),
        Model::Package { units, price } => Exact::of(*price)?.times(billable.div_ceil(*units)),
    }
}

/// The same, explained.
fn steps(charge: &Charge, billable: u64) -> Option<Vec<Step>> {
    let step = |tier: Option<(u64, Option<u64>)>, quantity: u64, package: Option<u64>, price: rust_decimal::Decimal| {
        let price = Exact::of(price)?;
        let (from, to) = tier.map_or((None, None), |(from, to)| (Some(from), to));
        Some(Step { from, to, quantity, package, price: price.to_string(), amount: price.times(quantity)?.to_string() })
    };
    match &charge.model {
        Model::PerUnit(price) => Some(vec![step(None, billable, None, *price)?]),
        Model::Graduated(tiers) => {
            let reached = tiers.iter().filter(|(from, ..)| *from == 1 || billable >= *from);
            reached.map(|(from, to, price)| step(Some((from, to)), in_tier(billable, from, to), None, price)).collect()
        }
        Model::Volume(tiers) => {
            let (from, to, price) = volume_tier(tiers, billable);
            Some(vec![step(Some((from, to)), billable, None, price)?])
        }
        Model::Package { units, price } => Some(vec![step(None, billable.div_ceil(*units), Some(*units), *price)?]),
    }
}

/// What waived units would have cost on top of the rated ones.
fn waived_value(plan: &Plan, meter: Meter, days: Days, of: MeterUse) -> anyhow::Result<Money> {
    let Some(charge) = plan.charges.iter().find(|charge| charge.meter == meter) else { return Ok(Money::zero(plan.currency)) };
    let exact = |units| amount(charge, billable(charge, days, units));
    let all = of.rated.checked_add(of.waived).and_then(exact);
    let value = all.and_then(|all| all.less(exact(of.rated)?)?.round(plan.currency));
    value.with_context(|| too_much(plan, &format!("{} waived units of {meter}", of.waived)))
}

fn discount(plan: &Plan, lines: &[Due]) -> anyhow::Result<Option<Due>> {
    let Some(percent) = plan.discount_percent else { return Ok(None) };
    let off = total(plan, lines).and_then(|sum| sum.percent(percent)?.checked_neg());
    let off = off.with_context(|| too_much(plan, "what the discount is taken off"))?;
    Ok((off.minor != 0).then(|| Due::of(Kind::Discount, off)))
}

fn minimum(plan: &Plan, days: Days, lines: &[Due]) -> anyhow::Result<Option<Due>> {
    let Some(minimum) = plan.minimum.filter(|_| days.counted > 0) else { return Ok(None) };
    let committed = Money::of(minimum, plan.currency).and_then(|whole| whole.share(days.counted, days.of));
    let missing = committed.and_then(|committed| committed.checked_sub(total(plan, lines)?));
    let missing = missing.with_context(|| too_much(plan, "what the minimum is held against"))?;
    Ok((missing.minor > 0).then(|| Due { days: Some(days), ..Due::of(Kind::Minimum, missing) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::plan;

    const WHOLE: Days = Days { counted: 30, of: 30 };

    fn plan(settings: &str, charge: &str) -> Plan {
        plan::parse(&format!(
            "[[plan]]\nid = \"p\"\nversion = 1\nname = \"P\"\ncurrency = \"EUR\"\nproducts = [\"inventory\", \"pricing\"]\n\
             rate = {{ units_per_second = 1, burst = 1 }}\n{settings}\n[[plan.charge]]\nmeter = \"inventory\"\n{charge}"
        ))
        .unwrap()
        .remove(0)
    }

    fn used(rated: u64) -> Used {
        BTreeMap::from([(Meter::Inventory, MeterUse { rated, ..MeterUse::default() })])
    }

    fn amounts(plan: &Plan, days: Days, used: &Used) -> Vec<(Kind, i64)> {
        rate(plan, days, used).unwrap().into_iter().map(|line| (line.kind, line.amount.minor)).collect()
    }

    #[test]
    fn only_units_past_the_included_ones_cost_and_the_line_is_rounded_once() {
        let plan = plan("", "model = \"per_unit\"\nincluded = 100\nunit_price = \"0.0333\"");
        // 107 − 100 = 7 × 0.0333 = 0.2331 → 0.23; rounding each unit would give 7 × 0.03 = 0.21.
        assert_eq!(amounts(&plan, WHOLE, &used(107)), [(Kind::Usage, 23)]);
        // A meter without a charge is shown, and free.
        let mut both = used(107);
        both.insert(Meter::Pricing, MeterUse { rated: 5, ..MeterUse::default() });
        let lines = rate(&plan, WHOLE, &both).unwrap();
        assert_eq!((lines[1].meter, lines[1].units, lines[1].amount.minor), (Some(Meter::Pricing), Some(5), 0));
        // A charge that was not used has its line.
        assert_eq!(amounts(&plan, WHOLE, &Used::new()), [(Kind::Usage, 0)]);
    }

    #[test]
    fn included_units_are_prorated_in_the_partners_favour() {
        let plan = plan("", "model = \"per_unit\"\nincluded = 100\nunit_price = \"1\"");
        // 100 × 14 / 30 = 46.67 → 47 are free.
        assert_eq!(amounts(&plan, Days { counted: 14, of: 30 }, &used(50)), [(Kind::Usage, 300)]);
    }

    #[test]
    fn tiers_and_packages_at_their_edges() {
        let tiers =
            "tiers = [{ up_to = 10, unit_price = \"1\" }, { up_to = 20, unit_price = \"0.5\" }, { unit_price = \"0.1\" }]";
        let graduated = plan("", &format!("model = \"graduated\"\n{tiers}"));
        let volume = plan("", &format!("model = \"volume\"\n{tiers}"));
        let package = plan("", "model = \"package\"\npackage_units = 10\npackage_price = \"2.5\"");
        for (units, of_graduated, of_volume, of_package) in [
            (0, 0, 0, 0),
            (1, 100, 100, 250),
            (10, 1000, 1000, 250),
            // 10 × 1 + 1 × 0.5; 11 × 0.5; two packages.
            (11, 1050, 550, 500),
            (20, 1500, 1000, 500),
            (21, 1510, 210, 750),
        ] {
            for (plan, expected) in [(&graduated, of_graduated), (&volume, of_volume), (&package, of_package)] {
                assert_eq!(amounts(plan, WHOLE, &used(units)), [(Kind::Usage, expected)], "{units} {plan:?}");
            }
        }
    }

    #[test]
    fn what_usage_may_cost_is_the_dearest_of_what_it_may_be() {
        let tiers =
            "tiers = [{ up_to = 10, unit_price = \"1\" }, { up_to = 20, unit_price = \"0.5\" }, { unit_price = \"0.1\" }]";
        for (model, included) in [("graduated", 0), ("volume", 0), ("volume", 3)] {
            let plan = plan("", &format!("model = \"{model}\"\nincluded = {included}\n{tiers}"));
            let cost = |units| usage_total_max(&plan, WHOLE, |_| (units, units)).unwrap();
            for least in 0..30 {
                for most in least..30 {
                    let dearest = (least..=most).map(cost).max().unwrap();
                    assert_eq!(usage_total_max(&plan, WHOLE, |_| (least, most)), Some(dearest), "{model} {least} to {most}");
                }
            }
        }
    }

    #[test]
    fn fee_discount_and_minimum_in_their_order() {
        let settings = "base_fee = { amount = \"49\", due = \"arrears\" }\nminimum = \"60\"\ndiscount_percent = \"10\"";
        let plan = plan(settings, "model = \"per_unit\"\nunit_price = \"1\"");
        // 49.00 + 1.00 = 50.00, −5.00 is 45.00, 15.00 to the minimum.
        let whole = [(Kind::BaseFee, 4900), (Kind::Usage, 100), (Kind::Discount, -500), (Kind::Minimum, 1500)];
        assert_eq!(amounts(&plan, WHOLE, &used(1)), whole);
        // 49.00 + 20.00 = 69.00, −6.90 is 62.10, above 60.00.
        assert_eq!(amounts(&plan, WHOLE, &used(20)), [(Kind::BaseFee, 4900), (Kind::Usage, 2000), (Kind::Discount, -690)]);
        // Without a day: the usage alone, less the discount.
        assert_eq!(amounts(&plan, Days { counted: 0, of: 30 }, &used(1)), [(Kind::Usage, 100), (Kind::Discount, -10)]);
    }

    #[test]
    fn what_is_free_is_shown_with_its_value() {
        let plan = plan("", "model = \"per_unit\"\nincluded = 3\nunit_price = \"1\"");
        let used = BTreeMap::from([(Meter::Inventory, MeterUse { rated: 2, waived: 4, trial: 9 })]);
        let lines = rate(&plan, WHOLE, &used).unwrap();
        assert_eq!(lines.iter().map(|line| line.kind).collect::<Vec<_>>(), [Kind::Usage, Kind::Trial, Kind::Waived]);
        // 2 + 4 − 3 included: 3 of the 4 would have cost something.
        assert_eq!((lines[2].units, lines[2].value.unwrap().minor, lines[2].amount.minor), (Some(4), 300, 0));
        assert_eq!(lines[1].units, Some(9));
    }

    #[test]
    fn money_that_cannot_be_counted_is_an_error_and_not_a_wrong_number() {
        let plan = plan("", "model = \"per_unit\"\nunit_price = \"1000000\"");
        assert!(rate(&plan, WHOLE, &used(u64::MAX)).is_err());
        assert_eq!(usage_total_max(&plan, WHOLE, |_| (0, u64::MAX)), None);
    }
}
