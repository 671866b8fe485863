//! An invoice held against itself: its steps, lines, subtotal, tax and total, computed again from what it says. Needs nothing but
//! the document.

use anyhow::{Context, bail, ensure};
use rust_decimal::Decimal;

use crate::billing::document::{Invoice, Kind, Line, Pricing, Step};
use crate::money::{Currency, Exact, Money};

/// Computes an invoice again. The first line, or sum, that does not come out is an error.
pub fn check(invoice: &Invoice) -> anyhow::Result<()> {
    ensure!(invoice.v == 1, "this is an invoice of version {}, which this version of Tollgate does not know", invoice.v);
    let currency = Currency::from_code(&invoice.currency);
    let currency = currency.with_context(|| format!("\"{}\" is no currency of ISO 4217", invoice.currency))?;
    let mut sum = Money::zero(currency);
    for (number, line) in (1..).zip(&invoice.lines) {
        let amount = check_line(line, currency).with_context(|| place(number, line))?;
        sum = sum.checked_add(amount).with_context(|| format!("{}: too much money to count", place(number, line)))?;
    }
    let subtotal = money(&invoice.subtotal, currency).context("subtotal")?;
    ensure!(subtotal == sum, "the lines sum to {sum}, but the subtotal says {subtotal}");
    let rate = decimal(&invoice.tax.rate).context("tax rate")?;
    let tax = money(&invoice.tax.amount, currency).context("tax")?;
    let expected = subtotal.percent(rate).context("the tax cannot be computed")?;
    ensure!(tax == expected, "{rate} % tax on {subtotal} is {expected}, but the tax says {tax}");
    let total = money(&invoice.total, currency).context("total")?;
    let expected = subtotal.checked_add(tax).context("the total cannot be computed")?;
    ensure!(total == expected, "{subtotal} and {tax} tax make {expected}, but the total says {total}");
    Ok(())
}

/// How a line is named to people.
pub(super) fn place(number: u64, line: &Line) -> String {
    let what = match line.kind {
        Kind::BaseFee => "base fee",
        Kind::Usage => "usage",
        Kind::Trial => "trial",
        Kind::Waived => "waived",
        Kind::Discount => "discount",
        Kind::Minimum => "minimum",
    };
    let meter = line.meter.as_ref().map(|meter| format!(" of {meter}")).unwrap_or_default();
    format!("line {number} of the invoice ({what}{meter} under {} for {})", line.plan, line.period)
}

fn check_line(line: &Line, currency: Currency) -> anyhow::Result<Money> {
    let amount = money(&line.amount, currency)?;
    let before = match &line.billed_before {
        Some(before) => money(&before.amount, currency).context("billed before")?,
        None => Money::zero(currency),
    };
    if let Some(value) = &line.value {
        money(value, currency).context("value")?;
    }
    let due = match (line.kind, line.units, &line.pricing) {
        (Kind::Usage, Some(units), Some(pricing)) => usage(units, pricing, currency)?,
        (Kind::Trial | Kind::Waived, Some(_), None) => Money::zero(currency),
        // Billed before, and not due any more.
        (Kind::Usage | Kind::Trial | Kind::Waived, None, None) if line.billed_before.is_some() => Money::zero(currency),
        (Kind::BaseFee | Kind::Discount | Kind::Minimum, None, None) => return Ok(amount),
        _ => bail!("its units and its pricing do not belong to a line of its kind"),
    };
    let expected = due.checked_sub(before).context("too much money to count")?;
    ensure!(
        amount == expected,
        "it comes to {due}, less {before} that was billed before: {expected}; but its amount says {amount}"
    );
    Ok(amount)
}

fn usage(units: u64, pricing: &Pricing, currency: Currency) -> anyhow::Result<Money> {
    let billable = units.saturating_sub(pricing.included);
    let steps = pricing.steps.as_slice();
    let fits = match (pricing.model.as_str(), steps) {
        ("none", []) => true,
        ("per_unit", [Step { from: None, to: None, package: None, quantity, .. }]) => *quantity == billable,
        ("volume", [Step { from: Some(from), to, package: None, quantity, .. }]) => {
            *quantity == billable && *from <= billable.max(1) && to.is_none_or(|to| billable <= to)
        }
        ("package", [Step { from: None, to: None, package: Some(package), quantity, .. }]) => {
            *package > 0 && *quantity == billable.div_ceil(*package)
        }
        ("graduated", [_, ..]) => is_graduated(steps, billable),
        _ => false,
    };
    let model = &pricing.model;
    let included = pricing.included;
    ensure!(fits, "its steps are not those of {units} units, {included} of them included, under the model \"{model}\"");
    let mut sum = Exact::default();
    for step in steps {
        let (price, amount) = (exact(&step.price)?, exact(&step.amount)?);
        let expected = price.times(step.quantity).context("a step cannot be computed")?;
        ensure!(amount == expected, "{} × {price} is {expected}, but the step says {amount}", step.quantity);
        sum = sum.plus(amount).context("its steps cannot be summed")?;
    }
    sum.round(currency).with_context(|| format!("{sum} is more money than can be counted"))
}

/// Whether steps are the tiers, without gaps, that so many units reach.
fn is_graduated(steps: &[Step], billable: u64) -> bool {
    let mut next = Some(1);
    for step in steps {
        let (Some(from), true) = (step.from, step.package.is_none()) else { return false };
        let in_tier = step.to.map_or(billable, |to| billable.min(to)).saturating_sub(from.saturating_sub(1));
        if next != Some(from) || step.to.is_some_and(|to| to < from) || step.quantity != in_tier {
            return false;
        }
        next = step.to.and_then(|to| to.checked_add(1));
    }
    // The last one holds the last unit.
    next.is_none_or(|next| billable < next)
}

/// An amount as documents write it; another way to write the same is refused.
pub(super) fn money(text: &str, currency: Currency) -> anyhow::Result<Money> {
    let money = decimal(text).ok().and_then(|decimal| Money::of(decimal, currency)).filter(|money| money.to_string() == text);
    money.with_context(|| format!("\"{text}\" is no amount of {}", currency.code()))
}

fn exact(text: &str) -> anyhow::Result<Exact> {
    let exact = decimal(text).ok().and_then(Exact::of).filter(|exact| exact.to_string() == text);
    exact.with_context(|| format!("\"{text}\" is no exact amount"))
}

fn decimal(text: &str) -> anyhow::Result<Decimal> {
    Decimal::from_str_exact(text).ok().with_context(|| format!("\"{}\" is no decimal", text.escape_debug()))
}
