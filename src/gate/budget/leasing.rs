//! The way to the database and back: one transaction a lease, under the lock of the partner's month.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use parking_lot::Mutex;
use sqlx::AnyConnection;
use tokio::sync::OwnedMutexGuard;

use super::book::limits;
use super::lease::Decided;
use super::{Account, Ask, Reservation};
use crate::billing::budget_store::{self as store, Bounds, Counted, Grants};
use crate::billing::plan::Plan;
use crate::billing::store as ledger;
use crate::clock::Micros;
use crate::db::{ANSWER_TIMEOUT, Db, within};
use crate::error::Refusal;
use crate::ids::{PartnerId, ReplicaId};
use crate::metering::replica_store;

/// After a failure the database is left alone for so long: who needs it is told at once.
const PAUSE: Duration = Duration::from_secs(1);
/// Clocks and commits of replicas are apart by less than this.
const APART: Duration = Duration::from_secs(10);
/// A stop waits this long; what is not given back then, the next start gives back.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Leasing {
    db: Db,
    replica: ReplicaId,
    epoch: i64,
    failed_at: Mutex<Option<Instant>>,
    is_failing: AtomicBool,
    /// The last time that somebody wanted something back.
    wanted_at: Mutex<Micros>,
}

impl Leasing {
    pub(super) fn new(db: Db, replica: ReplicaId, epoch: i64) -> Self {
        Self {
            db,
            replica,
            epoch,
            failed_at: Mutex::new(None),
            is_failing: AtomicBool::new(false),
            wanted_at: Mutex::new(Micros(0)),
        }
    }

