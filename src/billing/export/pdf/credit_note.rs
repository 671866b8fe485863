//! A credit note: which invoice it is on, why, and what is taken back.

use super::finish::{Frame, finish};
use super::parts;
use super::sheet::{Align, Cell, INK, LEFT, RIGHT, Row, Sheet};
use super::text::{Face, Fonts};
use super::words;
use crate::billing::document::CreditNote;
use crate::billing::export::stored::{Stored, StoredCreditNote};

pub(super) fn print(fonts: &Fonts, stored: &StoredCreditNote) -> anyhow::Result<Vec<u8>> {
    let note = &stored.document;
    let mut sheet = Sheet::new(fonts);
    parts::letterhead(&mut sheet, &note.seller, "Credit note", &note.number);
    let facts = [
        ("Issued", words::instant(&note.issued_at)),
        ("On invoice", note.invoice.clone()),
        ("", format!("of {}", words::instant(&note.invoice_issued_at))),
        ("Currency", note.currency.clone()),
        ("Account", note.partner.to_string()),
    ];
    parts::buyer_and_facts(&mut sheet, &note.buyer, &facts);
    let amount = format!("{} {}", note.currency, words::number(&note.total));
    parts::headline(&mut sheet, "Credited to you", &amount, &format!("on invoice {}", note.invoice));
    table(&mut sheet, note);
    parts::sums(&mut sheet, ("Net", &note.net), &note.tax, ("Total credited", amount));
    parts::heading(&mut sheet, "Reason", 20.0);
    parts::paragraph(&mut sheet, &note.reason, INK);
    sheet.y += 12.0;
    parts::heading(&mut sheet, "Evidence", 20.0);
    parts::hash(&mut sheet, "This document's hash", &stored.sha256);
    let frame = Frame {
        title: format!("Credit note {}", note.number),
        seller: &note.seller.name,
        buyer: &note.buyer.name,
        stamp: None,
        dated: &note.issued_at,
        file: format!("{}.json", Stored::CreditNote(Box::new(stored.clone())).file_stem()),
        body: &stored.body,
        sha256: &stored.sha256,
    };
    finish(fonts, sheet.pages, &frame)
}

fn table(sheet: &mut Sheet<'_>, note: &CreditNote) {
    const LINE: Align = Align::Right(430.0);
    let amount = format!("Amount {}", note.currency.chars().take(3).collect::<String>());
    let heads = vec![
        (Align::Left(LEFT), "Description".to_owned()),
        (LINE, "Line of the invoice".to_owned()),
        (Align::Right(RIGHT), amount),
    ];
    sheet.begin_table(heads);
    let fonts = sheet.fonts;
    let whole = format!("Credit on the whole of invoice {}", note.invoice);
    let whole = note.lines.is_empty().then_some((None, whole.as_str(), note.net.as_str()));
    let lines = note.lines.iter().map(|line| (Some(line.line), line.description.as_str(), line.amount.as_str()));
    for (line, description, amount) in whole.into_iter().chain(lines) {
        let mut cells =
            vec![Cell { align: Align::Left(LEFT), lines: fonts.wrap(Face::Regular, 9.0, description, 280.0), colour: INK }];
        if let Some(line) = line {
            cells.push(Cell { align: LINE, lines: vec![fonts.line(Face::Regular, 9.0, &line.to_string())], colour: INK });
        }
        let lines = fonts.fit(Face::Regular, 9.0, 4.5, &words::number(amount), 90.0);
        cells.push(Cell { align: Align::Right(RIGHT), lines, colour: INK });
        sheet.rows(vec![Row { cells, leading: 14.0 }]);
        sheet.y += 2.0;
    }
    sheet.rule(LEFT, RIGHT, 0.8, INK);
    sheet.y += 10.0;
    sheet.end_table();
}
