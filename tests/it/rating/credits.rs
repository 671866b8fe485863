//! Random credit notes against docs/billing.md, Books: which are taken, and what tax each gives back.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;
use serde_json::Value;
use tollgate::billing::credit::{self, What};
use tollgate::billing::invoice::store;
use tollgate::db::Db;
use tollgate::metering::Product::Inventory;

use super::oracle::{exact, round};
use crate::scenario::Story;
use crate::support::{Gateway, on_both_databases, rng};

/// Small, so that a cent more or less of tax is seen; with a line below zero.
const PLANS: &str = r#"
[[plan]]
id = "p"
version = 1
name = "P"
currency = "EUR"
products = ["inventory"]
rate = { units_per_second = 10, burst = 50 }
base_fee = { amount = "1.13", due = "arrears" }
discount_percent = "12.5"

[[plan.charge]]
meter = "inventory"
model = "per_unit"
unit_price = "0.07"
"#;
const TAX: &str = "7.7";

/// What is left of an invoice, in cents.
struct Left {
    subtotal: i64,
    tax: i64,
    lines: Vec<i64>,
    credited: i64,
    tax_credited: i64,
    by_line: BTreeMap<u64, i64>,
}

fn cents(text: &Value) -> i64 {
    text.as_str().unwrap().replace('.', "").parse().unwrap()
}

impl Left {
    fn of(invoice: &Value) -> Self {
        let lines = invoice["lines"].as_array().unwrap().iter().map(|line| cents(&line["amount"])).collect();
        let (subtotal, tax) = (cents(&invoice["subtotal"]), cents(&invoice["tax"]["amount"]));
        Self { subtotal, tax, lines, credited: 0, tax_credited: 0, by_line: BTreeMap::new() }
    }

    fn line(&self, number: u64) -> Option<i64> {
        let line = self.lines.get(usize::try_from(number).unwrap().checked_sub(1)?)?;
        Some(line - self.by_line.get(&number).unwrap_or(&0))
    }

    /// Net and tax of a credit note; none when it must be refused.
    fn take(&mut self, what: &What) -> Option<(i64, i64)> {
        let number = |amount: &Decimal| i64::try_from((amount * Decimal::ONE_HUNDRED).normalize().mantissa()).unwrap();
        let whole = |amount: &Decimal| (amount * Decimal::ONE_HUNDRED).normalize().scale() == 0;
        let mut lines = BTreeMap::new();
        let net = match what {
            What::Whole => self.subtotal - self.credited,
            What::Amount(amount) => whole(amount).then(|| number(&amount.round_dp(2)))?,
            What::Lines(asked) => {
                for (line, amount) in asked {
                    let left = self.line(*line)?;
                    let amount = match amount {
                        Some(amount) => whole(amount).then(|| number(amount))?,
                        None => left,
                    };
                    if amount <= 0 || amount > left || lines.insert(*line, amount).is_some() {
                        return None;
                    }
                }
                lines.values().sum()
            }
        };
        if net <= 0 || net > self.subtotal - self.credited {
            return None;
        }
        let all = BigRational::new((self.credited + net).into(), 100.into()) * exact(TAX) / BigInt::from(100);
        let mut tax = i64::try_from(round(&all, 2)).unwrap() - self.tax_credited;
        if net == self.subtotal - self.credited {
            tax = self.tax - self.tax_credited;
        }
        self.credited += net;
        self.tax_credited += tax;
        lines.into_iter().for_each(|(line, amount)| *self.by_line.entry(line).or_default() += amount);
        Some((net, tax))
    }
}

/// Mostly what could be taken, now and then a cent or a line too much.
fn generate(rng: &mut ChaCha8Rng, left: &Left) -> What {
    let some = |rng: &mut ChaCha8Rng, most: i64| {
        let cents = *[most, most + 1, 1, 2, 0, -1].choose(rng).unwrap();
        let cents = if rng.random_bool(0.95) { rng.random_range(0..=most.clamp(1, 9)) } else { cents };
        Decimal::new(cents, 2)
    };
    // Seldom all of it: nothing can be taken from an invoice after that.
    match rng.random_range(0..100) {
        0 => What::Whole,
        1..4 => What::Amount(Decimal::new(rng.random_range(1..99), 3)),
        4..40 => What::Amount(some(rng, left.subtotal - left.credited)),
        _ => {
            let count = rng.random_range(1..3);
            let line = |rng: &mut ChaCha8Rng| {
                let number = rng.random_range(0..=left.lines.len() as u64 + 1);
                let most = left.line(number).unwrap_or(1);
                (number, rng.random_bool(0.95).then(|| some(rng, most)))
            };
            What::Lines((0..count).map(|_| line(rng)).collect())
        }
    }
}

on_both_databases! {
    async fn credit_notes_are_what_the_slow_reading_says(database: Database) {
        let (_, mut base) = rng("credit_notes_are_what_the_slow_reading_says");
        let mut rng = ChaCha8Rng::from_rng(&mut base);
        let mut story = Story::begin(database, "2026-01-01T00:00:00Z", PLANS, &["--tax", TAX]).await;
        let settings = Gateway::settings(&story.database);
        let db = Db::open(&settings.database_url(), 2, &settings.data_dir).await.unwrap();
        let (mut taken, mut refused) = (0, 0);
        for month in 1..7 {
            story.used(&format!("2026-0{month}-10T10:00:00Z"), &[(Inventory, rng.random_range(1..60))]).await;
            let period = format!("2026-0{month}");
            story.close(&format!("2026-0{}-01T02:00:00Z", month + 1), &period).await;
            let invoice = &story.documents(&period)[0];
            let mut left = Left::of(invoice);
            for _ in 0..40 {
                let what = generate(&mut rng, &left);
                let mut transaction = db.begin().await.unwrap();
                let stored = store::find(&mut transaction, invoice["number"].as_str().unwrap()).await.unwrap().unwrap();
                let now = db.now().await;
                let note = credit::create(&mut transaction, &settings.invoice, &stored, &what, "a test", now.unwrap(), &mut rng).await;
                match (note, left.take(&what)) {
                    (Ok(note), Some((net, tax))) => {
                        assert_eq!((note.net, note.tax, note.total), (net, tax, net + tax), "{what:?} of {invoice}");
                        transaction.commit().await.unwrap();
                        taken += 1;
                    }
                    (Err(_), None) => {
                        transaction.rollback().await.unwrap();
                        refused += 1;
                    }
                    (note, expected) => panic!("{what:?} gave {note:?}, expected {expected:?}: {invoice}"),
                }
            }
            assert!(left.credited <= left.subtotal && left.tax_credited <= left.tax);
        }
        println!("{taken} were taken, {refused} refused");
        assert!(taken > 20 && refused > 20, "{taken} were taken, {refused} refused");
        let credits = "select cast((select coalesce(sum(net), 0) from credit_note) - \
                       (select coalesce(sum(amount), 0) from money_entry where account = 'credits') as bigint)";
        assert_eq!(story.database.number(credits).await, 0);
        story.books().await;
        db.close().await;
    }
}
