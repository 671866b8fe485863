//! The oracle, checked by hand before they judge anything: each sum is worked out in a comment.

use std::collections::BTreeMap;

use jiff::civil::date;
use jiff::tz::TimeZone;
use num_bigint::BigInt;

use super::calendar::{Month, Zones, lay, midnight};
use super::case::{BaseFee, Case, Charge, Cut, Model, PlanVersion, Record, Subscription, Tier};
use super::oracle::{Line, Oracle, exact, price, round};

const HOUR: i64 = 3_600_000_000;

fn month(year: i16, month: i8) -> Month {
    Month { year, month }
}

fn utc(year: i16, month: i8, day: i8) -> i64 {
    midnight(date(year, month, day), &TimeZone::UTC)
}

fn plan(id: &'static str, settings: impl FnOnce(&mut PlanVersion)) -> PlanVersion {
    let mut plan = PlanVersion {
        id,
        version: 1,
        currency: "EUR",
        places: 2,
        base_fee: None,
        minimum: None,
        discount_percent: None,
        trial_days: None,
        charges: Vec::new(),
    };
    settings(&mut plan);
    plan
}

fn fee(amount: &str, in_advance: bool) -> Option<BaseFee> {
    Some(BaseFee { amount: amount.to_owned(), in_advance })
}

fn per_unit(meter: &'static str, included: u64, price: &str) -> Charge {
    Charge { meter, included, model: Model::PerUnit(price.to_owned()) }
}

fn used(at: i64, plan: usize, inventory: u64, arrives: usize) -> Record {
    let units = BTreeMap::from([("inventory", inventory)]);
    Record { at, plan, live: true, units, waived: BTreeMap::new(), arrives }
}

/// In UTC, from January 2024 on, a cut each month.
fn case(plans: Vec<PlanVersion>, subscriptions: &[(usize, i64, Option<i64>)], cuts: i8) -> Case {
    let subscription = |&(plan, start, end)| Subscription { plan, start, end };
    Case {
        zones: Zones(vec![(month(2023, 1), "UTC")]),
        plans,
        subscriptions: subscriptions.iter().map(subscription).collect(),
        records: Vec::new(),
        tax_rate: "19".to_owned(),
        cuts: (1..=cuts).map(|number| Cut { month: month(2024, number), voided: false }).collect(),
    }
}

/// Kind, month, plan, meter, units and minor units of each line of a cut's only invoice, and subtotal, tax and total.
fn told(case: &Case, cut: usize) -> (Vec<String>, [i64; 3]) {
    let invoices = Oracle::new(case).invoices();
    assert_eq!(invoices[cut].len(), 1, "{invoices:#?}");
    let invoice = &invoices[cut][0];
    let word = |line: &Line| {
        let meter = line.meter.map(|meter| format!(" {meter} {}", line.units.unwrap())).unwrap_or_default();
        let days = line.days.filter(|_| line.kind == "base_fee").map(|(days, of)| format!(" {days}/{of}")).unwrap_or_default();
        let value = line.value.as_ref().map(|value| format!(" worth {value}")).unwrap_or_default();
        let id = case.plans[line.plan].id;
        format!("{} {id} {}{days}{meter}{value} = {}", line.month, line.kind, line.amount)
    };
    let number = |money: &BigInt| i64::try_from(money).unwrap();
    let sums = [number(&invoice.subtotal), number(&invoice.tax), number(&invoice.total)];
    (invoice.lines.iter().map(word).collect(), sums)
}

#[test]
fn rounding_goes_half_away_from_zero() {
    for (text, places, minor) in [("0.005", 2, 1), ("0.0049999", 2, 0), ("2.5", 0, 3), ("1.0005", 3, 1001), ("7", 2, 700)] {
        assert_eq!(round(&exact(text), places), BigInt::from(minor), "{text}");
        assert_eq!(round(&-exact(text), places), BigInt::from(-minor), "-{text}");
    }
}

#[test]
fn models_price_as_if_unit_by_unit() {
    let tiers = |bounds: &[Option<u64>]| -> Vec<Tier> {
        bounds.iter().zip(["0.5", "0.25", "0.125"]).map(|(&up_to, price)| Tier { up_to, price: price.to_owned() }).collect()
    };
    let steps = tiers(&[Some(3), Some(5), None]);
    let of_unit = |unit: u64| &steps.iter().find(|tier| tier.up_to.is_none_or(|bound| unit <= bound)).unwrap().price;
    for b in 0..12_u64 {
        let one_by_one = (1..=b).map(|unit| exact(of_unit(unit))).sum();
        assert_eq!(price(&Model::Graduated(steps.clone()), &b.into()), one_by_one, "{b}");
    }
    // 3 × 0.5; 4 × 0.25; 5 × 0.25; 6 × 0.125.
    for (b, sum) in [(0, "0"), (3, "1.5"), (4, "1"), (5, "1.25"), (6, "0.75")] {
        assert_eq!(price(&Model::Volume(steps.clone()), &b.into()), exact(sum), "{b}");
    }
    for (b, packages) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
        let package = Model::Package { units: 1000, price: "2.5".to_owned() };
        assert_eq!(price(&package, &b.into()), exact("2.5") * BigInt::from(packages), "{b}");
    }
}

