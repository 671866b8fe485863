//! Scalars that JSON's numbers and strings do not say: exact decimals, 64-bit counts, instants.

use std::str::FromStr;

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

use crate::clock::Micros;

/// An exact decimal number as a string, such as "12.50".
pub(super) struct Decimal(pub(super) rust_decimal::Decimal);

/// An exact decimal number as a string, such as "12.50".
#[Scalar(name = "Decimal")]
impl ScalarType for Decimal {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(rust_decimal::Decimal::from_str(text)?)),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A 64-bit integer as a string, such as "42".
pub(super) struct BigInt(pub(super) i64);

/// A 64-bit integer as a string, such as "42".
#[Scalar(name = "BigInt")]
impl ScalarType for BigInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(text.parse()?)),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An instant as RFC 3339 has it, in UTC with milliseconds, such as "2026-11-22T17:48:00.000Z".
pub(super) struct DateTime(pub(super) Micros);

/// An instant as RFC 3339 has it, in UTC with milliseconds, such as "2026-11-22T17:48:00.000Z".
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(text.parse::<jiff::Timestamp>()?.into())),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// Any JSON value.
pub(super) struct Json(pub(super) Value);

/// Any JSON value.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}
