//! The PDF: its text, as a reader would take it out, and that nothing makes it fail.

use tollgate::billing::export::State;
use tollgate::billing::export::pdf::Printer;

use super::sample;

#[test]
fn look() {
    let Ok(folder) = std::env::var("TOLLGATE_TEST_PDFS") else { return };
    let printer = Printer::new().unwrap();
    let invoice = sample::invoice();
    let put = |name: &str, document| std::fs::write(format!("{folder}/{name}.pdf"), printer.print(&document).unwrap()).unwrap();
    put("invoice", sample::stored(&invoice, State::Finalized));
    put("draft", sample::stored(&invoice, State::Draft));
    put("void", sample::stored(&invoice, State::Void));
    put("note", sample::stored_note(&sample::credit_note()));
}
