//! Stored invoices and credit notes: whether they are what was hashed, what their rows say, and what the archive's records come to.

use std::collections::BTreeMap;

use anyhow::Context;
use sqlx::AnyConnection;

use super::arithmetic::{self, place};
use super::basis::{Reader, Wanted};
use super::store::{self, LineRow};
use crate::billing::Period;
use crate::billing::credit;
use crate::billing::document::{CreditNote, Invoice, Line};
use crate::billing::invoice::draft;
use crate::billing::invoice::evidence::document;
use crate::billing::invoice::sha256;
use crate::billing::invoice::store::{self as invoices, Filter, Stored};
use crate::metering::evidence::{PartFound, Removed, parts_found, segments};
use crate::metering::recount::{About, Report};
use crate::metering::{Archive, ArchivedSegment};
use crate::money::Currency;

/// Checks the numbered invoices of a month, or of all.
pub(super) async fn check(
    connection: &mut AnyConnection,
    archive: &Archive,
    period: Option<Period>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let segments = segments(connection).await?;
    let mut reader = Reader::new(connection).await?;
    let (mut whole, mut drafts, mut again) = (0_u64, 0_u64, 0_u64);
    let periods = match period {
        Some(period) => vec![period.to_string()],
        None => store::periods(connection).await?,
    };
    for period in periods {
        let period: Period = period.parse().map_err(|wrong: String| anyhow::anyhow!(wrong))?;
        let filter = Filter { period: Some(period), ..Filter::default() };
        let (mut readable, mut wanted) = (Vec::new(), Vec::new());
        for stored in invoices::list(connection, &filter).await? {
            let Some(number) = stored.number.clone() else {
                drafts += 1;
                continue;
            };
            whole += 1;
            let document = match on_its_own(connection, &stored, report).await {
                Ok(document) => document,
                Err(error) => {
                    report.failed(About::Documents, &number, &error);
                    continue;
                }
            };
            match reader.wanted(connection, &stored, &document).await {
                Ok(of) => {
                    wanted.push(of);
                    readable.push((number, stored, document));
                }
                Err(error) => report.failed(About::Documents, &format!("{number} cannot be recomputed"), &error),
            }
        }
        let Some(found) = found(archive, &segments, &wanted, period, report).await else { continue };
        for ((number, stored, document), (wanted, found)) in readable.iter().zip(wanted.iter().zip(found)) {
            if let Some(lost) = reader.beyond(connection, &stored.partner, wanted, &stored.cut).await? {
                report.notes.push(format!("{number} counts records of {lost} that were never archived: not recomputed"));
                continue;
            }
            again += 1;
            if let Err(error) = recomputed(connection, &reader, stored, document, wanted, &found).await {
                report.failed(About::Documents, number, &error);
            }
        }
    }
    let notes = credit_notes(connection, report).await?;
    if drafts > 0 {
        report.notes.push(format!("{drafts} drafts were not looked at: they may still change"));
    }
    report.held.push(format!("{whole} invoices and {notes} credit notes: their hashes, their rows and their arithmetic"));
    report.held.push(format!("{again} invoices made anew from the archive, byte for byte, with their evidence"));
    Ok(())
}

/// What the archive has of the parts of each invoice; none when it cannot be read.
async fn found(
    archive: &Archive,
    segments: &[ArchivedSegment],
    wanted: &[Wanted],
    period: Period,
    report: &mut Report,
) -> Option<Vec<Vec<PartFound>>> {
    let parts = wanted.iter().flat_map(Wanted::parts).cloned().collect();
    match parts_found(archive, segments, parts).await {
        Ok(found) => {
            let mut found = found.into_iter();
            Some(wanted.iter().map(|wanted| found.by_ref().take(wanted.parts().len()).collect()).collect())
        }
        Err(error) => {
            let words = format!("the invoices of {period} cannot be made anew from the archive");
            match error.downcast_ref::<Removed>() {
                Some(removed) => report.notes.push(format!("{words}: {removed}")),
                None => report.failed(About::Documents, &words, &error),
            }
            None
        }
    }
}

