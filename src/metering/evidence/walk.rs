//! One pass over archived segments in order of time, day by day: whoever asks for records gets each UTC day of a month whole and in
//! order, and only the days that are open are in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Cut, sequence};
use crate::clock::Micros;
use crate::ids::{PartnerId, PlanId, ReplicaId};
use crate::metering::archive::Archive;
use crate::metering::archive_store::ArchivedSegment;
use crate::metering::reading::{Glance, Reading};
use crate::metering::record::Mode;

const DAY_MICROS: i64 = 86_400_000_000;
/// Ids that Tollgate makes have 30.
const REQUEST_BYTES_MAX: usize = 32;

/// A part of a partner's month: the live records admitted in [from, to) that `cut` holds and `after` does not.
#[derive(Clone, Debug)]
pub struct Part {
    /// Whose records.
    pub partner: PartnerId,
    /// The month's first instant,
    pub from: Micros,
    /// and the first one past it.
    pub to: Micros,
    /// Up to here records were billed before.
    pub after: Arc<Cut>,
    /// Up to here records are in.
    pub cut: Arc<Cut>,
    /// Under these plan versions only; none: under all.
    pub plans: Option<Arc<Vec<(PlanId, i64)>>>,
}

/// A segment that is needed is past its retention.
#[derive(Clone, Debug, thiserror::Error)]
#[error("segment {segment} of replica {replica} was removed from the archive on {at}, when its retention ended")]
pub struct Removed {
    replica: ReplicaId,
    segment: u64,
    at: Micros,
}

/// What becomes of the records that are found. Parts are known by their place in the list that was walked for.
pub(crate) trait Sink: Send + 'static {
    /// What is kept of a record until its day is whole.
    type Kept: Ord + Send;
    /// A record of a part, in no order.
    fn take(&mut self, part: usize, record: &Glance<'_>, json: &[u8]) -> anyhow::Result<Self::Kept>;
    /// A whole day of a part; the days of one part come in order, and the records by admission, then request.
    fn day(&mut self, part: usize, day: Date, records: &mut dyn ExactSizeIterator<Item = &Self::Kept>) -> anyhow::Result<()>;
}

/// A record's place among those of its day: admission, then request id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order(Micros, [u8; REQUEST_BYTES_MAX]);

impl Order {
    fn of(record: &Glance<'_>) -> anyhow::Result<Self> {
        let id = record.request.as_bytes();
        // Filled up with zeros, so that it compares as the text does.
        ensure!(
            id.len() <= REQUEST_BYTES_MAX && !id.contains(&0),
            "the request id \"{}\" is none that Tollgate makes",
            record.request.escape_debug()
        );
        let mut filled = [0; REQUEST_BYTES_MAX];
        filled[..id.len()].copy_from_slice(id);
        Ok(Self(record.at, filled))
    }
}

/// What a part asks of a record, but for its partner.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Span {
    from: Micros,
    to: Micros,
    after: Arc<Cut>,
    cut: Arc<Cut>,
    plans: Option<Arc<Vec<(PlanId, i64)>>>,
}

impl Span {
    /// Whether it holds a record, as far as that is not a matter of the journal's sequence.
    fn holds(&self, record: &Glance<'_>) -> bool {
        let is_of = |plan: &(PlanId, i64)| plan.0.as_str() == record.plan && plan.1 == record.plan_version;
        self.from <= record.at && record.at < self.to && self.plans.as_ref().is_none_or(|plans| plans.iter().any(is_of))
    }

    /// Of a journal: the last sequence that is too early, and the last one that is in.
    fn between(&self, row: &ArchivedSegment) -> (u64, u64) {
        (sequence(&self.after, &row.replica, row.epoch), sequence(&self.cut, &row.replica, row.epoch))
    }

    /// Whether a segment may hold something of it.
    fn concerns(&self, row: &ArchivedSegment) -> bool {
        let (after, last) = self.between(row);
        row.admitted.is_some_and(|(first, latest)| latest >= self.from && first < self.to)
            && (row.first_sequence + row.records).saturating_sub(1) > after
            && row.first_sequence <= last
    }
}

/// What is kept of the records of one part's day.
type Kept<S> = Vec<(Order, <S as Sink>::Kept)>;

struct Walk<S: Sink> {
    /// There are few, however many partners.
    spans: Vec<Span>,
    /// Each part of a partner, and its span.
    by_partner: HashMap<PartnerId, Vec<(usize, usize)>>,
    /// By UTC day, counted from 1970.
    open: BTreeMap<(i64, usize), Kept<S>>,
    sink: S,
}

