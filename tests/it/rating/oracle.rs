//! docs/billing.md read slowly: exact fractions, every record looked at for every line, every day of a month for every plan
//! version. It shares no code with what it judges.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;

use super::calendar::{Laid, Month, lay, midnight};
use super::case::{Case, Charge, METERS, Model, PlanVersion, Record, Tier};

/// A line of an invoice; money in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: &'static str,
    pub(crate) month: Month,
    /// Which of the case's plans.
    pub(crate) plan: usize,
    pub(crate) meter: Option<&'static str>,
    /// Days that count and days of the month, of what is prorated.
    pub(crate) days: Option<(usize, usize)>,
    pub(crate) units: Option<u64>,
    /// Units that cost nothing, of a charge's line.
    pub(crate) included: Option<u64>,
    /// What earlier invoices billed of it.
    pub(crate) before: BigInt,
    /// What waived units would have cost.
    pub(crate) value: Option<BigInt>,
    /// What is left to bill.
    pub(crate) amount: BigInt,
}

#[derive(Clone, Debug)]
pub(crate) struct Invoice {
    pub(crate) currency: &'static str,
    pub(crate) lines: Vec<Line>,
    pub(crate) subtotal: BigInt,
    pub(crate) tax: BigInt,
    pub(crate) total: BigInt,
}

/// The same thing, on whatever invoice.
type Thing = (Month, &'static str, usize, Option<&'static str>);

/// Exact, from decimal text.
pub(crate) fn exact(text: &str) -> BigRational {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("{whole}{places}").parse().unwrap();
    BigRational::new(digits, ten_to(u32::try_from(places.len()).unwrap()))
}

fn ten_to(places: u32) -> BigInt {
    BigInt::from(10).pow(places)
}

fn fraction(numerator: usize, denominator: usize) -> BigRational {
    BigRational::new(numerator.into(), denominator.into())
}

fn nothing() -> BigRational {
    BigRational::from_integer(0.into())
}

/// Minor units, half away from zero.
pub(crate) fn round(exact: &BigRational, places: u32) -> BigInt {
    let minor = exact * BigRational::from_integer(ten_to(places));
    let half = fraction(1, 2);
    if minor < nothing() { (minor - half).ceil().to_integer() } else { (minor + half).floor().to_integer() }
}

/// What units past the included ones cost.
pub(crate) fn price(model: &Model, billed: &BigInt) -> BigRational {
    let units = BigRational::from_integer(billed.clone());
    if *billed == BigInt::from(0) {
        return nothing();
    }
    match model {
        Model::PerUnit(price) => units * exact(price),
        Model::Graduated(tiers) => {
            let mut sum = nothing();
            let mut below = BigInt::from(0);
            for Tier { up_to, price } in tiers {
                // The last unit of this tier that was used.
                let last = up_to.map_or(billed.clone(), |bound| billed.clone().min(bound.into()));
                if last > below {
                    sum += BigRational::from_integer(&last - &below) * exact(price);
                    below = last;
                }
            }
            sum
        }
        Model::Volume(tiers) => {
            let falls_into = |tier: &&Tier| tier.up_to.is_none_or(|bound| *billed <= bound.into());
            units * exact(&tiers.iter().find(falls_into).unwrap().price)
        }
        Model::Package { units: size, price } => (units / BigRational::from_integer((*size).into())).ceil() * exact(price),
    }
}

/// Included units of a month in which `days` of `of` count.
fn included(charge: &Charge, days: usize, of: usize) -> BigInt {
    (BigRational::from_integer(charge.included.into()) * fraction(days, of)).ceil().to_integer()
}

/// The exact amount of a charge for `rated` units.
fn amount(charge: &Charge, rated: &BigInt, days: usize, of: usize) -> BigRational {
    let past = rated - included(charge, days, of);
    price(&charge.model, &past.max(0.into()))
}

