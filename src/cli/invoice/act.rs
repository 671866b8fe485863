//! Closing a month, and what happens to an invoice after it.

use super::show;
use crate::billing::Period;
use crate::billing::invoice::evidence::Proven;
use crate::billing::invoice::finalize as invoice;
use crate::billing::invoice::run::{self, Ran};
use crate::billing::invoice::store::{self, State, Stored};
use crate::billing::store as plans;
use crate::cli::context::Context;
use crate::cli::output::{self, Format};
use crate::db::Db;
use crate::directory::admin;
use crate::metering::Archive;
use crate::money::{Currency, Money};

/// Invoices a transaction.
const INVOICES_A_TRANSACTION: usize = 100;

pub(super) async fn run(
    mut context: Context,
    period: Period,
    partner: Option<&str>,
    finalize: bool,
    format: Format,
) -> anyhow::Result<()> {
    context.close_journal().await?;
    let (db, now) = context.db().await?;
    let partner = match partner {
        Some(partner) => Some(admin::find_partner(&mut *db.read().await?, partner, now).await?.id),
        None => None,
    };
    let closable = run::closable(&db, &context.settings.invoice, period, partner.as_ref()).await?;
    let archive = Archive::open(&context.settings.archive, &context.settings.data_dir)?;
    let proven = Proven::read(&db, &archive, &closable).await?;
    let Ran { drafts, empty, left } = run::drafts(&db, &context.settings.invoice, &closable, &proven, &mut context.rng).await?;
    if empty > 0 {
        let partners = if empty == 1 { "partner" } else { "partners" };
        output::complain(&format!("nothing was due from {empty} {partners} in {period}: it is closed for them"));
    }
    if drafts.is_empty() && left.is_empty() && empty == 0 {
        let filter = store::Filter { period: Some(period), partner: partner.as_ref(), state: None };
        let there = store::list(&mut *db.read().await?, &filter).await?;
        let closed = there.iter().filter(|invoice| matches!(invoice.state, State::Finalized | State::Paid)).count();
        anyhow::ensure!(
            closed == 0,
            "{period} is closed: it has {closed} finalized {}, and nothing is left to bill; later usage goes on the next",
            if closed == 1 { "invoice" } else { "invoices" }
        );
        anyhow::bail!("there is nothing to bill in {period}: no partner had a plan or used anything then");
    }
    let invoices = if finalize { finalize_all(&context, &db, drafts).await? } else { drafts };
    if !invoices.is_empty() || format == Format::Json {
        show::print(&mut *db.read().await?, &invoices, format, now).await?;
    }
    left_behind(&left)
}

fn left_behind(left: &[String]) -> anyhow::Result<()> {
    for (place, reason) in left.iter().enumerate() {
        if place < 20 {
            output::complain(reason);
        }
    }
    anyhow::ensure!(left.is_empty(), "{} partners were left out, for the reasons above", left.len());
    Ok(())
}

async fn finalize_all(context: &Context, db: &Db, drafts: Vec<Stored>) -> anyhow::Result<Vec<Stored>> {
    let settings = &context.settings.invoice;
    let plans = plans::plans_by_version(&mut *db.read().await?).await?;
    let mut finalized = Vec::new();
    for drafts in drafts.chunks(INVOICES_A_TRANSACTION) {
        let mut transaction = db.begin().await?;
        let now = db.now().await?;
        for draft in drafts {
            finalized.push(invoice::finalize(&mut transaction, settings, &plans, draft, now).await?);
        }
        transaction.commit().await?;
    }
    Ok(finalized)
}

pub(super) async fn finalize(context: &Context, invoices: &[String], period: Option<Period>) -> anyhow::Result<()> {
    let (db, _) = context.db().await?;
    let mut connection = db.read().await?;
    let mut drafts = Vec::new();
    match period {
        Some(period) => {
            let filter = store::Filter { period: Some(period), partner: None, state: Some(State::Draft) };
            drafts = store::list(&mut connection, &filter).await?;
            anyhow::ensure!(!drafts.is_empty(), "there is no draft of {period}: make them with tollgate invoice run");
        }
        None => {
            for invoice in invoices {
                drafts.push(show::find(&mut connection, invoice).await?);
            }
        }
    }
    drop(connection);
    for invoice in finalize_all(context, &db, drafts).await? {
        output::line(&format!("{} {}", invoice.number.as_deref().unwrap_or_default(), invoice.id))?;
    }
    Ok(())
}

pub(super) async fn void(context: &Context, invoice: &str, reason: &str) -> anyhow::Result<()> {
    let (db, now) = context.db().await?;
    let mut transaction = db.begin().await?;
    let invoice = show::find(&mut transaction, invoice).await?;
    invoice::void(&mut transaction, &invoice, reason, now).await?;
    transaction.commit().await?;
    output::line(&format!("{} is void", invoice.number.as_deref().unwrap_or_default()))
}

pub(super) async fn pay(context: &Context, invoice: &str) -> anyhow::Result<()> {
    let (db, now) = context.db().await?;
    let mut transaction = db.begin().await?;
    let invoice = show::find(&mut transaction, invoice).await?;
    let open = invoice::pay(&mut transaction, &invoice, now).await?;
    transaction.commit().await?;
    let open = Currency::from_code(&invoice.currency).map(|currency| Money { minor: open, currency }.to_string());
    let number = invoice.number.as_deref().unwrap_or_default();
    output::line(&format!("{number} is paid: {} {}", open.unwrap_or_default(), invoice.currency))
}
