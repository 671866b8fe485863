//! `tollgate producer`.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::output::{self, Format};
use crate::directory::store::ProducerKey;
use crate::directory::{admin, store};

#[derive(Subcommand)]
pub(super) enum Producer {
    /// Issue a producer key; prints it, this once.
    Issue {
        /// For the operator's own memory.
        name: String,
        /// It may append events whose source begins with one of these.
        #[arg(long, required = true, value_name = "PREFIX")]
        source: Vec<String>,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// All producer keys, without their secrets.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make a producer key good no more.
    Revoke {
        /// The key's id, or all of the key.
        id: String,
    },
}

impl Producer {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        match self {
            Self::Issue { name, source, format } => {
                let mut transaction = db.begin().await?;
                let key = admin::issue_producer(&mut transaction, &name, source, now, &mut context.rng).await?;
                transaction.commit().await?;
                context.refresh().await;
                match format {
                    Format::Table => output::line(&key.text),
                    Format::Json => output::json(&json!({ "id": key.id, "key": key.text, "name": name })),
                }
            }
            Self::List { format } => list(&store::producers(&mut *db.read().await?).await?, format),
            Self::Revoke { id } => {
                let id = admin::key_id(&id)?;
                let mut transaction = db.begin().await?;
                admin::revoke_producer(&mut transaction, &id, now).await?;
                transaction.commit().await?;
                context.refresh().await;
                output::line(&format!("{id} is revoked"))
            }
        }
    }
}

fn list(keys: &[ProducerKey], format: Format) -> anyhow::Result<()> {
    let state = |key: &ProducerKey| if key.revoked_at.is_some() { "revoked" } else { "active" };
    if format == Format::Json {
        let view = |key: &ProducerKey| {
            json!({
                "id": key.producer.id,
                "name": key.producer.name,
                "sources": key.producer.sources,
                "state": state(key),
                "createdAt": key.created_at.to_string(),
                "revokedAt": key.revoked_at.map(|at| at.to_string()),
            })
        };
        return output::json(&keys.iter().map(view).collect::<Vec<_>>());
    }
    let row = |key: &ProducerKey| {
        let producer = &key.producer;
        let sources = producer.sources.join(" ");
        vec![producer.id.to_string(), producer.name.clone(), sources, state(key).to_owned(), key.created_at.to_string()]
    };
    output::table(&["producer", "name", "sources", "state", "created"], &[], keys.iter().map(row))
}
