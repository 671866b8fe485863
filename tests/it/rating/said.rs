//! A line as both sides can say it, so that they can be held against each other.

use num_bigint::BigInt;
use tollgate::billing::document::Line;
use tollgate::money::{Currency, Money};

use super::case::Case;
use super::oracle::{self, Invoice};

/// A line as both sides can say it: month, kind, plan, meter, days, units and included ones, billed before, value, amount.
pub(crate) type Said = (String, String, String, String, String, String, i128, String, i128);

pub(crate) fn said(it: &Line, currency: Currency) -> Said {
    let minor = |text: &str| i128::from(Money::of(text.parse().unwrap(), currency).unwrap().minor);
    let days = it.days.filter(|_| it.kind.as_str() == "base_fee" || it.kind.as_str() == "minimum");
    (
        it.period.clone(),
        it.kind.as_str().to_owned(),
        it.plan.clone(),
        it.meter.clone().unwrap_or_default(),
        days.map(|days| format!("{}/{}", days.counted, days.of)).unwrap_or_default(),
        units(it.units, it.pricing.as_ref().filter(|pricing| pricing.model != "none").map(|pricing| pricing.included)),
        it.billed_before.as_ref().map_or(0, |before| minor(&before.amount)),
        it.value.as_ref().map(|value| minor(value).to_string()).unwrap_or_default(),
        minor(&it.amount),
    )
}

fn units(units: Option<u64>, included: Option<u64>) -> String {
    let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    format!("{} {}", text(units), text(included))
}

/// The steps that explain a line to people must come to what it was rounded from, exactly.
pub(crate) fn explained(line: &Line, currency: Currency) -> Result<(), String> {
    let Some(pricing) = &line.pricing else { return Ok(()) };
    let mut sum = oracle::exact("0");
    for step in &pricing.steps {
        let amount = oracle::exact(&step.amount);
        if oracle::exact(&step.price) * BigInt::from(step.quantity) != amount {
            return Err(format!("a step is no product: {step:?}"));
        }
        sum += amount;
    }
    let before = line.billed_before.as_ref().map_or("0", |before| &before.amount);
    let sign = if before.starts_with('-') { -1 } else { 1 };
    let before = oracle::round(&oracle::exact(before.trim_start_matches('-')), currency.exponent()) * sign;
    if oracle::round(&sum, currency.exponent()) != before + said(line, currency).8 {
        return Err(format!("the steps come to something else: {:?}", line));
    }
    let units: u64 = pricing.steps.iter().map(|step| step.quantity).sum();
    let past = line.units.unwrap_or(0).saturating_sub(pricing.included);
    let is_right = match pricing.model.as_str() {
        "package" => pricing.steps[0].quantity == past.div_ceil(pricing.steps[0].package.unwrap()),
        "none" => pricing.steps.is_empty(),
        _ => units == past,
    };
    is_right.then_some(()).ok_or_else(|| format!("the steps have other units: {:?}", line))
}

pub(crate) fn expected(case: &Case, line: &oracle::Line) -> Said {
    let number = |money: &BigInt| i128::try_from(money).unwrap();
    (
        line.month.to_string(),
        line.kind.to_owned(),
        case.plans[line.plan].name(),
        line.meter.unwrap_or_default().to_owned(),
        line.days.map(|(days, of)| format!("{days}/{of}")).unwrap_or_default(),
        units(line.units, line.included),
        number(&line.before),
        line.value.as_ref().map(|value| value.to_string()).unwrap_or_default(),
        number(&line.amount),
    )
}

/// Whether some number on the way is beyond what minor units are counted in.
pub(crate) fn is_beyond(invoices: &[Invoice]) -> bool {
    let sum: BigInt = invoices.iter().flat_map(|invoice| &invoice.lines).flat_map(sizes).sum();
    sum > (i64::MAX / 4).into()
}

fn sizes(line: &oracle::Line) -> [BigInt; 3] {
    let size = |money: &BigInt| BigInt::from(money.magnitude().clone());
    [size(&line.before), size(&line.amount), line.value.as_ref().map_or(BigInt::from(0), size)]
}
