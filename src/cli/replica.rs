//! `tollgate replica`.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::control::Control;
use super::output::{self, Format};
use crate::billing::budget_store;
use crate::http::control::Backlog;
use crate::ids::ReplicaId;
use crate::metering::replica_store::{self, Replica as Known};

#[derive(Subcommand)]
pub(super) enum Replica {
    /// All gateways that ever had a journal, and how far each has reported. A month closes when all have reported past its end.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Close months without waiting for a gateway that is gone for good. Whatever it still ships is billed late.
    Retire {
        /// The replica's id.
        id: String,
        /// Even if it reported within the last minute.
        #[arg(long)]
        force: bool,
    },
}

impl Replica {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        match self {
            Self::List { format } => {
                let replicas = replica_store::replicas(&mut *db.read().await?).await?;
                // Only the gateway itself knows what it has not shipped, and only the one of this data folder can be asked.
                let backlog = match Control::connect(&context.settings.data_dir).await? {
                    Some(control) => Some(control.replica().await?),
                    None => None,
                };
                list(&replicas, backlog.as_ref(), format)
            }
            Self::Retire { id, force } => {
                let mut transaction = db.begin().await?;
                let id = ReplicaId::from(id);
                let since = replica_store::retire(&mut transaction, &id, force, now).await?;
                // One that still runs may still use what it was granted.
                if replica_store::is_silent(&mut transaction, &id, now).await? {
                    budget_store::settle(&mut transaction, db.dialect(), &id, now).await?;
                }
                transaction.commit().await?;
                let words = if since == now { "is retired" } else { "was retired before" };
                output::line(&format!("{id} {words}: no close waits for it since {since}"))
            }
        }
    }
}

fn list(replicas: &[Known], backlog: Option<&Backlog>, format: Format) -> anyhow::Result<()> {
    let waiting = |replica: &Known| backlog.filter(|backlog| backlog.replica == replica.id).map(|backlog| backlog.records);
    if format == Format::Json {
        let view = |replica: &Known| {
            json!({
                "id": replica.id,
                "epoch": replica.epoch,
                "startedAt": replica.started_at.to_string(),
                "watermark": replica.watermark.to_string(),
                "reportedAt": replica.reported_at.to_string(),
                "retiredAt": replica.retired_at.map(|at| at.to_string()),
                "backlogRecords": waiting(replica),
            })
        };
        return output::json(&replicas.iter().map(view).collect::<Vec<_>>());
    }
    let row = |replica: &Known| {
        vec![
            replica.id.to_string(),
            replica.epoch.to_string(),
            replica.started_at.to_string(),
            replica.watermark.to_string(),
            replica.reported_at.to_string(),
            replica.retired_at.map(|at| at.to_string()).unwrap_or_default(),
            waiting(replica).map(|records| records.to_string()).unwrap_or_default(),
        ]
    };
    let columns = ["replica", "epoch", "started", "watermark", "reported", "retired", "backlog"];
    output::table(&columns, &["epoch", "backlog"], replicas.iter().map(row))
}
