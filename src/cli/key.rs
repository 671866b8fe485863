//! `tollgate key`.

mod list;
mod terms;

use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::output::{self, Format};
use crate::directory::key::NewKey;
use crate::directory::{admin, key_store};
use crate::ids::PartnerId;

#[derive(Subcommand)]
pub(super) enum Key {
    /// Issue a key; prints it, this once.
    Issue {
        /// The partner's id, or its name.
        partner: String,
        #[command(flatten)]
        terms: terms::Terms,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// All keys, without their secrets.
    List {
        /// Only those of this partner.
        #[arg(long)]
        partner: Option<String>,
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Give a key a new secret: the same id and terms, a new text; prints it, this once.
    Rotate {
        /// The key's id, or all of the key.
        id: String,
        /// How long the secrets that are good now stay good, at most 30 days; 0s ends them at once.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Answer a key no more, until it is resumed.
    Suspend {
        /// The key's id, or all of the key.
        id: String,
    },
    /// Answer a key again.
    Resume {
        /// The key's id, or all of the key.
        id: String,
    },
    /// Make a key good no more.
    Revoke {
        /// The key's id, or all of the key.
        id: String,
    },
}

impl Key {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        match self {
            Self::Issue { partner, terms, format } => {
                let terms = terms.read()?;
                let (db, now) = context.db().await?;
                let mut transaction = db.begin().await?;
                let partner = admin::find_partner(&mut transaction, &partner, now).await?;
                let key = admin::issue_key(&mut transaction, &partner.id, terms, now, &mut context.rng).await?;
                transaction.commit().await?;
                context.refresh().await;
                shown_once(&key, &partner.id, format)
            }
            Self::List { partner, format } => {
                let (db, now) = context.db().await?;
                let mut connection = db.snapshot().await?;
                let mut keys = key_store::api_keys(&mut connection).await?;
                if let Some(partner) = partner {
                    let partner = admin::find_partner(&mut connection, &partner, now).await?;
                    keys.retain(|key| key.partner == partner.id);
                }
                list::print(&keys, now, format)
            }
            Self::Rotate { id, overlap, format } => {
                let (id, overlap) = (admin::key_id(&id)?, duration(&overlap)?);
                let (db, now) = context.db().await?;
                let mut transaction = db.begin().await?;
                let key = admin::rotate_key(&mut transaction, &id, overlap, now, &mut context.rng).await?;
                let rotated = key_store::api_key_by_id(&mut transaction, &id).await?.context("the key is gone")?;
                transaction.commit().await?;
                context.refresh().await;
                shown_once(&key, &rotated.partner, format)
            }
            Self::Suspend { id } => suspend(&context, &id, true).await,
            Self::Resume { id } => suspend(&context, &id, false).await,
            Self::Revoke { id } => {
                let id = admin::key_id(&id)?;
                let (db, now) = context.db().await?;
                let mut transaction = db.begin().await?;
                admin::revoke_key(&mut transaction, &id, now).await?;
                transaction.commit().await?;
                context.refresh().await;
                output::line(&format!("{id} is revoked"))
            }
        }
    }
}

fn shown_once(key: &NewKey, partner: &PartnerId, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Table => output::line(&key.text),
        Format::Json => output::json(&json!({ "id": key.id, "key": key.text, "partner": partner })),
    }
}

async fn suspend(context: &Context, id: &str, suspended: bool) -> anyhow::Result<()> {
    let id = admin::key_id(id)?;
    let (db, now) = context.db().await?;
    let mut transaction = db.begin().await?;
    admin::set_key_suspended(&mut transaction, &id, suspended, now).await?;
    transaction.commit().await?;
    context.refresh().await;
    output::line(&format!("{id} is {}", if suspended { "suspended" } else { "active" }))
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    humantime::parse_duration(text)
        .ok()
        .with_context(|| format!("\"{}\" is no duration: write for example 24h, 30m or 0s", text.escape_debug()))
}
