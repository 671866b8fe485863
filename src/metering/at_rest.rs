//! The journal of a data folder whose gateway is stopped: shipped, archived and promised by a command, so that one machine can close a
//! month without being started.

use std::sync::Arc;

use anyhow::Context;

use super::archive::Archive;
use super::journal::AtRest;
use super::keeper::Keeper;
use super::shipping::{Position, Shipping};
use crate::clock::Clock;
use crate::db::Db;
use crate::ids::ReplicaId;
use crate::segment::Folder;
use crate::telemetry::Metrics;

/// Brings all that the journal in `folder` holds into the ledger and the archive, and promises that nothing more was admitted until
/// now: the caller holds the data folder's lock, so nobody admits. Nothing happens where there is no journal.
pub async fn close(folder: impl Into<Folder>, replica: &ReplicaId, db: &Db, archive: &Archive) -> anyhow::Result<()> {
    let folder = folder.into();
    let (own_folder, own_replica) = (folder.clone(), replica.clone());
    let journal = tokio::task::spawn_blocking(move || AtRest::open(own_folder, &own_replica)).await??;
    let Some(journal) = journal else { return Ok(()) };
    let clock = Clock::system();
    clock.anchor(db.now().await?);
    let shipping = Shipping {
        db: db.clone(),
        replica: replica.clone(),
        epoch: journal.epoch,
        is_running: false,
        clock: clock.clone(),
        metrics: Arc::new(Metrics::default()),
    };
    let shipped = shipping.watermarks().await?;
    let reader = journal.reader(|epoch| shipped.get(&epoch).copied().unwrap_or(0))?;
    let position =
        shipping.drain(Position::new(shipped, reader)).await.context("the usage of this data folder is not in the ledger")?;
    shipping.report(&position, clock.now()).await?;
    let (first, last) = journal.segments()?;
    let keeper = Keeper { archive, db, replica, folder: &folder };
    // The last one too: every start begins a new segment, so it never changes again.
    for number in first..=last {
        keeper
            .keep(number, clock.now())
            .await
            .context("the usage of this data folder is in the ledger, but not in the archive")?;
    }
    Ok(())
}
