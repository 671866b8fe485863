//! A partner's calendar: its months, and which plan version each of their days belongs to. Pure, and the same whenever it is
//! asked: what is over does not change (docs/billing.md, The month and Days).

use std::collections::BTreeMap;

use anyhow::Context;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Period;
use super::document::Days;
use crate::clock::Micros;
use crate::ids::PlanId;

/// A plan version's name.
pub type PlanVersion = (PlanId, i64);

/// A partner on a plan version over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// On which.
    pub plan: PlanVersion,
    /// Since when.
    pub from: Micros,
    /// Until when; none: it lasts.
    pub to: Option<Micros>,
}

impl Subscribed {
    fn is_in_force(&self, from: Micros, to: Micros) -> bool {
        let end = self.to.unwrap_or(Micros(i64::MAX));
        self.from < end && self.from < to && end > from
    }
}

/// A billing month: each instant belongs to one.
#[derive(Clone, Debug)]
pub struct Month {
    /// Its name.
    pub period: Period,
    /// Its first instant,
    pub from: Micros,
    /// and the first one past it.
    pub to: Micros,
    /// Whose midnights its days begin at.
    pub zone: TimeZone,
}

impl Month {
    /// How many days it has.
    pub fn days(&self) -> u32 {
        self.period.first_day().days_in_month().unsigned_abs().into()
    }

    /// Each day: its first instant, and the first one past it.
    fn each_day(&self) -> anyhow::Result<Vec<(Micros, Micros)>> {
        let midnight = |date: Date| -> anyhow::Result<Micros> { Ok(date.to_zoned(self.zone.clone())?.timestamp().into()) };
        let mut starts = vec![self.from];
        let mut day = self.period.first_day();
        for _ in 1..self.days() {
            day = day.tomorrow()?;
            starts.push(midnight(day)?);
        }
        let ends = starts.iter().skip(1).copied().chain([self.to]);
        Ok(starts.iter().copied().zip(ends).collect())
    }
}

/// When a partner's months begin, and what it was subscribed to.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// From which month on which zone; the first entry holds from the beginning.
    zones: Vec<(Period, TimeZone)>,
    /// In order.
    subscriptions: Vec<Subscribed>,
    /// Usage before it is free.
    pub trial_ends_at: Option<Micros>,
}

impl Calendar {
    /// Of a partner's zones and subscriptions.
    pub fn new(
        zones: impl IntoIterator<Item = (Period, String)>,
        mut subscriptions: Vec<Subscribed>,
        trial_ends_at: Option<Micros>,
    ) -> anyhow::Result<Self> {
        let zone = |name: String| TimeZone::get(&name).with_context(|| format!("the time zone \"{name}\" is unknown here"));
        let zones = zones.into_iter().map(|(first, name)| Ok((first, zone(name)?)));
        let mut zones: Vec<_> = zones.collect::<anyhow::Result<_>>()?;
        zones.sort_by_key(|(first, _)| *first);
        subscriptions.sort_by_key(|it| it.from);
        Ok(Self { zones, subscriptions, trial_ends_at })
    }

    /// The zone that is in force for a month.
    pub fn zone(&self, period: Period) -> TimeZone {
        let known = self.zones.iter().rev().find(|(first, _)| *first <= period).or(self.zones.first());
        known.map_or(TimeZone::UTC, |(_, zone)| zone.clone())
    }

    /// A month.
    pub fn month(&self, period: Period) -> anyhow::Result<Month> {
        let zone = self.zone(period);
        let next = period.next()?;
        Ok(Month { period, from: period.begins(&zone)?, to: next.begins(&self.zone(next))?, zone })
    }

    /// The month that `at` lies in.
    pub fn month_of(&self, at: Micros) -> anyhow::Result<Month> {
        // A zone moves the edge by hours: the month that UTC says, or a neighbour of it.
        let guess = Period::containing(at, &TimeZone::UTC);
        let mut month = self.month(guess)?;
        while at < month.from {
            month = self.month(month.period.previous()?)?;
        }
        while at >= month.to {
            month = self.month(month.period.next()?)?;
        }
        Ok(month)
    }

    /// What it was subscribed to, in order.
    pub fn subscriptions(&self) -> &[Subscribed] {
        &self.subscriptions
    }

    /// The subscription that is in force at an instant.
    pub fn at(&self, at: Micros) -> Option<&Subscribed> {
        self.subscriptions.iter().rev().find(|it| it.is_in_force(at, Micros(at.0.saturating_add(1))))
    }

    /// The days of a month that belong to each plan version: each day to the last subscription in force on it, those of the
    /// trial to none.
    pub fn days(&self, month: &Month) -> anyhow::Result<BTreeMap<PlanVersion, Days>> {
        self.count(month, |from, to| self.subscriptions.iter().rev().find(|it| it.is_in_force(from, to)))
    }

