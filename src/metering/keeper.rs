//! One sealed segment into the archive and into the ledger's list of it; and which segments need not stay on this disk.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::archive_store::{self, ArchivedSegment};
use super::journal::{Header, hex, split_frame};
use super::store;
use crate::clock::Micros;
use crate::db::{Db, within};
use crate::ids::ReplicaId;
use crate::segment::{self, Folder, Image};

const LEDGER_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps the segments of one journal.
pub(super) struct Keeper<'a> {
    pub(super) archive: &'a Archive,
    pub(super) db: &'a Db,
    pub(super) replica: &'a ReplicaId,
    /// Where the segments are.
    pub(super) folder: &'a Folder,
}

impl Keeper<'_> {
    /// Archives a segment that is sealed and in the ledger. The object first, then the row: a row is never without its object.
    /// Done again after a crash it finds the same, or fails.
    pub(super) async fn keep(&self, number: u64, now: Micros) -> anyhow::Result<()> {
        let (folder, replica) = (self.folder.clone(), self.replica.clone());
        let read = tokio::task::spawn_blocking(move || {
            let bytes = Bytes::from(segment::read(&folder, number)?);
            let row = describe(&replica, number, &bytes, now);
            row.map(|row| (bytes, row)).with_context(|| format!("segment {number} in {}", folder.display()))
        });
        let (bytes, row) = read.await??;
        let there =
            within(LEDGER_TIMEOUT, async { archive_store::find(&mut *self.db.read().await?, self.replica, number).await });
        // What retention took away stays away.
        if there.await?.is_none_or(|there| there.removed_at.is_none()) {
            self.archive.put(self.replica, number, bytes).await?;
        }
        within(LEDGER_TIMEOUT, async {
            let mut transaction = self.db.begin().await?;
            archive_store::insert(&mut transaction, &row).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// The first segment from `first` on and below `until` that must stay: the ledger does not say, now, that it has all records
    /// of it and that it is archived.
    pub(super) async fn removable(&self, first: u64, until: u64) -> anyhow::Result<u64> {
        within(LEDGER_TIMEOUT, async {
            let mut snapshot = self.db.snapshot().await?;
            let shipped = store::watermarks(&mut snapshot, self.replica).await?;
            let rows = archive_store::of_replica_from(&mut snapshot, self.replica, first).await?;
            let mut stays = first;
            for row in rows.iter().filter(|row| row.segment < until) {
                let next = row.first_sequence + row.records;
                let counted = row.records == 0 || shipped.get(&row.epoch).is_some_and(|&last| last + 1 >= next);
                if row.segment != stays || !counted {
                    break;
                }
                stays += 1;
            }
            Ok(stays)
        })
        .await
    }
}

/// What the ledger's list says of a segment. Reads all of it: what is not whole is not archived.
fn describe(replica: &ReplicaId, number: u64, bytes: &Bytes, now: Micros) -> anyhow::Result<ArchivedSegment> {
    #[derive(Deserialize)]
    struct Admitted {
        at: Micros,
    }
    let image = Image::new(bytes.clone())?;
    let header: Header = serde_json::from_slice(image.header()).context("it has an unknown header")?;
    ensure!(header.replica == *replica, "it is of replica {}, not of {replica}", header.replica);
    let mut next = header.first;
    let mut admitted: Option<(Micros, Micros)> = None;
    for frame in image {
        let frame = frame?;
        let (sequence, json) = split_frame(&frame.body)?;
        ensure!(sequence == next, "record {next} is missing: record {sequence} stands at byte {}", frame.byte);
        let Admitted { at } = serde_json::from_slice(json).with_context(|| format!("record {sequence} cannot be read"))?;
        admitted = Some(admitted.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        next += 1;
    }
    Ok(ArchivedSegment {
        replica: replica.clone(),
        segment: number,
        epoch: header.epoch,
        first_sequence: header.first,
        records: next - header.first,
        bytes: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
        admitted,
        archived_at: now,
        removed_at: None,
    })
}
