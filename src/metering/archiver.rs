//! Seals the journal by age and brings what is sealed and shipped into the archive; then, and only then, it leaves this disk.
//!
//! It promises: every segment of the journal gets into the archive in the end, in order and once; a crash anywhere is gone on from.
//! While the archive is away everything stays here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use super::archive::{Archive, OtherBytes};
use super::journal::Journal;
use super::keeper::Keeper;
use super::shipper::Shipped;
use crate::clock::Clock;
use crate::db::Db;
use crate::telemetry::Metrics;

/// The journal is looked at this often; after a failure the wait doubles up to the last.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How far the journal is in the archive.
#[derive(Clone, Debug, Default)]
pub struct Archived {
    /// Every segment below this one is there.
    pub below: u64,
    /// The request to go at once that was last looked at,
    pub asked: u64,
    /// and what went wrong then.
    pub failure: Option<Arc<str>>,
}

/// The current segment, as far as its age is concerned.
struct Open {
    segment: u64,
    /// Where its records begin.
    start: u64,
    /// When it was first seen with records.
    since: Option<Instant>,
}

/// The one archiver of a journal.
pub struct Archiver {
    journal: Arc<Journal>,
    archive: Archive,
    db: Db,
    clock: Clock,
    segment_age: Duration,
    metrics: Arc<Metrics>,
    shipped: watch::Receiver<Shipped>,
    archived: watch::Sender<Archived>,
    now: watch::Receiver<u64>,
    open: Option<Open>,
    /// The first segment that may not be in the archive; none before anything was looked at.
    next: Option<u64>,
    /// It was said that the archive does not take segments.
    complained: bool,
}

impl Archiver {
    /// Seals a segment that has had records for `segment_age`; looks at once when `now` changes.
    #[expect(clippy::too_many_arguments, reason = "wired up once, in serve.rs")]
    pub fn new(
        journal: Arc<Journal>,
        archive: Archive,
        db: Db,
        clock: Clock,
        segment_age: Duration,
        metrics: Arc<Metrics>,
        shipped: watch::Receiver<Shipped>,
        now: watch::Receiver<u64>,
    ) -> (Self, watch::Receiver<Archived>) {
        let (archived, watched) = watch::channel(Archived::default());
        let (open, next, complained) = (None, None, false);
        (Self { journal, archive, db, clock, segment_age, metrics, shipped, archived, now, open, next, complained }, watched)
    }

    /// Runs until `stop` says so, then archives what is sealed and shipped by then, if the archive can be reached.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let stopping = *stop.borrow_and_update();
            let asked = *self.now.borrow_and_update();
            let outcome = self.round().await;
            pause = if outcome.is_ok() { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            let failure = self.tell(outcome);
            let below = self.next.unwrap_or(0);
            self.archived.send_replace(Archived { below, asked, failure });
            if stopping {
                return;
            }
            tokio::select! {
                _ = stop.changed() => {}
                Ok(()) = self.now.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn tell(&mut self, outcome: anyhow::Result<()>) -> Option<Arc<str>> {
        let error = match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.complained) {
                    tracing::info!(archive = self.archive.place(), "the archive takes segments again");
                }
                return None;
            }
            Err(error) => error,
        };
        self.metrics.archive_failures.inc();
        let words: Arc<str> = format!("{error:#}").into();
        // That evidence was changed is said as long as it is so; that the archive is away, once.
        if error.is::<OtherBytes>() || !std::mem::replace(&mut self.complained, true) {
            tracing::error!(error = &*words, "a journal segment could not be archived; it is kept on this disk and tried again");
        }
        Some(words)
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        self.seal_by_age().await?;
        let first = self.journal.first_segment()?;
        let next = *self.next.get_or_insert(first);
        let current = self.journal.watch().borrow().segment;
        let backlog = |next: u64| i64::try_from(current.saturating_sub(next)).unwrap_or(i64::MAX);
        self.metrics.archive_backlog_segments.set(backlog(next));
        // All segments below the one that the shipper is in are in the ledger, whole.
        let until = self.shipped.borrow().to.segment.min(current);
        let keeper =
            Keeper { archive: &self.archive, db: &self.db, replica: self.journal.replica(), folder: self.journal.folder() };
        for number in next..until {
            keeper.keep(number, self.clock.now()).await?;
            self.next = Some(number + 1);
            self.metrics.archived_segments.inc();
            self.metrics.archive_backlog_segments.set(backlog(number + 1));
        }
        if first < until {
            self.journal.remove_below(keeper.removable(first, until).await?)?;
        }
        Ok(())
    }

    /// Begins a new segment when the current one has had records for long enough.
    async fn seal_by_age(&mut self) -> anyhow::Result<()> {
        let end = *self.journal.watch().borrow();
        let open = match self.open.take().filter(|open| open.segment == end.segment) {
            Some(open) => open,
            None => Open { segment: end.segment, start: self.journal.start_of(end.segment)?, since: None },
        };
        let open = self.open.insert(open);
        if end.byte > open.start {
            let since = *open.since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.segment_age {
                self.journal.seal().await.context("the journal's segment cannot be sealed")?;
            }
        }
        Ok(())
    }
}