pub(crate) struct Oracle<'a> {
    case: &'a Case,
    /// Every month from the first that is cut to the one after the last,
    months: Vec<Laid>,
    /// and for each day of it the plan version that it belongs to.
    owners: BTreeMap<Month, Vec<Option<usize>>>,
    trial_end: Option<i64>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(case: &'a Case) -> Self {
        let mut months = vec![];
        let mut month = case.cuts.iter().map(|cut| cut.month).min().unwrap();
        let last = case.cuts.iter().map(|cut| cut.month).max().unwrap().next();
        while month <= last {
            months.push(lay(month, &case.zones));
            month = month.next();
        }
        let mut oracle = Self { case, months, owners: BTreeMap::new(), trial_end: trial_end(case) };
        let owners = |laid: &Laid| (laid.month, laid.days.iter().map(|day| oracle.belongs_to(*day)).collect());
        oracle.owners = oracle.months.iter().map(owners).collect();
        oracle
    }

    /// The invoices of each cut.
    pub(crate) fn invoices(&self) -> Vec<Vec<Invoice>> {
        let mut standing: BTreeMap<Thing, (BigInt, u64)> = BTreeMap::new();
        let mut cuts = Vec::new();
        for (place, cut) in self.case.cuts.iter().enumerate() {
            let lines = self.lines(place, cut.month, &standing);
            if !cut.voided {
                for line in &lines {
                    let billed = standing.entry(thing(line)).or_default();
                    billed.0 += &line.amount;
                    billed.1 = line.units.unwrap_or(0);
                }
            }
            cuts.push(self.by_currency(lines));
        }
        cuts
    }

    /// What a cut bills, as the three points of "An invoice".
    fn lines(&self, cut: usize, billed_month: Month, standing: &BTreeMap<Thing, (BigInt, u64)>) -> Vec<Line> {
        let mut due = Vec::new();
        let earlier = self.months.iter().filter(|laid| laid.month < billed_month);
        for laid in self.months.iter().filter(|laid| laid.month == billed_month).chain(earlier) {
            due.extend(self.due(laid, cut));
            // What was billed and is not due any more is put right too.
            for &(month, kind, plan, meter) in standing.keys().filter(|thing| thing.0 == laid.month) {
                if !due.iter().any(|line| thing(line) == (month, kind, plan, meter)) {
                    due.push(line(kind, month, plan, meter));
                }
            }
        }
        due.extend(self.in_advance(billed_month.next()));
        due.retain_mut(|line| {
            let (amount, units) = standing.get(&thing(line)).cloned().unwrap_or_default();
            line.amount -= &amount;
            line.before = amount;
            let adjusts = line.month != billed_month || standing.contains_key(&thing(line));
            !adjusts || line.amount != 0.into() || line.units.unwrap_or(0) != units
        });
        due
    }

    /// What is due for a month, by what is known at a cut.
    fn due(&self, laid: &Laid, cut: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        for place in 0..self.case.plans.len() {
            let days = self.owners[&laid.month].iter().filter(|owner| **owner == Some(place)).count();
            let known = |record: &&Record| {
                record.live && record.arrives <= cut && record.plan == place && laid.from <= record.at && record.at < laid.to
            };
            let used: Vec<&Record> = self.case.records.iter().filter(known).collect();
            if days > 0 || !used.is_empty() {
                self.plan_lines(&mut lines, laid, place, days, &used);
            }
        }
        lines
    }

    /// A plan version's lines: the table.
    fn plan_lines(&self, lines: &mut Vec<Line>, laid: &Laid, place: usize, days: usize, used: &[&Record]) {
        let (plan, of) = (&self.case.plans[place], laid.days.len());
        let new = |kind, meter| line(kind, laid.month, place, meter);
        let mut net = BigInt::from(0);
        if let Some(fee) = plan.base_fee.as_ref().filter(|_| days > 0) {
            let amount = round(&(exact(&fee.amount) * fraction(days, of)), plan.places);
            net += &amount;
            lines.push(Line { amount, days: Some((days, of)), ..new("base_fee", None) });
        }
        for charge in &plan.charges {
            let (rated, _) = self.sums(used, charge.meter);
            let amount = round(&amount(charge, &rated, days, of), plan.places);
            net += &amount;
            let included = Some(included(charge, days, of).try_into().unwrap());
            lines.push(Line { amount, included, units: whole(&rated), ..new("usage", Some(charge.meter)) });
        }
        let charge_of = |meter: &str| plan.charges.iter().find(|charge| charge.meter == meter);
        for meter in METERS.into_iter().filter(|meter| charge_of(meter).is_none()) {
            let (rated, _) = self.sums(used, meter);
            if rated > 0.into() {
                lines.push(Line { units: whole(&rated), ..new("usage", Some(meter)) });
            }
        }
        for meter in METERS {
            let in_trial = used.iter().filter(|record| self.is_free(record)).map(|record| record.counted(meter));
            let free: BigInt = in_trial.map(|(rated, waived)| BigInt::from(rated) + waived).sum();
            if free > 0.into() {
                lines.push(Line { units: whole(&free), ..new("trial", Some(meter)) });
            }
        }
        for meter in METERS {
            let (rated, waived) = self.sums(used, meter);
            if waived > 0.into() {
                let cost = |units: &BigInt| charge_of(meter).map_or(nothing(), |charge| amount(charge, units, days, of));
                let value = round(&(cost(&(&rated + &waived)) - cost(&rated)), plan.places);
                lines.push(Line { units: whole(&waived), value: Some(value), ..new("waived", Some(meter)) });
            }
        }
        let off = discount(plan, &net);
        if off != 0.into() {
            net += &off;
            lines.push(Line { amount: off, ..new("discount", None) });
        }
        if let Some(minimum) = &plan.minimum {
            let amount = round(&(exact(minimum) * fraction(days, of)), plan.places) - net;
            if amount > 0.into() {
                lines.push(Line { amount, days: Some((days, of)), ..new("minimum", None) });
            }
        }
    }

    /// What is due in advance for a month: as if the subscription that begins it lasted to its end.
    fn in_advance(&self, month: Month) -> Vec<Line> {
        let laid = self.months.iter().find(|laid| laid.month == month).unwrap();
        let in_force =
            self.case.subscriptions.iter().find(|it| it.start <= laid.from && it.end.is_none_or(|end| laid.from < end));
        let Some(subscription) = in_force else { return Vec::new() };
        let plan = &self.case.plans[subscription.plan];
        let Some(fee) = plan.base_fee.as_ref().filter(|fee| fee.in_advance) else { return Vec::new() };
        let (of, days) = (laid.days.len(), laid.days.iter().filter(|day| !self.in_trial(**day)).count());
        let amount = round(&(exact(&fee.amount) * fraction(days, of)), plan.places);
        let off = discount(plan, &amount);
        let new = |kind| line(kind, month, subscription.plan, None);
        vec![Line { amount, days: Some((days, of)), ..new("base_fee") }, Line { amount: off, ..new("discount") }]
    }

    /// Rated and waived units of a meter, record by record.
    fn sums(&self, used: &[&Record], meter: &str) -> (BigInt, BigInt) {
        let mut sums = (BigInt::from(0), BigInt::from(0));
        for record in used.iter().filter(|record| !self.is_free(record)) {
            let (rated, waived) = record.counted(meter);
            sums.0 += rated;
            sums.1 += waived;
        }
        sums
    }

    fn is_free(&self, record: &Record) -> bool {
        self.trial_end.is_some_and(|end| record.at < end)
    }

    fn in_trial(&self, day: (i64, i64)) -> bool {
        self.trial_end.is_some_and(|end| day.0 < end)
    }

    /// The plan version that a day belongs to.
    fn belongs_to(&self, day: (i64, i64)) -> Option<usize> {
        if self.in_trial(day) {
            return None;
        }
        // A day without an instant, where a zone left one out, is a point.
        let to = day.1.max(day.0 + 1);
        let on_it = |start: i64, end: i64| start.max(day.0) < end.min(to);
        let on_it = self.case.subscriptions.iter().filter(|it| on_it(it.start, it.end.unwrap_or(i64::MAX)));
        on_it.max_by_key(|subscription| subscription.start).map(|subscription| subscription.plan)
    }

    fn by_currency(&self, lines: Vec<Line>) -> Vec<Invoice> {
        let mut invoices: Vec<Invoice> = Vec::new();
        for line in lines {
            let plan = &self.case.plans[line.plan];
            let place = invoices.iter().position(|invoice| invoice.currency == plan.currency).unwrap_or_else(|| {
                let [subtotal, tax, total] = [0, 0, 0].map(BigInt::from);
                invoices.push(Invoice { currency: plan.currency, lines: Vec::new(), subtotal, tax, total });
                invoices.len() - 1
            });
            invoices[place].lines.push(line);
        }
        for invoice in &mut invoices {
            let places = self.case.plans[invoice.lines[0].plan].places;
            invoice.subtotal = invoice.lines.iter().map(|line| &line.amount).sum();
            let subtotal = BigRational::new(invoice.subtotal.clone(), ten_to(places));
            invoice.tax = round(&(subtotal * exact(&self.case.tax_rate) / BigRational::from_integer(100.into())), places);
            invoice.total = &invoice.subtotal + &invoice.tax;
        }
        invoices.sort_by_key(|invoice| invoice.currency);
        invoices
    }
}

