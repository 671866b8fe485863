//! `tollgate product`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::control::Control;
use super::output::{self, Format};
use crate::journey::admin::{self, Change};
use crate::journey::product::{self, Product as Definition};
use crate::journey::store::{self, Applied};

#[derive(Subcommand)]
pub(super) enum Product {
    /// Sell the journey product of a TOML file, counted from the event log's start.
    Apply {
        /// See journeys.example.toml.
        file: PathBuf,
        /// Say what would happen, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// All journey products.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Count and answer a product no longer. Its name is not used again.
    Retire {
        /// Its name.
        name: String,
    },
}

impl Product {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        match self {
            Self::Apply { file, dry_run } => {
                let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                let not_applied = || format!("{} is not applied", file.display());
                let product = product::parse(&text).with_context(not_applied)?;
                let (db, now) = context.db().await?;
                let mut transaction = db.begin().await?;
                let change = admin::apply(&mut transaction, &product, now).await.with_context(not_applied)?;
                if !dry_run {
                    transaction.commit().await?;
                    refresh(&context).await;
                }
                let done = match (change, dry_run) {
                    (Change::Applied, false) => "applied",
                    (Change::Applied, true) => "would be applied",
                    (Change::Unchanged, _) => "unchanged",
                };
                output::line(&format!("{} {done}", product.name))
            }
            Self::List { format } => {
                let (db, _) = context.db().await?;
                list(&store::all(&mut *db.read().await?).await?, format)
            }
            Self::Retire { name } => {
                let (db, now) = context.db().await?;
                let mut transaction = db.begin().await?;
                store::retire(&mut transaction, &name, now).await?;
                transaction.commit().await?;
                refresh(&context).await;
                output::line(&format!("{name} is retired"))
            }
        }
    }
}

async fn refresh(context: &Context) {
    if let Ok(Some(control)) = Control::connect(&context.settings.data_dir).await {
        drop(control.refresh_products().await);
    }
}

fn list(products: &[Applied], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        let whole = |applied: &Applied| {
            json!({
                "product": applied.product, "appliedAt": applied.applied_at.to_string(),
                "retiredAt": applied.retired_at.map(|at| at.to_string()),
            })
        };
        return output::json(&products.iter().map(whole).collect::<Vec<_>>());
    }
    let row = |applied: &Applied| {
        let Definition { name, k, steps, window, lateness, dimensions, total, .. } = &applied.product;
        let mut slices = vec!["total"; usize::from(*total)];
        slices.extend(dimensions.iter().map(String::as_str));
        vec![
            name.clone(),
            k.to_string(),
            steps.join(" > "),
            humantime::format_duration(*window).to_string(),
            humantime::format_duration(*lateness).to_string(),
            slices.join(", "),
            applied.applied_at.to_string(),
            applied.retired_at.map(|at| at.to_string()).unwrap_or_default(),
        ]
    };
    let columns = ["product", "k", "funnel", "window", "lateness", "slices", "applied", "retired"];
    output::table(&columns, &["k"], products.iter().map(row))
}
