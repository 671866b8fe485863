//! How much a partner may use in a billing month: units (quota) and money (spend cap). Reserved at the estimate before a query
//! runs, corrected to what is billed when it is settled, so that no number of requests at once can go past either.
//!
//! What was used stands in the ledger; a start reads it from there, once all that is journaled is shipped. Test keys use
//! nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use parking_lot::{Mutex, RwLock};
use rust_decimal::Decimal;

use crate::billing::plan::{Overage, Plan};
use crate::billing::{Period, rating, store as ledger};
use crate::clock::Micros;
use crate::db::Db;
use crate::directory::{Partner, store as directory};
use crate::error::{Code, Refusal};
use crate::ids::{KeyId, PartnerId};
use crate::metering::{Counted, Meter, Tally};

/// Units and answers.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    units: Tally,
    answers: u64,
}

/// What one partner used in the current month of its time zone.
struct Book {
    zone: TimeZone,
    bounds: (Micros, Micros),
    /// By plan version: the month may have seen several.
    lines: Vec<(Arc<Plan>, Used)>,
    reserved: Used,
    keys: HashMap<KeyId, KeyUse>,
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
    pub partner: &'a Partner,
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
        let plans: HashMap<_, _> = ledger::plans(&mut connection)
            .await?
            .into_iter()
            .map(|published| ((published.plan.id.clone(), published.plan.version), Arc::new(published.plan)))
            .collect();
        let mut by_zone: BTreeMap<String, Vec<Partner>> = BTreeMap::new();
        for partner in directory::partners(&mut connection, now).await? {
            by_zone.entry(partner.timezone.clone()).or_default().push(partner);
        }
        let mut books = HashMap::new();
        for (name, partners) in by_zone {
            let (zone, bounds) = month(&name, now);
            for partner in &partners {
                books.insert(partner.id.clone(), Book::new(zone.clone(), bounds));
            }
            for used in ledger::usage_by_key(&mut connection, bounds.0, bounds.1).await? {
                let plan = plans.get(&(used.plan, used.plan_version));
                if let (Some(book), Some(plan)) = (books.get_mut(&used.partner).filter(|book| book.zone == zone), plan) {
                    book.add_from_ledger(plan, used.key, used.meter, used.units);
                }
            }
        }
        let books = books.into_iter().map(|(partner, book)| (partner, Arc::new(Mutex::new(book)))).collect();
        Ok(Self { books: RwLock::new(books) })
    }

    /// Holds back what a request may use, or refuses.
    pub fn reserve(&self, ask: Ask<'_>) -> Result<Reservation, Refusal> {
        let shared = self.book(ask.partner, ask.now);
        let mut book = shared.lock();
        book.turn(ask.now);
        book.check_quota(&ask)?;
        book.check_key_quota(&ask)?;
        book.check_spend(&ask)?;
        book.hold(ask.key, ask.units);
        let period_end = book.bounds.1;
        drop(book);
        let (plan, key) = (ask.plan.clone(), ask.key.clone());
        Ok(Reservation { book: shared, plan, key, units: ask.units, period_end, settled: false })
    }

    /// How the quotas of a plan and of a key stand.
    pub fn standings(&self, ask: &Ask<'_>) -> (Option<QuotaStanding>, Option<QuotaStanding>) {
        if ask.plan.quota.is_none() && ask.key_quota.is_none() {
            return (None, None);
        }
        let shared = self.book(ask.partner, ask.now);
        let mut book = shared.lock();
        book.turn(ask.now);
        let (period, ends_in) = (book.bounds.1.since(book.bounds.0), book.bounds.1.since(ask.now));
        let standing = |units: u64, taken: u64| QuotaStanding { units, left: units.saturating_sub(taken), period, ends_in };
        let partner = ask.plan.quota.map(|quota| standing(quota.units, book.units()));
        let key = ask.key_quota.map(|units| standing(units, book.key_units(ask.key)));
        (partner, key)
    }

    fn book(&self, partner: &Partner, now: Micros) -> Arc<Mutex<Book>> {
        if let Some(book) = self.books.read().get(&partner.id) {
            return book.clone();
        }
        let (zone, bounds) = month(&partner.timezone, now);
        let fresh = || Arc::new(Mutex::new(Book::new(zone, bounds)));
        self.books.write().entry(partner.id.clone()).or_insert_with(fresh).clone()
    }
}

