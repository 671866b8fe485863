//! What came in for a month, by plan and product: the lines of its finalized and paid invoices, less what was credited of them.
//!
//! It is the ledger's revenue account less its credits account, over the same documents. A credit note on lines comes off what
//! those lines were for; one on a whole invoice is no line's and stands alone, as kind `credit_note`.

use std::collections::BTreeMap;

use anyhow::Context;
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::AnyConnection;

use super::csv;
use super::store;
use crate::billing::Period;
use crate::money::{Currency, Money};

/// One month's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Revenue {
    /// Which month's invoices.
    pub period: String,
    /// By currency, plan, product and kind.
    pub shares: Vec<Share>,
    /// By currency.
    pub totals: Vec<Total>,
}

/// What one plan earned with one product, or one kind of fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// ISO 4217.
    pub currency: &'static str,
    /// The plan, all its versions; empty for credits on whole invoices.
    pub plan: String,
    /// Empty for what is not usage.
    pub product: String,
    /// As the lines have it: `base_fee`, `usage`, `discount`, `minimum`; or `credit_note`.
    pub kind: String,
    /// Net of tax, as invoiced.
    pub revenue: String,
    /// Net of tax, taken back.
    pub credited: String,
    /// The difference.
    pub net: String,
}

/// All of one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// ISO 4217.
    pub currency: &'static str,
    /// As invoiced.
    pub revenue: String,
    /// Taken back.
    pub credited: String,
    /// The difference.
    pub net: String,
}

/// Currency, plan, product, kind.
type Key = (String, String, String, String);

#[derive(Clone, Copy, Default)]
struct Sums {
    revenue: i64,
    credited: i64,
}

impl Sums {
    fn add(&mut self, revenue: i64, credited: i64) -> anyhow::Result<()> {
        let sum = |a: i64, b: i64| a.checked_add(b).context("the month's revenue is out of range");
        *self = Self { revenue: sum(self.revenue, revenue)?, credited: sum(self.credited, credited)? };
        Ok(())
    }

    /// As invoiced, taken back, and the difference.
    fn write(self, currency: Currency) -> anyhow::Result<[String; 3]> {
        let net = self.revenue.checked_sub(self.credited).context("the month's revenue is out of range")?;
        Ok([self.revenue, self.credited, net].map(|minor| Money { minor, currency }.to_string()))
    }
}

fn currency(code: &str) -> anyhow::Result<Currency> {
    Currency::from_code(code).with_context(|| format!("an invoice has the unknown currency \"{code}\""))
}

/// Minor units of an amount in a document.
fn minor(amount: &str, currency: Currency) -> anyhow::Result<i64> {
    let money = Decimal::from_str_exact(amount).ok().and_then(|amount| Money::of(amount, currency));
    money.map(|money| money.minor).with_context(|| format!("\"{amount}\" is no amount in {}", currency.code()))
}

/// The revenue of a month. Give a transaction, so that all of it is of one instant.
pub async fn revenue(connection: &mut AnyConnection, period: Period) -> anyhow::Result<Revenue> {
    let mut sums: BTreeMap<Key, Sums> = BTreeMap::new();
    for earned in store::earned(connection, period).await? {
        sums.entry((earned.currency, earned.plan, earned.product, earned.kind)).or_default().add(earned.amount, 0)?;
    }
    for credited in store::credited(connection, period).await? {
        let document = &credited.note.document;
        if document.lines.is_empty() {
            let key = (credited.currency, String::new(), String::new(), "credit_note".to_owned());
            sums.entry(key).or_default().add(0, credited.net)?;
            continue;
        }
        let purposes: BTreeMap<_, _> = store::purposes(connection, &credited.invoice).await?.into_iter().collect();
        for line in &document.lines {
            let purpose = purposes.get(&line.line).with_context(|| {
                format!(
                    "the credit note {} is on line {} of {}, which has no such line",
                    document.number, line.line, document.invoice
                )
            })?;
            let key = (credited.currency.clone(), purpose.plan.clone(), purpose.product.clone(), purpose.kind.clone());
            sums.entry(key).or_default().add(0, minor(&line.amount, currency(&credited.currency)?)?)?;
        }
    }
    written(period, sums)
}

fn written(period: Period, sums: BTreeMap<Key, Sums>) -> anyhow::Result<Revenue> {
    let mut shares = Vec::new();
    let mut totals: BTreeMap<&'static str, (Currency, Sums)> = BTreeMap::new();
    for ((code, plan, product, kind), sum) in sums {
        let currency = currency(&code)?;
        let total = &mut totals.entry(currency.code()).or_insert((currency, Sums::default())).1;
        total.add(sum.revenue, sum.credited)?;
        let [revenue, credited, net] = sum.write(currency)?;
        shares.push(Share { currency: currency.code(), plan, product, kind, revenue, credited, net });
    }
    let total = |(currency, sums): (Currency, Sums)| -> anyhow::Result<Total> {
        let [revenue, credited, net] = sums.write(currency)?;
        Ok(Total { currency: currency.code(), revenue, credited, net })
    };
    let totals = totals.into_values().map(total).collect::<anyhow::Result<_>>()?;
    Ok(Revenue { period: period.to_string(), shares, totals })
}

impl Revenue {
    /// As CSV: a row for each share, no totals, so that a column sums to what it should.
    pub fn csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut writer = csv::writer(&mut out);
        writer.write_record(["period", "currency", "plan", "product", "kind", "revenue", "credited", "net"])?;
        for share in &self.shares {
            let text = [&self.period, share.currency, &share.plan, &share.product, &share.kind].map(csv::safe);
            let amounts = [&share.revenue, &share.credited, &share.net].map(Clone::clone);
            writer.write_record(text.iter().chain(&amounts))?;
        }
        writer.flush()?;
        drop(writer);
        Ok(out)
    }
}