    /// The same as if what is in force at the month's first instant lasted to its end: for fees in advance.
    pub fn days_in_advance(&self, month: &Month) -> anyhow::Result<BTreeMap<PlanVersion, Days>> {
        let lasting = self.at(month.from);
        self.count(month, |_, _| lasting)
    }

    fn count<'a>(
        &self,
        month: &Month,
        whose: impl Fn(Micros, Micros) -> Option<&'a Subscribed>,
    ) -> anyhow::Result<BTreeMap<PlanVersion, Days>> {
        let of = month.days();
        let mut days: BTreeMap<PlanVersion, Days> = BTreeMap::new();
        for (from, to) in month.each_day()? {
            let in_trial = self.trial_ends_at.is_some_and(|end| from < end);
            if let Some(subscribed) = whose(from, to).filter(|_| !in_trial) {
                days.entry(subscribed.plan.clone()).or_insert(Days { counted: 0, of }).counted += 1;
            }
        }
        Ok(days)
    }

    /// When a trial of `days` days ends that begins now: at the midnight that begins the `days`-th day after today.
    pub fn trial_end(zone: &TimeZone, now: Micros, days: u16) -> anyhow::Result<Micros> {
        let today = now.timestamp().to_zoned(zone.clone()).date();
        let end = today.checked_add(jiff::Span::new().days(i64::from(days)))?;
        Ok(end.to_zoned(zone.clone())?.timestamp().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Micros {
        text.parse::<jiff::Timestamp>().unwrap().into()
    }

    fn subscribed(plan: &str, from: &str, to: Option<&str>) -> Subscribed {
        Subscribed { plan: (plan.into(), 1), from: at(from), to: to.map(at) }
    }

    fn days(calendar: &Calendar, period: &str) -> Vec<(String, u32, u32)> {
        let month = calendar.month(period.parse().unwrap()).unwrap();
        let days = calendar.days(&month).unwrap();
        days.into_iter().map(|((plan, _), days)| (plan.to_string(), days.counted, days.of)).collect()
    }

    fn calendar(zone: &str, subscriptions: Vec<Subscribed>, trial_ends_at: Option<Micros>) -> Calendar {
        Calendar::new([("0001-01".parse().unwrap(), zone.to_owned())], subscriptions, trial_ends_at).unwrap()
    }

    #[test]
    fn a_day_belongs_to_the_last_subscription_in_force_on_it() {
        let subscriptions = vec![
            subscribed("a", "2026-11-01T00:00:00Z", Some("2026-11-17T09:00:00Z")),
            subscribed("b", "2026-11-17T09:00:00Z", Some("2026-11-17T10:00:00Z")),
            subscribed("c", "2026-11-17T10:00:00Z", Some("2026-11-30T12:00:00Z")),
        ];
        // a has 1 to 16, c 17 to 30: its last day has no successor. b has no day.
        assert_eq!(days(&calendar("UTC", subscriptions, None), "2026-11"), [("a".into(), 16, 30), ("c".into(), 14, 30)]);
    }

    #[test]
    fn days_of_a_trial_belong_to_nobody() {
        let start = at("2026-02-10T12:00:00Z");
        let end = Calendar::trial_end(&TimeZone::UTC, start, 14).unwrap();
        assert_eq!(end, at("2026-02-24T00:00:00Z"));
        let calendar = calendar("UTC", vec![subscribed("a", "2026-02-10T12:00:00Z", None)], Some(end));
        assert_eq!(days(&calendar, "2026-02"), [("a".into(), 5, 28)]);
        assert_eq!(days(&calendar, "2026-03"), [("a".into(), 31, 31)]);
    }

    #[test]
    fn a_zone_that_changes_leaves_no_instant_out_and_counts_none_twice() {
        let zones = [("0001-01", "UTC"), ("2026-12", "Asia/Kathmandu")].map(|(p, z)| (p.parse().unwrap(), z.to_owned()));
        let calendar = Calendar::new(zones, vec![], None).unwrap();
        let november = calendar.month("2026-11".parse().unwrap()).unwrap();
        let december = calendar.month("2026-12".parse().unwrap()).unwrap();
        assert_eq!((november.from, november.to), (at("2026-11-01T00:00:00Z"), at("2026-11-30T18:15:00Z")));
        assert_eq!(december.from, november.to);
        assert_eq!(calendar.month_of(at("2026-11-30T18:14:59Z")).unwrap().period.to_string(), "2026-11");
        assert_eq!(calendar.month_of(at("2026-11-30T18:15:00Z")).unwrap().period.to_string(), "2026-12");
    }
}
