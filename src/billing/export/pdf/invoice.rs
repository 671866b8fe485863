//! An invoice, from its letterhead to its evidence.

use super::finish::{Frame, finish};
use super::lines;
use super::parts;
use super::sheet::{GREY, INK, Sheet};
use super::text::Fonts;
use super::words;
use crate::billing::document::Invoice;
use crate::billing::export::stored::{Stored, StoredInvoice};
use crate::billing::invoice::store::State;

pub(super) fn print(fonts: &Fonts, stored: &StoredInvoice) -> anyhow::Result<Vec<u8>> {
    let invoice = &stored.document;
    let mut sheet = Sheet::new(fonts);
    parts::letterhead(&mut sheet, &invoice.seller, "Invoice", invoice.number.as_deref().unwrap_or("not numbered yet"));
    parts::buyer_and_facts(&mut sheet, &invoice.buyer, &facts(stored));
    let in_favour = invoice.total.starts_with('-');
    let (label, beside) = headline(stored, in_favour);
    let amount = invoice.total.strip_prefix('-').filter(|_| stored.state != State::Draft).unwrap_or(&invoice.total);
    parts::headline(&mut sheet, label, &format!("{} {}", invoice.currency, words::number(amount)), &beside);
    lines::table(&mut sheet, invoice);
    let total = if in_favour { "Total in your favour" } else { "Total" };
    let amount = format!("{} {}", invoice.currency, words::number(&invoice.total));
    parts::sums(&mut sheet, ("Subtotal", &invoice.subtotal), &invoice.tax, (total, amount));
    payment(&mut sheet, stored, in_favour);
    evidence(&mut sheet, stored);
    let number = invoice.number.as_deref().unwrap_or(invoice.id.as_str());
    let frame = Frame {
        title: format!("Invoice {number}"),
        seller: &invoice.seller.name,
        buyer: &invoice.buyer.name,
        stamp: match stored.state {
            State::Draft => Some(("DRAFT", "this is no invoice yet; do not pay by it")),
            State::Void => Some(("VOID", "this invoice was withdrawn; nothing is to be paid by it")),
            State::Finalized | State::Paid => None,
        },
        dated: invoice.issued_at.as_deref().unwrap_or(&invoice.period.to),
        file: format!("{}.json", Stored::Invoice(Box::new(stored.clone())).file_stem()),
        body: &stored.body,
        sha256: &stored.sha256,
    };
    finish(fonts, sheet.pages, &frame)
}

fn facts(stored: &StoredInvoice) -> Vec<(&'static str, String)> {
    let invoice = &stored.document;
    let mut facts = Vec::new();
    facts.extend(invoice.issued_at.as_deref().map(|at| ("Issued", words::day_in(at, &invoice.period.timezone))));
    facts.extend(invoice.due_on.as_deref().map(|on| ("Due", words::day(on))));
    facts.push(("Period", words::month(&invoice.period.month)));
    facts.push(("", format!("from {}", words::instant(&invoice.period.from))));
    facts.push(("", format!("to {}", words::instant(&invoice.period.to))));
    facts.push(("Time zone", invoice.period.timezone.clone()));
    facts.push(("Currency", invoice.currency.clone()));
    facts.push(("Account", invoice.partner.to_string()));
    facts
}

fn headline(stored: &StoredInvoice, in_favour: bool) -> (&'static str, String) {
    let due = stored.document.due_on.as_deref().map(|on| format!("Please pay by {}", words::day(on))).unwrap_or_default();
    match stored.state {
        State::Draft => ("Total as it stands", "A draft, which may still change".to_owned()),
        State::Void => ("Withdrawn", "Nothing is to be paid".to_owned()),
        State::Paid => ("Total", "Paid, with thanks".to_owned()),
        State::Finalized if in_favour => ("In your favour", "Nothing is to be paid".to_owned()),
        State::Finalized => ("Amount due", due),
    }
}

fn payment(sheet: &mut Sheet<'_>, stored: &StoredInvoice, in_favour: bool) {
    let seller = &stored.document.seller;
    if seller.payment.is_empty() || stored.state != State::Finalized || in_favour {
        return;
    }
    parts::heading(sheet, "Payment", 40.0);
    for line in &seller.payment {
        parts::paragraph(sheet, line, INK);
    }
    parts::paragraph(sheet, &format!("Reference: {}", stored.name()), INK);
    sheet.y += 12.0;
}

fn evidence(sheet: &mut Sheet<'_>, stored: &StoredInvoice) {
    let evidence = &stored.document.evidence;
    parts::heading(sheet, "Evidence", 60.0);
    for text in covered(&stored.document) {
        parts::paragraph(sheet, &text, GREY);
    }
    sheet.y += 3.0;
    if !evidence.root.is_empty() {
        parts::hash(sheet, "Evidence root", &evidence.root);
    }
    parts::hash(sheet, "This document's hash", &stored.sha256);
    sheet.y += 3.0;
    let how = "The root is the Merkle root (RFC 6962, SHA-256) over the days' roots, and those are over the usage records themselves. The \
               hash is the SHA-256 of this invoice as JSON, which is attached to this file. With the records of your account \
               (tollgate usage export), both can be checked offline: tollgate usage verify --bundle RECORDS --invoice JSON";
    parts::paragraph(sheet, how, GREY);
}

/// The records, by month: what came late stands under its own.
fn covered(invoice: &Invoice) -> Vec<String> {
    let evidence = &invoice.evidence;
    if evidence.records == 0 {
        return vec!["This invoice bills no usage records.".to_owned()];
    }
    let by_month = evidence.days.chunk_by(|a, b| a.period == b.period).filter_map(|days| {
        let (first, last) = (days.first()?, days.last()?);
        let records = days.iter().fold(0_u64, |sum, day| sum.saturating_add(day.records));
        let month = words::month(&first.period);
        let records = words::count(records, "usage record");
        if days.len() == 1 {
            return Some(format!("{month}: {records} on {} (UTC)", words::day(&first.day)));
        }
        let count = words::count(days.len() as u64, "day");
        Some(format!("{month}: {records} on {count}, {} to {} (UTC)", words::day(&first.day), words::day(&last.day)))
    });
    by_month.collect()
}
