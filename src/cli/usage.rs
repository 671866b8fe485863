//! `tollgate usage`.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::invoice::{Selection, selected};
use super::output::{self, Format};
use crate::billing::preview;
use crate::metering::Counted;

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
}

impl Usage {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let Self::Show { selection, format } = self;
        context.ship().await?;
        let (db, now) = context.db().await?;
        let mut connection = db.read().await?;
        let mut rows = Vec::new();
        for (partner, period) in selected(&mut connection, &selection, now).await? {
            let (usage, _) = preview::usage(&mut connection, &partner, period).await?;
            for ((plan, version), meters) in usage {
                for (meter, Counted { units, waived }) in meters {
                    rows.push((
                        partner.id.to_string(),
                        partner.name.clone(),
                        period.to_string(),
                        format!("{plan}@{version}"),
                        meter,
                        units,
                        waived,
                    ));
                }
            }
        }
        if format == Format::Json {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(partner, name, period, plan, meter, units, waived)| {
                    json!({ "partner": partner, "partnerName": name, "period": period, "plan": plan, "meter": meter, "units": units, "waivedUnits": waived })
                })
                .collect();
            return output::json(&rows);
        }
        let rows = rows.into_iter().map(|(partner, name, period, plan, meter, units, waived)| {
            vec![partner, name, period, plan, meter.to_string(), units.to_string(), waived.to_string()]
        });
        output::table(&["partner", "name", "period", "plan", "meter", "units", "waived"], &["units", "waived"], rows)
    }
}
