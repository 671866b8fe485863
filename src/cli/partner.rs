//! `tollgate partner`.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::output::{self, Format};
use crate::directory::{Partner as Stored, Scope, admin, store};
use crate::ids::PlanId;

#[derive(Subcommand)]
pub(super) enum Partner {
    /// Create a partner on the newest version of a plan; prints its id.
    Create {
        /// Unique among partners.
        name: String,
        /// The plan's id.
        #[arg(long)]
        plan: String,
        /// Which rows it may see: values of one key are alternatives, different keys all hold; none: all rows.
        #[arg(long, value_name = "KEY=VALUE")]
        scope: Vec<String>,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// All partners.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One partner.
    Show {
        /// Its id, or its name.
        partner: String,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Answer it no more, until it is resumed.
    Suspend {
        /// Its id, or its name.
        partner: String,
    },
    /// Answer it again.
    Resume {
        /// Its id, or its name.
        partner: String,
    },
}

impl Partner {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        match self {
            Self::Create { name, plan, scope, format } => {
                let scope = Scope::parse(scope.iter().map(String::as_str))?;
                let mut transaction = db.begin().await?;
                let plan = PlanId::from(plan);
                let partner = admin::create_partner(&mut transaction, &name, &plan, scope, now, &mut context.rng).await?;
                transaction.commit().await?;
                context.refresh().await;
                match format {
                    Format::Table => output::line(partner.id.as_str()),
                    Format::Json => output::json(&view(&partner)),
                }
            }
            Self::List { format } => list(&store::partners(&mut *db.read().await?, now).await?, format),
            Self::Show { partner, format } => {
                let partner = admin::find_partner(&mut *db.read().await?, &partner, now).await?;
                match format {
                    Format::Table => list(&[partner], Format::Table),
                    Format::Json => output::json(&view(&partner)),
                }
            }
            Self::Suspend { partner } => suspend(&context, &partner, true).await,
            Self::Resume { partner } => suspend(&context, &partner, false).await,
        }
    }
}

async fn suspend(context: &Context, partner: &str, suspended: bool) -> anyhow::Result<()> {
    let (db, now) = context.db().await?;
    let mut transaction = db.begin().await?;
    let partner = admin::find_partner(&mut transaction, partner, now).await?;
    admin::set_suspended(&mut transaction, &partner.id, suspended).await?;
    transaction.commit().await?;
    context.refresh().await;
    output::line(&format!("{} is {}", partner.name, if suspended { "suspended" } else { "active" }))
}

fn plan_of(partner: &Stored) -> Option<String> {
    partner.plan.as_ref().map(|(plan, version)| format!("{plan}@{version}"))
}

fn view(partner: &Stored) -> serde_json::Value {
    json!({
        "id": partner.id,
        "name": partner.name,
        "plan": plan_of(partner),
        "scope": partner.scope.pairs(),
        "timezone": partner.timezone,
        "suspended": partner.suspended,
        "createdAt": partner.created_at.to_string(),
    })
}

fn list(partners: &[Stored], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&partners.iter().map(view).collect::<Vec<_>>());
    }
    let row = |partner: &Stored| {
        vec![
            partner.id.to_string(),
            partner.name.clone(),
            plan_of(partner).unwrap_or_default(),
            partner.scope.pairs().join(" "),
            if partner.suspended { "suspended" } else { "active" }.to_owned(),
            partner.created_at.to_string(),
        ]
    };
    output::table(&["partner", "name", "plan", "scope", "state", "created"], &[], partners.iter().map(row))
}
