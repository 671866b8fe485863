//! `tollgate partner`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::output::{self, Format};
use crate::directory::admin::{NewPartner, PartnerChange};
use crate::directory::{Details, Partner as Stored, Scope, admin, plain, store};
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
        /// Its billing months are calendar months there.
        #[arg(long, value_name = "TZ", default_value = "UTC")]
        timezone: String,
        #[command(flatten)]
        details: Given,
        /// How the result is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Change a partner.
    Update {
        /// Its id, or its name.
        partner: String,
        /// The newest version of a plan, or a version such as growth@2, from now on.
        #[arg(long)]
        plan: Option<String>,
        /// Its billing months are calendar months there, from the next one on that has not begun.
        #[arg(long, value_name = "TZ")]
        timezone: Option<String>,
        #[command(flatten)]
        details: Given,
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

/// What invoices print of it.
#[derive(Args)]
pub(super) struct Given {
    /// What it is billed in, by ISO 4217; its plan must be priced in it.
    #[arg(long, value_name = "CUR")]
    currency: Option<String>,
    /// Percent on its invoices, such as 19; or "exempt: REASON".
    #[arg(long, value_name = "RATE")]
    tax: Option<String>,
    /// Where that is not its name.
    #[arg(long, value_name = "NAME")]
    legal_name: Option<String>,
    /// A line of the address; the country last.
    #[arg(long, value_name = "LINE")]
    address: Vec<String>,
    /// Such as a VAT number.
    #[arg(long, value_name = "ID")]
    tax_id: Option<String>,
    /// Where invoices go.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
}

impl Given {
    /// `before` with what was given; none when nothing was.
    fn over(&self, before: &Details) -> anyhow::Result<Option<Details>> {
        let mut details = before.clone();
        if let Some(code) = &self.currency {
            details.set_currency(code)?;
        }
        if let Some(tax) = &self.tax {
            details.set_tax(tax)?;
        }
        let texts = [
            ("a legal name", &self.legal_name, &mut details.legal_name),
            ("a tax id", &self.tax_id, &mut details.tax_id),
            ("an e-mail address", &self.email, &mut details.email),
        ];
        for (what, given, of) in texts {
            if let Some(given) = given {
                *of = Some(plain(what, given)?);
            }
        }
        if !self.address.is_empty() {
            anyhow::ensure!(self.address.len() <= 10, "an address has at most 10 lines");
            details.address =
                self.address.iter().map(|line| plain("a line of an address", line)).collect::<anyhow::Result<_>>()?;
        }
        Ok((details != *before || self.given()).then_some(details))
    }

    fn given(&self) -> bool {
        let texts = [&self.currency, &self.tax, &self.legal_name, &self.tax_id, &self.email];
        texts.iter().any(|text| text.is_some()) || !self.address.is_empty()
    }
}

impl Partner {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        let (db, now) = context.db().await?;
        match self {
            Self::Create { name, plan, scope, timezone, details, format } => {
                let scope = Scope::parse(scope.iter().map(String::as_str))?;
                let mut transaction = db.begin().await?;
                let plan = PlanId::from(plan);
                let details = details.over(&Details::default())?.unwrap_or_default();
                let new = NewPartner { scope, timezone: &timezone, details, ..NewPartner::new(&name, &plan) };
                let partner = admin::create_partner(&mut transaction, new, now, &mut context.rng).await?;
                transaction.commit().await?;
                context.refresh().await;
                match format {
                    Format::Table => output::line(partner.id.as_str()),
                    Format::Json => output::json(&view(&partner)),
                }
            }
            Self::Update { partner, plan, timezone, details } => {
                let mut transaction = db.begin().await?;
                let partner = admin::find_partner(&mut transaction, &partner, now).await?;
                let details = details.over(&partner.details)?;
                anyhow::ensure!(
                    plan.is_some() || timezone.is_some() || details.is_some(),
                    "nothing to change: give --plan, --timezone, --currency, --tax, --legal-name, --address, --tax-id or --email"
                );
                let change = PartnerChange { plan: plan.as_deref(), timezone: timezone.as_deref(), details };
                let said = admin::update_partner(&mut transaction, &partner, change, now, &mut context.rng).await?;
                transaction.commit().await?;
                context.refresh().await;
                said.iter().try_for_each(|sentence| output::line(sentence))
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
        "billing": partner.details,
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
