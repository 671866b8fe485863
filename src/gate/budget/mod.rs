//! How much a partner may use in a billing month: units (quota) and money (spend cap). Reserved at the estimate before a query
//! runs, corrected to what is billed when it is settled, so that no number of requests at once can go past either; out of what
//! this replica has leased in the database, so that no number of replicas can.
//!
//! What this replica used stands in the ledger; a start reads it from there, once all that is journaled is shipped. Where nothing
//! is limited nothing is leased. Test keys use nothing.

mod block;
mod book;
mod lease;
mod leasing;
mod used;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rust_decimal::Decimal;
use tokio::sync::watch;

use book::Book;
use leasing::Leasing;

use crate::billing::budget_store::{self, Bounds};
use crate::billing::calendar::Calendar;
use crate::billing::plan::Plan;
use crate::billing::store as ledger;
use crate::clock::Micros;
use crate::db::Db;
use crate::error::Refusal;
use crate::ids::{KeyId, PartnerId, ReplicaId};
use crate::metering::Tally;

/// The books of all partners.
pub struct Budgets {
    books: RwLock<HashMap<PartnerId, Arc<Account>>>,
    leasing: Arc<Leasing>,
}

/// One partner's month.
struct Account {
    book: Mutex<Book>,
    /// Held while grants change in the database: one transaction at a time, which the requests behind it mostly profit from.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// The month before, for requests that were admitted in it and are late in coming here.
    before: Mutex<Option<Arc<Account>>>,
}

/// What is asked for, by whom.
#[derive(Clone)]
pub struct Ask {
    /// Who pays.
    pub partner: PartnerId,
    /// Its months.
    pub calendar: Arc<Calendar>,
    /// With which key.
    pub key: KeyId,
    /// The key's own units a month.
    pub key_quota: Option<u64>,
    /// Under which plan.
    pub plan: Arc<Plan>,
    /// At most so many units.
    pub units: Tally,
    /// Admission time.
    pub now: Micros,
}

/// What is held back for a request; given back when it is dropped before it was settled.
pub struct Reservation {
    account: Arc<Account>,
    ask: Ask,
    settled: bool,
}

/// How a quota stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaStanding {
    /// Units a month.
    pub units: u64,
    /// Those that are left: with several replicas, those that none of the others has leased.
    pub left: u64,
    /// How long the month is,
    pub period: Duration,
    /// and how long it still lasts.
    pub ends_in: Duration,
}

impl Budgets {
    /// What every partner used so far, as the ledger has it, for the start of `replica` with this epoch. All that it ever journaled is there already: what it was granted
    /// before and did not use is given back.
    pub async fn open(db: &Db, replica: &ReplicaId, epoch: i64, now: Micros) -> anyhow::Result<Self> {
        let mut transaction = db.begin().await?;
        budget_store::settle(&mut transaction, db.dialect(), replica, now).await?;
        transaction.commit().await?;
        let mut connection = db.snapshot().await?;
        let plans = ledger::plans_by_version(&mut connection).await?;
        // Partners whose month has the same edges are asked for at once.
        let mut by_month: BTreeMap<Bounds, HashMap<PartnerId, Book>> = BTreeMap::new();
        for (partner, calendar) in ledger::calendars(&mut connection, None).await? {
            let bounds = month(&calendar, now);
            by_month.entry(bounds).or_default().insert(partner, Book::new(bounds));
        }
        let mut books = HashMap::new();
        for (bounds, mut of_month) in by_month {
            for used in ledger::usage_by_key(&mut connection, bounds, replica).await? {
                let plan = plans.get(&(used.plan.clone(), used.plan_version));
                if let (Some(book), Some(plan)) = (of_month.get_mut(&used.partner), plan) {
                    book.add_from_ledger(plan, &used);
                }
            }
            books.extend(of_month);
        }
        let books = books.into_iter().map(|(partner, book)| (partner, Account::new(book, None))).collect();
        Ok(Self { books: RwLock::new(books), leasing: Arc::new(Leasing::new(db.clone(), replica.clone(), epoch)) })
    }

    /// Holds back what a request may use, or refuses. Waits for the database only when what is leased does not do.
    pub async fn reserve(&self, ask: Ask) -> Result<Reservation, Refusal> {
        let account = self.account(&ask);
        match account.at_hand(&ask) {
            Some(answer) => {
                if answer.is_ok() {
                    self.leasing.go_ahead(&account, &ask);
                }
                answer
            }
            None => self.leasing.lease(account, ask).await,
        }
    }

