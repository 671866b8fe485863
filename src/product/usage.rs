//! A partner's own usage, from the ledger.

use async_graphql::{Context, Object};
use jiff::tz::TimeZone;

use super::asker::{Asker, Noted, coded};
use super::cost::{cost, free, list_size};
use super::query::Services;
use super::scalars::{BigInt, DateTime, Decimal};
use crate::billing::Period;
use crate::billing::preview::{Preview, preview};
use crate::billing::rating::Line;
use crate::clock::Micros;
use crate::error::Code;
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

    /// By plan version and meter.
    #[graphql(directive = list_size::apply(Some(LINES_MAX as i32), None, None, false))]
    async fn lines(&self) -> Vec<UsageLine<'_>> {
        self.preview.lines.iter().map(UsageLine).collect()
    }

    /// What it costs so far, by currency.
    #[graphql(directive = list_size::apply(Some(LINES_MAX as i32), None, None, false))]
    async fn totals(&self) -> Vec<Total> {
        self.preview.totals.iter().copied().map(Total).collect()
    }
}

/// One meter under a plan version.
pub(super) struct UsageLine<'a>(&'a Line);

/// One meter under a plan version.
#[Object(directive = cost::apply(free()))]
impl UsageLine<'_> {
    /// What is counted.
    async fn meter(&self) -> &'static str {
        self.0.meter.as_str()
    }

    /// Under which plan version.
    async fn plan(&self) -> &str {
        &self.0.plan
    }

    /// How much.
    async fn units(&self) -> BigInt {
        BigInt(i64::try_from(self.0.units).unwrap_or(i64::MAX))
    }

    /// What was staler than your plan promises: not in `units`, and not billed.
    async fn waived_units(&self) -> BigInt {
        BigInt(i64::try_from(self.0.waived).unwrap_or(i64::MAX))
    }

    /// How much of it costs nothing.
    async fn included_units(&self) -> BigInt {
        BigInt(i64::try_from(self.0.included).unwrap_or(i64::MAX))
    }

    /// What one unit costs past that; null for a meter without a charge.
    async fn unit_price(&self) -> Option<Decimal> {
        self.0.unit_price.map(Decimal)
    }

    /// What the line costs.
    async fn amount(&self) -> Decimal {
        decimal(self.0.amount)
    }
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
    Decimal(rust_decimal::Decimal::new(money.minor, money.currency.exponent()))
}

impl Usage {
    pub(super) async fn read(ctx: &Context<'_>, period: Option<&str>) -> async_graphql::Result<Self> {
        let asker = Asker::of(ctx)?;
        Noted::of(ctx)?.take_rows(LEDGER_ROWS)?;
        let services = ctx.data::<Services>()?;
        let partner = &asker.account().partner;
        let period = match period {
            Some(text) => text.parse().map_err(|wrong: String| coded(Code::BadUserInput, wrong))?,
            None => Period::containing(asker.now, &TimeZone::get(&partner.timezone).unwrap_or(TimeZone::UTC)),
        };
        // Before the ledger is read: what is claimed to be in it must be.
        let as_of = services.shipped.borrow().as_of;
        let read = async { preview(&mut *services.db.read().await?, partner, period).await };
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
