//! One replica's journal, from its first archived segment to the end that was shipped.

use std::collections::BTreeMap;

use anyhow::Context;
use bytes::Bytes;
use sqlx::AnyConnection;
use tokio::task::JoinHandle;

use super::cells::{self, Cells};
use super::{About, Local, Report, store};
use crate::clock::Micros;
use crate::ids::ReplicaId;
use crate::metering::archive::Archive;
use crate::metering::archive_store::{self, ArchivedSegment};
use crate::metering::journal::Header;
use crate::metering::reading::{End, Reading};
use crate::metering::record::Mode;
use crate::segment;

/// Cells in memory before those that are whole are compared.
const CELLS_MAX: usize = 250_000;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) replicas: u64,
    pub(super) segments: u64,
    pub(super) records: u64,
    pub(super) cells: u64,
}

impl Local {
    /// What is not archived yet: the segments from `first` on.
    fn from(&self, first: u64) -> anyhow::Result<Vec<u64>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        Ok(segment::list(&self.folder)?.into_iter().filter(|number| *number >= first).collect())
    }
}

struct Walk<'a> {
    replica: &'a ReplicaId,
    window: Option<(Micros, Micros)>,
    shipped: BTreeMap<i64, u64>,
    cells: Cells,
    /// How the journal goes on; none behind what could not be read.
    end: Option<End>,
    /// The last sequence that there must be, by epoch.
    reached: BTreeMap<i64, u64>,
    /// The first and last segment whose retention ended.
    removed: Option<(u64, u64)>,
    segments: u64,
    records: u64,
}

pub(super) async fn recount(
    connection: &mut AnyConnection,
    archive: &Archive,
    replica: &ReplicaId,
    local: Option<&Local>,
    window: Option<(Micros, Micros)>,
    report: &mut Report,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let rows = archive_store::of_replica(connection, replica).await?;
    let shipped = store::shipped(connection, replica).await?;
    let (cells, reached) = (Cells::default(), BTreeMap::new());
    let mut walk =
        Walk { replica, window, shipped, cells, end: Some(End::default()), reached, removed: None, segments: 0, records: 0 };
    let tail = match local {
        Some(local) => local.from(rows.last().map_or(1, |row| row.segment + 1))?,
        None => Vec::new(),
    };
    // What later segments can still add to begins here.
    let mut horizons = vec![i64::MAX; rows.len() + 1];
    for &number in &tail {
        let earliest = earliest(&fetch_local(archive, replica, local, number).await?);
        horizons[rows.len()] = horizons[rows.len()].min(earliest.map_or(i64::MAX, cells::start));
    }
    for (place, row) in rows.iter().enumerate().rev() {
        horizons[place] = horizons[place + 1].min(row.admitted.map_or(i64::MAX, |(first, _)| cells::start(first)));
    }
    let (from, to) = window.map_or((i64::MIN, i64::MAX), |(from, to)| (cells::start(from), cells::start(to)));
    let mut compared_to = from;
    let mut next = rows.first().and_then(|row| walk.fetch(archive, row));
    for (place, row) in rows.iter().enumerate() {
        let fetched = next.take();
        next = rows.get(place + 1).and_then(|row| walk.fetch(archive, row));
        walk.listed(place.checked_sub(1).and_then(|before| rows.get(before)), row, report);
        walk.archived(archive, row, fetched, report).await;
        let horizon = horizons[place + 1].min(to);
        if walk.cells.len() >= CELLS_MAX && horizon > compared_to {
            walk.cells.compare(connection, replica, &walk.shipped, (compared_to, horizon), report).await?;
            compared_to = horizon;
        }
    }
    for number in tail {
        walk.local(number, fetch_local(archive, replica, local, number).await?, report);
    }
    if let Some((first, last)) = walk.removed {
        report.notes.push(format!(
            "segments {first} to {last} of replica {replica} were removed from the archive, when their retention ended: not looked at"
        ));
    }
    walk.check_reaches(local.is_some(), report);
    walk.cells.compare(connection, replica, &walk.shipped, (compared_to, to), report).await?;
    if walk.cells.skipped > 0 {
        report.notes.push(format!(
            "{} cells of replica {replica} could not be compared: some of their records cannot be read",
            walk.cells.skipped
        ));
    }
    counts.replicas += 1;
    counts.segments += walk.segments;
    counts.records += walk.records;
    counts.cells += walk.cells.compared;
    Ok(())
}

