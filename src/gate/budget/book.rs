//! What one partner used in one month through this replica, what the others may have used, and what this one may use yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Ask;
use super::used::Used;
use crate::billing::budget_store::{Bounds, Counted, Grants};
use crate::billing::calendar::{Calendar, PlanVersion};
use crate::billing::document::Days;
use crate::billing::plan::{Overage, Plan};
use crate::billing::rating;
use crate::billing::store::UsedByKey;
use crate::clock::Micros;
use crate::error::{Code, Refusal};
use crate::ids::{KeyId, PlanId};
use crate::metering::{Meter, Tally};
use crate::money::Money;

pub(super) struct Book {
    pub(super) bounds: Bounds,
    /// The calendar that the bounds are of.
    calendar: Option<Arc<Calendar>>,
    /// By plan version: the month may have seen several.
    lines: Vec<(Arc<Plan>, Line)>,
    keys: HashMap<KeyId, KeyUse>,
    /// Of all other replicas, as last heard.
    others: u64,
    /// The days of the month by plan version, and the calendar that they were counted in.
    days: Option<(Arc<Calendar>, BTreeMap<PlanVersion, Days>)>,
    pub(super) lease: super::lease::Held,
}

/// What was used under a plan version.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    rated: Fund,
    /// In the free trial: it counts for quotas, and costs nothing.
    trial: Fund,
    /// Granted to other replicas, as last heard.
    others: Used,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fund {
    used: Used,
    held: Used,
}

#[derive(Clone, Copy, Debug, Default)]
struct KeyUse {
    used: u64,
    held: u64,
    others: u64,
}

/// What is asked for on top of what this replica used and holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct More {
    /// Of the plan's quota,
    pub(super) units: u64,
    /// of the key's,
    pub(super) key: u64,
    /// and under the plan version, for its spend cap.
    pub(super) line: Used,
}

impl More {
    pub(super) fn of(used: Used) -> Self {
        Self { units: used.units.total(), key: used.units.total(), line: used }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let line = self.line.plus(&other.line);
        Self { units: self.units.saturating_add(other.units), key: self.key.saturating_add(other.key), line }
    }

    pub(super) fn max(&self, other: &Self) -> Self {
        Self { units: self.units.max(other.units), key: self.key.max(other.key), line: self.line.max(&other.line) }
    }

    pub(super) fn part(&self, counted: &Counted) -> u64 {
        match counted {
            Counted::Units => self.units,
            Counted::Key(_) => self.key,
            Counted::Line(_, _, meter) => self.line.of(*meter),
        }
    }
}

fn is(plan: &Plan, id: &PlanId, version: i64) -> bool {
    plan.version == version && plan.id == *id
}