impl<S: Sink> Walk<S> {
    fn segment(&mut self, row: &ArchivedSegment, bytes: Bytes) -> anyhow::Result<()> {
        let between: Vec<_> = self.spans.iter().map(|span| span.between(row)).collect();
        let mut records = 0;
        for entry in Reading::archived(row, bytes)? {
            let entry = entry?;
            let record = entry.record()?;
            records += 1;
            let within = row.admitted.is_some_and(|(first, last)| first <= record.at && record.at <= last);
            ensure!(
                within,
                "record {}/{} was admitted outside of the span that the ledger has for the segment",
                row.epoch,
                entry.sequence
            );
            if record.mode != Mode::Live {
                continue;
            }
            let Some(parts) = self.by_partner.get(record.partner.as_ref()) else { continue };
            for &(number, span) in parts {
                let (after, last) = between[span];
                if after < entry.sequence && entry.sequence <= last && self.spans[span].holds(&record) {
                    let kept = self.sink.take(number, &record, &entry.json)?;
                    let day = record.at.0.div_euclid(DAY_MICROS);
                    self.open.entry((day, number)).or_default().push((Order::of(&record)?, kept));
                }
            }
        }
        ensure!(records == row.records, "it ends with its record {records}, but {} were archived", row.records);
        Ok(())
    }

    /// Gives away the days that end at `before` or earlier.
    fn finish(&mut self, before: Option<Micros>) -> anyhow::Result<()> {
        let day = before.map_or(i64::MAX, |before| before.0.div_euclid(DAY_MICROS));
        while let Some(entry) = self.open.first_entry().filter(|entry| entry.key().0 < day) {
            let ((day, number), mut records) = entry.remove_entry();
            records.sort_unstable();
            let date = Micros(day * DAY_MICROS).timestamp().to_zoned(TimeZone::UTC).date();
            self.sink.day(number, date, &mut records.iter().map(|(_, kept)| kept))?;
        }
        Ok(())
    }
}

/// Whether the archive has every record up to the cut.
fn check_reaches(segments: &[ArchivedSegment], cut: &Cut) -> anyhow::Result<()> {
    let mut by_epoch: HashMap<_, Vec<_>> = HashMap::new();
    for row in segments.iter().filter(|row| row.records > 0) {
        by_epoch.entry((&row.replica, row.epoch)).or_default().push((row.first_sequence, row.records));
    }
    for ((replica, epoch), &last) in cut {
        let mut spans = by_epoch.remove(&(replica, *epoch)).unwrap_or_default();
        spans.sort_unstable();
        let reached =
            spans.iter().fold(
                0,
                |reached, &(first, records)| {
                    if first <= reached + 1 { reached.max(first.saturating_sub(1) + records) } else { reached }
                },
            );
        ensure!(
            reached >= last,
            "records {epoch}/{} to {epoch}/{last} of replica {replica} are not archived: they cannot be proven",
            reached + 1
        );
    }
    Ok(())
}

/// Fetches each segment that may hold something once and gives what is found to `sink`. `segments`: all that were archived.
pub(crate) async fn walk<S: Sink>(
    archive: &Archive,
    segments: &[ArchivedSegment],
    parts: Vec<Part>,
    sink: S,
) -> anyhow::Result<S> {
    let mut spans: Vec<Span> = Vec::new();
    let mut known: HashMap<Span, usize> = HashMap::new();
    let mut by_partner: HashMap<PartnerId, Vec<(usize, usize)>> = HashMap::new();
    for (number, Part { partner, from, to, after, cut, plans }) in parts.into_iter().enumerate() {
        let span = *known.entry(Span { from, to, after, cut, plans }).or_insert_with_key(|span| {
            spans.push(span.clone());
            spans.len() - 1
        });
        by_partner.entry(partner).or_default().push((number, span));
    }
    for cut in spans.iter().map(|span| &span.cut).collect::<HashSet<_>>() {
        check_reaches(segments, cut)?;
    }
    let mut wanted: Vec<_> = segments.iter().filter(|row| spans.iter().any(|span| span.concerns(row))).collect();
    wanted.sort_by_key(|row| row.admitted);
    let mut walk = Walk { spans, by_partner, open: BTreeMap::new(), sink };
    let mut next = match wanted.first() {
        Some(row) => Some(fetch(archive, row).await?),
        None => None,
    };
    for (place, &row) in wanted.iter().enumerate() {
        let Some(bytes) = next.take() else { break };
        let row = row.clone();
        // Reading is work for a processor: the next segment comes meanwhile.
        let reading = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            walk.finish(row.admitted.map(|(first, _)| first))?;
            walk.segment(&row, bytes).with_context(|| {
                format!("segment {} of replica {} in the archive is not what was archived", row.segment, row.replica)
            })?;
            Ok(walk)
        });
        if let Some(row) = wanted.get(place + 1) {
            next = Some(fetch(archive, row).await?);
        }
        walk = reading.await??;
    }
    walk.finish(None)?;
    Ok(walk.sink)
}

async fn fetch(archive: &Archive, row: &ArchivedSegment) -> anyhow::Result<Bytes> {
    let ArchivedSegment { replica, segment, .. } = row;
    if let Some(at) = row.removed_at {
        return Err(Removed { replica: replica.clone(), segment: *segment, at }.into());
    }
    archive.get(replica, *segment).await?.with_context(|| {
        format!(
            "segment {segment} of replica {replica} is missing in the archive {}: bring it back from a backup",
            archive.place()
        )
    })
}
