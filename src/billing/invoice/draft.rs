//! A run's drafts: a month that is over everywhere becomes one document for each partner and currency.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use rand::Rng;
use rust_decimal::Decimal;
use sqlx::AnyConnection;

use super::lines::{self, Basis, Keyed, MonthUsage, Plans};
use super::store::{self, State, Stored};
use super::{Cut, sha256};
use crate::billing::Period;
use crate::billing::calendar::{Calendar, Month};
use crate::billing::document::{self, Evidence, Party, Span, Tax};
use crate::billing::store as ledger;
use crate::clock::Micros;
use crate::config;
use crate::db::dialect::Dialect;
use crate::directory::Partner;
use crate::ids::{InvoiceId, ReplicaId};
use crate::money::{Currency, Money};

/// Lines by currency, and what they were made from.
#[derive(Debug)]
pub struct Computed {
    /// The month.
    pub month: Month,
    /// In the order in which currencies were met.
    pub lines: Vec<(Currency, Vec<Keyed>)>,
    /// The month, and the earlier ones to which usage came late.
    pub usage: BTreeMap<Period, MonthUsage>,
    /// The last record of each journal in it.
    pub positions: Cut,
    /// Answers of the month itself that journal records stand behind.
    pub answers: u64,
}

/// Earlier months with usage that the partner's invoices before `period` have not.
#[derive(Clone, Debug, Default)]
pub struct Late {
    /// In order.
    pub months: BTreeSet<Period>,
    /// By currency, since each has its invoices: the month of the newest, and how far it went.
    newest: BTreeMap<String, (Period, Arc<Cut>)>,
}

impl Late {
    /// The records of a month that invoices in a currency have: those at or below it.
    pub fn billed_to(&self, period: Period, currency: &str) -> Arc<Cut> {
        let newest = self.newest.get(currency).filter(|(of, _)| *of >= period);
        newest.map(|(_, cut)| cut.clone()).unwrap_or_default()
    }
}

/// Looks for usage that came late.
pub async fn late(
    connection: &mut AnyConnection,
    partner: &Partner,
    calendar: &Calendar,
    period: Period,
) -> anyhow::Result<Late> {
    let month = calendar.month(period)?;
    let cells = ledger::late_cells(connection, &partner.id, month.from).await?;
    if cells.is_empty() {
        return Ok(Late::default());
    }
    // Ascending, so that the newest of each currency stays.
    let mut invoices = BTreeMap::new();
    for invoice in store::counting(connection, &partner.id, period.previous()?).await? {
        invoices.insert(invoice.currency, (invoice.period, invoice.cut));
    }
    let closed_empty = store::closed_empty(connection, &partner.id, period.previous()?).await?;
    let mut newest = BTreeMap::new();
    for (currency, (of, cut)) in invoices {
        newest.insert(currency, (of, Arc::new(store::cut(connection, &cut).await?)));
    }
    let billed_by_all =
        |journal: &(ReplicaId, i64)| newest.values().map(|(_, cut)| cut.get(journal).copied().unwrap_or(0)).min().unwrap_or(0);
    let mut months = BTreeSet::new();
    for (cell, journal, last) in cells {
        let month = calendar.month_of(cell)?.period;
        // A month that was not closed yet has its own invoice to come.
        let is_closed = newest.values().map(|(closed, _)| *closed).chain(closed_empty).any(|closed| closed >= month);
        if last > billed_by_all(&journal) && is_closed {
            months.insert(month);
        }
    }
    Ok(Late { months, newest })
}

/// What the invoice of a partner's month says as the ledger stands.
pub async fn compute(
    connection: &mut AnyConnection,
    plans: &Plans,
    partner: &Partner,
    calendar: &Calendar,
    period: Period,
) -> anyhow::Result<(Computed, Late)> {
    let late = late(connection, partner, calendar, period).await?;
    let month = calendar.month(period)?;
    let mut usage = BTreeMap::new();
    let mut positions = Cut::new();
    let mut answers = 0;
    for &of in late.months.iter().chain([&period]) {
        let Month { from, to, .. } = calendar.month(of)?;
        let ledger = ledger::month_ledger(connection, &partner.id, (from, to), calendar.trial_ends_at).await?;
        usage.insert(of, ledger.usage);
        if of == period {
            answers = ledger.answers;
        }
        for (journal, last) in ledger.positions {
            let known = positions.entry(journal).or_default();
            *known = last.max(*known);
        }
    }
    let billed = store::billed(connection, &partner.id, Micros(i64::MAX)).await?;
    let lines = lines::lines(period, &Basis { calendar, plans, usage: &usage, billed: &billed })?;
    Ok((Computed { month, lines, usage, positions, answers }, late))
}

/// What all documents of a run share.
pub struct House<'a> {
    /// Seller, terms and numbers.
    pub settings: &'a config::Invoice,
    /// Every plan version.
    pub plans: &'a Plans,
    /// When the run was started.
    pub now: Micros,
    /// The id of its cut.
    pub cut: &'a str,
    /// For inserts.
    pub dialect: Dialect,
}

