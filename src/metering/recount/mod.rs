//! The archive and the ledger's cells held against each other: every journal is read again from its first archived record to the last
//! that was shipped, and what its records come to is compared with what the ledger has, both ways.
//!
//! Memory holds the cells of records that were read and not compared yet: they are compared, and let go, as soon as no later
//! segment can add to them.

mod cells;
mod replica;
mod store;

use std::path::{Path, PathBuf};

use sqlx::AnyConnection;

use super::archive::Archive;
use crate::clock::Micros;
use crate::data_dir::DataDir;
use crate::ids::ReplicaId;

/// Differences of one kind that are told; more are counted. By kind, because what one lost segment brings with it would hide all
/// others.
pub const DIFFERENCES_MAX: u64 = 20;

/// What two sides part about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Segments, and the records in them.
    Journal,
    /// The ledger's cells.
    Cells,
    /// Transactions of money.
    Books,
    /// Invoices and credit notes.
    Documents,
    /// The series of numbers.
    Numbers,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Where two sides part, in words; the first of each kind.
    pub differences: Vec<String>,
    /// How many there are, by kind.
    counts: [u64; 5],
    /// What could not be looked at, and why.
    pub notes: Vec<String>,
    /// What holds.
    pub held: Vec<String>,
}

impl Report {
    /// Tells a difference.
    pub fn differ(&mut self, about: About, words: String) {
        let count = &mut self.counts[about as usize];
        *count += 1;
        if *count <= DIFFERENCES_MAX {
            self.differences.push(words);
        }
    }

    /// Tells a failure as a difference: what was done, then why it could not be.
    pub fn failed(&mut self, about: About, what: &str, error: &anyhow::Error) {
        self.differ(about, format!("{what}: {error:#}"));
    }

    /// How many differences there are in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them are not told.
    pub fn more(&self) -> u64 {
        self.count() - self.differences.len() as u64
    }
}

/// What is read.
pub struct Sources<'a> {
    /// Where sealed segments are.
    pub archive: &'a Archive,
    /// The journal of this data folder, for what is not archived yet.
    pub local: Option<&'a Local>,
}

/// The journal of a data folder.
#[derive(Clone, Debug)]
pub struct Local {
    replica: ReplicaId,
    folder: PathBuf,
}

impl Local {
    /// Of the data folder `path`, whether or not a gateway runs on it; none where no gateway ever did.
    pub fn of(path: &Path) -> anyhow::Result<Option<Self>> {
        let folder = DataDir::journal_in(path);
        Ok(DataDir::replica_in(path)?.map(|replica| Self { replica, folder }))
    }
}

/// Reads every journal, or what of it was admitted within `window`, and compares. `connection` is in a transaction that sees one
/// instant.
pub async fn recount(
    connection: &mut AnyConnection,
    sources: &Sources<'_>,
    window: Option<(Micros, Micros)>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut counts = replica::Counts::default();
    for replica in store::replicas(connection, sources.local.map(|local| &local.replica)).await? {
        if replica.as_str().is_empty() {
            let cells = store::cells_without_positions(connection).await?;
            if cells > 0 {
                report
                    .notes
                    .push(format!("{cells} cells are from before the ledger kept their records' positions: not compared"));
            }
            continue;
        }
        let local = sources.local.filter(|local| local.replica == replica);
        replica::recount(connection, sources.archive, &replica, local, window, report, &mut counts).await?;
    }
    report.held.push(format!(
        "{} segments with {} records of {} replicas: bytes, checksums, sequence and chain; {} cells of the ledger compared",
        counts.segments, counts.records, counts.replicas, counts.cells
    ));
    Ok(())
}
