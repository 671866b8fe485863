//! Verification: whether what was billed is what was used. For a partner, from its bundle and its invoice alone; for the
//! operator, from the archive and the database.

pub mod arithmetic;
pub mod basis;
pub mod bundle;

mod books;
mod invoices;
mod numbers;
mod operator;
mod store;
mod units;

pub use operator::verify;
