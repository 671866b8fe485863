//! Documents to export: an invoice that has everything an invoice may have, its arithmetic beside it.

use sha2::{Digest, Sha256};
use tollgate::billing::document::{
    BilledBefore, CreditLine, CreditNote, Days, Evidence, EvidenceDay, Invoice, Kind, Line, Party, Pricing, Span, Step, Tax,
};
use tollgate::billing::export::{State, Stored, StoredCreditNote, StoredInvoice};

pub(super) fn sha256(body: &str) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn stored(invoice: &Invoice, state: State) -> Stored {
    let body = serde_json::to_string(invoice).unwrap();
    Stored::Invoice(Box::new(StoredInvoice::read(state, sha256(&body), body).unwrap()))
}

pub(super) fn stored_note(note: &CreditNote) -> Stored {
    let body = serde_json::to_string(note).unwrap();
    Stored::CreditNote(Box::new(StoredCreditNote::read(sha256(&body), body).unwrap()))
}

pub(super) fn line(kind: Kind, period: &str, plan: &str, plan_name: &str, description: &str, amount: &str) -> Line {
    Line {
        kind,
        period: period.into(),
        plan: plan.into(),
        plan_name: plan_name.into(),
        product: None,
        meter: None,
        description: description.into(),
        days: None,
        units: None,
        pricing: None,
        billed_before: None,
        value: None,
        amount: amount.into(),
    }
}

fn step(tier: (Option<u64>, Option<u64>), quantity: u64, package: Option<u64>, price: &str, amount: &str) -> Step {
    Step { from: tier.0, to: tier.1, quantity, package, price: price.into(), amount: amount.into() }
}

fn used(meter: &str, units: u64, pricing: Option<(&str, u64, Vec<Step>)>, line: Line) -> Line {
    let pricing = pricing.map(|(model, included, steps)| Pricing { model: model.into(), included, steps });
    Line { product: Some(meter.into()), meter: Some(meter.into()), units: Some(units), pricing, ..line }
}

fn days(counted: u32, of: u32, line: Line) -> Line {
    Line { days: Some(Days { counted, of }), ..line }
}

pub(super) fn seller() -> Party {
    Party {
        name: "Nordlicht Data GmbH".into(),
        address: ["Speicherstadt 12", "20457 Hamburg", "Germany"].map(Into::into).into(),
        tax_id: Some("DE123456789".into()),
        email: Some("billing@nordlicht.example".into()),
        payment: ["Hamburger Hafenbank, BIC HAFBDEHH", "IBAN DE02 1203 0000 0000 2020 51"].map(Into::into).into(),
    }
}

pub(super) fn buyer() -> Party {
    Party {
        name: "Sapataria Álba & Irmãos, S.A.".into(),
        address: ["Rua das Flores 118, 2.º Esq.", "4050-265 Porto", "Portugal"].map(Into::into).into(),
        tax_id: Some("PT501234567".into()),
        email: Some("contas@alba.example".into()),
        payment: Vec::new(),
    }
}

