//! What journeys need beside the projector: products that are new are counted from the log's start while serving goes on; partitions tell
//! products' homes what closed; event time of what is idle moves on. All of it goes through the log.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Engine;
use crate::clock::Micros;
use crate::db::Db;
use crate::event::{own, partition_of};
use crate::feature::{Bounds, EmbeddedStore, JourneyStore};
use crate::journey::{reading, store};
use crate::projector;

/// Between two looks at what is to be told.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Whether products changed is asked this often.
const PRODUCTS_EVERY: Duration = Duration::from_secs(1);
/// About how much one event tells: a part of what events may have.
const TOLD_BYTES: usize = 200 << 10;
/// How often what came meanwhile is counted without holding the projector still.
const CATCHES: u32 = 5;

/// What is kept in memory for it.
pub(super) struct Telling {
    pub(super) db: Db,
    /// The last message that the log has, by partition and product.
    told: Mutex<HashMap<(u16, String), u64>>,
    /// Where event time was moved to, by partition: the projector may not be there yet.
    passed: Mutex<HashMap<u16, Micros>>,
}

impl Telling {
    pub(super) fn new(db: Db) -> Self {
        Self { db, told: Mutex::default(), passed: Mutex::default() }
    }
}

impl Engine {
    /// Until `stop` says so. Failures are logged, and tried again.
    pub async fn run_journeys(&self, mut stop: watch::Receiver<bool>) {
        let mut looked = std::time::Instant::now();
        while !*stop.borrow() {
            if looked.elapsed() >= PRODUCTS_EVERY {
                looked = std::time::Instant::now();
                if let Err(error) = self.refresh_products().await {
                    tracing::warn!(error = format!("{error:#}"), "journey products cannot be read; those known go on");
                }
                if let Err(error) = self.backfill().await {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "a new journey product could not be counted; it is tried again"
                    );
                }
            }
            let told = async {
                self.tell().await?;
                self.pass_idle().await
            };
            if let Err(error) = told.await {
                tracing::error!(error = format!("{error:#}"), "journeys could not be told; they are told again");
                drop(tokio::time::timeout(PRODUCTS_EVERY, stop.wait_for(|stop| *stop)).await);
            }
            drop(tokio::time::timeout(LOOK_EVERY, stop.wait_for(|stop| *stop)).await);
        }
    }

    /// Looks what is sold by now.
    pub async fn refresh_products(&self) -> anyhow::Result<()> {
        let products = store::sold(&mut *self.telling.db.read().await?).await?;
        if products != self.parts.store.sold() {
            tracing::info!(products = products.len(), "journey products changed");
            self.parts.store.sell(&products);
        }
        Ok(())
    }

    /// Counts what is new from the log's start, aside, and takes it over where the live store stands.
    pub async fn backfill(&self) -> anyhow::Result<()> {
        let missing = self.parts.store.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|product| product.name.clone()).collect();
        tracing::info!(products = ?names, "counting from the event log's start");
        let bounds = Bounds { products: missing, ..self.bounds.clone() };
        let log = &*self.parts.log;
        let aside = EmbeddedStore::empty_behind(&self.snapshots, log.earliest().await?, bounds);
        let mut events = 0;
        for catch in 0.. {
            let step = if catch < CATCHES { None } else { Some(self.step.lock().await) };
            let until = self.until();
            let caught = projector::advance(log, &aside, Some(&until)).await?;
            events += caught;
            // Little enough to hold the projector still for.
            let Some(_step) = (match step {
                Some(step) => Some(step),
                None if caught < 1000 => Some(self.step.lock().await),
                None => None,
            }) else {
                continue;
            };
            let until = self.until();
            events += projector::advance(log, &aside, Some(&until)).await?;
            for (partition, applied) in (0..).zip(until) {
                let counted = aside.counted(partition).context("a partition is missing")?;
                let is_held = self.parts.store.stands().iter().any(|(held, _)| *held == partition);
                anyhow::ensure!(
                    !is_held || self.parts.store.adopt(partition, applied, counted),
                    "partition {partition} moved on while it was held still"
                );
            }
            break;
        }
        tracing::info!(products = ?names, events, "counted");
        Ok(())
    }

    fn until(&self) -> Vec<Option<u64>> {
        let mut until = vec![None; usize::from(self.partitions())];
        for (partition, applied) in self.parts.store.stands() {
            until[usize::from(partition)] = applied;
        }
        until
    }

    /// Puts into the log what partitions of this process have to tell; how many messages.
    pub async fn tell(&self) -> anyhow::Result<usize> {
        let store = &self.parts.store;
        let mut said = 0;
        for (partition, _) in store.stands() {
            let after =
                |product: &str| self.telling.told.lock().get(&(partition, product.to_owned())).copied().unwrap_or_default();
            let untold = store.untold(partition, &after, TOLD_BYTES);
            let now = self.clock.now();
            let record =
                |told: &crate::journey::message::Told| own::told(partition_of(&told.product, self.partitions()), told, now);
            let records = untold.iter().map(record).collect::<anyhow::Result<Vec<_>>>()?;
            if records.is_empty() {
                continue;
            }
            self.parts.log.append(records).await?;
            for told in untold {
                said += told.messages.len();
                let last = told.messages.last().map_or(0, |message| message.number);
                store.heard(partition, &told.product, last);
                self.telling.told.lock().insert((partition, told.product), last);
            }
        }
        Ok(said)
    }

    /// Moves the event time of idle partitions on with the clock, where something would close by that.
    async fn pass_idle(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        let passing = self.parts.store.passing();
        let moved = |(time, at): (Micros, Micros)| time.plus(now.since(at));
        let furthest = passing.iter().filter_map(|passing| passing.event_time).map(moved).max();
        let idle = passing.iter().filter_map(|passing| {
            let to = match passing.event_time {
                Some((_, at)) if now.since(at) < self.idle_after => return None,
                Some(passed) => moved(passed),
                // It never had an event: it goes along with those that have.
                None => furthest?,
            };
            let passed = self.telling.passed.lock().get(&passing.partition).copied();
            let is_due = passing.due.is_some_and(|due| to >= due && passed.is_none_or(|passed| passed < due));
            is_due.then_some((passing.partition, to))
        });
        let idle: Vec<_> = idle.collect();
        if !idle.is_empty() {
            self.parts.log.append(idle.iter().map(|(partition, to)| own::watermark(*partition, *to)).collect()).await?;
            self.telling.passed.lock().extend(idle);
        }
        Ok(())
    }

    /// Closes all that journeys up to `last` opened: the event time of every partition moves on past the end of the month.
    pub async fn close_journeys(&self, last: Micros) -> anyhow::Result<()> {
        let time = reading::closes_all(last, &self.parts.store.sold());
        self.parts.log.append((0..self.partitions()).map(|partition| own::watermark(partition, time)).collect()).await?;
        Ok(())
    }

    /// Until nothing is left to tell: for a command that has the engine to itself.
    pub async fn settle_journeys(&self) -> anyhow::Result<()> {
        self.backfill().await?;
        loop {
            self.catch_up().await?;
            if self.tell().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Waits until what partitions of this process have to tell is told and applied; for a command beside a projector that runs.
    pub async fn settle_told(&self) -> anyhow::Result<()> {
        loop {
            self.settle().await?;
            if self.parts.store.missing().is_empty() && self.parts.store.sizes().iter().all(|(_, _, size)| size.untold == 0) {
                return self.settle().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
