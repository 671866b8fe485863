//! Numbers and days as people read them. What cannot be read is shown as it is.

use jiff::civil::Date;

const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
];

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

/// The same, without zeros at the end that say nothing: `0.00200` as `0.002`.
pub(super) fn exact(text: &str) -> String {
    let short = match text.split_once('.') {
        Some((_, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.trim_end_matches('0').trim_end_matches('.')
        }
        _ => text,
    };
    number(short)
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
        assert_eq!(exact("0.00200"), "0.002");
        assert_eq!(exact("1200.00"), "1,200");
        assert_eq!(exact("100"), "100");
        assert_eq!(exact("a.00"), "a.00");
        assert_eq!((count(1, "day"), count(1000, "unit")), ("1 day".to_owned(), "1,000 units".to_owned()));
    }

    #[test]
    fn days_are_written_out_and_what_is_none_is_left() {
        assert_eq!(day("2026-12-03T09:00:00.000Z"), "3 December 2026");
        assert_eq!(day("2026-12-31"), "31 December 2026");
        assert_eq!(day("soon"), "soon");
        assert_eq!(day("ééééééééééé"), "ééééééééééé");
        assert_eq!(month("2026-02"), "February 2026");
        assert_eq!(month("2026-13"), "2026-13");
    }
}