/// The midnight, where the partner was at the start, that begins the N-th day after the day of the start.
pub(crate) fn trial_end(case: &Case) -> Option<i64> {
    let first = case.subscriptions.first()?;
    let days = case.plans[first.plan].trial_days?;
    let mut month = case.cuts.first()?.month;
    while case.zones.begins(month.next()) <= first.start {
        month = month.next();
    }
    let zone = case.zones.of(month);
    let mut day = jiff::Timestamp::from_microsecond(first.start).unwrap().to_zoned(zone.clone()).date();
    for _ in 0..days {
        day = day.tomorrow().unwrap();
    }
    Some(midnight(day, &zone))
}

fn discount(plan: &PlanVersion, net: &BigInt) -> BigInt {
    let percent = plan.discount_percent.as_ref().map_or(nothing(), |percent| exact(percent));
    let net = BigRational::new(net.clone(), ten_to(plan.places));
    round(&(-net * percent / BigRational::from_integer(100.into())), plan.places)
}

fn line(kind: &'static str, month: Month, plan: usize, meter: Option<&'static str>) -> Line {
    let [before, amount] = [0, 0].map(BigInt::from);
    Line { kind, month, plan, meter, days: None, units: None, included: None, before, value: None, amount }
}

fn thing(line: &Line) -> Thing {
    (line.month, line.kind, line.plan, line.meter)
}

fn whole(units: &BigInt) -> Option<u64> {
    Some(units.try_into().unwrap())
}
