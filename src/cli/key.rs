//! `tollgate key`.

use anyhow::Context as _;
use clap::Subcommand;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::context::Context;
use super::output::{self, Format};
use crate::clock::Micros;
use crate::directory::store::ApiKey;
use crate::directory::{admin, store};
use crate::metering::Mode;

#[derive(Subcommand)]
pub(super) enum Key {
    /// Issue a key; prints it, this once.
    Issue {
        /// The partner's id, or its name.
        partner: String,
        /// A day (its first instant, UTC) or an instant, such as 2027-01-31 or 2027-01-31T12:00:00Z.
        #[arg(long, value_name = "DATE")]
        expires: Option<String>,
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
    /// Make a key good no more.
    Revoke {
        /// The key's id, or all of the key.
        id: String,
    },
}

impl Key {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        match self {
            Self::Issue { partner, expires, format } => {
                let expires = expires.map(|text| instant(&text)).transpose()?;
                let mut transaction = db.begin().await?;
                let partner = admin::find_partner(&mut transaction, &partner, now).await?;
                let key = admin::issue_key(&mut transaction, &partner.id, expires, now, &mut context.rng).await?;
                transaction.commit().await?;
                context.refresh().await;
                match format {
                    Format::Table => output::line(&key.text),
                    Format::Json => output::json(&json!({ "id": key.id, "key": key.text, "partner": partner.id })),
                }
            }
            Self::List { partner, format } => {
                let mut connection = db.read().await?;
                let mut keys = store::api_keys(&mut connection).await?;
                if let Some(partner) = partner {
                    let partner = admin::find_partner(&mut connection, &partner, now).await?;
                    keys.retain(|key| key.partner == partner.id);
                }
                list(&keys, now, format)
            }
            Self::Revoke { id } => {
                let id = admin::key_id(&id);
                let mut transaction = db.begin().await?;
                admin::revoke_key(&mut transaction, &id, now).await?;
                transaction.commit().await?;
                context.refresh().await;
                output::line(&format!("{id} is revoked"))
            }
        }
    }
}

fn instant(text: &str) -> anyhow::Result<Micros> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(instant.into());
    }
    anyhow::ensure!(text.len() <= 10, "\"{text}\" has no time zone: write for example 2027-01-31T12:00:00Z");
    let day: Date = text.parse().with_context(|| format!("\"{text}\" is no date: write for example 2027-01-31"))?;
    Ok(day.to_zoned(TimeZone::UTC)?.timestamp().into())
}

fn state(key: &ApiKey, now: Micros) -> &'static str {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        _ => "active",
    }
}

fn list(keys: &[ApiKey], now: Micros, format: Format) -> anyhow::Result<()> {
    let mode = |key: &ApiKey| match key.mode {
        Mode::Live => "live",
        Mode::Test => "test",
    };
    if format == Format::Json {
        let view = |key: &ApiKey| {
            json!({
                "id": key.id,
                "partner": key.partner,
                "mode": mode(key),
                "state": state(key, now),
                "createdAt": key.created_at.to_string(),
                "expiresAt": key.expires_at.map(|at| at.to_string()),
                "revokedAt": key.revoked_at.map(|at| at.to_string()),
            })
        };
        return output::json(&keys.iter().map(view).collect::<Vec<_>>());
    }
    let row = |key: &ApiKey| {
        vec![
            key.id.to_string(),
            key.partner.to_string(),
            mode(key).to_owned(),
            state(key, now).to_owned(),
            key.created_at.to_string(),
            key.expires_at.map(|at| at.to_string()).unwrap_or_default(),
        ]
    };
    output::table(&["key", "partner", "mode", "state", "created", "expires"], &[], keys.iter().map(row))
}