    /// How the quotas of a plan and of a key stand.
    pub fn standings(&self, ask: &Ask) -> (Option<QuotaStanding>, Option<QuotaStanding>) {
        if ask.plan.quota.is_none() && ask.key_quota.is_none() {
            return (None, None);
        }
        let account = self.account(ask);
        let book = account.book.lock();
        let (period, ends_in) = (book.bounds.1.since(book.bounds.0), book.bounds.1.since(ask.now));
        let standing = |units: u64, taken: u64| QuotaStanding { units, left: units.saturating_sub(taken), period, ends_in };
        let partner = ask.plan.quota.map(|quota| standing(quota.units, book.units()));
        let key = ask.key_quota.map(|units| standing(units, book.key_units(&ask.key)));
        (partner, key)
    }

    /// Gives back what others ask for and this replica does not use, until `stop` says so; then all that it does not use.
    pub async fn follow(&self, every: Duration, mut stop: watch::Receiver<bool>) {
        while tokio::time::timeout(every, stop.wait_for(|stop| *stop)).await.is_err() {
            self.give_back_wanted().await;
        }
        self.give_back().await;
    }

    /// Gives back what others ask for and this replica does not use.
    pub async fn give_back_wanted(&self) {
        let leased = self.leased();
        if !leased.is_empty() {
            self.leasing.give_back_wanted(&leased).await;
        }
    }

    /// Gives back all that this replica does not use.
    pub async fn give_back(&self) {
        self.leasing.give_back_all(&self.leased()).await;
    }

    fn leased(&self) -> HashMap<PartnerId, Arc<Account>> {
        let books = self.books.read();
        let leased = books.iter().filter(|(_, account)| account.book.lock().has_leases());
        leased.map(|(partner, account)| (partner.clone(), account.clone())).collect()
    }

    /// The book of the month that `ask` was admitted in.
    fn account(&self, ask: &Ask) -> Arc<Account> {
        let known = self.books.read().get(&ask.partner).cloned();
        if let Some(account) = known.filter(|account| !account.book.lock().is_over(ask)) {
            return account.of(ask);
        }
        let mut books = self.books.write();
        let before = books.get(&ask.partner).cloned();
        if let Some(account) = before.as_ref().filter(|account| !account.book.lock().is_over(ask)) {
            return account.of(ask);
        }
        let account = Account::new(Book::new(month(&ask.calendar, ask.now)), before);
        books.insert(ask.partner.clone(), account.clone());
        account
    }
}

impl Account {
    fn new(book: Book, before: Option<Arc<Self>>) -> Arc<Self> {
        // Two months at once are enough.
        if let Some(before) = &before {
            before.before.lock().take();
        }
        Arc::new(Self { book: Mutex::new(book), changing: Default::default(), before: Mutex::new(before) })
    }

    fn of(self: &Arc<Self>, ask: &Ask) -> Arc<Self> {
        let is_early = ask.now < self.book.lock().bounds.0;
        let before = if is_early { self.before.lock().clone() } else { None };
        before.unwrap_or_else(|| self.clone())
    }

    /// What can be said without the database.
    fn at_hand(self: &Arc<Self>, ask: &Ask) -> Option<Result<Reservation, Refusal>> {
        let mut book = self.book.lock();
        if book.fits(ask) {
            book.hold(ask);
            drop(book);
            return Some(Ok(self.reservation(ask.clone())));
        }
        book.refuses(ask).map(Err)
    }

    /// For what is held back.
    fn reservation(self: &Arc<Self>, ask: Ask) -> Reservation {
        Reservation { account: self.clone(), ask, settled: false }
    }
}

impl Ask {
    fn in_trial(&self) -> bool {
        self.calendar.trial_ends_at.is_some_and(|end| self.now < end)
    }

    /// The spend cap that holds for it.
    fn cap(&self) -> Option<Decimal> {
        self.plan.spend_cap.filter(|_| !self.in_trial())
    }
}

fn month(calendar: &Calendar, now: Micros) -> Bounds {
    // Only past the year 9998 is there no next month: then the last one does not end.
    calendar.month_of(now).map_or((now, book::NEVER), |month| (month.from, month.to))
}

impl Reservation {
    /// Puts what is billed in the place of what was held back.
    pub fn settle(mut self, billed: Tally) {
        self.settled = true;
        self.account.book.lock().let_go(&self.ask, Some(billed));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            self.account.book.lock().let_go(&self.ask, None);
        }
    }
}
