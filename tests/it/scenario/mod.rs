//! Dated stories, told with the binary from a partner's first day to its invoices. The arithmetic stands beside each
//! expectation, by docs/billing.md.

mod corrections;
mod currencies;
mod months;
mod refusals;
mod story;
mod terms;
mod upgrade;

use story::Story;
