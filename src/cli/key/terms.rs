//! What a key is issued on, from the flags of `tollgate key issue`.

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::billing::plan::Rate;
use crate::clock::Micros;
use crate::directory::{KeyBudget, KeyTerms, terms};
use crate::metering;

#[derive(Args)]
pub(in crate::cli) struct Terms {
    /// Whether its answers are billed.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// A day (its first instant, UTC) or an instant, such as 2027-01-31 or 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// Of what the plan sells, this product alone; may be given again.
    #[arg(long)]
    product: Vec<String>,
    /// Good from this address or network alone, such as 203.0.113.9 or 10.0.0.0/8; may be given again.
    #[arg(long, value_name = "CIDR")]
    address: Vec<String>,
    /// Units a second, in addition to the plan's limit; goes with --burst.
    #[arg(long, value_name = "N")]
    units_per_second: Option<u32>,
    /// Units at once after a pause, in addition to the plan's limit; goes with --units-per-second.
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Units a billing month, in addition to the plan's limit.
    #[arg(long, value_name = "N")]
    quota: Option<u64>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Mode {
    /// Real data, billed.
    #[default]
    Live,
    /// A fixed sample set, never billed.
    Test,
}

impl Terms {
    pub(super) fn read(&self) -> anyhow::Result<KeyTerms> {
        let rate = match (self.units_per_second, self.burst) {
            (Some(units_per_second), Some(burst)) => Some(Rate { units_per_second, burst }),
            (None, None) => None,
            (Some(_), None) => bail!("--units-per-second goes with --burst: give both, or none"),
            (None, Some(_)) => bail!("--burst goes with --units-per-second: give both, or none"),
        };
        Ok(KeyTerms {
            mode: match self.mode {
                Mode::Live => metering::Mode::Live,
                Mode::Test => metering::Mode::Test,
            },
            expires_at: self.expires.as_deref().map(instant).transpose()?,
            products: terms::products(self.product.iter().map(String::as_str))?,
            addresses: self.address.iter().map(|text| terms::network(text)).collect::<anyhow::Result<_>>()?,
            budget: Some(KeyBudget { rate, quota_units: self.quota }),
        })
    }
}

fn instant(text: &str) -> anyhow::Result<Micros> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Ok(instant.into());
    }
    let shown = text.escape_debug();
    anyhow::ensure!(text.len() <= 10, "\"{shown}\" has no time zone: write for example 2027-01-31T12:00:00Z");
    let day: Date = text.parse().with_context(|| format!("\"{shown}\" is no date: write for example 2027-01-31"))?;
    Ok(day.to_zoned(TimeZone::UTC)?.timestamp().into())
}
