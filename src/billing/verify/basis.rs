//! What a stored invoice was made from: which archived records prove it, and which ones its lines count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context;
use sqlx::AnyConnection;

use crate::billing::Period;
use crate::billing::calendar::{Calendar, PlanVersion};
use crate::billing::document::Invoice;
use crate::billing::invoice::evidence::days_of;
use crate::billing::invoice::store::{self, Filter, Stored};
use crate::billing::invoice::{Cut, MonthUsage, Plans};
use crate::billing::store as ledger;
use crate::ids::{PartnerId, ReplicaId};
use crate::metering::evidence::{Day, Part, PartFound};

/// What invoices are made from, read once for many of them.
pub struct Reader {
    plans: Plans,
    /// How far each journal is in the archive.
    archived: Cut,
    /// How far the journals of retired replicas were shipped: their disks may be gone, with what was not archived.
    retired: Cut,
    cuts: HashMap<String, Arc<Cut>>,
}

/// A month that an invoice bills usage of, as places in the list of parts.
#[derive(Clone, Copy, Debug)]
struct Month {
    period: Period,
    /// The records that it bills.
    billed: usize,
    /// All of the month's: the same, unless some were billed before.
    whole: usize,
    /// Those of them in the free trial.
    trial: Option<usize>,
}

/// The parts of an invoice.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    parts: Vec<Part>,
    months: Vec<Month>,
}

impl Reader {
    /// Reads what all invoices share.
    pub async fn new(connection: &mut AnyConnection) -> anyhow::Result<Self> {
        let plans = ledger::plans_by_version(connection).await?;
        let (archived, retired) = (store::archived(connection).await?, store::shipped_by_retired(connection).await?);
        Ok(Self { plans, archived, retired, cuts: HashMap::new() })
    }

    /// Every plan version.
    pub fn plans(&self) -> &Plans {
        &self.plans
    }

    /// How far each journal is in the archive.
    pub fn archived(&self) -> Cut {
        self.archived.clone()
    }

    /// Whether records up to `last` of a journal went with its retired replica, before they were archived.
    fn is_lost(&self, journal: &(ReplicaId, i64), last: u64) -> bool {
        self.retired.contains_key(journal) && self.archived.get(journal).copied().unwrap_or(0) < last
    }

    /// A cut, without what retired replicas took with them.
    async fn cut(&mut self, connection: &mut AnyConnection, id: &str) -> anyhow::Result<Arc<Cut>> {
        if let Some(cut) = self.cuts.get(id) {
            return Ok(cut.clone());
        }
        let mut cut = store::cut(connection, id).await?;
        for (journal, last) in &mut cut {
            if self.is_lost(journal, *last) {
                *last = self.archived.get(journal).copied().unwrap_or(0);
            }
        }
        let cut = Arc::new(cut);
        self.cuts.insert(id.to_owned(), cut.clone());
        Ok(cut)
    }

    /// The plan versions of a currency; none when the partner's have but this one.
    fn versions(&self, calendar: &Calendar, currency: &str) -> Option<Arc<Vec<PlanVersion>>> {
        let of = |plan: &PlanVersion| self.plans.get(plan).map(|plan| plan.currency.code());
        let all: BTreeSet<&PlanVersion> = calendar.subscriptions().iter().map(|subscribed| &subscribed.plan).collect();
        let is_one = all.iter().all(|plan| of(plan) == Some(currency));
        (!is_one).then(|| Arc::new(all.into_iter().filter(|plan| of(plan) == Some(currency)).cloned().collect()))
    }

