//! What stands on the invoice of a month: what is due for it, in advance for the next, and for earlier ones, each less what was
//! billed of it already. Pure (docs/billing.md, An invoice).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context;

use crate::billing::Period;
use crate::billing::calendar::{Calendar, PlanVersion};
use crate::billing::document::{BilledBefore, Days, Kind, Line};
use crate::billing::plan::Plan;
use crate::billing::rating::{self, Due, Used};
use crate::metering::Meter;
use crate::money::{Currency, Money};

/// Plan versions by their name.
pub type Plans = HashMap<PlanVersion, Arc<Plan>>;

/// What was used in a month, by plan version.
pub type MonthUsage = BTreeMap<PlanVersion, Used>;

/// What makes two lines the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The month that it is for.
    pub period: Period,
    /// What for.
    pub kind: Kind,
    /// Under which plan version.
    pub plan: PlanVersion,
    /// Whose units.
    pub meter: Option<Meter>,
}

/// A line of an earlier invoice.
#[derive(Clone, Debug)]
pub struct Billed {
    /// Its number.
    pub invoice: String,
    /// What it is for.
    pub key: Key,
    /// All units of the month, as they were then.
    pub units: Option<u64>,
    /// What it came to.
    pub amount: i64,
}

/// What lines are made from.
pub struct Basis<'a> {
    /// The partner's months and subscriptions.
    pub calendar: &'a Calendar,
    /// Every plan version.
    pub plans: &'a Plans,
    /// Usage of the month, and of the earlier ones to which some came late.
    pub usage: &'a BTreeMap<Period, MonthUsage>,
    /// What earlier invoices have, in the order of their numbers.
    pub billed: &'a [Billed],
}

/// A line with what it is the line of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// What it is for.
    pub key: Key,
    /// As it is printed.
    pub line: Line,
    /// Its amount.
    pub amount: Money,
}

/// The lines of the invoice of `period`, in order, by currency.
pub fn lines(period: Period, basis: &Basis<'_>) -> anyhow::Result<Vec<(Currency, Vec<Keyed>)>> {
    let mut all = month(period, basis, false)?;
    all.extend(month(period.next()?, basis, true)?);
    for &earlier in basis.usage.keys().filter(|it| **it < period) {
        all.extend(month(earlier, basis, false)?);
    }
    // What is still there of the month itself is shown, even when it costs nothing; the rest only where it changes something.
    all.retain(|it| {
        (it.key.period == period && it.line.billed_before.is_none()) || it.amount.minor != 0 || has_new_units(&it.line)
    });
    let mut by_currency: Vec<(Currency, Vec<Keyed>)> = Vec::new();
    for line in all {
        match by_currency.iter_mut().find(|(currency, _)| *currency == line.amount.currency) {
            Some((_, lines)) => lines.push(line),
            None => by_currency.push((line.amount.currency, vec![line])),
        }
    }
    by_currency.sort_by_key(|(currency, _)| currency.code());
    Ok(by_currency)
}

fn has_new_units(line: &Line) -> bool {
    let before = line.billed_before.as_ref().and_then(|before| before.units).unwrap_or(0);
    line.units.is_some_and(|units| units != before)
}

/// The lines for one month; in advance, the fees alone.
fn month(period: Period, basis: &Basis<'_>, in_advance: bool) -> anyhow::Result<Vec<Keyed>> {
    let month = basis.calendar.month(period)?;
    let mut days = match in_advance {
        true => basis.calendar.days_in_advance(&month)?,
        false => basis.calendar.days(&month)?,
    };
    let nothing = MonthUsage::new();
    let usage = if in_advance { &nothing } else { basis.usage.get(&period).unwrap_or(&nothing) };
    let billed: Vec<&Billed> = basis.billed.iter().filter(|billed| billed.key.period == period).collect();
    let none = Days { counted: 0, of: month.days() };
    let others = usage.keys().chain(billed.iter().map(|billed| &billed.key.plan).filter(|_| !in_advance));
    for plan in others.cloned().collect::<Vec<_>>() {
        days.entry(plan).or_insert(none);
    }
    let mut versions: Vec<_> = days.into_iter().collect();
    // In the order in which the partner was on them.
    let came = |plan: &PlanVersion| basis.calendar.subscriptions().iter().position(|it| it.plan == *plan);
    versions.sort_by_key(|(plan, _)| came(plan).unwrap_or(usize::MAX));

    let mut lines = Vec::new();
    for (version, days) in versions {
        let plan = basis.plans.get(&version);
        let plan = plan.with_context(|| format!("the plan {}@{} is not published", version.0, version.1))?;
        let unused = Used::new();
        let used = usage.get(&version).unwrap_or(&unused);
        let due = match in_advance {
            true => rating::rate_in_advance(plan, days)?,
            // Billed in advance, and no longer its plan: nothing is due any more.
            false if days.counted == 0 && used.is_empty() => Vec::new(),
            false => rating::rate(plan, days, used)?,
        };
        let of_version = billed.iter().copied().filter(|billed| billed.key.plan == version).collect();
        lines.extend(less_billed(period, &version, plan, due, of_version)?);
    }
    Ok(lines)
}

