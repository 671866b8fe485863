//! What the archive need not keep any more.

use jiff::Span;
use jiff::tz::TimeZone;

use super::archive::Archive;
use super::archive_store;
use crate::clock::{Clock, Micros};
use crate::db::Db;
use crate::ids::ReplicaId;

/// The instant before which usage is old enough to go: `kept` before now, in calendar months UTC.
fn cutoff(now: Micros, kept: Span) -> anyhow::Result<Micros> {
    Ok(now.timestamp().to_zoned(TimeZone::UTC).checked_sub(kept)?.timestamp().into())
}

/// Removes the objects of segments whose records are all older than `kept`; the ledger's list says when. Returns how many.
///
/// A clock that was set wrong must not destroy evidence: the database's time now and the time that this process carries forward
/// must both be past it. Replicas share an object store, so whoever comes first removes; in a folder each finds its own.
pub async fn remove_old(archive: &Archive, db: &Db, clock: &Clock, replica: &ReplicaId, kept: Span) -> anyhow::Result<u64> {
    let now = db.now().await?.min(clock.now());
    let old = archive_store::older_than(&mut *db.read().await?, cutoff(now, kept)?).await?;
    let mut removed = 0;
    for row in old.iter().filter(|row| archive.is_shared() || row.replica == *replica) {
        // The object first: done again after a crash it finds nothing to remove, and says so in the list.
        archive.remove(&row.replica, row.segment).await?;
        let mut transaction = db.begin().await?;
        archive_store::mark_removed(&mut transaction, &row.replica, row.segment, now).await?;
        transaction.commit().await?;
        removed += 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_the_calendars() {
        let at = |text: &str| Micros::from(text.parse::<jiff::Timestamp>().unwrap());
        let months = |n: i32| Span::new().months(n);
        assert_eq!(cutoff(at("2026-11-30T12:00:00Z"), months(25)).unwrap(), at("2024-10-30T12:00:00Z"));
        // February has no 31st.
        assert_eq!(cutoff(at("2026-03-31T00:00:00Z"), months(25)).unwrap(), at("2024-02-29T00:00:00Z"));
    }
}
