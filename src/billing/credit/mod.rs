//! Credit notes: what an invoice had too much, whole or in part, never above what is left of it (docs/billing.md, Books).

pub mod store;

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use rand::Rng;
use rust_decimal::Decimal;
use sqlx::AnyConnection;

use super::books::{self, Account, Event, Transaction};
use super::document::{self, CreditLine, Tax};
use super::invoice::store as invoices;
use super::invoice::store::{State, Stored};
use super::invoice::{self};
use crate::clock::Micros;
use crate::config;
use crate::ids::CreditNoteId;
use crate::money::{Currency, Money};
use store::Note;

/// The series that credit notes take their numbers from.
const SERIES: &str = "credit_note";

/// What is credited; net amounts, before tax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// All that is left.
    Whole,
    /// An amount on the whole.
    Amount(Decimal),
    /// Of lines, from 1: an amount of each, or all that is left of it.
    Lines(Vec<(u64, Option<Decimal>)>),
}

/// Issues a credit note.
pub async fn create(
    connection: &mut AnyConnection,
    settings: &config::Invoice,
    stored: &Stored,
    what: &What,
    reason: &str,
    now: Micros,
    rng: &mut (impl Rng + Send),
) -> anyhow::Result<Note> {
    // First: its row is locked, so that two notes are not held against the same rest.
    let taken = invoices::take_number(connection, SERIES).await?;
    let stored = invoices::find(connection, stored.id.as_str()).await?.context("the invoice is gone")?;
    let number = match (&stored.number, stored.state) {
        (Some(number), State::Finalized | State::Paid) => number.clone(),
        (Some(number), _) => bail!("{number} is void, and nothing is owed of it: there is nothing to credit"),
        (None, _) => bail!("{} is a draft: run its month again to change it, or finalize it first", stored.id),
    };
    ensure!(!reason.trim().is_empty() && reason.len() <= 500, "a credit note needs its reason, of 1 to 500 bytes");
    let invoice: document::Invoice = serde_json::from_str(&stored.body).with_context(|| format!("{number} cannot be read"))?;
    let currency = Currency::from_code(&stored.currency).with_context(|| format!("{number} has an unknown currency"))?;
    let before = store::of_invoice(connection, &stored.id).await?;
    let left = Left::new(currency, &stored, &before)?;
    let (lines, net) = left.take(&number, &invoice, what)?;
    let rate: Decimal = invoice.tax.rate.parse().context("its tax rate cannot be read")?;
    let tax = left.tax(net, rate)?;
    let total = net.checked_add(tax).context("the credit is more money than can be counted")?;
    let id = CreditNoteId::new(now, rng);
    let note = document::CreditNote {
        v: 1,
        number: format!("{}{taken:06}", settings.credit_note_prefix),
        issued_at: now.to_string(),
        invoice: number,
        invoice_issued_at: invoice.issued_at.unwrap_or_default(),
        seller: invoice.seller,
        buyer: invoice.buyer,
        partner: invoice.partner,
        reason: reason.to_owned(),
        currency: stored.currency.clone(),
        lines,
        net: net.to_string(),
        tax: Tax { amount: tax.to_string(), ..invoice.tax },
        total: total.to_string(),
    };
    let body = serde_json::to_string(&note)?;
    let sha256 = invoice::sha256(&body);
    let invoice = stored.id.clone();
    let note = Note {
        id,
        number: note.number,
        invoice,
        sha256,
        body,
        net: net.minor,
        tax: tax.minor,
        total: total.minor,
        created_at: now,
    };
    store::insert(connection, &note).await?;
    let entries = vec![(Account::Receivable, -note.total), (Account::Tax, note.tax), (Account::Credits, note.net)];
    let (document, partner, currency) = (note.id.as_str(), &stored.partner, stored.currency.as_str());
    let event = Event::CreditNote;
    books::store::book(connection, &Transaction { event, document, partner, currency, at: now, entries }).await?;
    Ok(note)
}

