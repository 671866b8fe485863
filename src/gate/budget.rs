//! How much a partner may use in a billing month: units (quota) and money (spend cap). Reserved at the estimate before a query
//! runs, corrected to what is billed when it is settled, so that no number of requests at once can go past either.
//!
//! What was used stands in the ledger; a start reads it from there, once all that is journaled is shipped. Test keys use
//! nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::billing::calendar::{Calendar, PlanVersion};
use crate::billing::document::Days;
use crate::billing::plan::{Overage, Plan};
use crate::billing::store::UsedByKey;
use crate::billing::{rating, store as ledger};
use crate::clock::Micros;
use crate::db::Db;
use crate::error::{Code, Refusal};
use crate::ids::{KeyId, PartnerId};
use crate::metering::{Meter, Tally};
use crate::money::Money;

/// Units and answers.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    units: Tally,
    answers: u64,
}

/// What one partner used in the current month of its time zone.
struct Book {
    bounds: (Micros, Micros),
    /// By plan version: the month may have seen several.
    lines: Vec<(Arc<Plan>, Line)>,
    reserved: Used,
    keys: HashMap<KeyId, KeyUse>,
    /// The days of the month by plan version, and the calendar that they were counted in.
    days: Option<(Arc<Calendar>, BTreeMap<PlanVersion, Days>)>,
}

/// What was used under a plan version.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    rated: Used,
    /// In the free trial: it counts for quotas, and costs nothing.
    trial: Used,
}

#[derive(Clone, Copy, Debug, Default)]
struct KeyUse {
    used: u64,
    reserved: u64,
}

/// The books of all partners.
#[derive(Default)]
pub struct Budgets {
    books: RwLock<HashMap<PartnerId, Arc<Mutex<Book>>>>,
}

/// What is asked for, by whom.
pub struct Ask<'a> {
    /// Who pays.
    pub partner: &'a PartnerId,
    /// Its months.
    pub calendar: &'a Arc<Calendar>,
    /// With which key.
    pub key: &'a KeyId,
    /// The key's own units a month.
    pub key_quota: Option<u64>,
    /// Under which plan.
    pub plan: &'a Arc<Plan>,
    /// At most so many units.
    pub units: Tally,
    /// Admission time.
    pub now: Micros,
}

/// What is held back for a request; given back when it is dropped before it was settled.
pub struct Reservation {
    book: Arc<Mutex<Book>>,
    plan: Arc<Plan>,
    key: KeyId,
    units: Tally,
    period_end: Micros,
    in_trial: bool,
    settled: bool,
}

/// How a quota stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaStanding {
    /// Units a month.
    pub units: u64,
    /// Those that are left.
    pub left: u64,
    /// How long the month is,
    pub period: Duration,
    /// and how long it still lasts.
    pub ends_in: Duration,
}

impl Budgets {
    /// What every partner used so far, as the ledger has it.
    pub async fn open(db: &Db, now: Micros) -> anyhow::Result<Self> {
        let mut connection = db.snapshot().await?;
        let plans = ledger::plans_by_version(&mut connection).await?;
        // Partners whose month has the same edges are asked for at once.
        let mut by_month: BTreeMap<(Micros, Micros), HashMap<PartnerId, Book>> = BTreeMap::new();
        for (partner, calendar) in ledger::calendars(&mut connection, None).await? {
            let bounds = month(&calendar, now);
            by_month.entry(bounds).or_default().insert(partner, Book::new(bounds));
        }
        let mut books = HashMap::new();
        for (bounds, mut of_month) in by_month {
            for used in ledger::usage_by_key(&mut connection, bounds.0, bounds.1).await? {
                let plan = plans.get(&(used.plan.clone(), used.plan_version));
                if let (Some(book), Some(plan)) = (of_month.get_mut(&used.partner), plan) {
                    book.add_from_ledger(plan, &used);
                }
            }
            books.extend(of_month);
        }
        let books = books.into_iter().map(|(partner, book)| (partner, Arc::new(Mutex::new(book)))).collect();
        Ok(Self { books: RwLock::new(books) })
    }

    /// Holds back what a request may use, or refuses.
    pub fn reserve(&self, ask: Ask<'_>) -> Result<Reservation, Refusal> {
        let shared = self.book(&ask);
        let mut book = shared.lock();
        book.turn(&ask);
        book.check_quota(&ask)?;
        book.check_key_quota(&ask)?;
        book.check_spend(&ask)?;
        book.hold(ask.key, ask.units);
        let period_end = book.bounds.1;
        drop(book);
        let (plan, key) = (ask.plan.clone(), ask.key.clone());
        let in_trial = ask.in_trial();
        Ok(Reservation { book: shared, plan, key, units: ask.units, period_end, in_trial, settled: false })
    }

