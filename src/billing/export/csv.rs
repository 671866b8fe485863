//! Documents as rows for spreadsheets (RFC 4180, UTF-8): one for each line, with the columns of its document. A credit note's
//! amounts are negative here, so that a column sums to what was earned.
//!
//! Text is never run: a spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula (OWASP, CSV Injection; CWE-1236), also
//! behind spaces and quotes, and where the decimal comma is used it takes `;` for the end of a cell. Such text gets an apostrophe in
//! front. Numbers stay numbers.

use super::stored::{Stored, StoredCreditNote, StoredInvoice};
use crate::billing::document::{Invoice, Line, Party};

/// What a cell may be.
enum Cell<'a> {
    /// Nothing.
    Empty,
    /// A number, as the document writes it.
    Number(String),
    /// Whatever somebody wrote.
    Text(&'a str),
    /// The same, in lines.
    Lines(&'a [String]),
}

type Row<'a> = Vec<(&'static str, Cell<'a>)>;

const COLUMNS: [&str; 44] = [
    "document",
    "number",
    "id",
    "state",
    "issued_at",
    "due_on",
    "period",
    "period_from",
    "period_to",
    "timezone",
    "partner",
    "buyer",
    "buyer_address",
    "buyer_tax_id",
    "seller",
    "currency",
    "credits",
    "reason",
    "line",
    "kind",
    "line_period",
    "plan",
    "plan_name",
    "product",
    "meter",
    "description",
    "days",
    "days_of",
    "units",
    "model",
    "included",
    "billed_before_units",
    "billed_before",
    "billed_before_on",
    "value",
    "amount",
    "subtotal",
    "tax_rate",
    "tax_exemption",
    "tax",
    "total",
    "evidence_root",
    "evidence_records",
    "sha256",
];

/// The first row.
pub(super) fn heading(out: &mut Vec<u8>) -> anyhow::Result<()> {
    writer(out).write_record(COLUMNS).map_err(Into::into)
}

/// The rows of a document: one at least.
pub(super) fn rows(out: &mut Vec<u8>, document: &Stored) -> anyhow::Result<()> {
    let rows = match document {
        Stored::Invoice(stored) => invoice(stored),
        Stored::CreditNote(stored) => credit_note(stored),
    };
    let mut writer = writer(out);
    for row in rows {
        let cell = |column: &&str| row.iter().find(|(name, _)| name == column).map_or(String::new(), |(_, cell)| cell.write());
        writer.write_record(COLUMNS.iter().map(cell))?;
    }
    Ok(writer.flush()?)
}

/// What every CSV file here is written with.
pub(super) fn writer(out: &mut Vec<u8>) -> ::csv::Writer<&mut Vec<u8>> {
    ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(out)
}

impl Cell<'_> {
    fn write(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Number(number) if is_number(number) => number.clone(),
            Self::Number(text) => safe(text),
            Self::Text(text) => safe(text),
            Self::Lines(lines) => safe(&lines.join(", ")),
        }
    }
}

/// What every reader takes for a number, and nothing else.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let positive = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = positive.split_once('.').unwrap_or((positive, "0"));
    digits(whole) && digits(fraction)
}

/// Text that no spreadsheet runs. What breaks lines, and what cannot be seen, becomes a space; a formula gets an apostrophe.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    // At the start, and after what may end a cell.
    let mut begins = true;
    // Where an apostrophe would go: the start of the cell.
    let mut start = 0;
    for c in text.chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
        if begins && is_formula(c) {
            out.insert(start, '\'');
        }
        begins = c == ';' || (begins && is_skipped(c));
        out.push(c);
        if c == ';' {
            start = out.len();
        }
    }
    out
}

fn is_formula(c: char) -> bool {
    // With their full-width and small forms, which some programs normalise.
    matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '﹦' | '﹢' | '﹣' | '﹫' | '−')
}

/// What stands before a formula without hindering it: spaces, quotes, and characters without width.
fn is_skipped(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '＂' | '＇')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn number(number: impl ToString) -> Cell<'static> {
    Cell::Number(number.to_string())
}

fn optional<'a, T>(value: Option<T>, cell: impl FnOnce(T) -> Cell<'a>) -> Cell<'a> {
    value.map_or(Cell::Empty, cell)
}

fn negated(amount: &str) -> Cell<'static> {
    let is_zero = amount.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    match amount.strip_prefix('-') {
        Some(positive) => number(positive),
        None if is_zero => number(amount),
        None => number(format!("-{amount}")),
    }
}

