//! The property: for random cases the code under test says what the oracle says, invoice by invoice.

use std::collections::BTreeMap;
use std::sync::Arc;

use num_bigint::BigInt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tollgate::billing::Period;
use tollgate::billing::calendar::{Calendar, Subscribed};
use tollgate::billing::invoice::{Basis, Billed, Keyed, MonthUsage, Plans, draft, lines};
use tollgate::billing::plan::{self, Plan};
use tollgate::clock::Micros;
use tollgate::metering::Meter;
use tollgate::money::Currency;

use super::case::{Case, METERS};
use super::generate;
use super::oracle::Oracle;
use super::said::{Said, expected, explained, is_beyond, said};
use crate::support::{full, rng};

const CELL: i64 = 15 * 60 * 1_000_000;
const CASES: u64 = 10_000;

fn plan(case: &Case, place: usize) -> Plan {
    plan::parse(&case.plans[place].toml()).unwrap().remove(0)
}

fn calendar(case: &Case) -> Calendar {
    let zones = || case.zones.0.iter().map(|(month, zone)| (month.to_string().parse::<Period>().unwrap(), (*zone).to_owned()));
    let subscribed = |it: &super::case::Subscription| Subscribed {
        plan: (case.plans[it.plan].id.into(), case.plans[it.plan].version),
        from: Micros(it.start),
        to: it.end.map(Micros),
    };
    let first = &case.subscriptions[0];
    let without = Calendar::new(zones(), Vec::new(), None).unwrap();
    let zone = without.month_of(Micros(first.start)).unwrap().zone;
    let days = case.plans[first.plan].trial_days.map(|days| u16::try_from(days).unwrap());
    let trial_end = days.map(|days| Calendar::trial_end(&zone, Micros(first.start), days).unwrap());
    Calendar::new(zones(), case.subscriptions.iter().map(subscribed).collect(), trial_end).unwrap()
}

/// What the ledger says at a cut: cells of 15 minutes, which belong to a month and to the trial as a whole.
fn usage(case: &Case, cut: usize, calendar: &Calendar) -> BTreeMap<Period, MonthUsage> {
    let mut usage: BTreeMap<Period, MonthUsage> = BTreeMap::new();
    // Every month so far is looked at again.
    for earlier in &case.cuts[..=cut] {
        usage.entry(earlier.month.to_string().parse().unwrap()).or_default();
    }
    for record in case.records.iter().filter(|record| record.live && record.arrives <= cut) {
        let cell = Micros(record.at.div_euclid(CELL) * CELL);
        let month = calendar.month_of(cell).unwrap().period;
        let version = (case.plans[record.plan].id.into(), case.plans[record.plan].version);
        let meters = usage.entry(month).or_default().entry(version).or_default();
        for meter in METERS.into_iter().filter(|meter| record.is_counted(meter)) {
            let (rated, waived) = record.counted(meter);
            let sum = meters.entry(Meter::from_name(meter).unwrap()).or_default();
            if calendar.trial_ends_at.is_some_and(|end| cell < end) {
                sum.trial += rated + waived;
            } else {
                sum.rated += rated;
                sum.waived += waived;
            }
        }
    }
    let last = case.cuts[cut].month.to_string().parse().unwrap();
    usage.retain(|month, _| *month <= last);
    usage
}

/// The three points of "An invoice", then the table's order.
fn place(line: &Said, month: &str) -> (u8, String, String, usize) {
    let group = if line.0 == month {
        0
    } else if line.0.as_str() > month {
        1
    } else {
        2
    };
    let kinds = ["base_fee", "usage", "trial", "waived", "discount", "minimum"];
    (group, line.0.clone(), line.2.clone(), kinds.iter().position(|kind| *kind == line.1).unwrap())
}

