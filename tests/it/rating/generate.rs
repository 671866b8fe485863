//! Random cases that lean towards edges: the bounds of tiers, the last microsecond of a month or a trial, half cents, nothing
//! and a great deal.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::calendar::{Laid, Month, Zones, lay};
use super::case::{BaseFee, Case, Charge, Cut, METERS, Model, PlanVersion, Record, Subscription, Tier};
use super::oracle::trial_end;

const CELL: i64 = 15 * 60 * 1_000_000;
const HOUR: i64 = 4 * CELL;

const ZONES: [&str; 8] = [
    "UTC",
    "Asia/Kathmandu",
    "America/New_York",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Asia/Beirut",
    "America/Havana",
];

/// Units that are no bound of anything.
const UNITS: [u64; 10] = [0, 1, 2, 3, 7, 100, 999, 123_457, 1_000_000_007, 1_000_000_000_000];
const PRICES: [&str; 12] = [
    "0",
    "0.004",
    "0.005",
    "0.0025",
    "0.000000000001",
    "0.333333333333",
    "1.999999999999",
    "0.5",
    "1",
    "0.0005",
    "12.345678901234",
    "1000",
];
const PERCENTS: [&str; 8] = ["10", "0.5", "33.3333", "100", "12.5", "50", "0.0001", "19"];

fn one_in(rng: &mut ChaCha8Rng, many: u32) -> bool {
    rng.random_ratio(1, many)
}

fn pick<T: Clone>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of.choose(rng).unwrap().clone()
}

/// A case, in whatever months.
pub(crate) fn case(rng: &mut ChaCha8Rng) -> Case {
    let first = Month { year: rng.random_range(2019..=2027), month: rng.random_range(1..=12) };
    let first = if one_in(rng, 6) { Month { year: pick(rng, &[2020, 2023, 2024]), month: pick(rng, &[1, 2]) } } else { first };
    let (count, more) = (rng.random_range(1..=4), rng.random_range(0..=2));
    let mut case = case_in(rng, first, count, more);
    if one_in(rng, 40) {
        use_vastly(rng, &mut case);
    }
    case
}

/// One record at one price of more money than can be counted.
fn use_vastly(rng: &mut ChaCha8Rng, case: &mut Case) {
    let Some(record) = case.records.choose_mut(rng) else { return };
    let meter = METERS[0];
    record.units.insert(meter, 1_000_000_000_000_000);
    let charges = &mut case.plans[record.plan].charges;
    charges.retain(|charge| charge.meter != meter);
    charges.insert(0, Charge { meter, included: 0, model: Model::PerUnit("1000".to_owned()) });
}

/// A case of `count` months of subscriptions and usage, cut from the month before `first` to `more` months past the last.
pub(crate) fn case_in(rng: &mut ChaCha8Rng, first: Month, count: usize, more: usize) -> Case {
    let mut months = vec![first];
    for _ in 1..count {
        months.push(months[months.len() - 1].next());
    }
    let zones = zones(rng, first, &months);
    let plans = plans(rng);
    let laid: Vec<_> = months.iter().map(|month| lay(*month, &zones)).collect();
    let subscriptions = subscriptions(rng, plans.len(), &laid);
    let mut case = Case {
        zones,
        plans,
        subscriptions,
        records: Vec::new(),
        tax_rate: pick(rng, &["0", "19", "20", "8.1", "7.7", "25.5", "0.0001", "100"]).to_owned(),
        cuts: cuts(rng, first, &months, more),
    };
    case.records = records(rng, &case, &laid);
    case
}

/// The month before the first too, which can owe a fee in advance, and some past the last; now and then one is
/// voided and run again.
fn cuts(rng: &mut ChaCha8Rng, first: Month, months: &[Month], more: usize) -> Vec<Cut> {
    let mut all = vec![first.previous()];
    all.extend_from_slice(months);
    for _ in 0..more {
        all.push(all[all.len() - 1].next());
    }
    let mut cuts = Vec::new();
    for month in all {
        if one_in(rng, 12) {
            cuts.push(Cut { month, voided: true });
        }
        cuts.push(Cut { month, voided: false });
    }
    cuts
}