fn month(zone: &str, now: Micros) -> (TimeZone, (Micros, Micros)) {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    // Only past the year 9998 is there no next month: then the last one does not end.
    let bounds = Period::containing(now, &zone).bounds(&zone).unwrap_or((now, Micros(i64::MAX)));
    (zone, bounds)
}

impl Book {
    fn new(zone: TimeZone, bounds: (Micros, Micros)) -> Self {
        Self { zone, bounds, lines: Vec::new(), reserved: Used::default(), keys: HashMap::new() }
    }

    fn add_from_ledger(&mut self, plan: &Arc<Plan>, key: KeyId, meter: Meter, units: u64) {
        let used = self.line(plan);
        match meter.product() {
            Some(product) => {
                used.units.add(product, units);
                self.keys.entry(key).or_default().used += units;
            }
            None => used.answers += units,
        }
    }

    fn line(&mut self, plan: &Arc<Plan>) -> &mut Used {
        let same = |it: &(Arc<Plan>, Used)| it.0.id == plan.id && it.0.version == plan.version;
        let place = self.lines.iter().position(same).unwrap_or_else(|| {
            self.lines.push((plan.clone(), Used::default()));
            self.lines.len() - 1
        });
        &mut self.lines[place].1
    }

    /// Begins the month of `now`, when the last one is over.
    fn turn(&mut self, now: Micros) {
        if now >= self.bounds.1 {
            self.bounds = Period::containing(now, &self.zone).bounds(&self.zone).unwrap_or((now, Micros(i64::MAX)));
            self.lines.clear();
            self.keys.clear();
            self.reserved = Used::default();
        }
    }

    fn units(&self) -> u64 {
        let used = self.lines.iter().map(|(_, used)| used.units.total());
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

    fn check_spend(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let Some(cap) = ask.plan.spend_cap else { return Ok(()) };
        let (before, after) = (self.spend(ask.plan, None), self.spend(ask.plan, Some(ask.units)));
        if after.is_some_and(|after| after <= cap || Some(after) == before) {
            return Ok(());
        }
        let (currency, until) = (ask.plan.currency.code(), self.bounds.1);
        let message = format!(
            "This query could take your spending past its cap of {cap} {currency} until {until}. Ask for less, or ask your provider for a higher cap."
        );
        Err(Refusal::new(Code::SpendCapReached, message))
    }

    /// What the month costs in the plan's currency, with what is held back and `more`; none when it cannot be counted.
    fn spend(&self, plan: &Arc<Plan>, more: Option<Tally>) -> Option<Decimal> {
        let is_current = |it: &Arc<Plan>| it.id == plan.id && it.version == plan.version;
        let current = self.lines.iter().find(|(it, _)| is_current(it)).map(|(_, used)| *used).unwrap_or_default();
        let mut others = self.lines.iter().filter(|(it, _)| !is_current(it) && it.currency == plan.currency);
        let mut sum = others.try_fold(Decimal::ZERO, |sum, (plan, used)| sum.checked_add(cost(plan, &[*used])?))?;
        let more = more.map(|units| Used { units, answers: 1 }).unwrap_or_default();
        sum = sum.checked_add(cost(plan, &[current, self.reserved, more])?)?;
        Some(sum)
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

/// Rated as the invoice rates it, line by line.
fn cost(plan: &Plan, parts: &[Used]) -> Option<Decimal> {
    let mut units: BTreeMap<Meter, Counted> = BTreeMap::new();
    for part in parts {
        for (product, used) in part.units.iter() {
            let sum = &mut units.entry(product.into()).or_default().units;
            *sum = sum.checked_add(used)?;
        }
        let sum = &mut units.entry(Meter::Requests).or_default().units;
        *sum = sum.checked_add(part.answers)?;
    }
    let total = rating::total(&rating::rate(plan, &units).ok()?, plan).ok()?;
    Some(Decimal::new(total.minor, total.currency.exponent()))
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
        let used = book.line(&self.plan);
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