/// An invoice without the archive: its hash, its columns, its rows, its arithmetic.
async fn on_its_own(connection: &mut AnyConnection, stored: &Stored, report: &mut Report) -> anyhow::Result<Invoice> {
    let number = stored.number.as_deref().unwrap_or_default();
    let hash = sha256(&stored.body);
    if hash != stored.sha256 {
        report.differ(About::Documents, format!("{number}: its document hashes to {hash}, but {} was stored", stored.sha256));
    }
    let invoice: Invoice = serde_json::from_str(&stored.body).context("its document cannot be read")?;
    let currency = Currency::from_code(&stored.currency).with_context(|| format!("\"{}\" is no currency", stored.currency))?;
    let minor = |text: &str| arithmetic::money(text, currency).map(|money| money.minor.to_string());
    let finalized = stored.finalized_at.map(|at| at.to_string());
    let columns = [
        ("id", invoice.id.to_string(), stored.id.to_string()),
        ("number", invoice.number.clone().unwrap_or_default(), number.to_owned()),
        ("partner", invoice.partner.to_string(), stored.partner.to_string()),
        ("month", invoice.period.month.clone(), stored.period.to_string()),
        ("currency", invoice.currency.clone(), stored.currency.clone()),
        ("day of issue", invoice.issued_at.clone().unwrap_or_default(), finalized.unwrap_or_default()),
        ("subtotal in minor units", minor(&invoice.subtotal)?, stored.subtotal.to_string()),
        ("tax in minor units", minor(&invoice.tax.amount)?, stored.tax.to_string()),
        ("total in minor units", minor(&invoice.total)?, stored.total.to_string()),
    ];
    for (what, document, column) in columns {
        if document != column {
            report.differ(About::Documents, format!("{number}: the document's {what} is {document}, but its row says {column}"));
        }
    }
    if let Err(error) = arithmetic::check(&invoice) {
        report.failed(About::Documents, number, &error);
    }
    let rows = store::lines(connection, &stored.id).await?;
    if rows.len() != invoice.lines.len() {
        report.differ(
            About::Documents,
            format!("{number}: its document has {} lines, but the database {}", invoice.lines.len(), rows.len()),
        );
    }
    for ((expected, line), row) in (1..).zip(&invoice.lines).zip(&rows) {
        let of_document = row_of(expected, line, currency)?;
        if of_document != *row {
            report.differ(
                About::Documents,
                format!(
                    "{number}, {}: the database's row is another: {row:?}",
                    place(u64::try_from(expected).unwrap_or(0), line)
                ),
            );
        }
    }
    Ok(invoice)
}

fn row_of(number: i64, line: &Line, currency: Currency) -> anyhow::Result<LineRow> {
    Ok(LineRow {
        line: number,
        kind: line.kind.as_str().to_owned(),
        period: line.period.clone(),
        plan: line.plan.clone(),
        product: line.product.clone().unwrap_or_default(),
        meter: line.meter.clone().unwrap_or_default(),
        units: line.units.map(i64::try_from).transpose()?,
        amount: arithmetic::money(&line.amount, currency)?.minor,
    })
}

/// Makes an invoice anew from the archive's records, and compares.
async fn recomputed(
    connection: &mut AnyConnection,
    reader: &Reader,
    stored: &Stored,
    invoice: &Invoice,
    wanted: &Wanted,
    found: &[PartFound],
) -> anyhow::Result<()> {
    let evidence = document(&wanted.days(found));
    let usage = wanted.usage(found)?;
    let body = draft::rebuild(connection, reader.plans(), stored, &usage, evidence).await?;
    if body == stored.body {
        return Ok(());
    }
    let again: Invoice = serde_json::from_str(&body).context("what was made anew cannot be read")?;
    anyhow::bail!("made anew from the archive it is another: {}", part_ways(invoice, &again))
}