    /// How the quotas of a plan and of a key stand.
    pub fn standings(&self, ask: &Ask<'_>) -> (Option<QuotaStanding>, Option<QuotaStanding>) {
        if ask.plan.quota.is_none() && ask.key_quota.is_none() {
            return (None, None);
        }
        let shared = self.book(ask);
        let mut book = shared.lock();
        book.turn(ask);
        let (period, ends_in) = (book.bounds.1.since(book.bounds.0), book.bounds.1.since(ask.now));
        let standing = |units: u64, taken: u64| QuotaStanding { units, left: units.saturating_sub(taken), period, ends_in };
        let partner = ask.plan.quota.map(|quota| standing(quota.units, book.units()));
        let key = ask.key_quota.map(|units| standing(units, book.key_units(ask.key)));
        (partner, key)
    }

    fn book(&self, ask: &Ask<'_>) -> Arc<Mutex<Book>> {
        if let Some(book) = self.books.read().get(ask.partner) {
            return book.clone();
        }
        let fresh = || Arc::new(Mutex::new(Book::new(month(ask.calendar, ask.now))));
        self.books.write().entry(ask.partner.clone()).or_insert_with(fresh).clone()
    }
}

impl Ask<'_> {
    fn in_trial(&self) -> bool {
        self.calendar.trial_ends_at.is_some_and(|end| self.now < end)
    }
}

fn month(calendar: &Calendar, now: Micros) -> (Micros, Micros) {
    // Only past the year 9998 is there no next month: then the last one does not end.
    calendar.month_of(now).map_or((now, Micros(i64::MAX)), |month| (month.from, month.to))
}

impl Book {
    fn new(bounds: (Micros, Micros)) -> Self {
        Self { bounds, lines: Vec::new(), reserved: Used::default(), keys: HashMap::new(), days: None }
    }

    fn add_from_ledger(&mut self, plan: &Arc<Plan>, by_key: &UsedByKey) {
        let line = self.line(plan);
        for (used, units) in [(&mut line.rated, by_key.rated), (&mut line.trial, by_key.trial)] {
            match by_key.meter.product() {
                Some(product) => used.units.add(product, units),
                None => used.answers += units,
            }
        }
        if by_key.meter.product().is_some() {
            self.keys.entry(by_key.key.clone()).or_default().used += by_key.rated + by_key.trial;
        }
    }

    fn line(&mut self, plan: &Arc<Plan>) -> &mut Line {
        let same = |it: &(Arc<Plan>, Line)| it.0.id == plan.id && it.0.version == plan.version;
        let place = self.lines.iter().position(same).unwrap_or_else(|| {
            self.lines.push((plan.clone(), Line::default()));
            self.lines.len() - 1
        });
        &mut self.lines[place].1
    }

    /// Begins the month of `ask`, when the last one is over.
    fn turn(&mut self, ask: &Ask<'_>) {
        if ask.now >= self.bounds.1 {
            *self = Self::new(month(ask.calendar, ask.now));
        }
    }

    fn units(&self) -> u64 {
        let used = self.lines.iter().map(|(_, line)| line.rated.units.total().saturating_add(line.trial.units.total()));
        used.fold(self.reserved.units.total(), u64::saturating_add)
    }

    fn key_units(&self, key: &KeyId) -> u64 {
        self.keys.get(key).map_or(0, |it| it.used.saturating_add(it.reserved))
    }

    fn check_quota(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        match ask.plan.quota {
            Some(quota) if quota.then == Overage::Refuse => self.within("Your plan", quota.units, self.units(), ask),
            _ => Ok(()),
        }
    }

    fn check_key_quota(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        ask.key_quota.map_or(Ok(()), |units| self.within("This key", units, self.key_units(ask.key), ask))
    }

    fn within(&self, who: &str, units: u64, taken: u64, ask: &Ask<'_>) -> Result<(), Refusal> {
        let (asked, left) = (ask.units.total(), units.saturating_sub(taken));
        // What is free stays free: one must be able to look at one's usage.
        if asked <= left {
            return Ok(());
        }
        let until = self.bounds.1;
        let message = format!(
            "{who} has {left} of {units} units left until {until}, and this query may cost {asked}. Ask for less, or wait, or ask your provider for more."
        );
        Err(Refusal::new(Code::QuotaExceeded, message).retry_after(until.since(ask.now)))
    }