fn zones(rng: &mut ChaCha8Rng, first: Month, months: &[Month]) -> Zones {
    let mut zones = vec![(first.previous().previous(), pick(rng, &ZONES))];
    if one_in(rng, 6) {
        zones.push((pick(rng, months), pick(rng, &ZONES)));
    }
    Zones(zones)
}

fn plans(rng: &mut ChaCha8Rng) -> Vec<PlanVersion> {
    let currencies = [("EUR", 2), ("JPY", 0), ("KWD", 3), ("USD", 2)];
    let main = pick(rng, &currencies);
    let ids = [("a", 1), ("a", 2), ("b", 1)];
    let count = rng.random_range(1..=3);
    let mut plans = Vec::new();
    for &(id, version) in &ids[..count] {
        let (currency, places) = if one_in(rng, 10) { pick(rng, &currencies) } else { main };
        plans.push(plan(rng, id, version, currency, places));
    }
    plans
}

fn plan(rng: &mut ChaCha8Rng, id: &'static str, version: i64, currency: &'static str, places: u32) -> PlanVersion {
    // What days divide evenly, and what they do not.
    let money = |rng: &mut ChaCha8Rng| {
        let minor = pick(rng, &[1, 15, 31, 4900, 10_000, 3100, 2900, 99_999_999]);
        let digits = format!("{minor:0>width$}", width = places as usize + 1);
        let (whole, part) = digits.split_at(digits.len() - places as usize);
        if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
    };
    let base_fee = (!one_in(rng, 3)).then(|| BaseFee { amount: money(rng), in_advance: rng.random() });
    let minimum = one_in(rng, 2).then(|| {
        let same = base_fee.as_ref().filter(|_| one_in(rng, 3)).map(|fee| fee.amount.clone());
        same.unwrap_or_else(|| money(rng))
    });
    let discount_percent = one_in(rng, 3).then(|| pick(rng, &PERCENTS).to_owned());
    let trial_days = one_in(rng, 3).then(|| pick(rng, &[1, 2, 14, 28, 30, 31, 45]));
    let mut charges = Vec::new();
    for meter in METERS {
        if !one_in(rng, 3) {
            let included = if one_in(rng, 2) { 0 } else { pick(rng, &[1, 2, 30, 31, 100, 1000, 1_000_000]) };
            charges.push(Charge { meter, included, model: model(rng) });
        }
    }
    PlanVersion { id, version, currency, places, base_fee, minimum, discount_percent, trial_days, charges }
}

fn unit_price(rng: &mut ChaCha8Rng) -> String {
    if one_in(rng, 4) {
        return format!("{}.{:012}", rng.random_range(0..3), rng.random_range(0..1_000_000_000_000_u64));
    }
    pick(rng, &PRICES).to_owned()
}

fn model(rng: &mut ChaCha8Rng) -> Model {
    let kind = rng.random_range(0..4);
    match kind {
        0 => Model::PerUnit(unit_price(rng)),
        1 | 2 => {
            let mut bounds: Vec<u64> =
                (0..rng.random_range(0..4)).map(|_| pick(rng, &[1, 2, 3, 10, 100, 1000, 999_999])).collect();
            bounds.sort_unstable();
            bounds.dedup();
            let bounds = bounds.into_iter().map(Some).chain([None]);
            let tiers = bounds.map(|up_to| Tier { up_to, price: unit_price(rng) }).collect();
            if kind == 1 { Model::Graduated(tiers) } else { Model::Volume(tiers) }
        }
        _ => Model::Package { units: pick(rng, &[1, 2, 3, 10, 1000, 1_000_000]), price: unit_price(rng) },
    }
}

/// An instant of the months that is more likely an edge than not.
fn instant(rng: &mut ChaCha8Rng, months: &[Laid]) -> i64 {
    let laid = months.choose(rng).unwrap();
    let day = laid.days[rng.random_range(0..laid.days.len())];
    match rng.random_range(0..8) {
        0 => laid.from,
        1 => laid.to - 1,
        2 => day.0,
        3 => day.1 - 1,
        4 => laid.from + rng.random_range(0..CELL),
        5 => laid.to - 1 - rng.random_range(0..CELL),
        _ => laid.from + rng.random_range(0..laid.to - laid.from),
    }
}