/// What is due of one plan version, less what was billed of it; and what was billed and is not due any more.
fn less_billed(
    period: Period,
    version: &PlanVersion,
    plan: &Plan,
    due: Vec<Due>,
    mut billed: Vec<&Billed>,
) -> anyhow::Result<Vec<Keyed>> {
    let key = |kind, meter| Key { period, kind, plan: version.clone(), meter };
    let mut lines = Vec::new();
    for due in due {
        let key = key(due.kind, due.meter);
        let (same, others): (Vec<_>, Vec<_>) = billed.into_iter().partition(|billed| billed.key == key);
        billed = others;
        lines.push(line(plan, key, due, &same)?);
    }
    while let Some(first) = billed.first() {
        let key = first.key.clone();
        let (same, others): (Vec<_>, Vec<_>) = billed.into_iter().partition(|billed| billed.key == key);
        billed = others;
        let days = None;
        let nothing = Due {
            kind: key.kind,
            meter: key.meter,
            days,
            units: None,
            pricing: None,
            value: None,
            amount: Money::zero(plan.currency),
        };
        lines.push(line(plan, key, nothing, &same)?);
    }
    Ok(lines)
}

fn line(plan: &Plan, key: Key, due: Due, billed: &[&Billed]) -> anyhow::Result<Keyed> {
    let before = billed.iter().try_fold(0_i64, |sum, billed| sum.checked_add(billed.amount));
    let before = before.map(|minor| Money { minor, currency: plan.currency });
    let amount = before.and_then(|before| due.amount.checked_sub(before));
    let (before, amount) = before.zip(amount).context("a line comes to more money than can be counted")?;
    let mut invoices: Vec<String> = billed.iter().map(|billed| billed.invoice.clone()).collect();
    invoices.dedup();
    let billed_before = billed.last().map(|last| BilledBefore { units: last.units, amount: before.to_string(), invoices });
    let line = Line {
        kind: due.kind,
        period: key.period.to_string(),
        plan: plan.reference(),
        plan_name: plan.name.clone(),
        product: due.meter.and_then(Meter::product).map(|product| product.as_str().to_owned()),
        meter: due.meter.map(|meter| meter.as_str().to_owned()),
        description: description(plan, &due),
        days: due.days,
        units: due.units,
        pricing: due.pricing,
        billed_before,
        value: due.value.map(|value| value.to_string()),
        amount: amount.to_string(),
    };
    Ok(Keyed { key, line, amount })
}

fn description(plan: &Plan, due: &Due) -> String {
    let units = match due.meter {
        Some(Meter::Requests) => "Answered requests".to_owned(),
        Some(meter) => format!("Units of {meter}"),
        None => String::new(),
    };
    match due.kind {
        Kind::BaseFee => "Base fee".to_owned(),
        Kind::Usage => units,
        Kind::Trial => format!("{units} in the free trial"),
        Kind::Waived => format!("{units} that were staler than promised, not billed"),
        Kind::Discount => format!("Discount of {} %", plan.discount_percent.unwrap_or_default().normalize()),
        Kind::Minimum => {
            let minimum = Money::of(plan.minimum.unwrap_or_default(), plan.currency);
            let minimum = minimum.map(|minimum| minimum.to_string()).unwrap_or_default();
            format!("To the minimum of {minimum} {} a month", plan.currency.code())
        }
    }
}

/// The sum of lines of one currency.
pub fn total(currency: Currency, lines: &[Keyed]) -> anyhow::Result<Money> {
    let sum = lines.iter().try_fold(Money::zero(currency), |sum, line| sum.checked_add(line.amount));
    sum.context("the lines add up to more money than can be counted")
}
