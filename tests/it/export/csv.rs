//! CSV: whatever somebody calls himself, no cell is one that a spreadsheet would run, and every number is one.

use rust_decimal::Decimal;
use tollgate::billing::export::{Format, State, Stored};

use super::{sample, words};
use crate::support;

const NUMBERS: [&str; 14] = [
    "line",
    "days",
    "days_of",
    "units",
    "included",
    "billed_before_units",
    "billed_before",
    "value",
    "amount",
    "subtotal",
    "tax_rate",
    "tax",
    "total",
    "evidence_records",
];

fn csv(document: &Stored) -> String {
    String::from_utf8(document.write(Format::Csv).unwrap()).unwrap()
}

/// Rows by column, with a reader of the separator.
fn read(text: &str, separator: u8) -> Vec<Vec<(String, String)>> {
    let mut reader = ::csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text.as_bytes());
    let heads = reader.headers().unwrap().clone();
    let cells = |row: ::csv::StringRecord| {
        row.iter().enumerate().map(|(place, cell)| (heads.get(place).unwrap_or("").to_owned(), cell.to_owned())).collect()
    };
    reader.records().map(|row| cells(row.unwrap())).collect()
}

/// As OWASP's page on CSV injection has it, written without a look at what neutralises: the first character that can be seen
/// and is no quote.
fn would_run(cell: &str) -> bool {
    let seen = |c: &char| {
        !c.is_whitespace() && !c.is_control() && !"\"`“”„‘’«»＂＇\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{202e}".contains(*c)
    };
    let first = cell.chars().find(seen);
    cell.starts_with(['\t', '\r', '\n', '\0']) || first.is_some_and(|c| "=+-@＝＋－＠".contains(c))
}

fn is_decimal(cell: &str) -> bool {
    cell.parse::<Decimal>().is_ok() && cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-')
}

#[track_caller]
fn harmless(text: &str) {
    assert!(!text.starts_with('\u{feff}'));
    let rows = read(text, b',');
    assert!(!rows.is_empty());
    for (column, cell) in rows.iter().flatten() {
        let number = NUMBERS.contains(&column.as_str()) && is_decimal(cell);
        assert!(number || !would_run(cell), "{column} holds {cell:?}");
        assert!(!cell.contains(['\n', '\r', '\t', '\0']), "{column} holds {cell:?}");
    }
    // Where the decimal comma is used, `;` is what separates.
    for (_, cell) in read(text, b';').iter().flatten() {
        let number = cell.split(',').next().is_some_and(is_decimal);
        assert!(number || !would_run(cell), "split at ; there is {cell:?}");
    }
}

#[test]
fn a_formula_in_any_text_is_text() {
    let formulas = [
        "=1+1",
        "+1",
        "-1+cmd|' /C calc'!A0",
        "@SUM(1+1)*cmd|' /C calc'!A0",
        "  =1+1",
        "\t=1+1",
        "\r=1+1",
        "\n=1+1",
        "\r\n\t =1+1",
        "\"=1+1",
        "'=1+1",
        "\",\"=1+1",
        "\";=1+1",
        "ok;=1+1",
        "ok; \t\"=HYPERLINK(\"\"http://x\"\")",
        "a\n=1+1",
        "＝1+1",
        "＋1",
        "－1",
        "＠SUM(1)",
        "\u{a0}=1+1",
        "\u{200b}=1+1",
        "\u{feff}=1+1",
        "\u{0}=1+1",
        "“=1+1",
    ];
    for formula in formulas {
        let mut invoice = sample::invoice();
        invoice.buyer.name = formula.into();
        invoice.buyer.address = vec![formula.into(), formula.into()];
        invoice.buyer.tax_id = Some(formula.into());
        invoice.seller.name = formula.into();
        invoice.tax.exemption = Some(formula.into());
        for line in &mut invoice.lines {
            (line.plan, line.plan_name, line.description) = (formula.into(), formula.into(), formula.into());
        }
        let text = csv(&sample::stored(&invoice, State::Finalized));
        harmless(&text);
        let name = &read(&text, b',')[0].iter().find(|(column, _)| column == "buyer").unwrap().1.clone();
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        assert_eq!(letters(name), letters(formula), "what was written can still be read");
        let mut note = sample::credit_note();
        (note.reason, note.buyer.name, note.lines[0].description) = (formula.into(), formula.into(), formula.into());
        harmless(&csv(&sample::stored_note(&note)));
    }
}

#[test]
fn ordinary_text_stays_as_it_is() {
    let text = csv(&sample::stored(&sample::invoice(), State::Finalized));
    let rows = read(&text, b',');
    let cell = |row: usize, column: &str| rows[row].iter().find(|(of, _)| of == column).unwrap().1.clone();
    assert_eq!(rows.len(), 11);
    assert_eq!(cell(0, "buyer"), "Sapataria Álba & Irmãos, S.A.");
    assert_eq!(cell(0, "buyer_address"), "Rua das Flores 118, 2.º Esq., 4050-265 Porto, Portugal");
    assert_eq!(
        (cell(0, "number"), cell(0, "state"), cell(0, "kind")),
        ("INV-2026-000042".into(), "finalized".into(), "base_fee".into())
    );
    // Negative amounts are numbers, and stay ones.
    assert_eq!((cell(7, "kind"), cell(7, "amount")), ("discount".to_owned(), "-135.70".to_owned()));
    assert_eq!((cell(10, "billed_before"), cell(10, "billed_before_on")), ("0.30".to_owned(), "INV-2026-000031".to_owned()));
    // RFC 4180: lines end in CRLF, and each row has all columns.
    assert_eq!(text.matches("\r\n").count(), 12);
    assert_eq!(text.replace("\r\n", "").matches('\n').count(), 0);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    for (column, cell) in rows.iter().flatten().filter(|(column, _)| NUMBERS.contains(&column.as_str())) {
        assert!(cell.is_empty() || is_decimal(cell), "{column} holds {cell:?}");
    }
    let sum: Decimal = (0..rows.len()).map(|row| cell(row, "amount").parse::<Decimal>().unwrap()).sum();
    assert_eq!(sum.to_string(), "1437.23");
}

#[test]
fn a_credit_note_comes_off_the_sum() {
    let rows = read(&csv(&sample::stored_note(&sample::credit_note())), b',');
    let column = |column: &str| -> Vec<String> {
        rows.iter().map(|row| row.iter().find(|(of, _)| of == column).unwrap().1.clone()).collect()
    };
    assert_eq!(column("document"), ["credit_note", "credit_note"]);
    assert_eq!(column("line"), ["3", "4"]);
    assert_eq!(column("amount"), ["-20.00", "-30.00"]);
    assert_eq!(column("total"), ["-59.50", "-59.50"]);
    assert_eq!(column("credits"), ["INV-2026-000042", "INV-2026-000042"]);
}

#[test]
fn nothing_that_can_be_written_runs() {
    let (_, mut rng) = support::rng("nothing_that_can_be_written_runs");
    let (invoice, note) = (sample::invoice(), sample::credit_note());
    for _ in 0..if support::full() { 20_000 } else { 500 } {
        harmless(&csv(&sample::stored(&words::invoice(&mut rng, &invoice), State::Finalized)));
        harmless(&csv(&sample::stored_note(&words::credit_note(&mut rng, &note))));
    }
}
