//! The run: looks whether a month can be closed, and makes its drafts.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail, ensure};
use rand::Rng;
use sqlx::AnyConnection;

use super::Cut;
use super::draft::{self, House, Late};
use super::evidence::Proven;
use super::lines::Plans;
use super::store::{self, State, Stored};
use crate::billing::Period;
use crate::billing::calendar::{Calendar, Month, PlanVersion};
use crate::billing::store as ledger;
use crate::clock::Micros;
use crate::config;
use crate::db::Db;
use crate::directory::{Partner, store as directory};
use crate::ids::{PartnerId, ReplicaId};
use crate::money::Currency;

/// Partners a transaction: a draft is small, a commit is not.
const PARTNERS_A_TRANSACTION: usize = 100;

/// A month that can be closed, as it stood at one instant.
pub struct Closable {
    /// The month.
    pub period: Period,
    /// By the database's clock.
    pub now: Micros,
    /// Every plan version.
    pub plans: Plans,
    /// Who is billed.
    pub accounts: Vec<Account>,
    /// How far the archive goes.
    pub archived: Cut,
    /// What is billed: the same, and what retired replicas shipped without archiving it.
    pub cut: Cut,
}

/// A partner of the run.
pub struct Account {
    /// Who.
    pub partner: Partner,
    /// Its months.
    pub calendar: Calendar,
    /// The month to close.
    pub month: Month,
    /// Earlier months that have more usage now.
    pub late: Late,
}

impl Account {
    /// The currencies that its plan versions have, with those versions.
    pub fn currencies(&self, plans: &Plans) -> BTreeMap<&'static str, Vec<PlanVersion>> {
        let mut currencies: BTreeMap<&'static str, Vec<PlanVersion>> = BTreeMap::new();
        for subscribed in self.calendar.subscriptions() {
            if let Some(plan) = plans.get(&subscribed.plan) {
                currencies.entry(plan.currency.code()).or_default().push(subscribed.plan.clone());
            }
        }
        currencies
    }
}

/// Looks whether `period` can be closed for one partner, or for all.
pub async fn closable(db: &Db, settings: &config::Invoice, period: Period, only: Option<&PartnerId>) -> anyhow::Result<Closable> {
    let now = db.now().await?;
    let mut connection = db.snapshot().await?;
    let plans = ledger::plans_by_version(&mut connection).await?;
    let mut calendars = ledger::calendars(&mut connection, only).await?;
    let replicas = store::replicas(&mut connection).await?;
    let archived = store::archived(&mut connection).await?;
    let mut cut = archived.clone();
    for (journal, last) in store::shipped_by_retired(&mut connection).await? {
        let known = cut.entry(journal).or_default();
        *known = last.max(*known);
    }
    let invoices_before = store::counting_of(&mut connection, period.previous()?).await?;
    let mut accounts = Vec::new();
    for partner in directory::partners(&mut connection, now).await? {
        let Some(calendar) = calendars.remove(&partner.id) else { continue };
        let month = calendar.month(period)?;
        let closes = month.to.plus(settings.grace);
        ensure!(
            now >= closes,
            "{period} is still open for {}: it ends at {}, and can be closed from {closes} on (invoice.grace)",
            partner.name,
            month.to,
        );
        let behind = replicas.iter().find(|replica| !replica.retired && replica.watermark < month.to);
        if let Some(replica) = behind {
            bail!(
                "{period} cannot be closed yet: the replica {} has reported its usage up to {} only; let it catch up, start it, \
                 or, if it is gone for good, tollgate replica retire {}",
                replica.id,
                replica.watermark,
                replica.id
            );
        }
        check_month_before(&mut connection, &plans, (&partner, &calendar), period, &invoices_before).await?;
        let late = draft::late(&mut connection, &partner, &calendar, period).await?;
        accounts.push(Account { partner, calendar, month, late });
    }
    ensure!(!accounts.is_empty(), "there is no partner to bill: see tollgate partner list");
    Ok(Closable { period, now, plans, accounts, archived, cut })
}

