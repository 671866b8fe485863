//! What happens to an invoice: finalized, paid, or void. Each in one transaction with its booking.

use anyhow::{Context, bail, ensure};
use sqlx::AnyConnection;

use super::draft;
use super::lines::Plans;
use super::sha256;
use super::store::{self, State, Stored};
use crate::billing::books::{self, Account, Event, Transaction};
use crate::billing::credit;
use crate::billing::document;
use crate::billing::store as ledger;
use crate::clock::Micros;
use crate::config;
use crate::directory::store as directory;

/// The series that invoices take their numbers from.
const SERIES: &str = "invoice";

/// Gives a draft its number and its day, and books it. Refuses a draft that is no longer what the ledger says.
pub async fn finalize(
    connection: &mut AnyConnection,
    settings: &config::Invoice,
    plans: &Plans,
    invoice: &Stored,
    now: Micros,
) -> anyhow::Result<Stored> {
    ensure!(
        !settings.seller.name.trim().is_empty(),
        "an invoice names its seller: set invoice.seller.name (and address, tax_id, payment), then run the month again"
    );
    // First: its row is locked until the transaction ends, so that invoices are finalized one after the other.
    let taken = store::take_number(connection, SERIES).await?;
    let number = format!("{}{taken:06}", settings.number_prefix);
    let what = format!("the draft {} of {}", invoice.id, invoice.period);
    match invoice.state {
        State::Draft => {}
        State::Finalized | State::Paid | State::Void => {
            let number = invoice.number.as_deref().unwrap_or_default();
            bail!("{number} is {} already: only a draft can be finalized", invoice.state)
        }
    }
    let partner = directory::partner_by_id(connection, &invoice.partner, now).await?;
    let partner = partner.with_context(|| format!("{what} is of an unknown partner"))?;
    let calendar = ledger::calendar(connection, &partner.id).await?;
    let (computed, _) = draft::compute(connection, plans, &partner, &calendar, invoice.period).await?;
    let mut body: document::Invoice = serde_json::from_str(&invoice.body).with_context(|| format!("{what} cannot be read"))?;
    let lines = computed.lines.iter().find(|(currency, _)| currency.code() == invoice.currency);
    let lines: Vec<_> = lines.map(|(_, lines)| lines.iter().map(|line| line.line.clone()).collect()).unwrap_or_default();
    let same_parties = body.seller.name == settings.seller.name
        && body.buyer == partner.details.party(&partner.name)
        && body.tax.rate == partner.details.tax_rate().normalize().to_string()
        && body.tax.exemption == partner.details.exemption;
    ensure!(
        body.lines == lines && same_parties,
        "{what} for {} is no longer what the ledger, the settings and the partner's details say: run the month again, look at it, and finalize that",
        partner.name
    );
    let issued_on = now.timestamp().to_zoned(computed.month.zone.clone()).date();
    let due_on = issued_on.checked_add(jiff::Span::new().days(i64::from(settings.payment_days)))?;
    body.number = Some(number.clone());
    body.issued_at = Some(now.to_string());
    body.due_on = Some(due_on.to_string());
    let body = serde_json::to_string(&body)?;
    let hash = sha256(&body);
    let done = store::finalize(connection, &invoice.id, &number, &body, &hash, now).await?;
    ensure!(done, "{what} was finalized or made anew by somebody else just now: look again");
    let entries = vec![(Account::Receivable, invoice.total), (Account::Revenue, -invoice.subtotal), (Account::Tax, -invoice.tax)];
    book(connection, invoice, Event::Invoice, now, entries).await?;
    Ok(Stored { state: State::Finalized, number: Some(number), body, sha256: hash, finalized_at: Some(now), ..invoice.clone() })
}

async fn book(
    connection: &mut AnyConnection,
    invoice: &Stored,
    event: Event,
    at: Micros,
    entries: Vec<(Account, i64)>,
) -> anyhow::Result<()> {
    let (document, partner, currency) = (invoice.id.as_str(), &invoice.partner, invoice.currency.as_str());
    books::store::book(connection, &Transaction { event, document, partner, currency, at, entries }).await
}

/// The number of a finalized invoice; for a draft, the sentence that it is one.
fn number(invoice: &Stored) -> anyhow::Result<&str> {
    let number = invoice.number.as_deref();
    number.with_context(|| format!("{} is a draft: run its month again to change it, or finalize it first", invoice.id))
}

/// Voids a finalized invoice, so that its month can be run again. It must be the partner's newest, because later ones were held
/// against it.
pub async fn void(connection: &mut AnyConnection, invoice: &Stored, reason: &str, now: Micros) -> anyhow::Result<()> {
    let number = number(invoice)?;
    ensure!(!reason.trim().is_empty() && reason.len() <= 500, "a void needs its reason, of 1 to 500 bytes");
    if let Some(later) = store::later(connection, &invoice.partner, invoice.period).await?.first() {
        let name = later.number.as_deref().unwrap_or(later.id.as_str());
        bail!("{number} cannot be voided: {name} of {} was made after it; void that one first, or credit {number}", later.period);
    }
    let credited = credit::store::of_invoice(connection, &invoice.id).await?;
    ensure!(
        credited.is_empty(),
        "{number} has {} credit notes and cannot be voided: credit what is left of it instead",
        credited.len()
    );
    if !store::void(connection, &invoice.id, reason, now).await? {
        bail!("{number} is {} and cannot be voided: only a finalized one can, before it is paid", invoice.state);
    }
    let entries = vec![(Account::Receivable, -invoice.total), (Account::Revenue, invoice.subtotal), (Account::Tax, invoice.tax)];
    book(connection, invoice, Event::Void, now, entries).await
}

/// Says that what is open of a finalized invoice was paid.
pub async fn pay(connection: &mut AnyConnection, invoice: &Stored, now: Micros) -> anyhow::Result<i64> {
    let number = number(invoice)?;
    if !store::pay(connection, &invoice.id, now).await? {
        bail!("{number} is {} and cannot be paid: only a finalized one can", invoice.state);
    }
    // Behind the update, whose row lock keeps a credit note from coming in between.
    let credited: i64 = credit::store::of_invoice(connection, &invoice.id).await?.iter().map(|note| note.total).sum();
    let open = invoice.total - credited;
    book(connection, invoice, Event::Payment, now, vec![(Account::Receivable, -open), (Account::Cash, open)]).await?;
    Ok(open)
}