/// November 2026 with an upgrade on the 17th: 16 days on starter, 14 on growth, whose base fee is due in advance; and late usage
/// of October.
fn lines() -> Vec<Line> {
    let starter = |kind, description, amount| line(kind, "2026-11", "starter@1", "Starter", description, amount);
    let growth = |kind, description, amount| line(kind, "2026-11", "growth@2", "Growth", description, amount);
    let december = |kind, description, amount| line(kind, "2026-12", "growth@2", "Growth", description, amount);
    let october = line(Kind::Usage, "2026-10", "starter@1", "Starter", "Units of inventory", "0.06");
    let before = BilledBefore { units: Some(10_200), amount: "0.30".into(), invoices: vec!["INV-2026-000031".into()] };
    // 100,000 × 0.002 + 900,000 × 0.001 + 203,333 × 0.0005 = 1,201.6665
    let tiers = vec![
        step((Some(1), Some(100_000)), 100_000, None, "0.0020", "200.0000"),
        step((Some(100_001), Some(1_000_000)), 900_000, None, "0.0010", "900.0000"),
        step((Some(1_000_001), None), 203_333, None, "0.0005", "101.6665"),
    ];
    vec![
        // 49 × 16 / 30 = 26.1333
        days(16, 30, starter(Kind::BaseFee, "Base fee", "26.13")),
        // 10,000 × 16 / 30 = 5,333.3, so 5,334 are included; 7,066 × 0.0015 = 10.599
        used(
            "inventory",
            12_400,
            Some(("per_unit", 5_334, vec![step((None, None), 7_066, None, "0.0015", "10.5990")])),
            starter(Kind::Usage, "Units of inventory", "10.60"),
        ),
        // 199 × 14 / 30 = 92.8667
        days(14, 30, growth(Kind::BaseFee, "Base fee", "92.87")),
        used("pricing", 1_250_000, Some(("graduated", 46_667, tiers)), growth(Kind::Usage, "Units of pricing", "1201.67")),
        // 48,210 units are 5 packages begun: 5 × 12.50 = 62.50
        used(
            "journey",
            48_210,
            Some(("package", 0, vec![step((None, None), 5, Some(10_000), "12.50", "62.50")])),
            growth(Kind::Usage, "Units of journey", "62.50"),
        ),
        used("requests", 61_034, Some(("none", 0, vec![])), growth(Kind::Usage, "Answered requests", "0.00")),
        // 3,120 × 0.0005 = 1.56
        Line {
            value: Some("1.56".into()),
            ..used(
                "pricing",
                3_120,
                None,
                growth(Kind::Waived, "Units of pricing that were staler than promised, not billed", "0.00"),
            )
        },
        // (92.87 + 1,201.67 + 62.50) × 10 % = 135.704
        growth(Kind::Discount, "Discount of 10 %", "-135.70"),
        days(31, 31, december(Kind::BaseFee, "Base fee", "199.00")),
        december(Kind::Discount, "Discount of 10 %", "-19.90"),
        // 240 × 0.0015 = 0.36, of which 0.30 was billed
        Line {
            billed_before: Some(before),
            ..used(
                "inventory",
                10_240,
                Some(("per_unit", 10_000, vec![step((None, None), 240, None, "0.0015", "0.3600")])),
                october,
            )
        },
    ]
}

/// 26.13 + 10.60 + 92.87 + 1,201.67 + 62.50 − 135.70 + 199.00 − 19.90 + 0.06 = 1,437.23; 19 % of it = 273.0737.
pub(super) fn invoice() -> Invoice {
    let day = |period: &str, day: String, records| EvidenceDay { period: period.into(), records, root: sha256(&day), day };
    let november = (1..=30).map(|of| day("2026-11", format!("2026-11-{of:02}"), 2_030));
    let days: Vec<_> = std::iter::once(day("2026-10", "2026-10-31".into(), 134)).chain(november).collect();
    Invoice {
        v: 1,
        id: "inv_01kbexamp1e000000000000000".into(),
        number: Some("INV-2026-000042".into()),
        issued_at: Some("2026-12-02T08:14:05.120Z".into()),
        due_on: Some("2026-12-16".into()),
        period: Span {
            month: "2026-11".into(),
            from: "2026-11-01T00:00:00Z".into(),
            to: "2026-12-01T00:00:00Z".into(),
            timezone: "Europe/Lisbon".into(),
        },
        seller: seller(),
        buyer: buyer(),
        partner: "pt_01k9example000000000000000".into(),
        currency: "EUR".into(),
        lines: lines(),
        subtotal: "1437.23".into(),
        tax: Tax { rate: "19".into(), exemption: None, amount: "273.07".into() },
        total: "1710.30".into(),
        evidence: Evidence { root: sha256("root"), records: 134 + 30 * 2_030, days },
    }
}

/// 100.00 off the third line's 92.87 would be too much: 20.00 of it, and 30.00 of the fourth; 19 % of 50.00 = 9.50.
pub(super) fn credit_note() -> CreditNote {
    let line =
        |line, description: &str, amount: &str| CreditLine { line, description: description.into(), amount: amount.into() };
    CreditNote {
        v: 1,
        number: "CN-2026-000007".into(),
        issued_at: "2026-12-09T10:00:00.000Z".into(),
        invoice: "INV-2026-000042".into(),
        invoice_issued_at: "2026-12-02T08:14:05.120Z".into(),
        seller: seller(),
        buyer: buyer(),
        partner: "pt_01k9example000000000000000".into(),
        reason: "Prices of the market PT were wrong for some hours on 21 November; agreed with Ms Carvalho.".into(),
        currency: "EUR".into(),
        lines: vec![line(3, "Base fee", "20.00"), line(4, "Units of pricing", "30.00")],
        net: "50.00".into(),
        tax: Tax { rate: "19".into(), exemption: None, amount: "9.50".into() },
        total: "59.50".into(),
    }
}
