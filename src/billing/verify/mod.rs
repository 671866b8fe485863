//! Verification: whether what was billed is what was used. For a partner, from its bundle and its invoice alone; for the
//! operator, from the archive and the database.

pub mod arithmetic;
pub mod bundle;

mod units;
