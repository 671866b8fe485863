//! A partner's bundle held against its invoice, offline: every record, the evidence, the units and the money.

use std::fmt;
use std::io::{BufRead, Read};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::arithmetic;
use super::units::Units;
use crate::billing::Period;
use crate::billing::document::{EvidenceDay, Invoice};
use crate::clock::Micros;
use crate::metering::bundle::{DayMark, Header};
use crate::metering::merkle::{self, Hash, Tree};
use crate::metering::reading::Glance;
use crate::metering::{Mode, hex};

/// No record is near it.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// How far a midnight may be from UTC's.
const ZONE_MICROS_MAX: i64 = 26 * 3_600_000_000;

/// What was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The invoice's number, or its id while it is a draft.
    pub invoice: String,
    /// SHA-256 of the document: what the seller stored, and printed, must be the same.
    pub sha256: String,
    /// Records,
    pub records: u64,
    /// in so many days.
    pub days: usize,
    /// Their root.
    pub root: String,
    /// Lines that count units.
    pub usage_lines: usize,
    /// All lines.
    pub lines: usize,
    /// What they come to, with the currency.
    pub total: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invoice   {}: SHA-256 {}", self.invoice, self.sha256)?;
        writeln!(f, "evidence  {} records in {} days hash to the root {}", self.records, self.days, self.root)?;
        writeln!(f, "usage     {} lines bill exactly the units of these records", self.usage_lines)?;
        write!(f, "amounts   {} lines, subtotal, tax and total compute again: {}", self.lines, self.total)
    }
}

/// Checks a bundle and an invoice's document. The first difference is an error that says where it is.
pub fn check(bundle: impl BufRead, document: &[u8]) -> anyhow::Result<Held> {
    let invoice: Invoice = serde_json::from_slice(document).context("the invoice is no document of this version of Tollgate")?;
    arithmetic::check(&invoice)?;
    let mut lines = Lines { from: bundle, number: 0, line: Vec::new() };
    let header: Header = lines.parse("a bundle's header")?;
    check_header(&header, &invoice)?;
    let month = (instant(&invoice.period.from)?, instant(&invoice.period.to)?);
    let mut units = Units::default();
    let mut roots = Vec::new();
    for day in &invoice.evidence.days {
        let root = check_day(&mut lines, day, &invoice, month, &mut units)?;
        roots.push(root);
    }
    ensure!(!lines.next()?, "line {} of the bundle is past the last day of the invoice's evidence", lines.number);
    let records = invoice.evidence.days.iter().try_fold(0_u64, |sum, day| sum.checked_add(day.records));
    ensure!(
        records == Some(invoice.evidence.records),
        "the invoice's evidence says {} records, but its days have another number",
        invoice.evidence.records
    );
    let root = hex(&merkle::root(&roots));
    ensure!(
        root == invoice.evidence.root,
        "the days' roots hash to {root}, but the invoice's evidence root is {}",
        invoice.evidence.root
    );
    let usage_lines = units.check(&invoice)?;
    let canonical = serde_json::to_vec(&invoice)?;
    Ok(Held {
        invoice: invoice.number.clone().unwrap_or_else(|| format!("{} (draft)", invoice.id)),
        sha256: hex(&Sha256::digest(&canonical)),
        records: invoice.evidence.records,
        days: invoice.evidence.days.len(),
        root,
        usage_lines,
        lines: invoice.lines.len(),
        total: format!("{} {}", invoice.total, invoice.currency),
    })
}

fn check_header(header: &Header, invoice: &Invoice) -> anyhow::Result<()> {
    ensure!(
        header.tollgate == Header::TOLLGATE && header.v == Header::V,
        "line 1 of the bundle is of another kind or version than this version of Tollgate knows"
    );
    if let Some(note) = &header.note {
        bail!("the bundle says of itself that it is not what an invoice bills: {note}");
    }
    let of = [
        ("partner", header.partner.as_str(), invoice.partner.as_str()),
        ("period", &header.period, &invoice.period.month),
        ("month's first instant", &header.from, &invoice.period.from),
        ("month's end", &header.to, &invoice.period.to),
        ("invoice", header.invoice_id.as_ref().map_or("none", |id| id.as_str()), invoice.id.as_str()),
        ("invoice number", header.invoice.as_deref().unwrap_or("none"), invoice.number.as_deref().unwrap_or("none")),
    ];
    for (what, bundle, invoice) in of {
        ensure!(bundle == invoice, "line 1 of the bundle: its {what} is {bundle}, but the invoice's is {invoice}");
    }
    Ok(())
}

