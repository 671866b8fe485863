//! Hours, days, weeks and months of UTC, by number: what cells are of.

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// Hours since 1970.
pub type Hour = i32;

const HOUR_MICROS: i64 = 3_600_000_000;
/// 1970 began on a Thursday.
const DAYS_TO_MONDAY: i32 = 3;

/// How long a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week of ISO 8601, from Monday on.
    Week,
    /// A calendar month.
    Month,
}

/// An hour, day, week or month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// How long it is.
    pub by: Granularity,
    /// Which one, counted from 1970.
    pub number: i32,
}

/// The hour of an instant.
pub fn hour_of(time: Micros) -> Hour {
    i32::try_from(time.0.div_euclid(HOUR_MICROS)).unwrap_or(if time.0 < 0 { i32::MIN / 2 } else { i32::MAX / 2 })
}

/// Its first instant.
pub fn begin_of(hour: Hour) -> Micros {
    Micros(i64::from(hour) * HOUR_MICROS)
}

impl Granularity {
    /// All, the shortest first.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];

    /// As answers and dumps name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The one that `hour` lies in.
    pub fn of(self, hour: Hour) -> Bucket {
        let day = hour.div_euclid(24);
        let number = match self {
            Self::Hour => hour,
            Self::Day => day,
            Self::Week => (day + DAYS_TO_MONDAY).div_euclid(7),
            Self::Month => month_of(civil(day)),
        };
        Bucket { by: self, number }
    }
}

impl Bucket {
    /// Its first hour.
    pub fn begin(self) -> Hour {
        match self.by {
            Granularity::Hour => self.number,
            Granularity::Day => self.number * 24,
            Granularity::Week => (self.number * 7 - DAYS_TO_MONDAY) * 24,
            Granularity::Month => days_of(first_of(self.number)) * 24,
        }
    }

    /// The first hour past it.
    pub fn end(self) -> Hour {
        self.next().begin()
    }

    /// The one behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }
}

/// Months since year 0.
fn month_of(date: Date) -> i32 {
    i32::from(date.year()) * 12 + i32::from(date.month()) - 1
}

fn first_of(month: i32) -> Date {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    i16::try_from(year).ok().and_then(|year| Date::new(year, month as i8, 1).ok()).unwrap_or(Date::MAX)
}

fn civil(day: i32) -> Date {
    date(1970, 1, 1).checked_add(jiff::Span::new().days(day.clamp(-700_000, 2_900_000))).unwrap_or(Date::MAX)
}

fn days_of(date: Date) -> i32 {
    date.since(Date::constant(1970, 1, 1)).map_or(0, |span| span.get_days())
}

/// What retention counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// Calendar days.
    Day,
    /// Weeks of ISO 8601.
    Week,
    /// Calendar months.
    Month,
}

impl Period {
    /// The number of the one that `time` lies in, in `zone`.
    pub fn of(self, time: Micros, zone: &TimeZone) -> i32 {
        let timestamp = Timestamp::from_microsecond(time.0).unwrap_or(Timestamp::MAX);
        let date = zone.to_datetime(timestamp).date();
        match self {
            Self::Day => days_of(date),
            Self::Week => (days_of(date) + DAYS_TO_MONDAY).div_euclid(7),
            Self::Month => month_of(date),
        }
    }

    /// Its first date.
    pub fn first_date(self, number: i32) -> Date {
        match self {
            Self::Day => civil(number),
            Self::Week => civil(number * 7 - DAYS_TO_MONDAY),
            Self::Month => first_of(number),
        }
    }

    /// Its first instant in `zone`.
    pub fn begin(self, number: i32, zone: &TimeZone) -> Micros {
        let begin = zone.to_ambiguous_zoned(self.first_date(number).at(0, 0, 0, 0)).compatible();
        begin.map_or(Micros(i64::MAX), |begin| begin.timestamp().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_and_end_where_calendars_say() {
        for (text, by, begin, end) in [
            ("2026-03-01T00:00:00Z", Granularity::Month, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
            ("2026-02-28T23:59:59Z", Granularity::Month, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("2026-03-01T23:59:59Z", Granularity::Week, "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
            ("2026-03-02T00:00:00Z", Granularity::Week, "2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"),
            ("1969-12-31T23:10:00Z", Granularity::Week, "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"),
            ("1969-12-31T23:10:00Z", Granularity::Day, "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2026-03-02T10:59:59.999Z", Granularity::Hour, "2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"),
        ] {
            let at = |text: &str| Micros::from(text.parse::<Timestamp>().unwrap());
            let bucket = by.of(hour_of(at(text)));
            assert_eq!((begin_of(bucket.begin()), begin_of(bucket.end())), (at(begin), at(end)), "{text} {by:?}");
        }
    }

    #[test]
    fn periods_are_those_of_their_time_zone() {
        let at = |text: &str| Micros::from(text.parse::<Timestamp>().unwrap());
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let of = |period: Period, text: &str| period.first_date(period.of(at(text), &berlin)).to_string();
        assert_eq!(of(Period::Day, "2026-03-31T22:30:00Z"), "2026-04-01");
        assert_eq!(of(Period::Month, "2026-03-31T21:59:00Z"), "2026-03-01");
        assert_eq!(of(Period::Week, "2026-03-29T22:00:00Z"), "2026-03-30");
        // The clocks go forward on 29 March: the day has 23 hours.
        let day = Period::Day.of(at("2026-03-29T12:00:00Z"), &berlin);
        assert_eq!(Period::Day.begin(day + 1, &berlin).since(Period::Day.begin(day, &berlin)).as_secs(), 23 * 3600);
    }
}
