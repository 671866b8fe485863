//! Dated stories, told with the binary from a partner's first day to its invoices. The arithmetic stands beside each
//! expectation, by docs/billing.md.

#![expect(clippy::inconsistent_digit_grouping, reason = "minor units read as euros and cents: 133_33")]

mod corrections;
mod currencies;
mod months;
mod refusals;
mod story;
mod terms;
mod unchanged;
mod upgrade;

pub(crate) use story::Story;