#[test]
fn months_are_laid_out_without_a_gap() {
    for zone in ["UTC", "Asia/Kathmandu", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe", "America/Havana"] {
        let zones = Zones(vec![(month(2000, 1), zone)]);
        let mut laid = lay(month(2024, 1), &zones);
        for _ in 0..24 {
            let next = lay(laid.month.next(), &zones);
            assert_eq!(laid.to, next.from);
            assert_eq!((laid.days[0].0, laid.days[laid.days.len() - 1].1), (laid.from, laid.to));
            assert!(laid.days.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert!(laid.days.iter().all(|day| (23 * HOUR..=25 * HOUR).contains(&(day.1 - day.0))), "{zone} {laid:?}");
            laid = next;
        }
    }
    assert_eq!([2023, 2024].map(|year| month(year, 2).days().len()), [28, 29]);
    // Kathmandu is 5:45 ahead.
    let kathmandu = Zones(vec![(month(2000, 1), "Asia/Kathmandu")]);
    assert_eq!(lay(month(2024, 3), &kathmandu).from, utc(2024, 3, 1) - 5 * HOUR - 3 * HOUR / 4);
    // From UTC to New York in April, when that is 4 hours behind: March is 4 hours longer, and so is its last day.
    let moved = Zones(vec![(month(2000, 1), "UTC"), (month(2024, 4), "America/New_York")]);
    let march = lay(month(2024, 3), &moved);
    assert_eq!((march.from, march.to), (utc(2024, 3, 1), utc(2024, 4, 1) + 4 * HOUR));
    assert_eq!(march.days[30], (utc(2024, 3, 31), march.to));
}

#[test]
fn an_upgrade_shares_the_month_by_days_and_tax_is_rounded_once() {
    let a = plan("a", |it| {
        it.base_fee = fee("31.00", false);
        it.charges = vec![per_unit("inventory", 310, "0.05")];
    });
    let b = plan("b", |it| it.base_fee = fee("62.00", false));
    let change = utc(2024, 1, 17) + 15 * HOUR;
    let mut case = case(vec![a, b], &[(0, utc(2024, 1, 1), Some(change)), (1, change, None)], 1);
    case.records = vec![used(utc(2024, 1, 2), 0, 161, 0), used(change, 1, 7, 0)];
    // a has the days 1 to 16: 16.00, and 160 of its units are included; one is left: 0.05. b has 17 to 31: 30.00.
    let lines = [
        "2024-01 a base_fee 16/31 = 1600",
        "2024-01 a usage inventory 161 = 5",
        "2024-01 a usage requests 1 = 0",
        "2024-01 b base_fee 15/31 = 3000",
        "2024-01 b usage inventory 7 = 0",
        "2024-01 b usage requests 1 = 0",
    ];
    // 46.05 × 19 % = 8.7495.
    assert_eq!(told(&case, 0), (lines.map(str::to_owned).to_vec(), [4605, 875, 5480]));
}

#[test]
fn the_last_of_several_on_a_day_has_it_and_an_end_keeps_its_day() {
    let plans = ["a", "b", "c"].map(|id| plan(id, |it| it.base_fee = fee("31.00", false)));
    let at = |hour: i64| utc(2024, 1, 10) + hour * HOUR;
    let subscriptions = [
        (0, utc(2024, 1, 1), Some(at(0))),
        (1, at(0), Some(at(9))),
        (2, at(9), Some(at(10))),
        (0, at(10), Some(utc(2024, 1, 20))),
    ];
    // b and c have no day, and were not used: no lines. a has 1 to 9, and 10 to 19: it ends as the 20th begins.
    assert_eq!(told(&case(plans.to_vec(), &subscriptions, 1), 0).0, ["2024-01 a base_fee 19/31 = 1900"]);
    let mut later = subscriptions;
    later[3].2 = Some(utc(2024, 1, 20) + 1);
    assert_eq!(told(&case(plans.to_vec(), &later, 1), 0).0, ["2024-01 a base_fee 20/31 = 2000"]);
}

#[test]
fn a_trial_ends_at_midnight_and_waived_units_have_a_value() {
    let a = plan("a", |it| {
        it.base_fee = fee("31.00", false);
        it.trial_days = Some(10);
        it.charges = vec![per_unit("inventory", 0, "0.005")];
    });
    let mut case = case(vec![a], &[(0, utc(2024, 1, 3) + 12 * HOUR, None)], 1);
    // The days 3 to 12.
    let end = utc(2024, 1, 13);
    case.records = vec![used(end - 1, 0, 50, 0), used(end, 0, 1, 0)];
    case.records[0].waived.insert("inventory", 3);
    case.records[1].waived.insert("inventory", 2);
    case.records.push(Record { live: false, ..used(end, 0, 1000, 0) });
    let lines = [
        "2024-01 a base_fee 19/31 = 1900",
        // 0.005 is half a cent: up.
        "2024-01 a usage inventory 1 = 1",
        "2024-01 a usage requests 1 = 0",
        "2024-01 a trial inventory 53 = 0",
        "2024-01 a trial requests 1 = 0",
        // 3 units are 0.015, 1 is 0.005: 0.01 more.
        "2024-01 a waived inventory 2 worth 1 = 0",
    ];
    assert_eq!(told(&case, 0).0, lines);
}

#[test]
fn a_minimum_counts_what_the_discount_took() {
    let a = plan("a", |it| {
        it.base_fee = fee("10.00", false);
        it.minimum = Some("20.00".to_owned());
        it.discount_percent = Some("10".to_owned());
        it.charges = vec![per_unit("inventory", 0, "1")];
    });
    let mut case = case(vec![a], &[(0, utc(2024, 1, 1), None)], 2);
    case.records = vec![used(utc(2024, 1, 1), 0, 5, 0), used(utc(2024, 1, 1), 0, 7, 1)];
    let lines = [
        "2024-01 a base_fee 31/31 = 1000",
        "2024-01 a usage inventory 5 = 500",
        "2024-01 a usage requests 1 = 0",
        // 10 % of 15.00, and 6.50 are missing to 20.00.
        "2024-01 a discount = -150",
        "2024-01 a minimum = 650",
    ];
    assert_eq!(told(&case, 0).0, lines);
    // With 7 units more January is 22.00 less 2.20, which is 19.80: 0.20 are missing, where 6.50 were billed.
    let lines = [
        "2024-02 a base_fee 29/29 = 1000",
        "2024-02 a usage inventory 0 = 0",
        "2024-02 a discount = -100",
        "2024-02 a minimum = 1100",
        "2024-01 a usage inventory 12 = 700",
        "2024-01 a usage requests 2 = 0",
        "2024-01 a discount = -70",
        "2024-01 a minimum = -630",
    ];
    assert_eq!(told(&case, 1).0, lines);
}

#[test]
fn a_fee_in_advance_is_put_right_when_the_plan_changes() {
    let a = plan("a", |it| {
        it.base_fee = fee("29.00", true);
        it.discount_percent = Some("50".to_owned());
    });
    let b = plan("b", |it| it.base_fee = fee("58.00", false));
    let change = utc(2024, 2, 11);
    let mut case = case(vec![a, b], &[(0, utc(2024, 1, 1), Some(change)), (1, change, None)], 2);
    let lines = [
        "2024-01 a base_fee 31/31 = 2900",
        "2024-01 a discount = -1450",
        "2024-02 a base_fee 29/29 = 2900",
        "2024-02 a discount = -1450",
    ];
    assert_eq!(told(&case, 0).0, lines);
    // a had 10 days of February: 10.00 less 5.00, where 29.00 less 14.50 were billed. b has 19 days of 2.00.
    let lines = ["2024-02 a base_fee 10/29 = -1900", "2024-02 a discount = 950", "2024-02 b base_fee 19/29 = 3800"];
    assert_eq!(told(&case, 1).0, lines);
    // Changed at the first midnight, a has no day: the whole fee goes back.
    case.subscriptions[0].end = Some(utc(2024, 2, 1) + HOUR);
    case.subscriptions[1].start = utc(2024, 2, 1) + HOUR;
    let lines = ["2024-02 b base_fee 29/29 = 5800", "2024-02 a base_fee = -2900", "2024-02 a discount = 1450"];
    assert_eq!(told(&case, 1).0, lines);
}

#[test]
fn late_units_are_billed_at_the_tier_that_they_fall_into() {
    let tier = |up_to, price: &str| Tier { up_to, price: price.to_owned() };
    let tiers = vec![tier(Some(100), "0.10"), tier(None, "0.01")];
    let a = plan("a", |it| it.charges = vec![Charge { meter: "inventory", included: 0, model: Model::Volume(tiers) }]);
    let mut case = case(vec![a], &[(0, utc(2024, 1, 1), None)], 3);
    case.records = vec![used(utc(2024, 1, 31), 0, 100, 0), used(utc(2024, 1, 31), 0, 1, 1)];
    assert_eq!(told(&case, 0).0[0], "2024-01 a usage inventory 100 = 1000");
    // 101 × 0.01 = 1.01, where 10.00 were billed.
    let lines = ["2024-02 a usage inventory 0 = 0", "2024-01 a usage inventory 101 = -899", "2024-01 a usage requests 2 = 0"];
    // 8.99 × 19 % = 1.7081, in the buyer's favour.
    assert_eq!(told(&case, 1), (lines.map(str::to_owned).to_vec(), [-899, -171, -1070]));
    assert_eq!(told(&case, 2).0, ["2024-03 a usage inventory 0 = 0"]);
    // Voided and run again, January is billed by what is known then.
    case.cuts.insert(0, Cut { month: month(2024, 1), voided: true });
    assert_eq!(told(&case, 0).0[0], "2024-01 a usage inventory 100 = 1000");
    assert_eq!(told(&case, 1).0[0], "2024-01 a usage inventory 101 = 101");
    assert_eq!(told(&case, 2).0, ["2024-02 a usage inventory 0 = 0"]);
}