/// Stores the drafts of a partner's month, in place of those that were there. `evidence` is asked for each currency. With them,
/// whether anything changed.
pub async fn store_drafts(
    connection: &mut AnyConnection,
    house: &House<'_>,
    (partner, calendar): (&Partner, &Calendar),
    computed: &Computed,
    mut evidence: impl FnMut(Currency) -> Evidence,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<(Vec<Stored>, bool)> {
    let mut changed = store::remove_drafts(connection, &partner.id, computed.month.period).await?;
    let had_begun = calendar.subscriptions().first().is_some_and(|first| first.from < computed.month.to);
    if computed.lines.is_empty() && had_begun {
        changed |= store::close_empty(connection, &partner.id, computed.month.period, house.cut, house.now).await?;
    }
    let mut drafts = Vec::new();
    for (currency, lines) in &computed.lines {
        let id = InvoiceId::new(house.now, rng);
        let header = Header {
            id: id.clone(),
            month: &computed.month,
            seller: seller(house.settings),
            buyer: partner.details.party(&partner.name),
            partner,
            tax_rate: partner.details.tax_rate(),
            exemption: partner.details.exemption.clone(),
        };
        let (invoice, amounts) = document(header, *currency, lines, evidence(*currency))?;
        let body = serde_json::to_string(&invoice)?;
        let draft = Stored {
            id,
            partner: partner.id.clone(),
            period: computed.month.period,
            currency: currency.code().to_owned(),
            state: State::Draft,
            number: None,
            cut: house.cut.to_owned(),
            sha256: sha256(&body),
            body,
            subtotal: amounts.subtotal.minor,
            tax: amounts.tax.minor,
            total: amounts.total.minor,
            created_at: house.now,
            finalized_at: None,
            paid_at: None,
            voided_at: None,
            void_reason: None,
        };
        // A currency whose invoice of this month is finalized is left alone: what came since stands on the next one.
        if store::insert(connection, house.dialect, &draft, lines).await? {
            drafts.push(draft);
        }
    }
    changed |= !drafts.is_empty();
    Ok((drafts, changed))
}

fn seller(settings: &config::Invoice) -> Party {
    let config::Seller { name, address, tax_id, email, payment } = settings.seller.clone();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Party { name, address, tax_id: some(tax_id), email: some(email), payment }
}

struct Header<'a> {
    id: InvoiceId,
    month: &'a Month,
    seller: Party,
    buyer: Party,
    partner: &'a Partner,
    tax_rate: Decimal,
    exemption: Option<String>,
}

/// What a document comes to.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Before tax.
    pub subtotal: Money,
    /// On it.
    pub tax: Money,
    /// Both.
    pub total: Money,
}

/// The amounts of lines at a tax rate.
pub fn amounts(currency: Currency, lines: &[Keyed], tax_rate: Decimal) -> anyhow::Result<Amounts> {
    let subtotal = lines::total(currency, lines)?;
    let tax = subtotal.percent(tax_rate);
    let total = tax.and_then(|tax| subtotal.checked_add(tax));
    let (tax, total) = tax.zip(total).context("the tax is more money than can be counted")?;
    Ok(Amounts { subtotal, tax, total })
}

fn document(
    header: Header<'_>,
    currency: Currency,
    lines: &[Keyed],
    evidence: Evidence,
) -> anyhow::Result<(document::Invoice, Amounts)> {
    let amounts = amounts(currency, lines, header.tax_rate)?;
    let Month { period, from, to, zone } = header.month;
    let invoice = document::Invoice {
        v: 1,
        id: header.id,
        number: None,
        issued_at: None,
        due_on: None,
        period: Span {
            month: period.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            timezone: zone.iana_name().unwrap_or("UTC").to_owned(),
        },
        seller: header.seller,
        buyer: header.buyer,
        partner: header.partner.id.clone(),
        currency: currency.code().to_owned(),
        lines: lines.iter().map(|line| line.line.clone()).collect(),
        subtotal: amounts.subtotal.to_string(),
        tax: Tax { rate: header.tax_rate.normalize().to_string(), exemption: header.exemption, amount: amounts.tax.to_string() },
        total: amounts.total.to_string(),
        evidence,
    };
    Ok((invoice, amounts))
}

/// Makes a stored invoice's body again, from usage that was counted anew: byte for byte the same, or something is wrong. What
/// its makers chose (names, addresses, tax rate, number, days) is taken from the document.
pub async fn rebuild(
    connection: &mut AnyConnection,
    plans: &Plans,
    stored: &Stored,
    usage: &BTreeMap<Period, MonthUsage>,
    evidence: Evidence,
) -> anyhow::Result<String> {
    let invoice: document::Invoice = serde_json::from_str(&stored.body).context("its document cannot be read")?;
    let calendar = ledger::calendar(connection, &stored.partner).await?;
    let billed = store::billed(connection, &stored.partner, stored.finalized_at.unwrap_or(Micros(i64::MAX))).await?;
    let lines = lines::lines(stored.period, &Basis { calendar: &calendar, plans, usage, billed: &billed })?;
    let currency = Currency::from_code(&stored.currency).with_context(|| format!("\"{}\" is no currency", stored.currency))?;
    let lines = lines.into_iter().find(|(of, _)| *of == currency).map(|(_, lines)| lines).unwrap_or_default();
    let rate: Decimal = invoice.tax.rate.parse().context("its tax rate cannot be read")?;
    let amounts = amounts(currency, &lines, rate)?;
    let month = calendar.month(stored.period)?;
    let again = document::Invoice {
        period: Span {
            month: stored.period.to_string(),
            from: month.from.to_string(),
            to: month.to.to_string(),
            timezone: month.zone.iana_name().unwrap_or("UTC").to_owned(),
        },
        lines: lines.into_iter().map(|line| line.line).collect(),
        subtotal: amounts.subtotal.to_string(),
        tax: Tax { amount: amounts.tax.to_string(), ..invoice.tax },
        total: amounts.total.to_string(),
        evidence,
        ..invoice
    };
    Ok(serde_json::to_string(&again)?)
}