    /// What `stored`, which says `document`, was made from.
    pub async fn wanted(
        &mut self,
        connection: &mut AnyConnection,
        stored: &Stored,
        document: &Invoice,
    ) -> anyhow::Result<Wanted> {
        let calendar = ledger::calendar(connection, &stored.partner).await?;
        let periods = document.evidence.days.iter().map(|day| &day.period).chain(document.lines.iter().map(|line| &line.period));
        let mut periods: BTreeSet<Period> =
            periods.map(|period| period.parse()).collect::<Result<_, String>>().map_err(anyhow::Error::msg)?;
        // Later ones are paid in advance.
        periods.retain(|period| *period < stored.period);
        let newest = if periods.is_empty() { None } else { self.newest_before(connection, stored).await? };
        periods.insert(stored.period);
        let (nothing, cut) = (Arc::<Cut>::default(), self.cut(connection, &stored.cut).await?);
        let plans = self.versions(&calendar, &stored.currency);
        let mut wanted = Wanted::default();
        for period in periods {
            let month = calendar.month(period)?;
            let after = match &newest {
                Some((of, cut)) if period < stored.period && *of >= period => cut.clone(),
                _ => nothing.clone(),
            };
            let part = |after: &Arc<Cut>, to| Part {
                partner: stored.partner.clone(),
                from: month.from,
                to,
                after: after.clone(),
                cut: cut.clone(),
                plans: plans.clone(),
            };
            let billed = wanted.add(part(&after, month.to));
            let whole = if after.is_empty() { billed } else { wanted.add(part(&nothing, month.to)) };
            let trial = calendar.trial_ends_at.filter(|end| *end > month.from);
            let trial = trial.map(|end| wanted.add(part(&nothing, end.min(month.to))));
            wanted.months.push(Month { period, billed, whole, trial });
        }
        Ok(wanted)
    }

    /// The invoice before `stored` that late usage was held against: its month, and how far it went.
    async fn newest_before(
        &mut self,
        connection: &mut AnyConnection,
        stored: &Stored,
    ) -> anyhow::Result<Option<(Period, Arc<Cut>)>> {
        let filter = Filter { partner: Some(&stored.partner), ..Filter::default() };
        let counted = |other: &Stored| {
            other.currency == stored.currency
                && other.period < stored.period
                && other.finalized_at.is_some_and(|at| at <= stored.created_at)
                && other.voided_at.is_none_or(|at| at > stored.created_at)
        };
        let newest = store::list(connection, &filter).await?.into_iter().rfind(counted);
        Ok(match newest {
            Some(newest) => Some((newest.period, self.cut(connection, &newest.cut).await?)),
            None => None,
        })
    }

    /// Whether an invoice counts records that went with a retired replica: of which one.
    pub async fn beyond(
        &self,
        connection: &mut AnyConnection,
        partner: &PartnerId,
        wanted: &Wanted,
        cut: &str,
    ) -> anyhow::Result<Option<String>> {
        let full = store::cut(connection, cut).await?;
        let lost = |(journal, last): (&_, &u64)| self.is_lost(journal, *last);
        if !full.iter().any(lost) {
            return Ok(None);
        }
        for part in &wanted.parts {
            let ledger = ledger::month_ledger(connection, partner, (part.from, part.to), None).await?;
            if let Some(((replica, epoch), last)) = ledger.positions.iter().find(|position| lost(*position)) {
                return Ok(Some(format!("replica {replica} up to record {epoch}/{last}")));
            }
        }
        Ok(None)
    }
}

impl Wanted {
    fn add(&mut self, part: Part) -> usize {
        self.parts.push(part);
        self.parts.len() - 1
    }

    /// What is to be read.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The records that the invoice bills: each month with its part, ascending.
    pub fn billed(&self) -> Vec<(Period, Part)> {
        self.months.iter().filter_map(|month| Some((month.period, self.parts.get(month.billed)?.clone()))).collect()
    }

    /// The invoice's days, out of what was found of its parts.
    pub fn days(&self, found: &[PartFound]) -> Vec<Day> {
        let days = |month: &Month| found.get(month.billed).map(|part| days_of(month.period, part.days.clone()));
        self.months.iter().filter_map(days).flatten().collect()
    }

    /// The usage that the invoice's lines count, out of what was found of its parts.
    pub fn usage(&self, found: &[PartFound]) -> anyhow::Result<BTreeMap<Period, MonthUsage>> {
        let mut usage = BTreeMap::new();
        for month in &self.months {
            let mut of = MonthUsage::new();
            let none = PartFound::default();
            let trial = month.trial.and_then(|place| found.get(place)).unwrap_or(&none);
            for (version, meters) in &found.get(month.whole).unwrap_or(&none).sums {
                let free = trial.sums.get(version);
                for (meter, sum) in meters {
                    let free = free.and_then(|meters| meters.get(meter)).copied().unwrap_or_default();
                    let used = of.entry(version.clone()).or_default().entry(*meter).or_default();
                    let less = |all: u64, free: u64| all.checked_sub(free).context("a trial has more than its month");
                    used.rated = less(sum.units, free.units)?;
                    used.waived = less(sum.waived, free.waived)?;
                    used.trial = free.units.checked_add(free.waived).context("more units than can be counted")?;
                }
            }
            usage.insert(month.period, of);
        }
        Ok(usage)
    }
}
