//! `tollgate plan`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::output::{self, Format};
use crate::billing::plan::{self, Plan as Terms};
use crate::billing::store::{self, Published};
use crate::directory::admin::{self, PlanChange};
use crate::ids::PlanId;

#[derive(Subcommand)]
pub(super) enum Plan {
    /// Publish the plan versions of a TOML file that are new.
    Apply {
        /// See plans.example.toml.
        file: PathBuf,
        /// Say what would happen, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// All versions of all plans.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// All versions of one plan, whole.
    Show {
        /// The plan's id.
        id: String,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

impl Plan {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        match self {
            Self::Apply { file, dry_run } => apply(&context, &file, dry_run).await,
            Self::List { format } => {
                let (db, _) = context.db().await?;
                list(&store::plans(&mut *db.read().await?).await?, format)
            }
            Self::Show { id, format } => {
                let (db, _) = context.db().await?;
                let versions = store::versions(&mut *db.read().await?, &PlanId::from(id.as_str())).await?;
                anyhow::ensure!(!versions.is_empty(), "there is no plan \"{id}\": see tollgate plan list");
                show(&versions, format)
            }
        }
    }
}

async fn apply(context: &Context, file: &std::path::Path, dry_run: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let plans = plan::parse(&text).with_context(|| format!("{} is not applied", file.display()))?;
    let (db, now) = context.db().await?;
    let mut transaction = db.begin().await?;
    let changes =
        admin::apply_plans(&mut transaction, &plans, now).await.with_context(|| format!("{} is not applied", file.display()))?;
    if !dry_run {
        transaction.commit().await?;
        context.refresh().await;
    }
    for (plan, change) in plans.iter().zip(changes) {
        let done = match (change, dry_run) {
            (PlanChange::Published, false) => "published",
            (PlanChange::Published, true) => "would be published",
            (PlanChange::Unchanged, _) => "unchanged",
        };
        output::line(&format!("{}@{} {done}", plan.id, plan.version))?;
    }
    Ok(())
}

fn list(plans: &[Published], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        let plans: Vec<_> = plans.iter().map(whole).collect();
        return output::json(&plans);
    }
    let row = |published: &Published| {
        let plan = &published.plan;
        vec![
            plan.id.to_string(),
            plan.version.to_string(),
            plan.name.clone(),
            plan.currency.code().to_owned(),
            plan.products.iter().map(|product| product.as_str()).collect::<Vec<_>>().join(", "),
            limits(plan),
            charges(plan),
            published.published_at.to_string(),
        ]
    };
    let columns = ["plan", "version", "name", "currency", "products", "limits", "charges", "published"];
    output::table(&columns, &["version"], plans.iter().map(row))
}

fn limits(plan: &Terms) -> String {
    let mut limits = vec![format!("{} units/s, burst {}", plan.rate.units_per_second, plan.rate.burst)];
    limits.push(format!("{} at once", plan.concurrency));
    limits.extend(plan.query_units_max.map(|units| format!("{units} a query")));
    limits.extend(plan.weights.iter().map(|(weighted, weight)| format!("{} = {weight}", weighted.type_name())));
    limits.extend(plan.quota.map(|quota| match quota.then {
        plan::Overage::Refuse => format!("{} units a month", quota.units),
        plan::Overage::Bill => format!("{} units a month, more is billed", quota.units),
    }));
    limits.extend(plan.spend_cap.map(|cap| format!("{cap} {} a month", plan.currency.code())));
    limits.extend(plan.freshness_max.map(|max| format!("fresh to {}", humantime::format_duration(max))));
    limits.extend(plan.denied_fields.iter().map(|field| format!("no {}", field.as_str())));
    limits.join("; ")
}

fn charges(plan: &Terms) -> String {
    let mut charges = Vec::new();
    charges.extend(plan.base_fee.map(|fee| {
        let due = if fee.due == plan::Due::Advance { "in advance" } else { "in arrears" };
        format!("{} a month {due}", fee.amount)
    }));
    charges.extend(plan.charges.iter().map(charge));
    charges.extend(plan.discount_percent.map(|percent| format!("less {percent} %")));
    charges.extend(plan.minimum.map(|minimum| format!("at least {minimum}")));
    charges.extend(plan.trial_days.map(|days| format!("{days} days free at first")));
    charges.join(", ")
}

fn charge(charge: &plan::Charge) -> String {
    let tiers = |tiers: &plan::Tiers| {
        let tier = |(_, to, price): (u64, Option<u64>, rust_decimal::Decimal)| match to {
            Some(to) => format!("{price} to {to}"),
            None => format!("then {price}"),
        };
        tiers.iter().map(tier).collect::<Vec<_>>().join(" ")
    };
    let price = match &charge.model {
        plan::Model::PerUnit(price) => price.to_string(),
        plan::Model::Graduated(of) => format!("graduated {}", tiers(of)),
        plan::Model::Volume(of) => format!("volume {}", tiers(of)),
        plan::Model::Package { units, price } => format!("{price} per {units}"),
    };
    let included = if charge.included > 0 { format!(" past {}", charge.included) } else { String::new() };
    format!("{} {price}{included}", charge.meter)
}

fn whole(published: &Published) -> serde_json::Value {
    json!({ "plan": published.plan, "publishedAt": published.published_at.to_string() })
}

fn show(versions: &[Published], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&versions.iter().map(whole).collect::<Vec<_>>()),
        Format::Table => list(versions, Format::Table),
    }
}