/// Nothing, or where the two part.
fn compare(case: &Case) -> Result<(), String> {
    let plans: Plans = (0..case.plans.len())
        .map(|place| plan(case, place))
        .map(|plan| ((plan.id.clone(), plan.version), Arc::new(plan)))
        .collect();
    let calendar = calendar(case);
    let mut billed: Vec<Billed> = Vec::new();
    for (cut, wanted) in Oracle::new(case).invoices().into_iter().enumerate() {
        let month = case.cuts[cut].month.to_string();
        let usage = usage(case, cut, &calendar);
        let basis = Basis { calendar: &calendar, plans: &plans, usage: &usage, billed: &billed };
        let by_currency = match lines(month.parse().unwrap(), &basis) {
            Ok(by_currency) => by_currency,
            // More than can be counted must be refused, and nothing else may be.
            Err(_) if is_beyond(&wanted) => return Ok(()),
            Err(error) => return Err(format!("cut {cut} ({month}): {error:#}")),
        };
        let mut found: Vec<_> = by_currency.iter().collect();
        found.sort_by_key(|(currency, _)| currency.code());
        let codes = |found: &[&(Currency, Vec<Keyed>)]| found.iter().map(|(currency, _)| currency.code()).collect::<Vec<_>>();
        let wanted_codes: Vec<_> = wanted.iter().map(|invoice| invoice.currency).collect();
        if codes(&found) != wanted_codes {
            return Err(format!("cut {cut} ({month}): invoices in {:?}, expected {wanted_codes:?}", codes(&found)));
        }
        for ((currency, lines), wanted) in found.iter().zip(&wanted) {
            lines.iter().try_for_each(|line| explained(&line.line, *currency))?;
            let in_order: Vec<Said> = lines.iter().map(|line| said(&line.line, *currency)).collect();
            let kinds_in_order = |pair: &[Said]| {
                let [(a, amonth, aplan, akind), (b, bmonth, bplan, bkind)] = [place(&pair[0], &month), place(&pair[1], &month)];
                a < b || (a == b && ((amonth, aplan) != (bmonth, bplan) || akind <= bkind || pair[0].6 != 0 || pair[1].6 != 0))
            };
            if !in_order.windows(2).all(kinds_in_order) {
                return Err(format!("cut {cut} ({month}): out of order: {in_order:#?}"));
            }
            let (mut found, mut expected): (Vec<_>, Vec<_>) =
                (in_order, wanted.lines.iter().map(|line| expected(case, line)).collect());
            found.sort();
            expected.sort();
            if found != expected {
                let only =
                    |these: &[Said], others: &[Said]| these.iter().filter(|it| !others.contains(it)).cloned().collect::<Vec<_>>();
                return Err(format!(
                    "cut {cut} ({month}): {:?}, expected {:?}",
                    only(&found, &expected),
                    only(&expected, &found)
                ));
            }
            let amounts = match draft::amounts(*currency, lines, case.tax_rate.parse().unwrap()) {
                Ok(amounts) => amounts,
                Err(_) if is_beyond(std::slice::from_ref(wanted)) => return Ok(()),
                Err(error) => return Err(format!("cut {cut} ({month}): {error:#}")),
            };
            let found = [amounts.subtotal, amounts.tax, amounts.total].map(|money| BigInt::from(money.minor));
            let wanted = [&wanted.subtotal, &wanted.tax, &wanted.total].map(BigInt::clone);
            if found != wanted {
                return Err(format!("cut {cut} ({month}): subtotal, tax and total are {found:?}, expected {wanted:?}"));
            }
        }
        if !case.cuts[cut].voided {
            let keep = |line: &Keyed| Billed {
                invoice: format!("I{cut}"),
                key: line.key.clone(),
                units: line.line.units,
                amount: line.amount.minor,
            };
            billed.extend(by_currency.iter().flat_map(|(_, lines)| lines).map(keep));
        }
    }
    Ok(())
}

/// The smallest part of a case, as far as dropping records, charges and subscriptions goes, that still parts.
fn shrunk(mut case: Case) -> Case {
    let parts = |case: &Case| compare(case).is_err();
    loop {
        let mut smaller = Vec::new();
        for place in 0..case.records.len() {
            let mut without = case.clone();
            without.records.remove(place);
            smaller.push(without);
        }
        for place in 1..case.subscriptions.len() {
            let mut without = case.clone();
            without.subscriptions.remove(place);
            smaller.push(without);
        }
        for (place, plan) in case.plans.iter().enumerate() {
            for charge in 0..plan.charges.len() {
                let mut without = case.clone();
                without.plans[place].charges.remove(charge);
                smaller.push(without);
            }
        }
        match smaller.into_iter().find(parts) {
            Some(found) => case = found,
            None => return case,
        }
    }
}

#[test]
fn rating_is_what_the_slow_reading_says() {
    let (seed, _) = rng("rating_is_what_the_slow_reading_says");
    let cases = if full() { 10 * CASES } else { CASES };
    // Each case has a seed of its own: TOLLGATE_TEST_SEED of the case that parted begins with it.
    let check = |number: u64| {
        let case = generate::case(&mut ChaCha8Rng::seed_from_u64(seed.wrapping_add(number)));
        if compare(&case).is_err() {
            let case = shrunk(case);
            panic!("TOLLGATE_TEST_SEED={}: {}\n{case:#?}", seed.wrapping_add(number), compare(&case).unwrap_err());
        }
    };
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..cases).filter(|number| number % 2 == half).for_each(check));
        }
    });
}
