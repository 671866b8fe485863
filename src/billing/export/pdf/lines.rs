//! The lines of an invoice: by month and plan, each with how its units became money.

use rust_decimal::Decimal;

use super::sheet::{ACCENT, Align, Cell, GREY, INK, LEFT, RIGHT, Row, Sheet};
use super::text::{Face, Fonts, Line as Set};
use super::words;
use crate::billing::document::{Invoice, Line, Step};
use crate::money::Currency;

const QUANTITY: Align = Align::Right(334.0);
const PRICE: Align = Align::Right(396.0);
const EXACT: Align = Align::Right(468.0);
const AMOUNT: Align = Align::Right(RIGHT);
/// What the columns may take before their text is made smaller.
const DESCRIPTION_WIDTH: f32 = 214.0;
/// Up to the exact amount, for an explanation without a quantity.
const WIDE: f32 = 330.0;
const NUMBER_WIDTH: f32 = 60.0;
const EXACT_WIDTH: f32 = 68.0;

/// One row that explains a line.
struct Detail {
    what: String,
    quantity: Option<u64>,
    price: Option<String>,
    exact: Option<String>,
}

/// The table.
pub(super) fn table(sheet: &mut Sheet<'_>, invoice: &Invoice) {
    let heads = [
        (Align::Left(LEFT), "Description".to_owned()),
        (QUANTITY, "Quantity".to_owned()),
        (PRICE, "Price".to_owned()),
        (EXACT, "Exact".to_owned()),
        (AMOUNT, format!("Amount {}", invoice.currency.chars().take(3).collect::<String>())),
    ];
    sheet.begin_table(heads.into());
    let fonts = sheet.fonts;
    let places = Currency::from_code(&invoice.currency).map_or(2, |currency| currency.exponent() as usize);
    let groups: Vec<_> = invoice.lines.chunk_by(|a, b| (&a.period, &a.plan) == (&b.period, &b.plan)).collect();
    for group in &groups {
        // The heading goes with the first line: it does not stand alone at the foot of a page.
        let first = group.first().map(|first| heading(fonts, invoice, first, (groups.len() > 1).then(|| sum(group)).flatten()));
        let mut together: Vec<Row> = first.into_iter().collect();
        for line in *group {
            together.extend(rows(fonts, line, places));
            sheet.rows(std::mem::take(&mut together));
            sheet.y += 3.0;
        }
        sheet.y += 5.0;
    }
    if groups.is_empty() {
        let lines = vec![fonts.line(Face::Regular, 9.0, "Nothing was due.")];
        sheet.rows(vec![Row { cells: vec![Cell { align: Align::Left(LEFT), lines, colour: INK }], leading: 13.0 }]);
    }
    sheet.rule(LEFT, RIGHT, 0.8, INK);
    sheet.y += 6.0;
    sheet.end_table();
    let rule = "Each line is rounded once, half away from zero, at the currency's minor unit. \"Exact\" is before rounding.";
    sheet.text(Align::Left(LEFT), 7.0, fonts.line(Face::Regular, 7.0, rule), GREY);
    sheet.y += 16.0;
}

fn sum(group: &[Line]) -> Option<String> {
    let add = |sum: Decimal, line: &Line| sum.checked_add(Decimal::from_str_exact(&line.amount).ok()?);
    group.iter().try_fold(Decimal::ZERO, add).map(|sum| sum.to_string())
}

fn heading(fonts: &Fonts, invoice: &Invoice, line: &Line, sum: Option<String>) -> Row {
    let why = match line.period.cmp(&invoice.period.month) {
        std::cmp::Ordering::Less => " (adjustment)",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => " (in advance)",
    };
    let named = if line.plan_name.trim().is_empty() { line.plan.clone() } else { format!("{} · {}", line.plan_name, line.plan) };
    let text = format!("{}{why} · {named}", words::month(&line.period));
    let lines = fonts.wrap(Face::Bold, 9.0, &text, 468.0 - LEFT);
    let mut cells = vec![Cell { align: Align::Left(LEFT), lines, colour: ACCENT }];
    if let Some(sum) = sum {
        let lines = fonts.fit(Face::Regular, 8.5, 5.0, &words::number(&sum), NUMBER_WIDTH);
        cells.push(Cell { align: AMOUNT, lines, colour: GREY });
    }
    Row { cells, leading: 15.0 }
}

