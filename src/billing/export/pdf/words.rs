//! Numbers and days as people read them. What cannot be read is shown as it is.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

fn month_name(date: Date) -> &'static str {
    MONTHS.get(usize::from(date.month().unsigned_abs()).wrapping_sub(1)).copied().unwrap_or("")
}

/// `2026-11` as `November 2026`.
pub(super) fn month(text: &str) -> String {
    match format!("{text}-01").parse::<Date>() {
        Ok(date) => format!("{} {}", month_name(date), date.year()),
        Err(_) => text.to_owned(),
    }
}

/// The day that a date or an instant begins with: `2026-12-03T09:00:00Z` as `3 December 2026`.
pub(super) fn day(text: &str) -> String {
    match text.get(..10).and_then(|day| day.parse::<Date>().ok()) {
        Some(date) => format!("{} {} {}", date.day(), month_name(date), date.year()),
        None => text.to_owned(),
    }
}

/// The day that an instant falls on in a time zone; in UTC where the zone is not known.
pub(super) fn day_in(text: &str, zone: &str) -> String {
    match (text.parse::<Timestamp>(), TimeZone::get(zone)) {
        (Ok(at), Ok(zone)) => day(&at.to_zoned(zone).date().to_string()),
        _ => day(text),
    }
}

/// An instant: `2026-12-03T09:00:00Z` as `3 December 2026, 09:00 UTC`.
pub(super) fn instant(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => {
            let at = at.to_zoned(TimeZone::UTC).datetime();
            format!("{} {} {}, {:02}:{:02} UTC", at.day(), month_name(at.date()), at.year(), at.hour(), at.minute())
        }
        Err(_) => text.to_owned(),
    }
}

/// `-1234567.5` as `-1,234,567.5`.
pub(super) fn number(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, fraction)| (whole, Some(fraction)));
    if whole.is_empty() || !whole.bytes().chain(fraction.unwrap_or("0").bytes()).all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut out = sign.to_owned();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// The same with `places` decimals, and more where they say something: `0.00200` as `0.002`, `12.5` as `12.50`.
pub(super) fn exact(text: &str, places: usize) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let fraction = fraction.trim_end_matches('0');
    let point = if places.max(fraction.len()) == 0 { "" } else { "." };
    number(&format!("{whole}{point}{fraction:0<places$}"))
}

/// `1 day`, `2 days`; `1,000 units`.
pub(super) fn count(many: u64, one: &str) -> String {
    format!("{} {one}{}", number(&many.to_string()), if many == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (text, read) in [
            ("0.00", "0.00"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.5", "-1,234,567.5"),
            ("123456.789", "123,456.789"),
            ("", ""),
            ("-", "-"),
            ("1e5", "1e5"),
            ("12.x", "12.x"),
            (".5", ".5"),
        ] {
            assert_eq!(number(text), read);
        }
        for (text, places, read) in [
            ("0.00200", 2, "0.002"),
            ("1200.5", 2, "1,200.50"),
            ("100", 2, "100.00"),
            ("100", 0, "100"),
            ("-100.000", 0, "-100"),
            ("a.00", 2, "a.00"),
            ("1.x", 2, "1.x"),
        ] {
            assert_eq!(exact(text, places), read);
        }
        assert_eq!((count(1, "day"), count(1000, "unit")), ("1 day".to_owned(), "1,000 units".to_owned()));
    }

    #[test]
    fn days_are_written_out_and_what_is_none_is_left() {
        assert_eq!(day("2026-12-03T09:00:00.000Z"), "3 December 2026");
        assert_eq!(day("2026-12-31"), "31 December 2026");
        assert_eq!(day("soon"), "soon");
        assert_eq!(day("ééééééééééé"), "ééééééééééé");
        assert_eq!(day_in("2026-12-02T23:30:00.000Z", "Europe/Berlin"), "3 December 2026");
        assert_eq!(day_in("2026-12-02T23:30:00.000Z", "Nowhere"), "2 December 2026");
        assert_eq!(instant("2026-10-31T23:00:00Z"), "31 October 2026, 23:00 UTC");
        assert_eq!(instant("2026-10-31"), "2026-10-31");
        assert_eq!(month("2026-02"), "February 2026");
        assert_eq!(month("2026-13"), "2026-13");
    }
}