fn parties<'a>(seller: &'a Party, buyer: &'a Party) -> Row<'a> {
    vec![
        ("seller", Cell::Text(&seller.name)),
        ("buyer", Cell::Text(&buyer.name)),
        ("buyer_address", Cell::Lines(&buyer.address)),
        ("buyer_tax_id", optional(buyer.tax_id.as_deref(), Cell::Text)),
    ]
}

fn invoice(stored: &StoredInvoice) -> Vec<Row<'_>> {
    let document = &stored.document;
    if document.lines.is_empty() {
        return vec![of_invoice(stored, document)];
    }
    document
        .lines
        .iter()
        .enumerate()
        .map(|(place, line)| {
            let mut row = of_invoice(stored, document);
            row.push(("line", number(place + 1)));
            row.extend(of_line(line));
            row
        })
        .collect()
}

fn of_invoice<'a>(stored: &'a StoredInvoice, document: &'a Invoice) -> Row<'a> {
    let mut row = parties(&document.seller, &document.buyer);
    row.extend([
        ("document", Cell::Text("invoice")),
        ("number", optional(document.number.as_deref(), Cell::Text)),
        ("id", Cell::Text(document.id.as_str())),
        ("state", Cell::Text(stored.state.as_str())),
        ("issued_at", optional(document.issued_at.as_deref(), Cell::Text)),
        ("due_on", optional(document.due_on.as_deref(), Cell::Text)),
        ("period", Cell::Text(&document.period.month)),
        ("period_from", Cell::Text(&document.period.from)),
        ("period_to", Cell::Text(&document.period.to)),
        ("timezone", Cell::Text(&document.period.timezone)),
        ("partner", Cell::Text(document.partner.as_str())),
        ("currency", Cell::Text(&document.currency)),
        ("subtotal", number(&document.subtotal)),
        ("tax_rate", number(&document.tax.rate)),
        ("tax_exemption", optional(document.tax.exemption.as_deref(), Cell::Text)),
        ("tax", number(&document.tax.amount)),
        ("total", number(&document.total)),
        ("evidence_root", Cell::Text(&document.evidence.root)),
        ("evidence_records", number(document.evidence.records)),
        ("sha256", Cell::Text(&stored.sha256)),
    ]);
    row
}

fn of_line(line: &Line) -> Row<'_> {
    let before = line.billed_before.as_ref();
    vec![
        ("kind", Cell::Text(line.kind.as_str())),
        ("line_period", Cell::Text(&line.period)),
        ("plan", Cell::Text(&line.plan)),
        ("plan_name", Cell::Text(&line.plan_name)),
        ("product", optional(line.product.as_deref(), Cell::Text)),
        ("meter", optional(line.meter.as_deref(), Cell::Text)),
        ("description", Cell::Text(&line.description)),
        ("days", optional(line.days, |days| number(days.counted))),
        ("days_of", optional(line.days, |days| number(days.of))),
        ("units", optional(line.units, number)),
        ("model", optional(line.pricing.as_ref(), |pricing| Cell::Text(&pricing.model))),
        ("included", optional(line.pricing.as_ref(), |pricing| number(pricing.included))),
        ("billed_before_units", optional(before.and_then(|before| before.units), number)),
        ("billed_before", optional(before, |before| number(&before.amount))),
        ("billed_before_on", optional(before, |before| Cell::Lines(&before.invoices))),
        ("value", optional(line.value.as_ref(), number)),
        ("amount", number(&line.amount)),
    ]
}

fn credit_note(stored: &StoredCreditNote) -> Vec<Row<'_>> {
    let document = &stored.document;
    let whole = || {
        let mut row = parties(&document.seller, &document.buyer);
        row.extend([
            ("document", Cell::Text("credit_note")),
            ("number", Cell::Text(&document.number)),
            ("issued_at", Cell::Text(&document.issued_at)),
            ("partner", Cell::Text(document.partner.as_str())),
            ("currency", Cell::Text(&document.currency)),
            ("credits", Cell::Text(&document.invoice)),
            ("reason", Cell::Text(&document.reason)),
            ("subtotal", negated(&document.net)),
            ("tax_rate", number(&document.tax.rate)),
            ("tax_exemption", optional(document.tax.exemption.as_deref(), Cell::Text)),
            ("tax", negated(&document.tax.amount)),
            ("total", negated(&document.total)),
            ("sha256", Cell::Text(&stored.sha256)),
        ]);
        row
    };
    if document.lines.is_empty() {
        let mut row = whole();
        row.push(("amount", negated(&document.net)));
        return vec![row];
    }
    document
        .lines
        .iter()
        .map(|line| {
            let mut row = whole();
            row.extend([
                ("line", number(line.line)),
                ("description", Cell::Text(&line.description)),
                ("amount", negated(&line.amount)),
            ]);
            row
        })
        .collect()
}