fn instant(text: &str) -> anyhow::Result<Micros> {
    let at: Timestamp = text.parse().ok().with_context(|| format!("\"{text}\" is no instant of RFC 3339"))?;
    Ok(at.into())
}

/// Where a record of an evidence day may lie: in its UTC day, and in the month.
fn span(day: &EvidenceDay, invoice: &Invoice, month: (Micros, Micros)) -> anyhow::Result<(Micros, Micros)> {
    let date: Date = day.day.parse().ok().with_context(|| format!("the invoice's evidence has the day \"{}\"", day.day))?;
    let midnight = |date: Date| -> anyhow::Result<Micros> { Ok(date.to_zoned(TimeZone::UTC)?.timestamp().into()) };
    let of_day = (midnight(date)?, midnight(date.tomorrow()?)?);
    let month = if day.period == invoice.period.month {
        month
    } else {
        // The document does not have an earlier month's own edges: some zone's.
        let period: Period = day.period.parse().map_err(|wrong: String| anyhow::anyhow!("the invoice's evidence: {wrong}"))?;
        let (from, to) = (midnight(period.first_day())?, midnight(period.next()?.first_day())?);
        (Micros(from.0 - ZONE_MICROS_MAX), Micros(to.0 + ZONE_MICROS_MAX).min(month.0))
    };
    Ok((of_day.0.max(month.0), of_day.1.min(month.1)))
}

fn check_day(
    lines: &mut Lines<impl BufRead>,
    day: &EvidenceDay,
    invoice: &Invoice,
    month: (Micros, Micros),
    units: &mut Units,
) -> anyhow::Result<Hash> {
    let name = format!("day {} of {}", day.day, day.period);
    let mark: DayMark = lines.parse(&format!("the beginning of {name}"))?;
    let began = lines.number;
    ensure!(
        mark.period == day.period && mark.day.to_string() == day.day,
        "line {began} of the bundle begins the day {} of {}, where the invoice's evidence has {name}",
        mark.day,
        mark.period
    );
    ensure!(
        mark.records == day.records,
        "line {began} of the bundle: {name} has {} records, but the invoice's evidence {}",
        mark.records,
        day.records
    );
    let within = span(day, invoice, month)?;
    let mut tree = Tree::default();
    let mut last: Option<(Micros, String)> = None;
    for _ in 0..day.records {
        ensure!(lines.next()?, "the bundle ends behind line {}, within {name}: records are missing", lines.number);
        let place = || format!("line {} of the bundle, a record of {name}", lines.number);
        let record = Glance::of(&lines.line).with_context(place)?;
        ensure!(
            record.partner == invoice.partner.as_str(),
            "{}: it is of the partner {}, and not of {}",
            place(),
            record.partner,
            invoice.partner
        );
        ensure!(record.mode == Mode::Live, "{}: it is of a test key", place());
        ensure!(
            within.0 <= record.at && record.at < within.1,
            "{}: it was admitted at {}, outside of the day",
            place(),
            record.at
        );
        let order = (record.at, record.request.to_string());
        ensure!(last.as_ref().is_none_or(|last| *last < order), "{}: it does not come behind the record before it", place());
        last = Some(order);
        tree.push(merkle::leaf(&lines.line));
        units.add(&day.period, &record).with_context(place)?;
    }
    let root = tree.root();
    ensure!(
        hex(&root) == day.root,
        "{name}, lines {} to {} of the bundle: its records hash to {}, but the invoice's evidence has {}: a record was changed",
        began + 1,
        lines.number,
        hex(&root),
        day.root
    );
    Ok(root)
}

struct Lines<R> {
    from: R,
    number: u64,
    /// The last one, without its end.
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line; false at the end.
    fn next(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        let read =
            (&mut self.from).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line).context("the bundle cannot be read")?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        ensure!(self.line.pop() == Some(b'\n'), "line {} of the bundle is cut off", self.number);
        Ok(true)
    }

    fn parse<T: DeserializeOwned>(&mut self, what: &str) -> anyhow::Result<T> {
        ensure!(self.next()?, "the bundle ends behind line {}, where {what} must come", self.number);
        serde_json::from_slice(&self.line).with_context(|| format!("line {} of the bundle is not {what}", self.number))
    }
}
