//! Rating against an oracle: docs/billing.md read a second time, slowly and in exact arithmetic, by somebody who had not seen
//! the code.

mod calendar;
mod case;
mod credits;
mod edges;
mod generate;
mod hand;
mod oracle;
mod property;
mod said;
mod through_database;