fn subscriptions(rng: &mut ChaCha8Rng, plans: usize, months: &[Laid]) -> Vec<Subscription> {
    let begin = months[0].from;
    let mut starts = vec![if one_in(rng, 2) { begin } else { instant(rng, &months[..1]) }];
    for _ in 0..pick(rng, &[0, 0, 1, 1, 2, 3, 4]) {
        let at = instant(rng, months);
        starts.push(at);
        // A change of mind on the same day.
        if one_in(rng, 4) {
            starts.push(at + rng.random_range(1..6 * HOUR));
        }
    }
    starts.sort_unstable();
    starts.dedup();
    let last = months[months.len() - 1].to;
    starts.retain(|start| (begin..last).contains(start));
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for (place, &start) in starts.iter().enumerate() {
        let next = starts.get(place + 1).copied();
        let mut end = next;
        if one_in(rng, 6) {
            // A gap, or an end without a successor.
            let latest = next.unwrap_or(last).max(start + 2);
            end = Some(if one_in(rng, 3) { (start + 1).max(latest - 1) } else { rng.random_range(start + 1..latest) });
        }
        subscriptions.push(Subscription { plan: rng.random_range(0..plans), start, end });
    }
    subscriptions
}

fn records(rng: &mut ChaCha8Rng, case: &Case, months: &[Laid]) -> Vec<Record> {
    let ends: Vec<i64> = case.cuts.iter().map(|cut| case.zones.begins(cut.month.next())).collect();
    let trial_end = trial_end(case);
    let first = case.subscriptions[0].start;
    let mut records = Vec::new();
    for _ in 0..pick(rng, &[0, 1, 3, 8, 16, 30]) {
        let at = match (rng.random_range(0..8), trial_end) {
            (0, Some(end)) => end - 1,
            (1, Some(end)) => end,
            (2, _) => pick(rng, &case.subscriptions).start,
            _ => instant(rng, months),
        };
        // No answer before there was a plan; every one within the months that are cut.
        let Some(own) = ends.iter().position(|end| at < *end).filter(|_| first <= at) else { continue };
        let in_force = case.subscriptions.iter().rfind(|it| it.start <= at && it.end.is_none_or(|end| at < end));
        let plan = match in_force {
            Some(subscription) if !one_in(rng, 10) => subscription.plan,
            // Admitted a moment before the change was known.
            _ => pick(rng, &case.subscriptions).plan,
        };
        let late = if one_in(rng, 4) { rng.random_range(0..3) } else { 0 };
        let [units, waived] = [2, 6].map(|many| {
            let products = METERS[..2].iter().filter(|_| one_in(rng, many)).copied().collect::<Vec<_>>();
            products.into_iter().map(|product| (product, units(rng, &case.plans[plan], product))).collect::<BTreeMap<_, _>>()
        });
        records.push(Record { at, plan, live: !one_in(rng, 20), units, waived, arrives: own + late });
    }
    records
}

/// Units that end at a bound of the plan's, or beside it.
fn units(rng: &mut ChaCha8Rng, plan: &PlanVersion, product: &str) -> u64 {
    if one_in(rng, 200) {
        return 1_000_000_000_000_000;
    }
    let charge = plan.charges.iter().find(|charge| charge.meter == product);
    let Some(charge) = charge.filter(|_| !one_in(rng, 3)) else { return pick(rng, &UNITS) };
    let bound = match &charge.model {
        Model::PerUnit(_) => pick(rng, &[0, 1, 5]),
        Model::Package { units, .. } => units * rng.random_range(0..3),
        Model::Graduated(tiers) | Model::Volume(tiers) => pick(rng, tiers).up_to.unwrap_or(0),
    };
    (charge.included + bound + rng.random_range(0..3)).saturating_sub(1)
}
