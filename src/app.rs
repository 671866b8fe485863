//! What requests share: built once at the start, never changed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::HeaderMap;
use tokio::sync::watch;

use crate::clock::{Clock, Micros};
use crate::config::Settings;
use crate::db::Db;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::gate::Gate;
use crate::gate::shield::client_address;
use crate::metering::{Archived, Journal, Shipped};
use crate::operator::Issuer;
use crate::telemetry::Metrics;

/// How long a command waits for usage to be shipped.
const SHIP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it waits for each of ledger and archive to have all of it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(120);

/// The parts that handlers use.
pub struct App {
    /// Bounds and addresses.
    pub settings: Settings,
    /// Database time carried forward.
    pub clock: Clock,
    /// The control plane and the ledger.
    pub db: Db,
    /// Whose tokens operators bear.
    pub operators: Issuer,
    /// Keys, plans and partners in memory.
    pub directory: Arc<Directory>,
    /// Event log, projector, feature store.
    pub engine: Arc<Engine>,
    /// From a query to its answer.
    pub gate: Gate,
    /// Where usage becomes durable.
    pub journal: Arc<Journal>,
    /// How far it is in the ledger.
    pub shipped: watch::Receiver<Shipped>,
    /// Asks the shipper to go at once.
    pub ship_now: watch::Sender<u64>,
    /// How far the journal is in the archive.
    pub archived: watch::Receiver<Archived>,
    /// Asks the archiver to go at once.
    pub archive_now: watch::Sender<u64>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The partner schema's SDL.
    pub sdl: String,
}

impl App {
    /// Whom the shield counts for a request.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer, headers, &self.settings.server.trusted_proxies)
    }

    /// Ships all that is journaled by now, and waits for it.
    pub async fn ship(&self) -> anyhow::Result<Micros> {
        let end = *self.journal.watch().borrow();
        let mut shipped = self.shipped.clone();
        self.ship_now.send_modify(|asked| *asked += 1);
        let done = shipped.wait_for(|shipped| shipped.to >= end);
        let done = tokio::time::timeout(SHIP_TIMEOUT, done).await.context("the ledger did not take the usage in time")??;
        Ok(done.as_of)
    }

    /// Ships, seals and archives all that is journaled by now and promises it in the ledger: what a month's close asks for. The
    /// answer is the instant before which all that was admitted is there.
    pub async fn close_journal(&self) -> anyhow::Result<Micros> {
        let asked_at = self.clock.now();
        self.journal.seal().await.context("the usage journal cannot be sealed")?;
        let end = *self.journal.watch().borrow();
        let mut shipped = self.shipped.clone();
        self.ship_now.send_modify(|asked| *asked += 1);
        let done = shipped.wait_for(|shipped| shipped.to >= end && shipped.looked_at >= asked_at);
        let watermark = {
            let done = tokio::time::timeout(CLOSE_TIMEOUT, done).await;
            done.context("the ledger did not take the usage in time")??.watermark
        };
        let mut archived = self.archived.clone();
        self.archive_now.send_modify(|asked| *asked += 1);
        let asked = *self.archive_now.borrow();
        let is_there = |archived: &Archived| archived.below >= end.segment;
        let done = archived.wait_for(|archived| is_there(archived) || archived.failure.is_some() && archived.asked >= asked);
        let done = tokio::time::timeout(CLOSE_TIMEOUT, done).await.context("the archive did not take the usage in time")??;
        match &done.failure {
            Some(failure) if !is_there(&done) => anyhow::bail!("the usage is in the ledger, but not in the archive: {failure}"),
            _ => Ok(watermark),
        }
    }

    /// Usage records that are journaled since the start and not yet in the ledger.
    pub fn backlog(&self) -> u64 {
        self.metrics.journaled_records.get().saturating_sub(self.metrics.shipped_of_this_start.get())
    }

    /// Why this process should get no traffic now; empty when it should.
    pub async fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let now = self.clock.now();
        if self.directory.current(now).is_none() {
            reasons.push(format!("the database has not confirmed keys for {} s", self.directory.age(now).as_secs()));
        }
        match self.engine.features().standings().await {
            Ok(standings) => {
                let unknown = standings.iter().filter(|standing| standing.as_of.is_none()).count();
                if unknown > 0 {
                    reasons.push(format!("{unknown} partitions of the feature store have no position yet"));
                }
            }
            Err(error) => reasons.push(format!("the feature store cannot be read: {error:#}")),
        }
        if self.journal.is_poisoned() {
            reasons
                .push("the usage journal could not be synced and takes no more records: check the disk, then restart".to_owned());
        }
        reasons
    }
}
