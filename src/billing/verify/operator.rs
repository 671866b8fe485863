//! The operator's verification: from the archive and the database, ledger and invoices made again, and where they part.

use jiff::tz::TimeZone;

use super::{books, invoices, numbers};
use crate::billing::Period;
use crate::clock::Micros;
use crate::db::Db;
use crate::metering::Archive;
use crate::metering::recount::{Local, Report, Sources, recount};

/// A month begins and ends within this of UTC's, wherever the partner is; a new zone may add to it.
const ZONE_MICROS_MAX: i64 = 26 * 3_600_000_000;

/// Verifies everything, or what belongs to one month: that month's cells and segments, in any zone, and its invoices; the books and the
/// numbers are always looked at whole. `local`: this data folder's journal, for what is not archived yet. One instant of the database is
/// looked at.
pub async fn verify(db: &Db, archive: &Archive, local: Option<&Local>, period: Option<Period>) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut connection = db.snapshot().await?;
    let window = period.map(window).transpose()?;
    recount(&mut connection, &Sources { archive, local }, window, &mut report).await?;
    books::check(&mut connection, &mut report).await?;
    invoices::check(&mut connection, archive, period, &mut report).await?;
    numbers::check(&mut connection, &mut report).await?;
    Ok(report)
}

fn window(period: Period) -> anyhow::Result<(Micros, Micros)> {
    let (from, to) = (period.begins(&TimeZone::UTC)?, period.next()?.begins(&TimeZone::UTC)?);
    Ok((Micros(from.0 - ZONE_MICROS_MAX), Micros(to.0 + ZONE_MICROS_MAX)))
}