impl Book {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (lines, keys, others) = (Vec::new(), HashMap::new(), 0);
        Self { bounds, calendar: None, lines, keys, others, days: None, lease: Default::default() }
    }

    pub(super) fn add_from_ledger(&mut self, plan: &Arc<Plan>, by_key: &UsedByKey) {
        let UsedByKey { meter, rated, trial, .. } = *by_key;
        let line = self.line(plan);
        if by_key.is_mine {
            line.rated.used.add(meter, rated);
            line.trial.used.add(meter, trial);
        } else {
            line.others.add(meter, rated);
        }
        if meter.product().is_some() {
            let key = self.keys.entry(by_key.key.clone()).or_default();
            let sum = if by_key.is_mine { &mut key.used } else { &mut key.others };
            *sum = sum.saturating_add(rated.saturating_add(trial));
            if !by_key.is_mine {
                self.others = self.others.saturating_add(rated.saturating_add(trial));
            }
        }
    }

    /// Takes what other replicas were granted; of `asked` they have nothing where it is not said.
    pub(super) fn hear(&mut self, others: &Grants, plans: &[Arc<Plan>], asked: &[Counted]) {
        let nothing = asked.iter().filter(|counted| !others.contains_key(*counted)).map(|counted| (counted, 0));
        let heard: Vec<_> = others.iter().map(|(counted, units)| (counted, *units)).chain(nothing).collect();
        for (counted, units) in heard {
            match counted {
                Counted::Units => self.others = units,
                Counted::Key(key) => self.keys.entry(key.clone()).or_default().others = units,
                Counted::Line(id, version, meter) => {
                    let known = self.lines.iter().map(|(plan, _)| plan).chain(plans).find(|plan| is(plan, id, *version)).cloned();
                    // Usage under a plan that nobody published costs nothing.
                    let Some(plan) = known else { continue };
                    let line = self.line(&plan);
                    let before = line.others.of(*meter);
                    let mut only = Used::default();
                    only.add(*meter, before);
                    line.others = line.others.less(&only);
                    line.others.add(*meter, units);
                }
            }
        }
    }

    pub(super) fn knows(&self, id: &PlanId, version: i64) -> bool {
        self.lines.iter().any(|(plan, _)| is(plan, id, version))
    }

    fn line(&mut self, plan: &Arc<Plan>) -> &mut Line {
        let place = self.lines.iter().position(|(it, _)| is(it, &plan.id, plan.version)).unwrap_or_else(|| {
            self.lines.push((plan.clone(), Line::default()));
            self.lines.len() - 1
        });
        &mut self.lines[place].1
    }

    fn fund(&mut self, plan: &Arc<Plan>, in_trial: bool) -> &mut Fund {
        let line = self.line(plan);
        if in_trial { &mut line.trial } else { &mut line.rated }
    }

    /// Whether `ask` lies past the month; a change of the time zone may have moved its end.
    pub(super) fn is_over(&mut self, ask: &Ask) -> bool {
        if !self.calendar.as_ref().is_some_and(|calendar| Arc::ptr_eq(calendar, &ask.calendar)) {
            let bounds = super::month(&ask.calendar, self.bounds.0);
            if bounds.0 == self.bounds.0 {
                self.bounds = bounds;
            }
            self.calendar = Some(ask.calendar.clone());
        }
        ask.now >= self.bounds.1
    }

    /// What this replica used and holds back.
    pub(super) fn mine(&self, counted: &Counted) -> u64 {
        match counted {
            Counted::Units => {
                let funds = self.lines.iter().flat_map(|(_, line)| [line.rated, line.trial]);
                let parts = funds.flat_map(|fund| [fund.used, fund.held]);
                parts.fold(0, |sum, part| sum.saturating_add(part.units.total()))
            }
            Counted::Key(key) => self.keys.get(key).map_or(0, |key| key.used.saturating_add(key.held)),
            Counted::Line(id, version, meter) => {
                let line = self.lines.iter().find(|(plan, _)| is(plan, id, *version));
                line.map_or(0, |(_, line)| line.rated.used.of(*meter).saturating_add(line.rated.held.of(*meter)))
            }
        }
    }

    /// What all replicas may have used.
    pub(super) fn units(&self) -> u64 {
        self.mine(&Counted::Units).saturating_add(self.others)
    }

    /// The same of a key.
    pub(super) fn key_units(&self, key: &KeyId) -> u64 {
        self.keys.get(key).map_or(0, |key| key.used.saturating_add(key.held).saturating_add(key.others))
    }

    fn quota_left(&self, ask: &Ask) -> Option<(u64, u64)> {
        let quota = ask.plan.quota.filter(|quota| quota.then == Overage::Refuse)?;
        Some((quota.units, quota.units.saturating_sub(self.units())))
    }

    fn key_quota_left(&self, ask: &Ask) -> Option<(u64, u64)> {
        ask.key_quota.map(|units| (units, units.saturating_sub(self.key_units(&ask.key))))
    }

    fn affords(&self, ask: &Ask, more: Used) -> bool {
        let Some(cap) = ask.cap() else { return true };
        let (before, after) = (self.spend(&ask.plan, Used::default()), self.spend(&ask.plan, more));
        // What is free stays free.
        after.is_some_and(|after| after.decimal() <= cap || Some(after) == before)
    }

    /// Whether `more` is within all limits.
    pub(super) fn allows(&mut self, ask: &Ask, more: &More) -> bool {
        self.count_days(ask);
        self.quota_left(ask).is_none_or(|(_, left)| more.units <= left)
            && self.key_quota_left(ask).is_none_or(|(_, left)| more.key <= left)
            && self.affords(ask, more.line)
    }

    /// Whether what is asked for is, or why not.
    pub(super) fn check(&mut self, ask: &Ask) -> Result<(), Refusal> {
        self.count_days(ask);
        let (asked, until) = (ask.units.total(), self.bounds.1);
        for (who, left) in [("Your plan", self.quota_left(ask)), ("This key", self.key_quota_left(ask))] {
            // What is free stays free: one must be able to look at one's usage.
            let Some((units, left)) = left.filter(|(_, left)| asked > *left) else { continue };
            let message = format!(
                "{who} has {left} of {units} units left until {until}, and this query may cost {asked}. Ask for less, or wait, or ask your provider for more."
            );
            return Err(Refusal::new(Code::QuotaExceeded, message).retry_after(until.since(ask.now)));
        }
        let (Some(cap), false) = (ask.cap(), self.affords(ask, Used::by_one(ask.units))) else { return Ok(()) };
        let currency = ask.plan.currency.code();
        let message = format!(
            "This query could take your spending past its cap of {cap} {currency} until {until}. Ask for less, or ask your provider for a higher cap."
        );
        Err(Refusal::new(Code::SpendCapReached, message))
    }

    /// The days of each plan version, which decide how many units it includes; counted anew when the partner's plan changed.
    fn count_days(&mut self, ask: &Ask) {
        let counted = self.days.as_ref().is_some_and(|(calendar, _)| Arc::ptr_eq(calendar, &ask.calendar));
        if counted || ask.cap().is_none() {
            return;
        }
        let days = ask.calendar.month_of(self.bounds.0).and_then(|month| ask.calendar.days(&month));
        self.days = Some((ask.calendar.clone(), days.unwrap_or_default()));
    }

    fn days(&self, plan: &Plan) -> Days {
        let days = self.days.as_ref().and_then(|(_, days)| days.get(&(plan.id.clone(), plan.version)));
        days.copied().unwrap_or(Days { counted: 0, of: 1 })
    }

    /// The most that the month's usage may cost in the plan's currency, with `more` under the plan; none when it cannot be counted.
    fn spend(&self, plan: &Arc<Plan>, more: Used) -> Option<Money> {
        let cost = |of: &Plan, line: &Line, more: &Used| {
            let most = line.rated.used.plus(&line.rated.held).plus(&line.others).plus(more);
            rating::usage_total_max(of, self.days(of), |meter| (line.rated.used.of(meter), most.of(meter)))
        };
        let is_current = |it: &Plan| is(it, &plan.id, plan.version);
        let current = self.lines.iter().find(|(it, _)| is_current(it)).map(|(_, line)| *line).unwrap_or_default();
        let mut rest = self.lines.iter().filter(|(it, _)| !is_current(it) && it.currency == plan.currency);
        let sum = rest.try_fold(0_i64, |sum, (it, line)| sum.checked_add(cost(it, line, &Used::default())?))?;
        Some(Money { minor: sum.checked_add(cost(plan, &current, &more)?)?, currency: plan.currency })
    }

    pub(super) fn hold(&mut self, ask: &Ask) {
        let held = &mut self.fund(&ask.plan, ask.in_trial()).held;
        *held = held.plus(&Used::by_one(ask.units));
        let key = self.keys.entry(ask.key.clone()).or_default();
        key.held = key.held.saturating_add(ask.units.total());
        self.lease.recent = self.lease.recent.plus(&Used::by_one(ask.units));
    }

    /// Gives back what was held for `ask`, with what it used in its place.
    pub(super) fn let_go(&mut self, ask: &Ask, billed: Option<Tally>) {
        let used = billed.map(Used::by_one).unwrap_or_default();
        let fund = self.fund(&ask.plan, ask.in_trial());
        fund.held = fund.held.less(&Used::by_one(ask.units));
        fund.used = fund.used.plus(&used);
        let key = self.keys.entry(ask.key.clone()).or_default();
        key.held = key.held.saturating_sub(ask.units.total());
        key.used = key.used.saturating_add(used.units.total());
    }
}

/// What limits `ask`: that alone is leased.
pub(super) fn limits(ask: &Ask) -> Vec<Counted> {
    let quota = ask.plan.quota.filter(|quota| quota.then == Overage::Refuse).map(|_| Counted::Units);
    let key = ask.key_quota.map(|_| Counted::Key(ask.key.clone()));
    let meters =
        Meter::ALL.into_iter().filter(|meter| ask.cap().is_some() && ask.plan.charges.iter().any(|it| it.meter == *meter));
    let lines = meters.map(|meter| Counted::Line(ask.plan.id.clone(), ask.plan.version, meter));
    quota.into_iter().chain(key).chain(lines).collect()
}

/// The end of what never ends: a month past the year 9998.
pub(super) const NEVER: Micros = Micros(i64::MAX);
