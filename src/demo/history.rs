//! Last month of the demo's partners: usage in the journal, so that there is a month to close.

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Ready;
use crate::app::App;
use crate::billing::Period;
use crate::clock::Micros;
use crate::ids::RequestId;
use crate::metering::{Mode, Product, UsageRecord};

/// Answers of a partner in the month; the second one asks less.
const ANSWERS: [u32; 2] = [1200, 400];

/// The month before `now`, in UTC as the demo's partners have it: its first instant, and the first one past it.
pub fn last_month(now: Micros) -> anyhow::Result<(Period, Micros, Micros)> {
    let utc = jiff::tz::TimeZone::UTC;
    let current = Period::containing(now, &utc);
    let last = current.previous()?;
    Ok((last, last.begins(&utc)?, current.begins(&utc)?))
}

/// Journals what `ready` used between two instants; the same for a seed.
pub async fn write(app: &App, ready: &[Ready], seed: u64, (from, to): (Micros, Micros)) -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut records = Vec::new();
    for (partner, answers) in ready.iter().zip(ANSWERS) {
        for _ in 0..answers {
            records.push(record(partner, Micros(rng.random_range(from.0..to.0)), &mut rng)?);
        }
    }
    // Admissions come in order.
    records.sort_by_key(|record| record.at);
    let mut on_their_way = Vec::with_capacity(records.len());
    for record in records {
        on_their_way.push(app.journal.append(record).await?);
    }
    for record in on_their_way {
        record.durable().await?;
    }
    app.ship().await.map(drop)
}

fn record(ready: &Ready, at: Micros, rng: &mut ChaCha8Rng) -> anyhow::Result<UsageRecord> {
    let (plan, plan_version) = ready.partner.plan.clone().context("the demo's partner has no plan")?;
    // Some ask for one product, some for a page of them.
    let mut units = std::collections::BTreeMap::from([(Product::Inventory, rng.random_range(1..=30))]);
    if plan.as_str() == "growth" {
        units.insert(Product::Pricing, rng.random_range(1..=12));
    }
    Ok(UsageRecord {
        v: 1,
        request: RequestId::new(at, rng),
        at,
        partner: ready.partner.id.clone(),
        key: ready.key_id.clone(),
        mode: Mode::Live,
        plan,
        plan_version,
        units,
        waived_units: std::collections::BTreeMap::new(),
    })
}
