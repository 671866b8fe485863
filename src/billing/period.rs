//! Billing periods: calendar months in the partner's time zone.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock::Micros;

/// A calendar month, written `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    first: Date,
}

impl Period {
    /// The month that `at` lies in, in `zone`.
    pub fn containing(at: Micros, zone: &TimeZone) -> Self {
        Self { first: at.timestamp().to_zoned(zone.clone()).date().first_of_month() }
    }

    /// Its first instant in `zone`.
    pub fn begins(self, zone: &TimeZone) -> anyhow::Result<Micros> {
        Ok(self.first.to_zoned(zone.clone())?.timestamp().into())
    }

    /// The month behind it; an error behind the last that there is.
    pub fn next(self) -> anyhow::Result<Self> {
        Ok(Self { first: self.first.checked_add(jiff::Span::new().months(1))? })
    }

    /// The month before it; an error before the first that there is.
    pub fn previous(self) -> anyhow::Result<Self> {
        Ok(Self { first: self.first.checked_sub(jiff::Span::new().months(1))? })
    }

    /// Its first day.
    pub fn first_day(self) -> Date {
        self.first
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no period: write year and month, such as 2026-11");
        let (year, month) = text.split_once('-').ok_or_else(wrong)?;
        if year.len() != 4 || month.len() != 2 || !(year.to_owned() + month).bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        // The last month that has an end is one before the last that there is.
        let year = year.parse().ok().filter(|year| (1..9999).contains(year)).ok_or_else(wrong)?;
        let month = month.parse().map_err(|_| wrong())?;
        Ok(Self { first: Date::new(year, month, 1).map_err(|_| wrong())? })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04}-{:02}", self.first.year(), self.first.month()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_at_the_partners_midnight() {
        let period: Period = "2026-03".parse().unwrap();
        let zone = TimeZone::get("Asia/Kathmandu").unwrap();
        let (start, end) = (period.begins(&zone).unwrap(), period.next().unwrap().begins(&zone).unwrap());
        assert_eq!(start.to_string(), "2026-02-28T18:15:00.000Z");
        assert_eq!(end.to_string(), "2026-03-31T18:15:00.000Z");
        assert_eq!(Period::containing(start, &zone), period);
        assert_eq!(Period::containing(Micros(end.0 - 1), &zone), period);
        assert_eq!(Period::containing(end, &zone).to_string(), "2026-04");
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for text in ["2026", "2026-13", "2026-1", "26-01", "2026-00", "+026-01", "2026-11-01", "x"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
