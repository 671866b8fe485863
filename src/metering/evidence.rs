//! Evidence: which archived records an invoice bills, as a Merkle root for each UTC day (docs/billing.md, Evidence), and what they
//! add up to.

mod walk;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context;
use jiff::civil::Date;

use super::archive::Archive;
use super::archive_store::{self, ArchivedSegment};
use super::merkle::{self, Hash, Tree};
use super::meter::Meter;
use super::reading::Glance;
use crate::clock::Micros;
use crate::ids::{PartnerId, PlanId, ReplicaId};

pub use walk::{Part, Removed};
pub(crate) use walk::{Sink, walk};

/// How far each journal is in: (replica, epoch) → the last sequence. What it does not name is out.
pub type Cut = BTreeMap<(ReplicaId, i64), u64>;

/// How far a journal is in.
fn sequence(cut: &Cut, replica: &ReplicaId, epoch: i64) -> u64 {
    // Cuts are keyed by a pair that owns its id; cloning one is a count.
    cut.get(&(replica.clone(), epoch)).copied().unwrap_or(0)
}

/// A month of a partner.
#[derive(Clone, Debug)]
pub struct WantedMonth {
    /// Such as `2026-11`.
    pub period: String,
    /// Its first instant,
    pub from: Micros,
    /// and the first one past it.
    pub to: Micros,
    /// Records at or below it were billed before.
    pub after: Arc<Cut>,
    /// Under these plan versions only; none: under all.
    pub plans: Option<Arc<Vec<(PlanId, i64)>>>,
}

/// The records of one UTC day, as far as it lies in a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// The month.
    pub period: String,
    /// The UTC day.
    pub day: Date,
    /// How many records.
    pub records: u64,
    /// Over them by admission, then request id; a leaf is a record's bytes in the journal.
    pub root: Hash,
}

/// What records add up to for one meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Units, less the waived ones.
    pub units: u64,
    /// Waived units.
    pub waived: u64,
    /// Records that count the meter.
    pub records: u64,
}

/// By plan version and meter.
pub type Sums = BTreeMap<(PlanId, i64), BTreeMap<Meter, Sum>>;

/// What the archive has of a partner's months.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By month, then day; those without records are left out.
    pub days: Vec<Day>,
    /// By month.
    pub sums: BTreeMap<String, Sums>,
}

/// The Merkle root over days in their order; a leaf is the 32 bytes of a day's root.
pub fn root<'a>(days: impl IntoIterator<Item = &'a Day>) -> Hash {
    merkle::root(days.into_iter().map(|day| &day.root))
}

/// The whole list of what was archived.
pub async fn segments(connection: &mut sqlx::AnyConnection) -> anyhow::Result<Vec<ArchivedSegment>> {
    archive_store::all(connection).await
}

/// The days, with their roots and sums, of the live records that each partner's months hold up to `cut`. `segments`: the whole list of what
/// was archived, in any order. Each object is fetched at most once, and no more than the open days are in memory. A segment
/// that is needed and missing, or is not what was archived, is an error that names it.
pub async fn days(
    archive: &Archive,
    segments: &[ArchivedSegment],
    cut: &Cut,
    wanted: &HashMap<PartnerId, Vec<WantedMonth>>,
) -> anyhow::Result<HashMap<PartnerId, Found>> {
    let cut = Arc::new(cut.clone());
    let mut parts = Vec::new();
    let mut periods = Vec::new();
    for (partner, months) in wanted {
        for WantedMonth { period, from, to, after, plans } in months {
            let (after, cut, plans) = (after.clone(), cut.clone(), plans.clone());
            parts.push(Part { partner: partner.clone(), from: *from, to: *to, after, cut, plans });
            periods.push((partner.clone(), period.clone()));
        }
    }
    let mut found: HashMap<PartnerId, Found> = wanted.keys().map(|partner| (partner.clone(), Found::default())).collect();
    for ((partner, period), part) in periods.into_iter().zip(parts_found(archive, segments, parts).await?) {
        let of = found.entry(partner).or_default();
        of.days.extend(part.days.into_iter().map(|(day, records, root)| Day { period: period.clone(), day, records, root }));
        of.sums.insert(period, part.sums);
    }
    for of in found.values_mut() {
        of.days.sort_by(|a, b| (&a.period, a.day).cmp(&(&b.period, b.day)));
    }
    Ok(found)
}

/// What the archive has of one part.
#[derive(Clone, Debug, Default)]
pub struct PartFound {
    /// Each day with its number of records and their root, ascending.
    pub days: Vec<(Date, u64, Hash)>,
    /// What the records add up to.
    pub sums: Sums,
}

/// The same for parts that each have their own cut; one answer for each, in their order.
pub async fn parts_found(archive: &Archive, segments: &[ArchivedSegment], parts: Vec<Part>) -> anyhow::Result<Vec<PartFound>> {
    let roots = Roots(parts.iter().map(|_| PartFound::default()).collect());
    Ok(walk(archive, segments, parts, roots).await?.0)
}

struct Roots(Vec<PartFound>);

impl Sink for Roots {
    type Kept = Hash;

    fn take(&mut self, part: usize, record: &Glance<'_>, json: &[u8]) -> anyhow::Result<Hash> {
        add(&mut self.0[part].sums, record)?;
        Ok(merkle::leaf(json))
    }

    fn day(&mut self, part: usize, day: Date, records: &mut dyn ExactSizeIterator<Item = &Hash>) -> anyhow::Result<()> {
        let mut tree = Tree::default();
        records.for_each(|leaf| tree.push(*leaf));
        self.0[part].days.push((day, tree.leaves(), tree.root()));
        Ok(())
    }
}

/// Adds what a record counts.
pub fn add(sums: &mut Sums, record: &Glance<'_>) -> anyhow::Result<()> {
    let plan = sums.iter_mut().find(|((plan, version), _)| plan.as_str() == record.plan && *version == record.plan_version);
    let meters = match plan {
        Some((_, meters)) => meters,
        None => sums.entry((record.plan.as_ref().into(), record.plan_version)).or_default(),
    };
    for (meter, counted) in record.counted() {
        let sum = meters.entry(meter).or_default();
        let units = sum.units.checked_add(counted.units).zip(sum.waived.checked_add(counted.waived));
        (sum.units, sum.waived) = units.with_context(|| format!("more units of {meter} than can be counted"))?;
        sum.records += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