    fn check_spend(&mut self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let Some(cap) = ask.plan.spend_cap.filter(|_| !ask.in_trial()) else { return Ok(()) };
        self.count_days(ask);
        let (before, after) = (self.spend(ask.plan, None), self.spend(ask.plan, Some(ask.units)));
        if after.is_some_and(|after| after.decimal() <= cap || Some(after) == before) {
            return Ok(());
        }
        let (currency, until) = (ask.plan.currency.code(), self.bounds.1);
        let message = format!(
            "This query could take your spending past its cap of {cap} {currency} until {until}. Ask for less, or ask your provider for a higher cap."
        );
        Err(Refusal::new(Code::SpendCapReached, message))
    }

    /// The days of each plan version, which decide how many units it includes; counted anew when the partner's plan changed.
    fn count_days(&mut self, ask: &Ask<'_>) {
        if self.days.as_ref().is_some_and(|(calendar, _)| Arc::ptr_eq(calendar, ask.calendar)) {
            return;
        }
        let days = ask.calendar.month_of(ask.now).and_then(|month| ask.calendar.days(&month));
        self.days = Some((ask.calendar.clone(), days.unwrap_or_default()));
    }

    fn days(&self, plan: &Plan) -> Days {
        let days = self.days.as_ref().and_then(|(_, days)| days.get(&(plan.id.clone(), plan.version)));
        days.copied().unwrap_or(Days { counted: 0, of: 1 })
    }

    /// What the month's usage costs in the plan's currency, with what is held back and `more`; none when it cannot be counted.
    fn spend(&self, plan: &Arc<Plan>, more: Option<Tally>) -> Option<Money> {
        let is_current = |it: &Arc<Plan>| it.id == plan.id && it.version == plan.version;
        let current = self.lines.iter().find(|(it, _)| is_current(it)).map(|(_, line)| line.rated).unwrap_or_default();
        let mut others = self.lines.iter().filter(|(it, _)| !is_current(it) && it.currency == plan.currency);
        let mut sum = others.try_fold(0_i64, |sum, (plan, line)| sum.checked_add(cost(plan, self.days(plan), &[line.rated])?))?;
        let more = more.map(|units| Used { units, answers: 1 }).unwrap_or_default();
        sum = sum.checked_add(cost(plan, self.days(plan), &[current, self.reserved, more])?)?;
        Some(Money { minor: sum, currency: plan.currency })
    }

    fn hold(&mut self, key: &KeyId, units: Tally) {
        for (product, units) in units.iter() {
            self.reserved.units.add(product, units);
        }
        self.reserved.answers += 1;
        self.keys.entry(key.clone()).or_default().reserved += units.total();
    }

    fn let_go(&mut self, key: &KeyId, units: Tally) {
        self.reserved.units = self.reserved.units.less(&units);
        self.reserved.answers = self.reserved.answers.saturating_sub(1);
        if let Some(it) = self.keys.get_mut(key) {
            it.reserved = it.reserved.saturating_sub(units.total());
        }
    }
}

/// Rated as the invoice rates usage, line by line, in minor units.
fn cost(plan: &Plan, days: Days, parts: &[Used]) -> Option<i64> {
    let units = |meter: Meter| {
        let of = |part: &Used| meter.product().map_or(part.answers, |product| part.units.of(product));
        parts.iter().map(of).fold(0, u64::saturating_add)
    };
    rating::usage_total(plan, days, units)
}

impl Reservation {
    /// Puts what is billed in the place of what was held back.
    pub fn settle(mut self, billed: Tally) {
        self.settled = true;
        let mut book = self.book.lock();
        if book.bounds.1 != self.period_end {
            return;
        }
        book.let_go(&self.key, self.units);
        let in_trial = self.in_trial;
        let line = book.line(&self.plan);
        let used = if in_trial { &mut line.trial } else { &mut line.rated };
        for (product, units) in billed.iter() {
            used.units.add(product, units);
        }
        used.answers += 1;
        book.keys.entry(self.key.clone()).or_default().used += billed.total();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut book = self.book.lock();
        if book.bounds.1 == self.period_end {
            book.let_go(&self.key, self.units);
        }
    }
}
