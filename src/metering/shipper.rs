//! Ships the journal to the ledger: rows and watermark in one transaction, so that each record is counted once, whatever
//! crashes in between. Every second, idle or not, it promises in the ledger how far admissions are counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::in_flight::InFlight;
use super::journal::Journal;
use super::shipping::{Position, Shipping};
use super::store::Reported;
use crate::clock::{Clock, Micros};
use crate::db::Db;
use crate::segment::Cursor;
use crate::telemetry::Metrics;

/// After a failure; doubles up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Promises come this often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How far the journal has been shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Everything before this place is in the ledger,
    pub to: Cursor,
    /// and so is all that was journaled before this instant.
    pub as_of: Micros,
    /// What the ledger was last promised: all that was admitted before this instant is in it.
    pub watermark: Micros,
    /// When finding that out began.
    pub looked_at: Micros,
}

/// The one shipper of a journal.
pub struct Shipper {
    journal: Arc<Journal>,
    in_flight: Arc<InFlight>,
    shipping: Shipping,
    every: Duration,
    shipped: watch::Sender<Shipped>,
    now: watch::Receiver<u64>,
    reported: Option<Instant>,
    told: Option<Reported>,
}

impl Shipper {
    /// Ships at least `every` so often; at once when `now` changes.
    pub fn new(
        journal: Arc<Journal>,
        in_flight: Arc<InFlight>,
        db: Db,
        clock: Clock,
        every: Duration,
        metrics: Arc<Metrics>,
        now: watch::Receiver<u64>,
    ) -> (Self, watch::Receiver<Shipped>) {
        let nothing = Micros(0);
        let nowhere = Cursor { segment: 0, byte: 0 };
        let (shipped, watched) = watch::channel(Shipped { to: nowhere, as_of: nothing, watermark: nothing, looked_at: nothing });
        let (replica, epoch) = (journal.replica().clone(), journal.epoch());
        let shipping = Shipping { db, replica, epoch, is_running: true, clock, metrics };
        (Self { journal, in_flight, shipping, every, shipped, now, reported: None, told: None }, watched)
    }

    /// Runs until `stop` says so, then ships what is left, if the ledger can be reached.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let stopping = *stop.borrow();
            match self.follow(&mut stop, &mut pause).await {
                Ok(()) => return,
                Err(error) => {
                    self.shipping.metrics.ship_failures.inc();
                    tracing::error!(
                        error = format!("{error:#}"),
                        "usage could not be shipped to the ledger; it is kept in the journal and tried again"
                    );
                    if stopping {
                        return;
                    }
                }
            }
            drop(tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn follow(&mut self, stop: &mut watch::Receiver<bool>, pause: &mut Duration) -> anyhow::Result<()> {
        let shipped = self.shipping.watermarks().await?;
        let reader = self.journal.reader(|epoch| shipped.get(&epoch).copied().unwrap_or(0))?;
        let mut position = Position::new(shipped, reader);
        let mut asked = false;
        loop {
            // Looked at before the journal is: what was appended before a stop is shipped.
            let stopping = *stop.borrow_and_update();
            asked |= self.now.has_changed().unwrap_or(false);
            self.now.borrow_and_update();
            // The order counts: what is no longer in flight lies before the journal's end, which is read afterwards.
            let looked_at = self.shipping.clock.now();
            let complete_before = self.in_flight.complete_before(&self.shipping.clock);
            let (end, as_of) = (*self.journal.watch().borrow(), self.shipping.clock.now());
            position = self.shipping.drain(position).await?;
            *pause = PAUSE_MIN;
            let due = self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY);
            if due || asked || stopping {
                self.report(&position, complete_before, looked_at).await?;
                asked = false;
            }
            self.shipped.send_modify(|shipped| (shipped.to, shipped.as_of) = (end, as_of));
            if stopping {
                return Ok(());
            }
            tokio::select! {
                _ = stop.changed() => {}
                Ok(()) = self.now.changed() => asked = true,
                () = tokio::time::sleep(self.every.min(REPORT_EVERY)) => {}
            }
        }
    }

    async fn report(&mut self, position: &Position, watermark: Micros, looked_at: Micros) -> anyhow::Result<()> {
        let reported = self.shipping.report(position, watermark).await?;
        self.reported = Some(Instant::now());
        if self.told != Some(reported) {
            self.told = Some(reported);
            let replica = self.journal.replica();
            match reported {
                Reported::Taken { retired: true } => tracing::warn!(
                    replica.id = %replica,
                    "this replica is retired: closes do not wait for it, and whatever it ships is billed late; \
                     to serve on, stop it and start it with a new data_dir"
                ),
                Reported::Replaced => tracing::error!(
                    replica.id = %replica,
                    "another process has started with a copy of this data folder and reports in this one's place; \
                     what this one ships is billed late: stop one of them"
                ),
                Reported::Taken { retired: false } | Reported::Elsewhere => {}
            }
        }
        if matches!(reported, Reported::Taken { .. }) {
            let now = self.shipping.clock.now();
            self.shipping.metrics.watermark_lag_seconds.set(now.since(watermark).as_secs_f64());
            self.shipped.send_modify(|shipped| (shipped.watermark, shipped.looked_at) = (watermark, looked_at));
        }
        Ok(())
    }
}
