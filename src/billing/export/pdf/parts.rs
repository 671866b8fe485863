//! What invoices and credit notes have in common: letterhead, parties, the facts beside them, sums, hashes.

use super::sheet::{ACCENT, Align, Colour, GREY, INK, LEFT, PALE, RIGHT, Sheet, WASH};
use super::text::{Face, Line};
use super::words;
use crate::billing::document::{Party, Tax};

/// Where the right half begins.
const MIDDLE: f32 = 318.0;
/// Where facts and sums begin, and their values.
const VALUES: f32 = 398.0;

/// Who sends it, and what it is.
pub(super) fn letterhead(sheet: &mut Sheet<'_>, seller: &Party, title: &str, number: &str) {
    let top = sheet.y;
    let fonts = sheet.fonts;
    sheet.text(Align::Right(RIGHT), 20.0, fonts.line(Face::Bold, 25.0, title), ACCENT);
    sheet.y += 36.0;
    for line in fonts.fit(Face::Bold, 10.5, 6.0, number, RIGHT - MIDDLE) {
        sheet.text(Align::Right(RIGHT), 0.0, line, INK);
        sheet.y += 12.0;
    }
    let right = sheet.y;
    sheet.y = top;
    party(sheet, LEFT, MIDDLE - LEFT - 18.0, 13.0, seller);
    sheet.y = sheet.y.max(right) + 20.0;
}

/// Lines at `x` from where the page is filled to; they are few, or they run on to the next page.
fn stack(sheet: &mut Sheet<'_>, x: f32, leading: f32, lines: Vec<Line>, colour: Colour) {
    for line in lines {
        sheet.need(leading);
        sheet.text(Align::Left(x), leading * 0.75, line, colour);
        sheet.y += leading;
    }
}

fn party(sheet: &mut Sheet<'_>, x: f32, width: f32, size: f32, party: &Party) {
    let fonts = sheet.fonts;
    stack(sheet, x, size * 1.25, fonts.wrap(Face::Bold, size, &party.name, width), INK);
    let tax_id = party.tax_id.iter().map(|id| format!("Tax id {id}"));
    for text in party.address.iter().cloned().chain(tax_id).chain(party.email.clone()) {
        stack(sheet, x, 11.5, fonts.wrap(Face::Regular, 8.5, &text, width), GREY);
    }
}

/// The buyer, and beside it what else is to be known.
pub(super) fn buyer_and_facts(sheet: &mut Sheet<'_>, buyer: &Party, facts: &[(&str, String)]) {
    let fonts = sheet.fonts;
    let (top, page) = (sheet.y, sheet.pages.len());
    for (name, value) in facts {
        let values = fonts.wrap(Face::Regular, 8.5, value, RIGHT - VALUES);
        let count = values.len().max(1);
        sheet.text(Align::Left(MIDDLE), 9.0, fonts.line(Face::Regular, 8.5, name), GREY);
        for (place, line) in values.into_iter().enumerate() {
            sheet.text(Align::Left(VALUES), 9.0 + 11.5 * place as f32, line, INK);
        }
        sheet.y += 11.5 * count as f32 + 2.0;
    }
    let right = sheet.y;
    sheet.y = top;
    sheet.text(Align::Left(LEFT), 8.0, fonts.line(Face::Bold, 7.5, "Billed to"), GREY);
    sheet.y += 14.0;
    party(sheet, LEFT, MIDDLE - LEFT - 18.0, 10.5, buyer);
    if sheet.pages.len() == page {
        sheet.y = sheet.y.max(right);
    }
    sheet.y += 16.0;
}