/// A segment of this data folder's journal; out of the archive, where it went there since the ledger was looked at. Empty when it is
/// nowhere.
async fn fetch_local(archive: &Archive, replica: &ReplicaId, local: Option<&Local>, number: u64) -> anyhow::Result<Bytes> {
    let Some(local) = local else { return Ok(Bytes::new()) };
    let path = local.folder.join(format!("{number:016}.seg"));
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(archive.get(replica, number).await?.unwrap_or_default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The earliest admission in a segment, as far as it can be read.
fn earliest(bytes: &Bytes) -> Option<Micros> {
    let entries = Reading::new(bytes.clone()).ok()?.map_while(Result::ok);
    entries.filter_map(|entry| entry.record().ok().map(|record| record.at)).min()
}

impl Walk<'_> {
    fn name(&self, segment: u64) -> String {
        format!("segment {segment} of replica {}", self.replica)
    }

    fn is_wanted(&self, row: &ArchivedSegment) -> bool {
        self.window.is_none_or(|(from, to)| row.admitted.is_some_and(|(first, last)| first < to && from <= last))
    }

    fn fetch(&self, archive: &Archive, row: &ArchivedSegment) -> Option<JoinHandle<anyhow::Result<Option<Bytes>>>> {
        let (archive, replica, segment) = (archive.clone(), self.replica.clone(), row.segment);
        // On another thread: it comes while the one before it is read.
        (self.is_wanted(row) && row.removed_at.is_none())
            .then(|| tokio::spawn(async move { archive.get(&replica, segment).await }))
    }

    /// Whether the list of archived segments has no gap.
    fn listed(&mut self, before: Option<&ArchivedSegment>, row: &ArchivedSegment, report: &mut Report) {
        let follows = before.map_or(1, |before| before.segment + 1);
        let (epoch, first) = (row.epoch, row.first_sequence);
        let expected = match before {
            Some(before) if before.epoch == epoch => before.first_sequence + before.records,
            _ => 1,
        };
        if row.segment != follows {
            let missing =
                if row.segment == follows + 1 { self.name(follows) } else { format!("{} and more", self.name(follows)) };
            report.differ(
                About::Journal,
                format!("{missing} is not in the list of what was archived: {} comes next", self.name(row.segment)),
            );
        }
        if first != expected || before.is_some_and(|before| before.epoch > epoch) {
            report.differ(About::Journal, format!(
                "the list of what was archived has {} from record {epoch}/{first} on, where {epoch}/{expected} must come next",
                self.name(row.segment)
            ));
        }
        if first > expected {
            self.cells.unread.add(epoch, expected, first - 1);
        }
        let last = (first + row.records).saturating_sub(1);
        let reached = self.reached.entry(epoch).or_default();
        *reached = last.max(*reached);
        let shipped = self.shipped.get(&epoch).copied().unwrap_or(0);
        if row.records > 0 && last > shipped {
            report.differ(
                About::Journal,
                format!(
                    "{} holds records up to {epoch}/{last}, but the ledger's watermark stands at {epoch}/{shipped}",
                    self.name(row.segment)
                ),
            );
        }
    }

    fn unread(&mut self, row: &ArchivedSegment, from: u64) {
        let last = (row.first_sequence + row.records).saturating_sub(1);
        if from <= last {
            self.cells.unread.add(row.epoch, from, last);
        }
        self.end = None;
    }

    async fn archived(
        &mut self,
        archive: &Archive,
        row: &ArchivedSegment,
        fetched: Option<JoinHandle<anyhow::Result<Option<Bytes>>>>,
        report: &mut Report,
    ) {
        let name = self.name(row.segment);
        let Some(fetched) = fetched else {
            self.end = None;
            if self.is_wanted(row) {
                self.removed = Some((self.removed.map_or(row.segment, |(first, _)| first), row.segment));
                self.unread(row, row.first_sequence);
            }
            return;
        };
        let bytes = match fetched.await.map_err(anyhow::Error::from).and_then(|got| got) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                report.differ(About::Journal, format!("{name} is missing in the archive {}", archive.place()));
                return self.unread(row, row.first_sequence);
            }
            Err(error) => {
                report.failed(About::Journal, &name, &error);
                return self.unread(row, row.first_sequence);
            }
        };
        self.segments += 1;
        if let Err(error) = crate::metering::reading::is_archived(row, &bytes) {
            report.failed(About::Journal, &name, &error);
        }
        let reading = Reading::new(bytes).and_then(|reading| reading.is_of(row).map(|()| reading));
        let mut reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                report.failed(About::Journal, &name, &error);
                return self.unread(row, row.first_sequence);
            }
        };
        self.follows(&reading.header, &name, report);
        while let Some(entry) = reading.next() {
            let counted = entry.and_then(|entry| self.count(row.epoch, &entry, row.admitted));
            if let Err(error) = counted {
                report.failed(About::Journal, &name, &error);
                if reading.is_broken() {
                    return self.unread(row, reading.next_sequence());
                }
                self.cells.unread.add(row.epoch, reading.next_sequence() - 1, reading.next_sequence() - 1);
            }
        }
        let records = reading.next_sequence() - row.first_sequence;
        if records != row.records {
            report.differ(
                About::Journal,
                format!("{name} ends at byte {} with {records} records, but {} were archived", reading.byte(), row.records),
            );
        }
        self.end = Some(*reading.end());
    }

    fn follows(&self, header: &Header, name: &str, report: &mut Report) {
        if let Some(Err(error)) = self.end.map(|end| end.is_continued_by(header)) {
            report.failed(About::Journal, &format!("{name} at byte 0"), &error);
        }
    }

    /// A segment of this data folder. Its end may be on its way: what was shipped must be whole.
    fn local(&mut self, number: u64, bytes: Bytes, report: &mut Report) {
        let name = format!("{} in this data folder", self.name(number));
        let mut reading = match Reading::new(bytes) {
            Ok(reading) => reading,
            Err(error) => {
                self.end = None;
                return report.failed(About::Journal, &name, &error);
            }
        };
        self.follows(&reading.header, &name, report);
        self.segments += 1;
        let epoch = reading.header.epoch;
        let shipped = self.shipped.get(&epoch).copied().unwrap_or(0);
        while let Some(entry) = reading.next() {
            if reading.is_broken() && reading.next_sequence() > shipped {
                break;
            }
            if let Err(error) = entry.and_then(|entry| self.count(epoch, &entry, None)) {
                report.failed(About::Journal, &name, &error);
            }
        }
        let reached = self.reached.entry(epoch).or_default();
        *reached = (*reached).max(reading.next_sequence() - 1);
        self.end = Some(*reading.end());
    }

    fn count(
        &mut self,
        epoch: i64,
        entry: &crate::metering::reading::Entry,
        admitted: Option<(Micros, Micros)>,
    ) -> anyhow::Result<()> {
        self.records += 1;
        let record = entry.record()?;
        let (sequence, at) = (entry.sequence, record.at);
        let in_window = self.window.is_none_or(|(from, to)| cells::start(from) <= at.0 && at.0 < cells::start(to));
        let is_shipped = sequence <= self.shipped.get(&epoch).copied().unwrap_or(0);
        if record.mode == Mode::Live && in_window && is_shipped {
            self.cells.add(epoch, sequence, &record);
        }
        if let Some((first, last)) = admitted {
            anyhow::ensure!(
                first <= at && at <= last,
                "record {epoch}/{sequence} at byte {} was admitted at {at}, but the list says {first} to {last} of the segment",
                entry.byte
            );
        }
        Ok(())
    }

    /// Whether all that was shipped was there to be read.
    fn check_reaches(&mut self, is_local: bool, report: &mut Report) {
        let newest = self.reached.keys().chain(self.shipped.keys()).max().copied();
        for (&epoch, &shipped) in &self.shipped {
            let reached = self.reached.get(&epoch).copied().unwrap_or(0);
            if reached >= shipped {
                continue;
            }
            self.cells.unread.add(epoch, reached + 1, shipped);
            let replica = self.replica;
            let records = format!("records {epoch}/{} to {epoch}/{shipped} of replica {replica}", reached + 1);
            if is_local || newest != Some(epoch) {
                report.differ(
                    About::Journal,
                    format!("{records} are in the ledger, but neither in the archive nor in this data folder"),
                );
            } else {
                report.notes.push(format!("{records} are not archived yet, and their journal is not in this data folder"));
            }
        }
    }
}
