//! `tollgate usage`.

mod export;
mod verify;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::invoice::{Selection, selected};
use super::output::{self, Format};
use crate::billing::rating::MeterUse;
use crate::billing::{preview, store};

#[derive(Subcommand)]
pub(super) enum Usage {
    /// Units by partner, plan version and meter.
    Show {
        #[command(flatten)]
        selection: Selection,
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// The records behind a partner's invoice, for the partner to check.
    Export(export::Export),
    /// Compute ledger and invoices again from the archive, and tell where they part; or check a partner's bundle.
    Verify(verify::Verify),
}

impl Usage {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        match self {
            Self::Show { selection, format } => show(context, &selection, format).await,
            Self::Export(command) => command.run(context).await,
            Self::Verify(command) => command.run(context).await,
        }
    }
}

async fn show(context: Context, selection: &Selection, format: Format) -> anyhow::Result<()> {
    context.ship().await?;
    let (db, now) = context.db().await?;
    let mut connection = db.read().await?;
    let plans = store::plans_by_version(&mut connection).await?;
    let mut rows = Vec::new();
    for partner in selected(&mut connection, selection.partner.as_deref(), now).await? {
        let computed = preview::computed(&mut connection, &plans, &partner, selection.period, now).await?;
        let period = computed.month.period;
        for ((plan, version), meters) in computed.usage.get(&period).into_iter().flatten() {
            for (meter, MeterUse { rated, waived, trial }) in meters {
                rows.push((
                    partner.id.to_string(),
                    partner.name.clone(),
                    period.to_string(),
                    format!("{plan}@{version}"),
                    *meter,
                    *rated,
                    *waived,
                    *trial,
                ));
            }
        }
    }
    if format == Format::Json {
        let rows: Vec<_> = rows
                .into_iter()
                .map(|(partner, name, period, plan, meter, units, waived, trial)| {
                    json!({ "partner": partner, "partnerName": name, "period": period, "plan": plan, "meter": meter, "units": units, "waivedUnits": waived, "trialUnits": trial })
                })
                .collect();
        return output::json(&rows);
    }
    let rows = rows.into_iter().map(|(partner, name, period, plan, meter, units, waived, trial)| {
        vec![partner, name, period, plan, meter.to_string(), units.to_string(), waived.to_string(), trial.to_string()]
    });
    let columns = ["partner", "name", "period", "plan", "meter", "units", "waived", "trial"];
    output::table(&columns, &["units", "waived", "trial"], rows)
}