/// Months are billed in order: what is billed in advance, or late, is held against what was billed before.
async fn check_month_before(
    connection: &mut AnyConnection,
    plans: &Plans,
    (partner, calendar): (&Partner, &Calendar),
    period: Period,
    invoices_before: &HashMap<PartnerId, Vec<State>>,
) -> anyhow::Result<()> {
    let Some(began) = calendar.subscriptions().first() else { return Ok(()) };
    let before = period.previous()?;
    if calendar.month(before)?.to <= began.from {
        return Ok(());
    }
    let of_before = invoices_before.get(&partner.id).map(Vec::as_slice).unwrap_or_default();
    if of_before.contains(&State::Draft) {
        bail!("the invoice of {} for {before} is a draft: finalize it before {period} is run", partner.name);
    }
    if of_before.is_empty() && store::closed_empty(connection, &partner.id, before).await? < Some(before) {
        let (computed, _) = draft::compute(connection, plans, partner, calendar, before).await?;
        ensure!(computed.lines.is_empty(), "{} has no invoice for {before}: run that month first", partner.name);
    }
    Ok(())
}

/// What a run made.
#[derive(Debug, Default)]
pub struct Ran {
    /// The drafts.
    pub drafts: Vec<Stored>,
    /// Partners of which nothing was due: the month is closed for them now.
    pub empty: usize,
    /// Partners that were left out, with the reason; running again makes their drafts.
    pub left: Vec<String>,
}

/// Makes the drafts of a month; those that were there are made anew, finalized ones are left alone.
pub async fn drafts(
    db: &Db,
    settings: &config::Invoice,
    closable: &Closable,
    proven: &Proven,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<Ran> {
    let cut_id = format!("cut_{}", crate::ids::InvoiceId::new(closable.now, rng).as_str().trim_start_matches("inv_"));
    let house = House { settings, plans: &closable.plans, now: closable.now, cut: &cut_id, dialect: db.dialect() };
    let mut ran = Ran::default();
    let mut cut_is_kept = false;
    for accounts in closable.accounts.chunks(PARTNERS_A_TRANSACTION) {
        let mut transaction = db.begin_snapshot().await?;
        let mut changed = false;
        for Account { partner, calendar, .. } in accounts.iter() {
            let (computed, _) = draft::compute(&mut transaction, &closable.plans, partner, calendar, closable.period).await?;
            if let Some(journal) = beyond(closable, &computed.positions) {
                ran.left.push(format!(
                    "{}: usage of the replica {} is not in the archive yet; run again in a moment",
                    partner.name, journal.0
                ));
                continue;
            }
            let counted = computed.answers;
            let found = proven.records(&partner.id);
            if counted != found && closable.cut == closable.archived {
                ran.left.push(format!(
                    "{}: the ledger counts {counted} answers in {}, but the archive has {found} records of them; see tollgate usage verify",
                    partner.name, closable.period
                ));
                continue;
            }
            let of = |currency: Currency| proven.evidence(&partner.id, currency);
            let (drafts, stored) = draft::store_drafts(&mut transaction, &house, (partner, calendar), &computed, of, rng).await?;
            changed |= stored;
            ran.empty += usize::from(stored && drafts.is_empty());
            ran.drafts.extend(drafts);
        }
        // A run that has nothing to say leaves no trace.
        if !changed {
            continue;
        }
        if !cut_is_kept {
            store::insert_cut(&mut transaction, db.dialect(), &cut_id, &closable.cut).await?;
            cut_is_kept = true;
        }
        transaction.commit().await.context("the drafts could not be stored")?;
    }
    Ok(ran)
}

/// A journal with records that are counted and not archived.
fn beyond<'a>(closable: &Closable, positions: &'a Cut) -> Option<&'a (ReplicaId, i64)> {
    let is_beyond = |(journal, last): &(&'a (ReplicaId, i64), &u64)| {
        // A replica without an id: cells from before positions were kept.
        !journal.0.as_str().is_empty() && **last > closable.cut.get(*journal).copied().unwrap_or(0)
    };
    positions.iter().find(is_beyond).map(|(journal, _)| journal)
}
