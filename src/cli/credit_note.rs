//! `tollgate credit-note`.

use anyhow::Context as _;
use clap::Subcommand;
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::context::Context;
use super::output::{self, Format};
use crate::billing::credit::{self, What, store};
use crate::billing::invoice::store as invoices;

#[derive(Subcommand)]
pub(super) enum CreditNote {
    /// Credit an invoice, whole or in part; prints the credit note's number.
    Create {
        /// The invoice's number, or its id.
        invoice: String,
        /// So much before tax.
        #[arg(long, conflicts_with_all = ["line", "whole"], required_unless_present_any = ["line", "whole"])]
        amount: Option<Decimal>,
        /// A line's number, and so much of it before tax; all that is left of it where no amount is said.
        #[arg(long, value_name = "NUMBER[=AMOUNT]", value_parser = line, conflicts_with = "whole")]
        line: Vec<(u64, Option<Decimal>)>,
        /// All that is left.
        #[arg(long)]
        whole: bool,
        /// Why, as the credit note prints it.
        #[arg(long)]
        reason: String,
        /// How the result is printed; JSON is the document that is hashed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// All credit notes.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One credit note: the document that is hashed.
    Show {
        /// Its number, or its id.
        credit_note: String,
    },
}

fn line(text: &str) -> Result<(u64, Option<Decimal>), String> {
    let wrong = || format!("\"{text}\" names no line: write its number, or NUMBER=AMOUNT such as 2=1.50");
    let (line, amount) = match text.split_once('=') {
        Some((line, amount)) => (line, Some(amount.parse().map_err(|_| wrong())?)),
        None => (text, None),
    };
    Ok((line.parse().map_err(|_| wrong())?, amount))
}

impl CreditNote {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        match self {
            Self::Create { invoice, amount, line, whole: _, reason, format } => {
                let what = match amount {
                    Some(amount) => What::Amount(amount),
                    None if line.is_empty() => What::Whole,
                    None => What::Lines(line),
                };
                let mut transaction = db.begin().await?;
                let found = invoices::find(&mut transaction, &invoice).await?;
                let found = found.with_context(|| format!("there is no invoice \"{invoice}\": see tollgate invoice list"))?;
                let settings = &context.settings.invoice;
                let note = credit::create(&mut transaction, settings, &found, &what, &reason, now, &mut context.rng).await?;
                transaction.commit().await?;
                output::line(if format == Format::Json { &note.body } else { &note.number })
            }
            Self::List { format } => list(&store::list(&mut *db.read().await?).await?, format),
            Self::Show { credit_note } => {
                let note = store::find(&mut *db.read().await?, &credit_note).await?;
                let note =
                    note.with_context(|| format!("there is no credit note \"{credit_note}\": see tollgate credit-note list"))?;
                output::line(&note.body)
            }
        }
    }
}

fn list(notes: &[store::Note], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        let bodies = notes.iter().map(|note| RawValue::from_string(note.body.clone())).collect::<Result<Vec<_>, _>>()?;
        return output::json(&bodies);
    }
    let mut rows = Vec::new();
    for note in notes {
        let document: crate::billing::document::CreditNote = serde_json::from_str(&note.body)?;
        rows.push(vec![
            note.number.clone(),
            document.invoice,
            document.buyer.name,
            note.created_at.to_string(),
            document.net,
            document.tax.amount,
            document.total,
            document.currency,
            document.reason,
        ]);
    }
    let columns = ["credit note", "invoice", "partner", "issued", "net", "tax", "total", "currency", "reason"];
    output::table(&columns, &["net", "tax", "total"], rows)
}
