//! A partner's own usage, from the ledger.

use async_graphql::{Context, Object};

use super::asker::{Asker, Noted, coded};
use super::cost::{cost, free, list_size};
use super::query::Services;
use super::scalars::{BigInt, DateTime, Decimal};
use crate::billing::Period;
use crate::billing::invoice::Keyed;
use crate::billing::preview::{Preview, preview};
use crate::billing::store as ledger;
use crate::clock::Micros;
use crate::error::Code;
use crate::metering::Meter;
use crate::money::Money;

/// What a look into the ledger counts for: its connections are few, and shared.
const LEDGER_ROWS: usize = 400;
/// Plan versions of a month, times meters: far more than there are.
const LINES_MAX: usize = 300;

/// What you used in a period.
pub(super) struct Usage {
    preview: Preview,
    as_of: Micros,
}

/// What you used in a period, and what it costs as it stands. Free.
#[Object(directive = cost::apply(free()))]
impl Usage {
    /// The month, such as `2026-11`.
    async fn period(&self) -> String {
        self.preview.period.to_string()
    }

    /// Its first instant.
    async fn from(&self) -> DateTime {
        DateTime(self.preview.bounds.0)
    }

    /// The first instant past it.
    async fn to(&self) -> DateTime {
        DateTime(self.preview.bounds.1)
    }

    /// Answers before this instant are in it.
    async fn as_of(&self) -> DateTime {
        DateTime(self.as_of)
    }

    /// By plan version, in the order of the invoice.
    #[graphql(directive = list_size::apply(Some(LINES_MAX as i32), None, None, false))]
    async fn lines(&self) -> Vec<UsageLine<'_>> {
        self.preview.lines.iter().map(UsageLine).collect()
    }

    /// What it costs so far, before tax, by currency.
    #[graphql(directive = list_size::apply(Some(LINES_MAX as i32), None, None, false))]
    async fn totals(&self) -> Vec<Total> {
        self.preview.totals.iter().copied().map(Total).collect()
    }
}

/// A line of the bill.
pub(super) struct UsageLine<'a>(&'a Keyed);

/// A line of the bill, as the invoice would have it now.
#[Object(directive = cost::apply(free()))]
impl UsageLine<'_> {
    /// What for: `base_fee`, `usage`, `trial`, `waived` (staler than your plan promises, and not billed), `discount` or `minimum`.
    async fn kind(&self) -> &'static str {
        self.0.key.kind.as_str()
    }

    /// The month that it is for: a later one is paid in advance, an earlier one came late.
    async fn period(&self) -> &str {
        &self.0.line.period
    }

    /// Under which plan version.
    async fn plan(&self) -> &str {
        &self.0.line.plan
    }

    /// In words.
    async fn description(&self) -> &str {
        &self.0.line.description
    }

    /// What is counted; null for what is not usage.
    async fn meter(&self) -> Option<&'static str> {
        self.0.key.meter.map(Meter::as_str)
    }

    /// How much; null for what is not usage.
    async fn units(&self) -> Option<BigInt> {
        self.0.line.units.map(big)
    }

    /// How much of it costs nothing; null for what has no price.
    async fn included_units(&self) -> Option<BigInt> {
        self.0.line.pricing.as_ref().map(|pricing| big(pricing.included))
    }

    /// What one unit, or one package, costs past that; null where there is no price, or more than one.
    async fn unit_price(&self) -> Option<Decimal> {
        let [step] = self.0.line.pricing.as_ref()?.steps.as_slice() else { return None };
        step.price.parse().ok().map(Decimal)
    }

    /// What waived units would have cost; null for other lines.
    async fn value(&self) -> Option<Decimal> {
        self.0.line.value.as_ref()?.parse().ok().map(Decimal)
    }

    /// What the line costs.
    async fn amount(&self) -> Decimal {
        decimal(self.0.amount)
    }
}

fn big(units: u64) -> BigInt {
    BigInt(i64::try_from(units).unwrap_or(i64::MAX))
}

/// A sum of money.
pub(super) struct Total(Money);

/// A sum of money.
#[Object(directive = cost::apply(free()))]
impl Total {
    /// ISO 4217.
    async fn currency(&self) -> &'static str {
        self.0.currency.code()
    }

    /// How much.
    async fn amount(&self) -> Decimal {
        decimal(self.0)
    }
}

fn decimal(money: Money) -> Decimal {
    Decimal(money.decimal())
}

impl Usage {
    pub(super) async fn read(ctx: &Context<'_>, period: Option<&str>) -> async_graphql::Result<Self> {
        let asker = Asker::of(ctx)?;
        Noted::of(ctx)?.take_rows(LEDGER_ROWS)?;
        let services = ctx.data::<Services>()?;
        let partner = &asker.account().partner;
        let period: Option<Period> =
            period.map(str::parse).transpose().map_err(|wrong: String| coded(Code::BadUserInput, wrong))?;
        // Before the ledger is read: what is claimed to be in it must be.
        let as_of = services.shipped.borrow().as_of;
        let read = async {
            let mut connection = services.db.read().await?;
            let plans = ledger::plans_by_version(&mut connection).await?;
            preview(&mut connection, &plans, partner, period, asker.now).await
        };
        let preview = read.await.map_err(|error| {
            tracing::error!(request.id = %asker.request, error = format!("{error:#}"), partner.id = %partner.id, "usage cannot be read");
            coded(Code::Unavailable, "The ledger cannot be read for now. Try again.")
        })?;
        if preview.lines.len() > LINES_MAX {
            let message = format!("The month has {} lines, more than the {LINES_MAX} that are shown here.", preview.lines.len());
            return Err(coded(Code::Unavailable, message));
        }
        Ok(Self { preview, as_of })
    }
}