/// Where a stored invoice and the one that was made anew part first.
fn part_ways(stored: &Invoice, again: &Invoice) -> String {
    for (line, other) in (1..).zip(stored.lines.iter().zip(&again.lines)).map(|(number, (line, other))| ((number, line), other)) {
        if line.1 != other {
            let json = |line: &Line| serde_json::to_string(line).unwrap_or_default();
            return format!("{} says {}, but the records make it {}", place(line.0, line.1), json(line.1), json(other));
        }
    }
    if stored.lines.len() != again.lines.len() {
        let first = stored.lines.len().min(again.lines.len()) + 1;
        return format!(
            "it has {} lines, but the records make {}; line {first} is the first too many",
            stored.lines.len(),
            again.lines.len()
        );
    }
    let key = |invoice: &Invoice| -> BTreeMap<(String, String), (u64, String)> {
        let days = invoice.evidence.days.iter();
        days.map(|day| ((day.period.clone(), day.day.clone()), (day.records, day.root.clone()))).collect()
    };
    let (days, others) = (key(stored), key(again));
    for (period, day) in days.keys().chain(others.keys()) {
        let of = |days: &BTreeMap<(String, String), (u64, String)>| match days.get(&(period.clone(), day.clone())) {
            Some((records, root)) => format!("{records} records with the root {root}"),
            None => "none".to_owned(),
        };
        if of(&days) != of(&others) {
            return format!("its evidence of day {day} of {period} says {}, but the archive has {}", of(&days), of(&others));
        }
    }
    let fields = |invoice: &Invoice| serde_json::to_value(invoice).unwrap_or_default();
    let (stored, again) = (fields(stored), fields(again));
    let differs = stored.as_object().into_iter().flatten().find(|(name, value)| again.get(name.as_str()) != Some(value));
    match differs {
        Some((name, value)) => {
            let again = again.get(name.as_str()).map(ToString::to_string).unwrap_or_default();
            format!("its {name} says {value}, but it comes to {again}")
        }
        None => "its bytes are not those of its own document".to_owned(),
    }
}

/// Credit notes on their own; how many.
async fn credit_notes(connection: &mut AnyConnection, report: &mut Report) -> anyhow::Result<usize> {
    let notes = credit::store::list(connection).await?;
    let mut credited: BTreeMap<String, i128> = BTreeMap::new();
    for note in &notes {
        let number = &note.number;
        let hash = sha256(&note.body);
        if hash != note.sha256 {
            report.differ(About::Documents, format!("{number}: its document hashes to {hash}, but {} was stored", note.sha256));
        }
        let document: CreditNote = match serde_json::from_str(&note.body) {
            Ok(document) => document,
            Err(error) => {
                report.differ(About::Documents, format!("{number}: its document cannot be read: {error}"));
                continue;
            }
        };
        let currency = Currency::from_code(&document.currency);
        let minor = |text: &str| currency.and_then(|currency| arithmetic::money(text, currency).ok()).map(|money| money.minor);
        let amounts = (minor(&document.net), minor(&document.tax.amount), minor(&document.total));
        if amounts != (Some(note.net), Some(note.tax), Some(note.total)) || document.number != *number {
            report
                .differ(About::Documents, format!("{number}: its row says another number, net, tax or total than its document"));
        }
        if i128::from(note.net) + i128::from(note.tax) != i128::from(note.total) {
            report.differ(About::Documents, format!("{number}: its net and its tax do not make its total"));
        }
        *credited.entry(note.invoice.to_string()).or_default() += i128::from(note.net);
    }
    for (invoice, credited) in credited {
        let stored = invoices::find(connection, &invoice).await?;
        if stored.is_none_or(|stored| credited > i128::from(stored.subtotal)) {
            report.differ(
                About::Documents,
                format!("the credit notes of {invoice} credit {credited} minor units before tax, more than it has"),
            );
        }
    }
    Ok(notes.len())
}
