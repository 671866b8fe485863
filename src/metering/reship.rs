//! After the database was restored from a backup: what the ledger has forgotten and this disk has let go of is shipped again from
//! the archive, so that shipping can go on from what is here.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;

use super::archive::Archive;
use super::archive_store;
use super::journal::{Header, header_of};
use super::keeper;
use super::shipping::Shipping;
use crate::clock::Clock;
use crate::db::Db;
use crate::ids::ReplicaId;
use crate::segment::{self, Folder, Image};
use crate::telemetry::Metrics;

/// Ships what the ledger lacks of the journal before the first segment in `folder`, and puts such segments on the ledger's list
/// again. Nothing is read from the archive where nothing is missing. For a start, before the journal's own shipper.
pub async fn from_archive(
    folder: &Path,
    replica: &ReplicaId,
    epoch: i64,
    db: &Db,
    archive: &Archive,
    clock: &Clock,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let (db, clock, replica) = (db.clone(), clock.clone(), replica.clone());
    let shipping = Shipping { db, replica, epoch, is_running: true, clock, metrics };
    with(&shipping, archive, &folder.into()).await
}

pub(super) async fn with(shipping: &Shipping, archive: &Archive, folder: &Folder) -> anyhow::Result<()> {
    let Some(&here) = segment::list(folder)?.first() else { return Ok(()) };
    let replica = &shipping.replica;
    let mut shipped = shipping.watermarks().await?;
    let rows = archive_store::of_replica(&mut *shipping.db.read().await?, replica).await?;
    let is_listed = |number: u64| rows.binary_search_by_key(&number, |row| row.segment).is_ok();
    // Back to where the ledger has both the records and the list.
    let mut first = here;
    let mut before = header_of(folder, here)?.before;
    let is_counted = |before: Option<(i64, u64)>| {
        before.is_none_or(|(epoch, sequence)| shipped.get(&epoch).is_some_and(|&last| last >= sequence))
    };
    while first > 1 && !(is_counted(before) && is_listed(first - 1)) {
        first -= 1;
        before = header(&fetch(archive, replica, first).await?)?.before;
    }
    if first == here {
        return Ok(());
    }
    tracing::warn!(
        segments = here - first,
        "the ledger lacks a part of this journal, as after a backup was restored; shipping it again from the archive"
    );
    for number in first..here {
        let segment = fetch(archive, replica, number).await?;
        let row = keeper::describe(replica, number, &segment, shipping.clock.now())
            .with_context(|| format!("segment {number} in the archive {}", archive.place()))?;
        shipped = shipping.drain_archived(shipped, segment).await?;
        let mut transaction = shipping.db.begin().await?;
        archive_store::insert(&mut transaction, &row).await?;
        transaction.commit().await?;
    }
    Ok(())
}

fn header(segment: &Bytes) -> anyhow::Result<Header> {
    let image = Image::new(segment.clone())?;
    serde_json::from_slice(image.header()).context("an archived segment has an unknown header")
}

async fn fetch(archive: &Archive, replica: &ReplicaId, number: u64) -> anyhow::Result<Bytes> {
    let found = archive.get(replica, number).await?;
    let found = found.with_context(|| {
        format!(
            "the ledger lacks the usage in segment {number} of the journal of {replica}, and it is neither on this disk nor in the \
             archive {}: bring the archive back, or start with a new data_dir and do without that usage",
            archive.place()
        )
    })?;
    let of = header(&found)?.replica;
    ensure!(of == *replica, "segment {number} of {replica} in the archive {} is of replica {of}", archive.place());
    Ok(found)
}
