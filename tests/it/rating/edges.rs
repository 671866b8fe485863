//! What the generator never makes, nothing is tested by: each edge is there, and often enough.

use std::collections::{BTreeMap, BTreeSet};

use num_bigint::BigInt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::calendar::lay;
use super::case::{Case, Model, Subscription};
use super::generate;
use super::oracle::{Invoice, Line, Oracle, price, trial_end};
use super::said::is_beyond;

const DAY: i64 = 24 * 3_600_000_000;

/// How many cases have what.
type Seen = BTreeMap<&'static str, BTreeSet<u32>>;

fn look_at_case(case: &Case, saw: &mut impl FnMut(&'static str, bool)) {
    let laid: Vec<_> = case.cuts.iter().map(|cut| lay(cut.month, &case.zones)).collect();
    let (subscriptions, records, trial_end) = (&case.subscriptions, &case.records, trial_end(case));
    let pairs = |is: fn(&[Subscription]) -> bool| subscriptions.windows(2).any(is);
    saw("zone change", case.zones.0.windows(2).any(|pair| pair[0].1 != pair[1].1));
    saw("leap February", case.cuts.iter().any(|cut| cut.month.days().len() == 29));
    saw("month's first instant", records.iter().any(|record| laid.iter().any(|month| month.from == record.at)));
    saw("month's last instant", records.iter().any(|record| laid.iter().any(|month| month.to - 1 == record.at)));
    saw("gap", pairs(|pair| pair[0].end != Some(pair[1].start)));
    saw("end without a successor", subscriptions.last().unwrap().end.is_some());
    saw("same plan again", pairs(|pair| pair[0].plan == pair[1].plan));
    saw("several on one day", pairs(|pair| pair[1].start - pair[0].start < DAY));
    saw(
        "change at midnight",
        subscriptions.iter().any(|it| laid.iter().any(|month| month.days.iter().any(|day| day.0 == it.start))),
    );
    saw("trial's last microsecond", records.iter().any(|record| trial_end == Some(record.at + 1)));
    saw("trial over a month's end", trial_end.is_some_and(|end| laid[1..].iter().any(|it| it.from < end && it.to > end)));
    saw("void and run again", case.cuts.iter().any(|cut| cut.voided));
}

fn look_at_invoice(case: &Case, place: usize, invoice: &Invoice, saw: &mut impl FnMut(&'static str, bool)) {
    let month = case.cuts[place].month;
    let mut any = |what, is: &dyn Fn(&Line) -> bool| saw(what, invoice.lines.iter().any(is));
    let gives_back = |line: &Line| line.amount < BigInt::from(0);
    any("in advance", &|line| line.month > month);
    any("late", &|line| line.month < month && line.kind == "usage");
    any("advance put right", &|line| line.month == month && line.kind == "base_fee" && gives_back(line));
    any("late minimum goes back", &|line| line.kind == "minimum" && gives_back(line));
    any("waived of a value", &|line| line.value.as_ref().is_some_and(|value| *value > BigInt::from(0)));
    any("used without a day", &|line| {
        let fee = |other: &Line| (other.kind, other.month, other.plan) == ("base_fee", line.month, line.plan);
        line.kind == "usage" && case.plans[line.plan].base_fee.is_some() && line.month == month && !invoice.lines.iter().any(fee)
    });
    any("minimum exactly reached", &|line| {
        let plan = &case.plans[line.plan];
        let fee = plan.base_fee.as_ref().map(|fee| &fee.amount);
        line.kind == "base_fee" && plan.minimum.as_ref() == fee && line.amount > BigInt::from(0)
    });
    for kind in ["base_fee", "usage", "trial", "waived", "discount", "minimum"] {
        any(kind, &|line| line.kind == kind);
    }
    for line in invoice.lines.iter().filter(|line| line.kind == "usage") {
        let plan = &case.plans[line.plan];
        let Some(charge) = plan.charges.iter().find(|charge| Some(charge.meter) == line.meter) else { continue };
        let past = line.units.unwrap().saturating_sub(line.included.unwrap());
        let minor = price(&charge.model, &past.into()) * BigInt::from(10).pow(plan.places);
        saw("half a minor unit", (&minor * BigInt::from(2)).is_integer() && !minor.is_integer());
        saw("included units exactly used", charge.included > 0 && line.units == line.included);
        match &charge.model {
            Model::Graduated(tiers) | Model::Volume(tiers) => {
                saw("a tier's bound", tiers.iter().any(|tier| tier.up_to == Some(past)));
                saw("past a tier's bound", tiers.iter().any(|tier| tier.up_to.is_some_and(|bound| bound + 1 == past)));
            }
            Model::Package { units, .. } => saw("whole packages", past > 0 && past % units == 0),
            Model::PerUnit(_) => {}
        }
    }
    saw("below zero", invoice.total < 0.into());
}

#[test]
fn the_generator_reaches_the_edges() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut seen = Seen::new();
    for number in 0..1500 {
        let case = generate::case(&mut rng);
        let mut saw = |what, is: bool| {
            let cases = seen.entry(what).or_default();
            is.then(|| cases.insert(number));
        };
        look_at_case(&case, &mut saw);
        let invoices = Oracle::new(&case).invoices();
        // The property then asks for a refusal.
        saw("more money than can be counted", invoices.iter().any(|invoices| is_beyond(invoices)));
        saw("two currencies", invoices.iter().any(|cut| cut.len() > 1));
        for (place, invoice) in invoices.iter().enumerate().flat_map(|(place, cut)| cut.iter().map(move |it| (place, it))) {
            let sum: BigInt = invoice.lines.iter().map(|line| &line.amount).sum();
            assert_eq!(invoice.subtotal, sum);
            assert_eq!(invoice.total, sum + &invoice.tax);
            look_at_invoice(&case, place, invoice, &mut saw);
        }
    }
    let rare: Vec<_> = seen.iter().map(|(what, cases)| (what, cases.len())).filter(|(_, cases)| *cases < 15).collect();
    assert!(rare.is_empty(), "in 1500 cases: {rare:?}");
}
