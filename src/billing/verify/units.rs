//! The units of records held against the lines that bill them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};

use super::arithmetic::place;
use crate::billing::document::{Invoice, Kind, Line};
use crate::metering::reading::Glance;
use crate::metering::{Meter, evidence};

/// A trial ends at the edge of such a cell, in whatever zone.
const CELL_MICROS: i64 = 15 * 60 * 1_000_000;

/// Plan version and meter.
type Of = (String, Meter);

/// What is rated, free in a trial, and waived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split {
    rated: u64,
    trial: u64,
    waived: u64,
}

/// Units by month, cell, plan version and meter.
#[derive(Debug, Default)]
pub(super) struct Units(BTreeMap<String, BTreeMap<i64, evidence::Sums>>);

impl Units {
    /// Adds a record that is billed for `period`.
    pub(super) fn add(&mut self, period: &str, record: &Glance<'_>) -> anyhow::Result<()> {
        let month = match self.0.get_mut(period) {
            Some(month) => month,
            None => self.0.entry(period.to_owned()).or_default(),
        };
        evidence::add(month.entry(record.at.0.div_euclid(CELL_MICROS)).or_default(), record)
    }

    /// Whether the lines of an invoice bill these units and no others; how many lines those are.
    pub(super) fn check(&self, invoice: &Invoice) -> anyhow::Result<usize> {
        let mut billed: BTreeMap<&str, BTreeMap<Of, Split>> = BTreeMap::new();
        let mut places: BTreeMap<(&str, Of), String> = BTreeMap::new();
        let mut count = 0;
        for (number, line) in (1..).zip(&invoice.lines) {
            let Some(units) = new_units(line).with_context(|| place(number, line))? else { continue };
            let meter = line.meter.as_deref().and_then(Meter::from_name);
            let meter = meter.with_context(|| format!("{}: its meter is unknown", place(number, line)))?;
            let product = meter.product().map(|product| product.as_str());
            ensure!(line.product.as_deref() == product, "{}: its product is not its meter's", place(number, line));
            let of = (line.plan.clone(), meter);
            places.entry((&line.period, of.clone())).or_insert_with(|| place(number, line));
            let split = billed.entry(&line.period).or_default().entry(of).or_default();
            let part = match line.kind {
                Kind::Trial => &mut split.trial,
                Kind::Waived => &mut split.waived,
                Kind::Usage | Kind::BaseFee | Kind::Discount | Kind::Minimum => &mut split.rated,
            };
            *part = part.checked_add(units).with_context(|| format!("{}: too many units to count", place(number, line)))?;
            count += 1;
        }
        let none = (BTreeMap::new(), BTreeMap::new());
        let periods: BTreeSet<&str> = self.0.keys().map(String::as_str).chain(billed.keys().copied()).collect();
        for period in periods {
            let (cells, lines) = (self.0.get(period).unwrap_or(&none.0), billed.get(period).unwrap_or(&none.1));
            check_month(period, cells, lines, &places)?;
        }
        Ok(count)
    }
}

/// The units of a line that no earlier invoice has; none for what is not usage.
fn new_units(line: &Line) -> anyhow::Result<Option<u64>> {
    let Some(units) = line.units else { return Ok(None) };
    let before = line.billed_before.as_ref().and_then(|before| before.units).unwrap_or(0);
    let new = units.checked_sub(before);
    Ok(Some(new.with_context(|| format!("its {units} units are fewer than the {before} that were billed before"))?))
}

fn check_month(
    period: &str,
    cells: &BTreeMap<i64, evidence::Sums>,
    lines: &BTreeMap<Of, Split>,
    places: &BTreeMap<(&str, Of), String>,
) -> anyhow::Result<()> {
    // All is rated at first; then cell by cell falls into the trial, until the lines are met.
    let mut counted: BTreeMap<Of, Split> = BTreeMap::new();
    for (of, sum) in cells.values().flat_map(flat) {
        let split = counted.entry(of).or_default();
        let more = split.rated.checked_add(sum.units).zip(split.waived.checked_add(sum.waived));
        (split.rated, split.waived) = more.with_context(|| format!("{period} has more units than can be counted"))?;
    }
    let has_trial = lines.values().any(|split| split.trial > 0);
    let Some((of, have, billed)) = difference(&counted, lines) else { return Ok(()) };
    if !has_trial {
        let place = places.get(&(period, of.clone())).cloned();
        let place = place.unwrap_or_else(|| format!("the invoice has no line for {} under {} for {period}", of.1, of.0));
        anyhow::bail!(
            "{place}: it bills {} units and shows {} waived, but the records have {} and {}",
            billed.rated,
            billed.waived,
            have.rated,
            have.waived
        );
    }
    for sums in cells.values() {
        for (of, sum) in flat(sums) {
            let split = counted.entry(of).or_default();
            split.rated -= sum.units;
            split.waived -= sum.waived;
            let trial = sum.units.checked_add(sum.waived).and_then(|more| split.trial.checked_add(more));
            split.trial = trial.with_context(|| format!("{period} has more units than can be counted"))?;
        }
        if difference(&counted, lines).is_none() {
            return Ok(());
        }
    }
    let (of, have) = (of.0, have.rated.saturating_add(have.waived));
    anyhow::bail!(
        "the lines for {period} cannot be met: there is no end of the trial with which the records have the units that they bill, \
         free ones and others ({have} in all under {of})"
    )
}

fn flat(sums: &evidence::Sums) -> impl Iterator<Item = (Of, evidence::Sum)> {
    sums.iter().flat_map(|((plan, version), meters)| {
        meters.iter().map(move |(&meter, &sum)| ((format!("{plan}@{version}"), meter), sum))
    })
}

/// The first thing that is not the same on both sides: what it is, counted, and billed.
fn difference(counted: &BTreeMap<Of, Split>, billed: &BTreeMap<Of, Split>) -> Option<(Of, Split, Split)> {
    let of = |from: &BTreeMap<Of, Split>, of: &Of| from.get(of).copied().unwrap_or_default();
    let all: BTreeSet<&Of> = counted.keys().chain(billed.keys()).collect();
    let differs = all.into_iter().map(|it| (it.clone(), of(counted, it), of(billed, it)));
    differs.into_iter().find(|(_, counted, billed)| counted != billed)
}
