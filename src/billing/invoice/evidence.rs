//! The evidence of a run: for each partner and currency, the archived records that its invoice bills, as roots by day
//! (docs/billing.md, Evidence).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::run::Closable;
use crate::billing::Period;
use crate::billing::document::{Evidence, EvidenceDay};
use crate::db::Db;
use crate::ids::PartnerId;
use crate::metering::evidence::{self, Day, Part};
use crate::metering::{Archive, hex};
use crate::money::Currency;

/// What the archive has of a run.
#[derive(Debug, Default)]
pub struct Proven {
    /// By partner, then by currency.
    evidence: HashMap<PartnerId, BTreeMap<&'static str, Evidence>>,
    /// Records of the month itself.
    records: HashMap<PartnerId, u64>,
}

impl Proven {
    /// Of the invoice of a partner in a currency.
    pub fn evidence(&self, partner: &PartnerId, currency: Currency) -> Evidence {
        let of = self.evidence.get(partner).and_then(|of| of.get(currency.code()));
        of.cloned().unwrap_or_else(|| document(&[]))
    }

    /// How many records of the month itself a partner has.
    pub fn records(&self, partner: &PartnerId) -> u64 {
        self.records.get(partner).copied().unwrap_or(0)
    }

    /// Reads the archive, once for all partners.
    pub async fn read(db: &Db, archive: &Archive, closable: &Closable) -> anyhow::Result<Self> {
        let segments = evidence::segments(&mut *db.read().await?).await?;
        let cut = Arc::new(closable.archived.clone());
        let mut parts = Vec::new();
        let mut places = Vec::new();
        for account in &closable.accounts {
            let currencies = account.currencies(&closable.plans);
            let is_one = currencies.len() == 1;
            for (currency, plans) in currencies {
                // The usual case, one currency, shares its parts' edges with all others.
                let plans = (!is_one).then(|| Arc::new(plans));
                for &period in account.late.months.iter().chain([&closable.period]) {
                    let month = account.calendar.month(period)?;
                    let after = match period < closable.period {
                        true => account.late.billed_to(period, currency),
                        false => Arc::default(),
                    };
                    let (partner, cut, plans) = (account.partner.id.clone(), cut.clone(), plans.clone());
                    parts.push(Part { partner: partner.clone(), from: month.from, to: month.to, after, cut, plans });
                    places.push((partner, currency, period));
                }
            }
        }
        let mut days: HashMap<(PartnerId, &'static str), Vec<Day>> = HashMap::new();
        let mut proven = Self::default();
        let found = evidence::parts_found(archive, &segments, parts).await?;
        for ((partner, currency, period), part) in places.into_iter().zip(found) {
            if period == closable.period {
                *proven.records.entry(partner.clone()).or_default() +=
                    part.days.iter().map(|(_, records, _)| records).sum::<u64>();
            }
            days.entry((partner, currency)).or_default().extend(days_of(period, part.days));
        }
        for ((partner, currency), days) in days {
            proven.evidence.entry(partner).or_default().insert(currency, document(&days));
        }
        Ok(proven)
    }
}

/// Days of a month, as they were found.
pub fn days_of(period: Period, days: Vec<(jiff::civil::Date, u64, [u8; 32])>) -> impl Iterator<Item = Day> {
    days.into_iter().map(move |(day, records, root)| Day { period: period.to_string(), day, records, root })
}

/// Days, in order of month and day, as the invoice prints them.
pub fn document(days: &[Day]) -> Evidence {
    let day = |day: &Day| EvidenceDay {
        period: day.period.clone(),
        day: day.day.to_string(),
        records: day.records,
        root: hex(&day.root),
    };
    Evidence {
        root: hex(&evidence::root(days)),
        records: days.iter().map(|day| day.records).sum(),
        days: days.iter().map(day).collect(),
    }
}
