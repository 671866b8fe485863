//! Money: exact, in a currency's minor units, never a float.
//!
//! The one rounding rule of the house: an exact amount becomes money once per invoice line, half away from zero at the
//! currency's minor unit (ISO 4217: 0 places for JPY, 2 for EUR, 3 for KWD).

use std::fmt;

use iso_currency::Currency as Iso;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A currency of ISO 4217 with a minor unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(Iso);

impl Currency {
    /// The currency of a code such as `EUR`; none for an unknown code and for those without a minor unit (`XAU`).
    pub fn from_code(code: &str) -> Option<Self> {
        Iso::from_code(code).filter(|iso| iso.exponent().is_some()).map(Self)
    }

    /// The three letters.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Decimal places of the minor unit.
    pub fn exponent(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| {
            serde::de::Error::custom(format!("\"{code}\" is no currency of ISO 4217: give a code such as \"EUR\""))
        })
    }
}

/// An amount of money in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// Cents, yen, fils.
    pub minor: i64,
    /// Whose minor units.
    pub currency: Currency,
}

impl Money {
    /// Nothing, in `currency`.
    pub fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// The amount of a decimal that has no more places than the currency. None when it has more, or is out of range.
    pub fn of(decimal: Decimal, currency: Currency) -> Option<Self> {
        let exact = Exact::of(decimal)?;
        let money = exact.round(currency)?;
        (Exact::of(money.decimal())? == exact).then_some(money)
    }

    /// The same amount as a decimal.
    pub fn decimal(self) -> Decimal {
        Decimal::new(self.minor, self.currency.exponent())
    }

    /// `part` of `of` equal parts of it, rounded. None when it is out of range or `of` is zero.
    pub fn share(self, part: u32, of: u32) -> Option<Self> {
        self.scaled(i128::from(part), i128::from(of))
    }

    /// So many percent of it, rounded; `percent` has at most [`PLACES`] decimal places. None when it is out of range.
    pub fn percent(self, percent: Decimal) -> Option<Self> {
        self.scaled(Exact::of(percent)?.0, 100 * ONE)
    }

    fn scaled(self, by: i128, per: i128) -> Option<Self> {
        let minor = round_half_away(i128::from(self.minor).checked_mul(by)?, per)?;
        Some(Self { minor: i64::try_from(minor).ok()?, ..self })
    }

    /// The difference. None when it is out of range or the currencies differ.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(other.checked_neg()?)
    }

    /// The same with the other sign. None when it is out of range.
    pub fn checked_neg(self) -> Option<Self> {
        Some(Self { minor: self.minor.checked_neg()?, ..self })
    }

    /// The sum. None when it is out of range or the currencies differ.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        (self.currency == other.currency)
            .then(|| self.minor.checked_add(other.minor))
            .flatten()
            .map(|minor| Self { minor, ..self })
    }
}

impl fmt::Display for Money {
    /// The amount alone, with all its decimal places: `12.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.decimal().to_string())
    }
}

/// Decimal places of [`Exact`]: more than any price has.
pub const PLACES: u32 = 12;
const ONE: i128 = 10_i128.pow(PLACES);

/// An amount before it is rounded, in major units. Sums and whole multiples of it are exact; what does not fit is none, never
/// a wrong number (a decimal type of 28 digits would round in silence).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exact(i128);

impl Exact {
    /// Of a decimal; none when it has more than [`PLACES`] places.
    pub fn of(decimal: Decimal) -> Option<Self> {
        let decimal = decimal.normalize();
        let missing = PLACES.checked_sub(decimal.scale())?;
        decimal.mantissa().checked_mul(10_i128.pow(missing)).map(Self)
    }

    /// So many times it.
    pub fn times(self, count: u64) -> Option<Self> {
        self.0.checked_mul(i128::from(count)).map(Self)
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference.
    pub fn less(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The one place where an exact amount becomes money. None when it is out of range.
    pub fn round(self, currency: Currency) -> Option<Money> {
        let minor = round_half_away(self.0, 10_i128.pow(PLACES - currency.exponent()))?;
        Some(Money { minor: i64::try_from(minor).ok()?, currency })
    }
}

impl fmt::Display for Exact {
    /// With as many decimal places as it needs: `0.2331`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, places) = (self.0.unsigned_abs() / ONE.unsigned_abs(), self.0.unsigned_abs() % ONE.unsigned_abs());
        let places = format!("{places:012}");
        let places = places.trim_end_matches('0');
        let point = if places.is_empty() { "" } else { "." };
        f.pad(&format!("{sign}{whole}{point}{places}"))
    }
}

/// Division with ties away from zero; `per` is above zero. None when it is not, or out of range.
fn round_half_away(value: i128, per: i128) -> Option<i128> {
    if per <= 0 {
        return None;
    }
    let (whole, rest) = (value / per, value % per);
    // Twice the rest may not fit; the distance to the next whole does.
    let up = rest.unsigned_abs() >= per.unsigned_abs() - rest.unsigned_abs();
    if up { whole.checked_add(value.signum()) } else { Some(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(exact: &str, code: &str) -> String {
        Exact::of(exact.parse().unwrap()).unwrap().round(Currency::from_code(code).unwrap()).unwrap().to_string()
    }

    #[test]
    fn half_goes_away_from_zero_at_the_minor_unit() {
        assert_eq!(rounded("0.005", "EUR"), "0.01");
        assert_eq!(rounded("0.0049999", "EUR"), "0.00");
        assert_eq!(rounded("-0.005", "EUR"), "-0.01");
        assert_eq!(rounded("2.5", "JPY"), "3");
        assert_eq!(rounded("1.0005", "KWD"), "1.001");
        assert_eq!(rounded("7", "EUR"), "7.00");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_wrapped() {
        let eur = Currency::from_code("EUR").unwrap();
        assert_eq!(Exact::of(Decimal::MAX), None);
        assert_eq!(Exact::of("1000000".parse().unwrap()).unwrap().times(u64::MAX).unwrap().round(eur), None);
        assert_eq!(Exact(i128::MAX).plus(Exact(1)), None);
        assert_eq!(Money { minor: i64::MAX, currency: eur }.checked_add(Money { minor: 1, currency: eur }), None);
        let jpy = Currency::from_code("JPY").unwrap();
        assert_eq!(Money::zero(eur).checked_add(Money::zero(jpy)), None);
    }

    #[test]
    fn shares_and_percentages_are_rounded_once() {
        let eur = Currency::from_code("EUR").unwrap();
        let money = |minor| Money { minor, currency: eur };
        // 49.00 × 14 / 30 = 22.8666…
        assert_eq!(money(4900).share(14, 30), Some(money(2287)));
        assert_eq!(money(-1).share(1, 2), Some(money(-1)));
        assert_eq!(money(1).share(1, 0), None);
        // 12.50 × 7.7 % = 0.9625
        assert_eq!(money(1250).percent("7.7".parse().unwrap()), Some(money(96)));
        assert_eq!(Money::of("12.5".parse().unwrap(), eur), Some(money(1250)));
        assert_eq!(Money::of("12.505".parse().unwrap(), eur), None);
    }

    #[test]
    fn exact_amounts_print_as_they_are() {
        for text in ["0", "0.2331", "-12.000000000001", "1000000"] {
            assert_eq!(Exact::of(text.parse().unwrap()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn unknown_codes_are_no_currency() {
        assert!(Currency::from_code("EURO").is_none());
        assert!(Currency::from_code("eur").is_none());
        assert!(Currency::from_code("XAU").is_none());
    }
}
