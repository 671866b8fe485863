//! The archive and the ledger's cells held against each other: every journal is read again from its first archived record to the last
//! that was shipped, and what its records come to is compared with what the ledger has, both ways.
//!
//! Memory holds the cells of records that were read and not compared yet: they are compared, and let go, as soon as no later
//! segment can add to them.

mod cells;
mod replica;
mod store;

use std::path::Path;

use sqlx::AnyConnection;

use super::archive::Archive;
use crate::clock::Micros;

/// Differences that are told; more are counted.
pub const DIFFERENCES_MAX: usize = 20;

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Where two sides part, in words; the first of them.
    pub differences: Vec<String>,
    /// How many more there are.
    pub more: u64,
    /// What could not be looked at, and why.
    pub notes: Vec<String>,
    /// What holds.
    pub held: Vec<String>,
}

impl Report {
    /// Tells a difference.
    pub fn differ(&mut self, words: String) {
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(words);
        } else {
            self.more += 1;
        }
    }

    /// Tells a failure as a difference: what was done, then why it could not be.
    pub fn failed(&mut self, what: &str, error: &anyhow::Error) {
        self.differ(format!("{what}: {error:#}"));
    }

    /// How many differences there are in all.
    pub fn count(&self) -> u64 {
        self.differences.len() as u64 + self.more
    }
}

/// What is read.
pub struct Sources<'a> {
    /// Where sealed segments are.
    pub archive: &'a Archive,
    /// The journal of this data folder, for what is not archived yet.
    pub journal: Option<&'a Path>,
}

/// Reads every journal, or what of it was admitted within `window`, and compares. `connection` is in a transaction that sees one
/// instant.
pub async fn recount(
    connection: &mut AnyConnection,
    sources: &Sources<'_>,
    window: Option<(Micros, Micros)>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let local = sources.journal.map(replica::local).transpose()?.flatten();
    let mut counts = replica::Counts::default();
    for replica in store::replicas(connection, local.as_ref().map(|local| &local.replica)).await? {
        if replica.as_str().is_empty() {
            let cells = store::cells_without_positions(connection).await?;
            if cells > 0 {
                report
                    .notes
                    .push(format!("{cells} cells are from before the ledger kept their records' positions: not compared"));
            }
            continue;
        }
        let local = local.as_ref().filter(|local| local.replica == replica);
        replica::recount(connection, sources.archive, &replica, local, window, report, &mut counts).await?;
    }
    report.held.push(format!(
        "{} segments with {} records of {} replicas: bytes, checksums, sequence and chain; {} cells of the ledger compared",
        counts.segments, counts.records, counts.replicas, counts.cells
    ));
    Ok(())
}
