//! Months and days as docs/billing.md has them, found one midnight after the other: nothing is computed that can be looked at.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Month {
    pub(crate) year: i16,
    pub(crate) month: i8,
}

impl Month {
    pub(crate) fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }

    pub(crate) fn previous(self) -> Self {
        if self.month == 1 { Self { year: self.year - 1, month: 12 } } else { Self { month: self.month - 1, ..self } }
    }

    pub(crate) fn first(self) -> Date {
        Date::new(self.year, self.month, 1).unwrap()
    }

    /// Its days, one after the other.
    pub(crate) fn days(self) -> Vec<Date> {
        let mut days = vec![self.first()];
        loop {
            let day = days.last().unwrap().tomorrow().unwrap();
            if day.month() != self.month {
                return days;
            }
            days.push(day);
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// The first instant of a day, in microseconds.
pub(crate) fn midnight(date: Date, zone: &TimeZone) -> i64 {
    date.to_zoned(zone.clone()).unwrap().timestamp().as_microsecond()
}

/// From which month on a partner's months are those of which zone; the first is from ever.
#[derive(Clone, Debug)]
pub(crate) struct Zones(pub(crate) Vec<(Month, &'static str)>);

impl Zones {
    /// The zone that is in force for a month.
    pub(crate) fn of(&self, month: Month) -> TimeZone {
        let place = self.0.iter().rposition(|(first, _)| *first <= month).unwrap_or(0);
        TimeZone::get(self.0[place].1).unwrap()
    }

    pub(crate) fn begins(&self, month: Month) -> i64 {
        midnight(month.first(), &self.of(month))
    }
}

/// A month with its edges and its days' edges, in microseconds; ends are the first instants past.
#[derive(Clone, Debug)]
pub(crate) struct Laid {
    pub(crate) month: Month,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) days: Vec<(i64, i64)>,
}

/// Lays a month out. It ends where the next one begins, which may be in another zone: then its last day is longer, or days at
/// its end are cut.
pub(crate) fn lay(month: Month, zones: &Zones) -> Laid {
    let (from, to, zone) = (zones.begins(month), zones.begins(month.next()), zones.of(month));
    let dates = month.days();
    let edge = |place: usize| dates.get(place).map_or(to, |date| midnight(*date, &zone).min(to));
    let days = (0..dates.len()).map(|place| (edge(place), edge(place + 1))).collect();
    Laid { month, from, to, days }
}
