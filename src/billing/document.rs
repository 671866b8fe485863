//! The invoice and the credit note as documents: what is hashed, exported and checked. Every number is decimal text, so that no
//! reader makes a float of it; instants are RFC 3339, days and months ISO 8601.

use serde::{Deserialize, Serialize};

use crate::ids::{InvoiceId, PartnerId};

/// An invoice. Its JSON, in this order of fields and without spaces, is what the content hash is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invoice {
    /// The layout's version: 1.
    pub v: u8,
    /// Its id, from the draft on.
    pub id: InvoiceId,
    /// Its number; none while it is a draft.
    pub number: Option<String>,
    /// When it was finalized; none while it is a draft.
    pub issued_at: Option<String>,
    /// The day by which it is to be paid; none while it is a draft.
    pub due_on: Option<String>,
    /// The month.
    pub period: Span,
    /// Who sells.
    pub seller: Party,
    /// Who buys.
    pub buyer: Party,
    /// The buyer's id here.
    pub partner: PartnerId,
    /// ISO 4217.
    pub currency: String,
    /// What it is made of, in order; their amounts sum to the subtotal.
    pub lines: Vec<Line>,
    /// Before tax.
    pub subtotal: String,
    /// On the subtotal.
    pub tax: Tax,
    /// Subtotal and tax.
    pub total: String,
    /// What proves its usage.
    pub evidence: Evidence,
}

/// A billing month and its edges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Span {
    /// Such as `2026-11`.
    pub month: String,
    /// Its first instant,
    pub from: String,
    /// and the first one past it.
    pub to: String,
    /// Whose midnights these are.
    pub timezone: String,
}

/// A seller or a buyer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Party {
    /// The legal name.
    pub name: String,
    /// Line by line, as on an envelope; the country last.
    pub address: Vec<String>,
    /// Such as a VAT number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// Where questions go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// How the seller is paid: bank and account, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payment: Vec<String>,
}

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A plan's fixed fee.
    BaseFee,
    /// A meter's units.
    Usage,
    /// A meter's units in a free trial.
    Trial,
    /// Units that were staler than the plan promises: their value, not billed.
    Waived,
    /// A percentage off.
    Discount,
    /// What is missing to the minimum commitment.
    Minimum,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::BaseFee, Self::Usage, Self::Trial, Self::Waived, Self::Discount, Self::Minimum];

    /// As documents and the database name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BaseFee => "base_fee",
            Self::Usage => "usage",
            Self::Trial => "trial",
            Self::Waived => "waived",
            Self::Discount => "discount",
            Self::Minimum => "minimum",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    /// What for.
    pub kind: Kind,
    /// The month that it is for: before the invoice's it is an adjustment, after it is in advance.
    pub period: String,
    /// The plan version: `starter@1`.
    pub plan: String,
    /// As the plan calls itself.
    pub plan_name: String,
    /// Whose units; none for what is not usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Which meter; none for what is not usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// In words, for people.
    pub description: String,
    /// Days that count and days of the month, for what is prorated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<Days>,
    /// Rated units; of a line of kind `waived` or `trial`, those that are not charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// How the units became money, for lines of kind `usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// What earlier invoices billed of it already, taken off the amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_before: Option<BilledBefore>,
    /// What the waived units would have cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Rounded once.
    pub amount: String,
}

/// Days of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Days {
    /// Those that count.
    pub counted: u32,
    /// All that it has.
    pub of: u32,
}

/// How units became money: enough to compute the line again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pricing {
    /// `per_unit`, `graduated`, `volume` or `package`; `none` for a meter without a charge.
    pub model: String,
    /// Units of the month that cost nothing, prorated.
    pub included: u64,
    /// What the units past them came to: one step, or one for each tier that was reached.
    pub steps: Vec<Step>,
}

/// Units at one price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The first and last unit of the tier, counted past the included ones; the last tier has no last unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// See `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// How many: units, or packages begun.
    pub quantity: u64,
    /// Units in a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<u64>,
    /// Exact money for one.
    pub price: String,
    /// Exact: quantity × price.
    pub amount: String,
}

/// What earlier invoices had of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BilledBefore {
    /// Units, for usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// Money.
    pub amount: String,
    /// On these invoices.
    pub invoices: Vec<String>,
}

/// Tax on the subtotal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tax {
    /// Percent.
    pub rate: String,
    /// Why there is none, as the law wants it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exemption: Option<String>,
    /// Rounded once.
    pub amount: String,
}

/// The Merkle roots (RFC 6962, SHA-256) of the usage records that an invoice bills.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// Over the days' roots, in order.
    pub root: String,
    /// How many records.
    pub records: u64,
    /// By month and UTC day, ascending.
    pub days: Vec<EvidenceDay>,
}

/// The records of one UTC day, as far as it lies in one month of the partner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceDay {
    /// The partner's month: an earlier one for what came late.
    pub period: String,
    /// The UTC day.
    pub day: String,
    /// How many records.
    pub records: u64,
    /// Over them, ordered by admission and request id; a leaf is a record's bytes in the journal.
    pub root: String,
}

/// A credit note. Hashed as an invoice is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreditNote {
    /// The layout's version: 1.
    pub v: u8,
    /// Its number.
    pub number: String,
    /// When.
    pub issued_at: String,
    /// The number of the invoice that it credits,
    pub invoice: String,
    /// and when that was issued.
    pub invoice_issued_at: String,
    /// Who sells.
    pub seller: Party,
    /// Who buys.
    pub buyer: Party,
    /// The buyer's id here.
    pub partner: PartnerId,
    /// Why.
    pub reason: String,
    /// ISO 4217.
    pub currency: String,
    /// The invoice's lines that are credited, with what is credited of each; empty for an amount on the whole.
    pub lines: Vec<CreditLine>,
    /// Before tax.
    pub net: String,
    /// Of the invoice's tax.
    pub tax: Tax,
    /// Net and tax.
    pub total: String,
}

/// What is credited of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreditLine {
    /// The invoice's line, from 1.
    pub line: u64,
    /// As the invoice describes it.
    pub description: String,
    /// Net.
    pub amount: String,
}
