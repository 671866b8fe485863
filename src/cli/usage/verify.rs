//! `tollgate usage verify`: the operator's, from archive and database; a partner's, from two files.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::billing::Period;
use crate::billing::verify;
use crate::cli::context::Context;
use crate::cli::output;
use crate::metering::Archive;
use crate::metering::recount::Local;

#[derive(Args)]
pub(in crate::cli) struct Verify {
    /// Only what belongs to a month, such as 2026-11.
    #[arg(long, conflicts_with_all = ["bundle", "invoice"])]
    period: Option<Period>,
    /// A partner's bundle, as usage export writes it: checked against its invoice, without a database.
    #[arg(long, value_name = "FILE", requires = "invoice")]
    bundle: Option<PathBuf>,
    /// The invoice's document as JSON.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    invoice: Option<PathBuf>,
}

impl Verify {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        match (self.bundle, self.invoice) {
            (Some(bundle), Some(invoice)) => files(&bundle, &invoice),
            _ => operator(context, self.period).await,
        }
    }
}

fn files(bundle: &Path, invoice: &Path) -> anyhow::Result<()> {
    let document = std::fs::read(invoice).with_context(|| format!("cannot read the invoice {}", invoice.display()))?;
    let records = File::open(bundle).with_context(|| format!("cannot read the bundle {}", bundle.display()))?;
    let held = verify::bundle::check(BufReader::new(records), &document)?;
    output::line(&held.to_string())
}

async fn operator(context: Context, period: Option<Period>) -> anyhow::Result<()> {
    // What was answered until now is looked at too.
    context.ship().await?;
    let (db, _) = context.db().await?;
    let archive = Archive::open(&context.settings.archive, &context.settings.data_dir)?;
    let local = Local::of(&context.settings.data_dir)?;
    let report = verify::verify(&db, &archive, local.as_ref(), period).await?;
    for note in &report.notes {
        output::complain(&format!("note: {note}"));
    }
    for difference in &report.differences {
        output::complain(&format!("differs: {difference}"));
    }
    if report.more() > 0 {
        output::complain(&format!("and {} more", report.more()));
    }
    let count = report.count();
    anyhow::ensure!(count == 0, "{count} differences were found; they are told above");
    output::line(&report.held.join("\n"))
}