/// What is left of an invoice.
struct Left {
    currency: Currency,
    /// Before tax.
    net: Money,
    /// Of the tax.
    tax: Money,
    /// Credited so far, before tax,
    net_before: Money,
    /// and of the tax.
    tax_before: Money,
    /// Credited so far by line.
    lines: BTreeMap<u64, Money>,
}

impl Left {
    fn new(currency: Currency, stored: &Stored, before: &[Note]) -> anyhow::Result<Self> {
        let money = |minor| Money { minor, currency };
        let (mut net, mut tax, mut lines) = (0, 0, BTreeMap::new());
        for note in before {
            net += note.net;
            tax += note.tax;
            let document: document::CreditNote =
                serde_json::from_str(&note.body).with_context(|| format!("{} cannot be read", note.number))?;
            for line in document.lines {
                let credited = lines.entry(line.line).or_insert(money(0));
                *credited = credited.checked_add(parsed(&line.amount, currency)?).context("credits cannot be counted")?;
            }
        }
        let (net_before, tax_before) = (money(net), money(tax));
        let left = |whole: i64, before: i64| money(whole - before);
        Ok(Self { currency, net: left(stored.subtotal, net), tax: left(stored.tax, tax), net_before, tax_before, lines })
    }

    /// The lines that a credit names, and its net amount.
    fn take(&self, number: &str, invoice: &document::Invoice, what: &What) -> anyhow::Result<(Vec<CreditLine>, Money)> {
        let code = self.currency.code();
        let mut lines = Vec::new();
        let net = match what {
            What::Whole => self.net,
            What::Amount(amount) => self.positive(*amount)?,
            What::Lines(asked) => {
                let mut sum = Money::zero(self.currency);
                for (at, (place, amount)) in asked.iter().enumerate() {
                    ensure!(
                        asked.iter().take(at).all(|(other, _)| other != place),
                        "line {place} is named twice: name each line once"
                    );
                    let index = usize::try_from(*place).ok().and_then(|place| place.checked_sub(1));
                    let line = index.and_then(|index| invoice.lines.get(index));
                    let line =
                        line.with_context(|| format!("{number} has lines 1 to {}, and no line {place}", invoice.lines.len()))?;
                    let credited = self.lines.get(place).copied().unwrap_or(Money::zero(self.currency));
                    let left = parsed(&line.amount, self.currency)?.checked_sub(credited).context("a line cannot be counted")?;
                    let taken = amount.map_or(Ok(left), |amount| self.positive(amount))?;
                    ensure!(
                        taken.minor > 0 && taken.minor <= left.minor,
                        "line {place} of {number} has {left} {code} left to credit: give an amount up to that"
                    );
                    sum = sum.checked_add(taken).context("the lines cannot be counted")?;
                    lines.push(CreditLine { line: *place, description: line.description.clone(), amount: taken.to_string() });
                }
                sum
            }
        };
        ensure!(self.net.minor > 0, "nothing is left of {number} to credit");
        ensure!(
            net.minor > 0 && net.minor <= self.net.minor,
            "{number} has {} {code} left before tax, and {net} {code} cannot be credited: give an amount up to that",
            self.net
        );
        Ok((lines, net))
    }

    fn positive(&self, amount: Decimal) -> anyhow::Result<Money> {
        let money = Money::of(amount, self.currency).filter(|money| money.minor > 0);
        money.with_context(|| {
            let (places, code) = (self.currency.exponent(), self.currency.code());
            format!("\"{amount}\" cannot be credited: give more than 0, with at most the {places} decimal places of {code}")
        })
    }

    /// The tax on a credit: what the tax on all credits comes to, less what earlier ones had of it.
    fn tax(&self, net: Money, rate: Decimal) -> anyhow::Result<Money> {
        if net == self.net {
            return Ok(self.tax);
        }
        let all = self.net_before.checked_add(net).and_then(|sum| sum.percent(rate)?.checked_sub(self.tax_before));
        all.context("the tax of the credit cannot be counted")
    }
}

fn parsed(amount: &str, currency: Currency) -> anyhow::Result<Money> {
    let decimal = amount.parse().ok().and_then(|decimal| Money::of(decimal, currency));
    decimal.with_context(|| format!("\"{amount}\" is no amount of {}", currency.code()))
}