/// A line, and under it the rows that explain it.
fn rows(fonts: &Fonts, line: &Line, places: usize) -> Vec<Row> {
    let number = |text: &str, size, width| -> Vec<Set> { fonts.fit(Face::Regular, size, 4.5, text, width) };
    let cell = |align, lines, colour| Cell { align, lines, colour };
    let mut cells = vec![cell(Align::Left(LEFT), fonts.wrap(Face::Regular, 9.0, &line.description, DESCRIPTION_WIDTH), INK)];
    if let Some(units) = line.units {
        cells.push(cell(QUANTITY, number(&words::number(&units.to_string()), 9.0, NUMBER_WIDTH), INK));
    }
    cells.push(cell(AMOUNT, number(&words::number(&line.amount), 9.0, EXACT_WIDTH), INK));
    let mut rows = vec![Row { cells, leading: 13.0 }];
    for detail in details(line) {
        let width = if detail.quantity.is_some() { DESCRIPTION_WIDTH } else { WIDE };
        let what = fonts.wrap(Face::Regular, 7.5, &detail.what, width - 10.0);
        let mut cells = vec![cell(Align::Left(LEFT + 10.0), what, GREY)];
        if let Some(quantity) = detail.quantity {
            cells.push(cell(QUANTITY, number(&words::number(&quantity.to_string()), 7.5, NUMBER_WIDTH), GREY));
        }
        if let Some(price) = &detail.price {
            cells.push(cell(PRICE, number(&words::exact(price, places), 7.5, NUMBER_WIDTH - 4.0), GREY));
        }
        if let Some(exact) = &detail.exact {
            cells.push(cell(EXACT, number(&words::exact(exact, places), 7.5, EXACT_WIDTH), GREY));
        }
        rows.push(Row { cells, leading: 10.5 });
    }
    rows
}

/// What stands under a line, so that it can be computed again by hand.
fn details(line: &Line) -> Vec<Detail> {
    let mut details = Vec::new();
    let mut add = |what: String, quantity, price, exact| details.push(Detail { what, quantity, price, exact });
    if let Some(days) = line.days.filter(|days| days.counted != days.of) {
        add(format!("for {} of {} days", days.counted, days.of), None, None, None);
    }
    if let Some(pricing) = &line.pricing {
        if pricing.included > 0 {
            let used = line.units.map(|units| units.min(pricing.included));
            add(format!("included: {} units", words::number(&pricing.included.to_string())), used, None, Some("0".to_owned()));
        }
        if pricing.model == "none" {
            add("this plan has no charge for it".to_owned(), None, None, None);
        }
        for step in &pricing.steps {
            let what = step_words(&pricing.model, step);
            add(what, Some(step.quantity), Some(step.price.clone()), Some(step.amount.clone()));
        }
    }
    if let Some(value) = &line.value {
        add(format!("not charged; they would have cost {}", words::number(value)), None, None, None);
    }
    if let Some(before) = &line.billed_before {
        let units = before.units.map_or(String::new(), |units| format!(" ({})", words::count(units, "unit")));
        let on = if before.invoices.is_empty() { String::new() } else { format!(" on {}", before.invoices.join(", ")) };
        let taken = before.amount.strip_prefix('-').map_or_else(|| format!("-{}", before.amount), str::to_owned);
        add(format!("less what was billed before{on}{units}"), None, None, Some(taken));
    }
    details
}

fn step_words(model: &str, step: &Step) -> String {
    let unit = |unit: u64| words::number(&unit.to_string());
    let tier = match (step.from, step.to) {
        (Some(from), Some(to)) => format!("units {} to {}", unit(from), unit(to)),
        (Some(from), None) => format!("units from {} on", unit(from)),
        (None, Some(to)) => format!("units up to {}", unit(to)),
        (None, None) => String::new(),
    };
    match (model, step.package) {
        (_, Some(package)) => format!("packages of {}, each begun one counts", words::count(package, "unit")),
        ("graduated", _) => format!("tier: {tier}"),
        ("volume", _) => format!("all at the price of the tier: {tier}"),
        _ if tier.is_empty() => "units charged".to_owned(),
        _ => tier,
    }
}
