//! The bill so far: usage of an open period under the plan versions that it was used under.

use std::collections::BTreeMap;

use anyhow::Context;
use jiff::tz::TimeZone;
use serde::Serialize;
use sqlx::AnyConnection;

use super::Period;
use super::rating::{self, Line, LineView};
use super::store;
use crate::clock::Micros;
use crate::directory::Partner;
use crate::ids::PlanId;
use crate::metering::{Counted, Meter};
use crate::money::Money;

/// What one partner would pay for a period as it stands.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Who.
    pub partner: Partner,
    /// Which month.
    pub period: Period,
    /// Its first instant, and the first one past it.
    pub bounds: (Micros, Micros),
    /// By plan version and meter.
    pub lines: Vec<Line>,
    /// By currency: one, unless plans of different currencies were used.
    pub totals: Vec<Money>,
}

/// How a preview is shown outside.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewView {
    partner: String,
    partner_name: String,
    period: String,
    from: String,
    to: String,
    lines: Vec<LineView>,
    totals: Vec<TotalView>,
}

#[derive(Debug, Serialize)]
struct TotalView {
    currency: &'static str,
    amount: String,
}

impl From<&Preview> for PreviewView {
    fn from(preview: &Preview) -> Self {
        let total = |total: &Money| TotalView { currency: total.currency.code(), amount: total.to_string() };
        Self {
            partner: preview.partner.id.to_string(),
            partner_name: preview.partner.name.clone(),
            period: preview.period.to_string(),
            from: preview.bounds.0.to_string(),
            to: preview.bounds.1.to_string(),
            lines: preview.lines.iter().map(LineView::from).collect(),
            totals: preview.totals.iter().map(total).collect(),
        }
    }
}

/// Units by plan version and meter.
pub type Usage = BTreeMap<(PlanId, i64), BTreeMap<Meter, Counted>>;

/// What `partner` used in `period` of its own time zone; the subscribed plan version is there even when nothing was used.
pub async fn usage(
    connection: &mut AnyConnection,
    partner: &Partner,
    period: Period,
) -> anyhow::Result<(Usage, (Micros, Micros))> {
    let zone = TimeZone::get(&partner.timezone)
        .with_context(|| format!("the partner {} has the unknown time zone \"{}\"", partner.id, partner.timezone))?;
    let bounds = period.bounds(&zone)?;
    let mut usage = Usage::new();
    if let Some(subscribed) = &partner.plan {
        usage.insert((subscribed.0.clone(), subscribed.1), BTreeMap::new());
    }
    for used in store::usage(connection, &partner.id, bounds.0, bounds.1).await? {
        usage.entry((used.plan, used.plan_version)).or_default().insert(used.meter, used.counted);
    }
    Ok((usage, bounds))
}

/// The bill of `partner` for `period` as the ledger stands.
pub async fn preview(connection: &mut AnyConnection, partner: &Partner, period: Period) -> anyhow::Result<Preview> {
    let (usage, bounds) = usage(connection, partner, period).await?;
    let mut lines = Vec::new();
    let mut totals: Vec<Money> = Vec::new();
    for ((id, version), units) in &usage {
        let published = store::versions(connection, id).await?;
        let plan = published
            .into_iter()
            .map(|published| published.plan)
            .find(|plan| plan.version == *version)
            .with_context(|| format!("the plan {id}@{version} is not published"))?;
        let rated = rating::rate(&plan, units)?;
        let sum = rating::total(&rated, &plan)?;
        match totals.iter_mut().find(|total| total.currency == sum.currency) {
            Some(total) => *total = total.checked_add(sum).context("the plans add up to more money than can be counted")?,
            None => totals.push(sum),
        }
        lines.extend(rated);
    }
    Ok(Preview { partner: partner.clone(), period, bounds, lines, totals })
}
