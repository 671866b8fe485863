//! `tollgate invoice`.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use sqlx::AnyConnection;

use super::context::Context;
use super::output::{self, Format};
use crate::billing::Period;
use crate::billing::preview::{Preview, PreviewView, preview};
use crate::clock::Micros;
use crate::directory::{Partner, admin, store};

#[derive(Subcommand)]
pub(super) enum Invoice {
    /// The bill so far of a period: nothing is stored.
    Preview {
        #[command(flatten)]
        selection: Selection,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Whose, and when.
#[derive(Args)]
pub(super) struct Selection {
    /// A month, such as 2026-11; the current one in each partner's time zone when left out.
    #[arg(long)]
    period: Option<Period>,
    /// The partner's id, or its name; all partners when left out.
    #[arg(long)]
    partner: Option<String>,
}

/// The partners and their periods.
pub(super) async fn selected(
    connection: &mut AnyConnection,
    selection: &Selection,
    now: Micros,
) -> anyhow::Result<Vec<(Partner, Period)>> {
    let partners = match &selection.partner {
        Some(partner) => vec![admin::find_partner(connection, partner, now).await?],
        None => store::partners(connection, now).await?,
    };
    let period = |partner: &Partner| -> anyhow::Result<Period> {
        let zone = TimeZone::get(&partner.timezone).with_context(|| format!("unknown time zone of {}", partner.id))?;
        Ok(selection.period.unwrap_or_else(|| Period::containing(now, &zone)))
    };
    partners.into_iter().map(|partner| period(&partner).map(|period| (partner, period))).collect()
}

impl Invoice {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let Self::Preview { selection, format } = self;
        // What was answered until now belongs on it.
        context.ship().await?;
        let (db, now) = context.db().await?;
        let mut connection = db.read().await?;
        let mut previews = Vec::new();
        for (partner, period) in selected(&mut connection, &selection, now).await? {
            previews.push(preview(&mut connection, &partner, period).await?);
        }
        match format {
            Format::Json => output::json(&previews.iter().map(PreviewView::from).collect::<Vec<_>>()),
            Format::Table => table(&previews),
        }
    }
}

fn table(previews: &[Preview]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for preview in previews {
        let name = |text: &str| vec![preview.partner.name.clone(), preview.period.to_string(), text.to_owned()];
        for line in &preview.lines {
            let mut row = name(&line.plan);
            row.extend([
                line.meter.to_string(),
                line.units.to_string(),
                line.waived.to_string(),
                line.included.to_string(),
                line.billable.to_string(),
                line.unit_price.map(|price| price.to_string()).unwrap_or_else(|| "free".to_owned()),
                line.amount.to_string(),
                line.amount.currency.code().to_owned(),
            ]);
            rows.push(row);
        }
        for total in &preview.totals {
            let mut row = name("");
            row.extend(["total".to_owned(), String::new(), String::new(), String::new(), String::new(), String::new()]);
            row.extend([total.to_string(), total.currency.code().to_owned()]);
            rows.push(row);
        }
    }
    let columns =
        ["partner", "period", "plan", "meter", "units", "waived", "included", "billable", "price", "amount", "currency"];
    output::table(&columns, &["units", "waived", "included", "billable", "price", "amount"], rows)
}
