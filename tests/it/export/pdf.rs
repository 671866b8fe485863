//! The PDF: its text as a reader would take it out (pdftotext), the document that is attached, pages, and that no text makes it
//! fail.

use std::path::PathBuf;
use std::process::Command;

use tollgate::billing::document::{Invoice, Kind};
use tollgate::billing::export::pdf::Printer;
use tollgate::billing::export::{State, Stored};

use super::{sample, words};
use crate::support;

/// A tool of poppler-utils on a file.
fn poppler(tool: &str, arguments: &[&str]) -> String {
    let ran = Command::new(tool).args(arguments).output();
    let ran = ran.unwrap_or_else(|error| panic!("{tool} cannot be run ({error}): scripts/test installs poppler-utils"));
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

struct Printed {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Printed {
    fn of(document: &Stored) -> Self {
        let bytes = Printer::new().unwrap().print(document).unwrap();
        let printed = Self { folder: tempfile::tempdir().unwrap(), bytes };
        std::fs::write(printed.path(), &printed.bytes).unwrap();
        printed
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("it.pdf")
    }

    /// Its text by page, as it stands on paper, without empty lines and with two spaces for a gap.
    fn pages(&self) -> Vec<String> {
        let text = poppler("pdftotext", &["-layout", self.path().to_str().unwrap(), "-"]);
        let line = |line: &str| line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ");
        let page = |page: &str| page.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        text.split('\u{c}').map(page).filter(|page| !page.is_empty()).collect()
    }
}

#[track_caller]
fn snapshot(name: &str, document: &Stored) {
    let text = Printed::of(document).pages().join("\n--- next page ---\n");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../snapshots");
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A yen invoice in the buyer's favour, of a buyer who is exempt: 1,000 × 1 = 1,000, of which 1,500 were billed.
fn in_favour() -> Invoice {
    let mut invoice = sample::invoice();
    let mut line = invoice.lines.pop().unwrap();
    line.period = "2026-10".into();
    line.amount = "-500".into();
    line.units = Some(1_000);
    let pricing = line.pricing.as_mut().unwrap();
    pricing.included = 0;
    (pricing.steps[0].quantity, pricing.steps[0].price, pricing.steps[0].amount) = (1_000, "1".into(), "1000".into());
    let before = line.billed_before.as_mut().unwrap();
    (before.units, before.amount) = (Some(1_500), "1500".into());
    invoice.lines = vec![line];
    invoice.currency = "JPY".into();
    invoice.subtotal = "-500".into();
    invoice.tax.rate = "0".into();
    invoice.tax.amount = "0".into();
    invoice.tax.exemption = Some("Reverse charge: the buyer owes the tax (Article 196, Directive 2006/112/EC).".into());
    invoice.total = "-500".into();
    invoice.buyer.name = "株式会社アルバ / شركة ألبا".into();
    invoice.evidence = Default::default();
    invoice
}

#[test]
fn its_text_can_be_taken_out() {
    let invoice = sample::invoice();
    snapshot("pdf_of_an_invoice", &sample::stored(&invoice, State::Finalized));
    let draft = Invoice { number: None, issued_at: None, due_on: None, ..invoice.clone() };
    snapshot("pdf_of_a_draft", &sample::stored(&draft, State::Draft));
    snapshot("pdf_of_a_void_invoice", &sample::stored(&invoice, State::Void));
    snapshot("pdf_of_an_invoice_in_favour", &sample::stored(&in_favour(), State::Finalized));
    snapshot("pdf_of_a_credit_note", &sample::stored_note(&sample::credit_note()));
}

#[test]
fn a_draft_and_a_void_one_say_so_on_each_page() {
    for (state, words) in [(State::Draft, "DRAFT: this is no invoice yet"), (State::Void, "VOID: this invoice was withdrawn")] {
        let pages = Printed::of(&sample::stored(&sample::invoice(), state)).pages();
        assert!(pages.len() > 1);
        assert!(pages.iter().all(|page| page.contains(words)), "{pages:#?}");
    }
    let pages = Printed::of(&sample::stored(&sample::invoice(), State::Paid)).pages();
    assert!(pages.iter().all(|page| !page.contains("DRAFT") && !page.contains("VOID")));
    assert!(pages[0].contains("Paid, with thanks"));
}

#[test]
fn the_document_that_was_hashed_is_attached_and_the_same_document_gives_the_same_bytes() {
    let document = sample::stored(&sample::invoice(), State::Finalized);
    let printed = Printed::of(&document);
    let out = printed.folder.path().join("out.json");
    poppler("pdfdetach", &["-save", "1", "-o", out.to_str().unwrap(), printed.path().to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), document.body());
    assert!(poppler("pdfdetach", &["-list", printed.path().to_str().unwrap()]).contains("INV-2026-000042.json"));
    assert_eq!(Printed::of(&document).bytes, printed.bytes);
    let fonts = poppler("pdffonts", &[printed.path().to_str().unwrap()]);
    let rows: Vec<Vec<&str>> = fonts.lines().skip(2).map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{fonts}");
    for row in rows {
        // Embedded, a subset, and with a way back to Unicode.
        assert_eq!(&row[row.len() - 5..row.len() - 2], ["yes", "yes", "yes"], "{fonts}");
    }
    assert!(printed.bytes.len() < 100_000, "{} bytes", printed.bytes.len());
}

#[test]
fn hundreds_of_lines_go_on_from_page_to_page() {
    let mut invoice = sample::invoice();
    invoice.lines = (1..=600)
        .map(|of| sample::line(Kind::Usage, "2026-11", "growth@2", "Growth", &format!("Meter number {of}"), &format!("{of}.25")))
        .collect();
    let pages = Printed::of(&sample::stored(&invoice, State::Finalized)).pages();
    assert!(pages.len() > 8, "{}", pages.len());
    for (place, page) in pages.iter().enumerate() {
        assert!(page.contains(&format!("Page {} of {}", place + 1, pages.len())), "{page}");
        assert_eq!(page.contains("Meter number"), page.contains("Description  Quantity  Price  Exact  Amount EUR"), "{page}");
    }
    let text = pages.join("\n");
    for of in 1..=600 {
        assert!(text.contains(&format!("Meter number {of}  {of}.25\n")), "{of}");
    }
}

#[test]
fn no_digit_and_no_word_is_lost_however_long() {
    let mut invoice = sample::invoice();
    let (amount, price) = ("123456789012345678901234.99", "0.000000000123456789012345678901234567890123456789");
    invoice.lines[3].amount = amount.into();
    invoice.lines[3].units = Some(u64::MAX);
    invoice.lines[3].pricing.as_mut().unwrap().steps[0].price = price.into();
    (invoice.subtotal, invoice.total, invoice.tax.amount) = (amount.into(), amount.into(), amount.into());
    let long = "Gesellschaft für außerordentlich lange Firmennamen mit beschränkter Haftung und Compagnie ".repeat(12);
    invoice.buyer.name = long.clone();
    invoice.buyer.address = vec!["§".repeat(200); 90];
    // In the order in which it was drawn: side by side, a broken word has its neighbours in between.
    let printed = Printed::of(&sample::stored(&invoice, State::Finalized));
    let text = poppler("pdftotext", &["-raw", printed.path().to_str().unwrap(), "-"]);
    let packed = |text: &str| text.replace(char::is_whitespace, "").replace(',', "");
    assert!(packed(&text).contains(&format!("Subtotal{amount}")), "{text}");
    assert!(packed(&text).contains(&format!("EUR{amount}")), "{text}");
    assert!(packed(&text).contains("18446744073709551615"), "{text}");
    assert_eq!(text.matches("Haftung").count(), 12, "{text}");
    assert_eq!(text.matches('§').count(), 90 * 200, "{text}");
}

#[test]
fn no_text_makes_it_fail() {
    let (_, mut rng) = support::rng("no_text_makes_it_fail");
    let printer = Printer::new().unwrap();
    let states = [State::Draft, State::Finalized, State::Paid, State::Void];
    for round in 0..if support::full() { 1000 } else { 60 } {
        let invoice = sample::stored(&words::invoice(&mut rng, &sample::invoice()), states[round % 4]);
        let note = sample::stored_note(&words::credit_note(&mut rng, &sample::credit_note()));
        for document in [invoice, note] {
            let bytes = printer.print(&document).unwrap();
            assert!(bytes.starts_with(b"%PDF-"));
            if round % 20 == 0 {
                assert!(!Printed::of(&document).pages().is_empty());
                assert_eq!(Printed::of(&document).bytes, bytes, "the same bytes whatever was printed before");
            }
        }
    }
}
