//! The bill so far: the invoice of a month as it would be made now. Nothing is stored.

use anyhow::Context;
use serde::Serialize;
use sqlx::AnyConnection;

use super::Period;
use super::document::Line;
use super::invoice::draft::{self, Computed};
use super::invoice::{self, Keyed, Plans};
use super::store;
use crate::clock::Micros;
use crate::directory::Partner;
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
    /// In the order of the invoice.
    pub lines: Vec<Keyed>,
    /// Before tax, by currency: one, unless plans of different currencies were used.
    pub totals: Vec<Money>,
}

/// How a preview is shown outside.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewView<'a> {
    partner: String,
    partner_name: &'a str,
    period: String,
    from: String,
    to: String,
    lines: Vec<&'a Line>,
    totals: Vec<TotalView>,
}

#[derive(Debug, Serialize)]
struct TotalView {
    currency: &'static str,
    amount: String,
}

impl<'a> From<&'a Preview> for PreviewView<'a> {
    fn from(preview: &'a Preview) -> Self {
        let total = |total: &Money| TotalView { currency: total.currency.code(), amount: total.to_string() };
        Self {
            partner: preview.partner.id.to_string(),
            partner_name: &preview.partner.name,
            period: preview.period.to_string(),
            from: preview.bounds.0.to_string(),
            to: preview.bounds.1.to_string(),
            lines: preview.lines.iter().map(|line| &line.line).collect(),
            totals: preview.totals.iter().map(total).collect(),
        }
    }
}

/// What `partner`'s month comes to as the ledger stands; the month of `now` where no `period` is named.
pub async fn computed(
    connection: &mut AnyConnection,
    plans: &Plans,
    partner: &Partner,
    period: Option<Period>,
    now: Micros,
) -> anyhow::Result<Computed> {
    let calendar = store::calendar(connection, &partner.id).await?;
    let period = match period {
        Some(period) => period,
        None => calendar.month_of(now)?.period,
    };
    let computed = draft::compute(connection, plans, partner, &calendar, period).await;
    Ok(computed.with_context(|| format!("the bill of {} for {period}", partner.name))?.0)
}

/// The bill of `partner` as the ledger stands.
pub async fn preview(
    connection: &mut AnyConnection,
    plans: &Plans,
    partner: &Partner,
    period: Option<Period>,
    now: Micros,
) -> anyhow::Result<Preview> {
    let Computed { month, lines, .. } = computed(connection, plans, partner, period, now).await?;
    let totals = lines.iter().map(|(currency, lines)| invoice::total(*currency, lines));
    let mut totals: Vec<Money> = totals.collect::<anyhow::Result<_>>()?;
    if let (true, Some(plan)) = (totals.is_empty(), partner.plan.as_ref().and_then(|on| plans.get(on))) {
        totals.push(Money::zero(plan.currency));
    }
    let lines = lines.into_iter().flat_map(|(_, lines)| lines).collect();
    Ok(Preview { partner: partner.clone(), period: month.period, bounds: (month.from, month.to), lines, totals })
}
