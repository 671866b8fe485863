//! Money: exact, in a currency's minor units, never a float.
//!
//! The one rounding rule of the house: an exact decimal becomes money once per invoice line, half away from zero at the
//! currency's minor unit (ISO 4217: 0 places for JPY, 2 for EUR, 3 for KWD).

use std::fmt;

use iso_currency::Currency as Iso;
use rust_decimal::{Decimal, RoundingStrategy};
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

    /// The one place where an exact decimal becomes money. None when it is out of range.
    pub fn round(exact: Decimal, currency: Currency) -> Option<Self> {
        let exponent = currency.exponent();
        let rounded = exact.round_dp_with_strategy(exponent, RoundingStrategy::MidpointAwayFromZero);
        let scaled = rounded.checked_mul(Decimal::from(10_i64.pow(exponent)))?;
        Some(Self { minor: i64::try_from(scaled).ok()?, currency })
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
        f.pad(&Decimal::new(self.minor, self.currency.exponent()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(exact: &str, code: &str) -> String {
        Money::round(exact.parse().unwrap(), Currency::from_code(code).unwrap()).unwrap().to_string()
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
        assert_eq!(Money::round(Decimal::MAX, eur), None);
        assert_eq!(Money { minor: i64::MAX, currency: eur }.checked_add(Money { minor: 1, currency: eur }), None);
        let jpy = Currency::from_code("JPY").unwrap();
        assert_eq!(Money::zero(eur).checked_add(Money::zero(jpy)), None);
    }

    #[test]
    fn unknown_codes_are_no_currency() {
        assert!(Currency::from_code("EURO").is_none());
        assert!(Currency::from_code("eur").is_none());
        assert!(Currency::from_code("XAU").is_none());
    }
}