/// The one figure that most readers look for.
pub(super) fn headline(sheet: &mut Sheet<'_>, label: &str, amount: &str, beside: &str) {
    let fonts = sheet.fonts;
    sheet.need(60.0);
    sheet.fill(LEFT, RIGHT, 42.0, WASH);
    sheet.fill(LEFT, LEFT + 3.0, 42.0, ACCENT);
    sheet.text(Align::Left(LEFT + 16.0), 16.0, fonts.line(Face::Regular, 8.5, label), GREY);
    let amount = fonts.fit(Face::Bold, 15.0, 5.0, amount, 230.0);
    if let Some(line) = amount.into_iter().next() {
        sheet.text(Align::Left(LEFT + 16.0), 33.0, line, INK);
    }
    let lines = fonts.wrap(Face::Regular, 8.5, beside, 210.0);
    let first = 24.5 - 5.5 * (lines.len().min(3).saturating_sub(1)) as f32;
    for (place, line) in lines.into_iter().take(3).enumerate() {
        sheet.text(Align::Right(RIGHT - 16.0), first + 11.0 * place as f32, line, INK);
    }
    sheet.y += 42.0 + 20.0;
}

/// Net, tax and total, under the amounts of the table.
pub(super) fn sums(sheet: &mut Sheet<'_>, net: (&str, &str), tax: &Tax, total: (&str, String)) {
    let fonts = sheet.fonts;
    sheet.need(76.0);
    sheet.y += 4.0;
    let row = |sheet: &mut Sheet<'_>, name: &str, amount: &str| {
        sheet.text(Align::Left(MIDDLE), 9.0, fonts.line(Face::Regular, 9.0, name), INK);
        for line in fonts.fit(Face::Regular, 9.0, 5.0, amount, RIGHT - VALUES) {
            sheet.text(Align::Right(RIGHT), 9.0, line, INK);
            sheet.y += 15.0;
        }
    };
    row(sheet, net.0, &words::number(net.1));
    row(sheet, &format!("Tax {} %", words::exact(&tax.rate, 0)), &words::number(&tax.amount));
    if let Some(reason) = &tax.exemption {
        stack(sheet, MIDDLE, 10.5, fonts.wrap(Face::Regular, 8.0, reason, RIGHT - MIDDLE), GREY);
        sheet.y += 4.0;
    }
    sheet.rule(MIDDLE, RIGHT, 0.8, INK);
    sheet.y += 5.0;
    sheet.text(Align::Left(MIDDLE), 11.0, fonts.line(Face::Bold, 11.0, total.0), INK);
    for line in fonts.fit(Face::Bold, 11.0, 5.0, &total.1, RIGHT - VALUES) {
        sheet.text(Align::Right(RIGHT), 11.0, line, INK);
        sheet.y += 15.0;
    }
    sheet.y += 12.0;
}

/// A heading over the parts that come after the sums.
pub(super) fn heading(sheet: &mut Sheet<'_>, text: &str, with: f32) {
    sheet.need(22.0 + with);
    sheet.rule(LEFT, RIGHT, 0.5, PALE);
    sheet.y += 10.0;
    let line = sheet.fonts.line(Face::Bold, 9.0, text);
    sheet.text(Align::Left(LEFT), 8.0, line, INK);
    sheet.y += 15.0;
}

/// A paragraph over the whole width.
pub(super) fn paragraph(sheet: &mut Sheet<'_>, text: &str, colour: Colour) {
    let lines = sheet.fonts.wrap(Face::Regular, 8.5, text, RIGHT - LEFT);
    stack(sheet, LEFT, 11.5, lines, colour);
}

/// A hash, with what it is of.
pub(super) fn hash(sheet: &mut Sheet<'_>, name: &str, hash: &str) {
    sheet.need(12.0);
    let fonts = sheet.fonts;
    sheet.text(Align::Left(LEFT), 9.0, fonts.line(Face::Regular, 8.5, name), GREY);
    let x = LEFT + 112.0;
    let lines = fonts.fit(Face::Mono, 7.5, 5.0, hash, RIGHT - x);
    let count = lines.len().max(1);
    for line in lines.into_iter().take(8) {
        sheet.text(Align::Left(x), 9.0, line, INK);
        if count > 1 {
            sheet.y += 9.0;
        }
    }
    sheet.y += 12.0;
}
