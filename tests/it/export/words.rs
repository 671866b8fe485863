//! Text that somebody may have written into any field: of every alphabet, and of none.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tollgate::billing::document::{CreditNote, Invoice, Party};

/// Text that has hurt programs before.
const NASTY: [&str; 24] = [
    "",
    " ",
    "=1+1",
    "\t=cmd|' /C calc'!A0",
    "\r\n@SUM(A1)",
    "\u{202e}gnp.exe",
    "\u{feff}+1",
    "شركة الخليج للتجارة ذ.م.م 1234",
    "בעמ ישראל \"מחקר\"",
    "株式会社サンプル",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}",
    "👩‍👩‍👧‍👦 & sons",
    "\u{0}\u{1}\u{7f}\u{80}\u{9f}",
    "\u{ffff}\u{fffe}\u{fdd0}\u{10ffff}",
    "\u{e000}\u{f8ff}",
    "\u{200d}\u{200c}\u{200b}\u{2060}",
    "ffi ffl fi Ĳ ǆ",
    "<script>&amp;\"'`",
    "(\\)<<>>stream endstream endobj",
    "%PDF-1.7 %%EOF",
    "ไทยกุ้ง नमस्ते ক্ষ",
    "\u{2028}\u{2029}\u{85}",
    "𝕏𝟙 \u{1d173}",
    "\u{fff9}a\u{fffa}b\u{fffb}",
];

pub(super) fn any(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..10) {
        0..4 => NASTY[rng.random_range(0..NASTY.len())].to_owned(),
        4 => NASTY[rng.random_range(0..NASTY.len())].repeat(rng.random_range(1..40)),
        5 => (0..rng.random_range(0..300)).map(|_| rng.random::<char>()).collect(),
        6 => (0..rng.random_range(0..60)).map(|_| char::from(rng.random_range(0..=127_u8))).collect(),
        7 => "W".repeat(rng.random_range(1..900)),
        8 => {
            let words = (0..rng.random_range(1..40)).map(|_| NASTY[rng.random_range(0..NASTY.len())]);
            words.collect::<Vec<_>>().join(";")
        }
        _ => "Ordinary Ltd".to_owned(),
    }
}

fn some(rng: &mut ChaCha8Rng) -> Vec<String> {
    (0..rng.random_range(0..8)).map(|_| any(rng)).collect()
}

fn party(rng: &mut ChaCha8Rng) -> Party {
    Party {
        name: any(rng),
        address: some(rng),
        tax_id: rng.random_bool(0.5).then(|| any(rng)),
        email: rng.random_bool(0.5).then(|| any(rng)),
        payment: some(rng),
    }
}

/// The same invoice with other words, numbers included: a document in a database is text.
pub(super) fn invoice(rng: &mut ChaCha8Rng, of: &Invoice) -> Invoice {
    let mut invoice = of.clone();
    (invoice.seller, invoice.buyer) = (party(rng), party(rng));
    if rng.random_bool(0.3) {
        invoice.number = Some(any(rng));
    }
    if rng.random_bool(0.3) {
        invoice.issued_at = rng.random_bool(0.5).then(|| any(rng));
        invoice.due_on = Some(any(rng));
        invoice.period.month = any(rng);
        invoice.period.timezone = any(rng);
        invoice.period.to = any(rng);
        invoice.currency = any(rng);
        invoice.subtotal = any(rng);
        invoice.total = any(rng);
        invoice.tax.rate = any(rng);
        invoice.evidence.root = any(rng);
        invoice.partner = any(rng).into();
    }
    invoice.tax.exemption = rng.random_bool(0.5).then(|| any(rng));
    for line in &mut invoice.lines {
        (line.plan_name, line.description) = (any(rng), any(rng));
        if rng.random_bool(0.2) {
            (line.plan, line.period, line.amount) = (any(rng), any(rng), any(rng));
            line.value = Some(any(rng));
            line.units = Some(rng.random());
        }
        if let Some(pricing) = line.pricing.as_mut().filter(|_| rng.random_bool(0.2)) {
            pricing.model = any(rng);
            for step in &mut pricing.steps {
                (step.from, step.to, step.quantity) = (Some(rng.random()), None, rng.random());
                (step.price, step.amount) = (any(rng), any(rng));
            }
        }
        if let Some(before) = &mut line.billed_before {
            (before.amount, before.invoices) = (any(rng), some(rng));
        }
    }
    invoice
}

pub(super) fn credit_note(rng: &mut ChaCha8Rng, of: &CreditNote) -> CreditNote {
    let mut note = of.clone();
    (note.seller, note.buyer) = (party(rng), party(rng));
    (note.reason, note.invoice) = (any(rng), any(rng));
    if rng.random_bool(0.3) {
        (note.number, note.issued_at, note.currency) = (any(rng), any(rng), any(rng));
        (note.net, note.total, note.tax.amount) = (any(rng), any(rng), any(rng));
    }
    for line in &mut note.lines {
        (line.description, line.amount) = (any(rng), any(rng));
    }
    if rng.random_bool(0.2) {
        note.lines.clear();
    }
    note
}