    /// Holds back what a request may use once the database has granted it.
    pub(super) async fn lease(self: &Arc<Self>, account: Arc<Account>, ask: Ask) -> Result<Reservation, Refusal> {
        let alone = account.changing.clone().lock_owned().await;
        // Whoever was before us may have leased enough.
        if let Some(answer) = account.at_hand(&ask) {
            return answer;
        }
        if self.failed_lately() {
            return Err(unavailable());
        }
        let leasing = self.clone();
        // A client that goes away does not take the transaction with it.
        let leased = tokio::spawn(async move { leasing.transact(&account, &ask, false, alone).await });
        match leased.await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(unavailable()),
        }
    }

    /// Leases ahead when little is left of a block, so that no request has to wait.
    pub(super) fn go_ahead(self: &Arc<Self>, account: &Arc<Account>, ask: &Ask) {
        if !account.book.lock().runs_low(ask) || self.failed_lately() {
            return;
        }
        let Ok(alone) = account.changing.clone().try_lock_owned() else { return };
        let (leasing, account, ask) = (self.clone(), account.clone(), ask.clone());
        tokio::spawn(async move { leasing.transact(&account, &ask, true, alone).await });
    }

    /// None when the database did not do it.
    async fn transact(
        &self,
        account: &Arc<Account>,
        ask: &Ask,
        ahead: bool,
        _alone: OwnedMutexGuard<()>,
    ) -> Option<Result<Reservation, Refusal>> {
        let leased = within(ANSWER_TIMEOUT, self.in_a_transaction(account, ask, ahead)).await;
        self.told(&leased);
        let decided = leased.ok().flatten()?;
        let mut book = account.book.lock();
        let refusal = decided.refusal.clone();
        book.take(decided);
        if ahead {
            return None;
        }
        if let Some(refusal) = refusal {
            return Some(Err(refusal));
        }
        book.hold(ask);
        drop(book);
        Some(Ok(account.reservation(ask.clone())))
    }

    async fn in_a_transaction(&self, account: &Account, ask: &Ask, ahead: bool) -> anyhow::Result<Option<Decided>> {
        let (partner, month, asked) = (&ask.partner, account.book.lock().bounds, limits(ask));
        let mut transaction = self.db.begin().await?;
        self.lock(&mut transaction, partner, month).await?;
        let counts = account.book.lock().is_to_be_counted(&asked);
        if counts {
            // What was used under other plan versions costs money too.
            let by_lines = asked.iter().any(|counted| matches!(counted, Counted::Line(..)));
            let is_asked = |counted: &Counted| asked.contains(counted) || (by_lines && matches!(counted, Counted::Line(..)));
            store::count(&mut transaction, self.db.dialect(), partner, month, &self.replica, is_asked).await?;
        }
        let others = store::others(&mut transaction, partner, month, &self.replica).await?;
        let plans = plans(&mut transaction, account, &others).await?;
        let replicas = replica_store::alive(&mut transaction, ask.now).await?;
        let decided = {
            let mut book = account.book.lock();
            book.hear(&others, &plans, &asked);
            book.decide(ask, replicas, ahead)
        };
        let Some(decided) = decided else { return Ok(None) };
        store::grant(&mut transaction, self.db.dialect(), partner, month, &self.replica, &decided.grants).await?;
        if decided.refusal.is_some() {
            store::want(&mut transaction, partner, month, ask.now).await?;
        }
        transaction.commit().await?;
        if counts {
            account.book.lock().is_counted(&asked);
        }
        Ok(Some(decided))
    }

    /// Locks the month for the replica's newest start: a grant is the replica's, and an earlier start would overwrite it.
    async fn lock(&self, connection: &mut AnyConnection, partner: &PartnerId, month: Bounds) -> anyhow::Result<()> {
        store::lock(connection, partner, month).await?;
        let replaced = replica_store::is_replaced(connection, &self.replica, self.epoch).await?;
        ensure!(!replaced, "another process has started with a copy of this data folder: stop one of them");
        Ok(())
    }

    /// Gives back what is wanted by others.
    pub(super) async fn give_back_wanted(&self, leased: &HashMap<PartnerId, Arc<Account>>) {
        let earlier = Micros(self.wanted_at.lock().0.saturating_sub(i64::try_from(APART.as_micros()).unwrap_or(0)));
        let wanted = within(ANSWER_TIMEOUT, async { store::wanted(&mut *self.db.read().await?, earlier).await }).await;
        self.told(&wanted);
        for (partner, month, at) in wanted.unwrap_or_default() {
            {
                let mut last = self.wanted_at.lock();
                *last = at.max(*last);
            }
            let Some(account) = leased.get(&partner) else { continue };
            let is_new = {
                let book = account.book.lock();
                book.bounds.0 == month && book.gave_back_for() < at
            };
            if is_new && !self.give_back(&partner, account, at).await {
                return;
            }
        }
    }

    /// Gives back all that is not used: for a stop.
    pub(super) async fn give_back_all(&self, leased: &HashMap<PartnerId, Arc<Account>>) {
        let all = async {
            for (partner, account) in leased {
                if !self.give_back(partner, account, Micros(0)).await {
                    return;
                }
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("not all leased quota was given back in time; the next start gives it back");
        }
    }

    async fn give_back(&self, partner: &PartnerId, account: &Account, wanted_at: Micros) -> bool {
        let _alone = account.changing.lock().await;
        let decided = {
            let mut book = account.book.lock();
            book.give_back(wanted_at).map(|decided| (book.bounds, decided))
        };
        let Some((month, decided)) = decided else { return true };
        let given = within(ANSWER_TIMEOUT, async {
            let mut transaction = self.db.begin().await?;
            self.lock(&mut transaction, partner, month).await?;
            store::grant(&mut transaction, self.db.dialect(), partner, month, &self.replica, &decided.grants).await?;
            Ok(transaction.commit().await?)
        });
        let given = given.await;
        self.told(&given);
        if given.is_ok() {
            account.book.lock().take(decided);
        }
        given.is_ok()
    }

    fn failed_lately(&self) -> bool {
        self.failed_at.lock().is_some_and(|failed| failed.elapsed() < PAUSE)
    }

    fn told<T>(&self, outcome: &anyhow::Result<T>) {
        match outcome {
            Ok(_) => {
                *self.failed_at.lock() = None;
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("quotas and spend caps can be leased again");
                }
            }
            Err(error) => {
                *self.failed_at.lock() = Some(Instant::now());
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "quotas and spend caps cannot be leased in the database; what is leased is served, then 503"
                    );
                }
            }
        }
    }
}

/// The plan versions under which others used something, and this replica nothing yet.
async fn plans(connection: &mut AnyConnection, account: &Account, others: &Grants) -> anyhow::Result<Vec<Arc<Plan>>> {
    let of = |counted: &Counted| match counted {
        Counted::Line(id, version, _) => Some((id.clone(), *version)),
        Counted::Units | Counted::Key(_) => None,
    };
    let mut unknown: Vec<_> = others.keys().filter_map(of).collect();
    unknown.dedup();
    {
        let book = account.book.lock();
        unknown.retain(|(id, version)| !book.knows(id, *version));
    }
    let mut plans = Vec::new();
    for (id, version) in unknown {
        let versions = ledger::versions(connection, &id).await?.into_iter();
        plans.extend(versions.map(|published| Arc::new(published.plan)).find(|plan| plan.version == version));
    }
    Ok(plans)
}

/// Not "quota exceeded": nobody knows that, and a client that waits for the next month would lose what it paid for.
fn unavailable() -> Refusal {
    Refusal::unavailable(
        "How much of your quota or spending cap is left cannot be looked up for now, so nothing is answered and nothing is billed. Try again.",
    )
}
