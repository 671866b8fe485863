//! `tollgate invoice`.

mod act;
mod export;
mod show;

use clap::{Args, Subcommand, ValueEnum};
use sqlx::AnyConnection;

use super::context::Context;
use super::output::Format;
use crate::billing::Period;
use crate::billing::invoice::store::State;
use crate::clock::Micros;
use crate::directory::{Partner, admin, store};

#[derive(Subcommand)]
pub(super) enum Invoice {
    /// The bill so far of a month: nothing is stored.
    Preview {
        #[command(flatten)]
        selection: Selection,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Close a month: make the drafts of all partners, or of one. It may be repeated until they are finalized.
    Run {
        /// The month, such as 2026-10.
        #[arg(long)]
        period: Period,
        /// The partner's id, or its name; all partners when left out.
        #[arg(long)]
        partner: Option<String>,
        /// Finalize the drafts too.
        #[arg(long)]
        finalize: bool,
        /// How the drafts are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Invoices with their states and totals.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One invoice with its lines; JSON is the document that is hashed.
    Show {
        /// Its number, or its id.
        invoice: String,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Give drafts their numbers. From then on they never change.
    Finalize {
        /// Ids of drafts.
        #[arg(required_unless_present = "period", conflicts_with = "period")]
        invoices: Vec<String>,
        /// All drafts of a month.
        #[arg(long)]
        period: Option<Period>,
    },
    /// Take a finalized invoice back; its number is kept, and its month can be run again.
    Void {
        /// Its number, or its id.
        invoice: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Say that what is open of a finalized invoice was paid.
    Pay {
        /// Its number, or its id.
        invoice: String,
    },
    /// Invoices and credit notes as files: CSV, JSON or PDF.
    Export(export::Export),
    /// What came in for a month, by plan and product.
    Summary(export::Summary),
}

/// Whose, and when.
#[derive(Args)]
pub(super) struct Selection {
    /// A month, such as 2026-11; the current one in each partner's time zone when left out.
    #[arg(long)]
    pub(super) period: Option<Period>,
    /// The partner's id, or its name; all partners when left out.
    #[arg(long)]
    pub(super) partner: Option<String>,
}

/// Which invoices.
#[derive(Args)]
pub(super) struct Filter {
    /// A month, such as 2026-10.
    #[arg(long)]
    period: Option<Period>,
    /// The partner's id, or its name.
    #[arg(long)]
    partner: Option<String>,
    /// draft, finalized, paid or void.
    #[arg(long, value_enum)]
    state: Option<StateName>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    Draft,
    Finalized,
    Paid,
    Void,
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Draft => Self::Draft,
            StateName::Finalized => Self::Finalized,
            StateName::Paid => Self::Paid,
            StateName::Void => Self::Void,
        }
    }
}

/// The partners that are meant.
pub(super) async fn selected(connection: &mut AnyConnection, partner: Option<&str>, now: Micros) -> anyhow::Result<Vec<Partner>> {
    match partner {
        Some(partner) => Ok(vec![admin::find_partner(connection, partner, now).await?]),
        None => store::partners(connection, now).await,
    }
}

impl Invoice {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<()> {
        match self {
            Self::Preview { selection, format } => show::preview(&context, &selection, format).await,
            Self::Run { period, partner, finalize, format } => {
                act::run(context, period, partner.as_deref(), finalize, format).await
            }
            Self::List { filter, format } => show::list(&context, &filter, format).await,
            Self::Show { invoice, format } => show::show(&context, &invoice, format).await,
            Self::Finalize { invoices, period } => act::finalize(&context, &invoices, period).await,
            Self::Void { invoice, reason } => act::void(&context, &invoice, &reason).await,
            Self::Pay { invoice } => act::pay(&context, &invoice).await,
            Self::Export(export) => export.run(&context).await,
            Self::Summary(summary) => summary.run(&context).await,
        }
    }
}
