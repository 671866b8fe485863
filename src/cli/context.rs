//! What commands reach for: the database, and the engine of the data folder, here or in the process that holds it.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::control::Control;
use crate::clock::{Clock, Micros};
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::db::Db;
use crate::engine::Engine;
use crate::metering::{Archive, at_rest};
use crate::telemetry::Metrics;

/// A process that has just taken the folder needs a moment before it answers.
const CONTROL_TRIES: u32 = 100;
const CONTROL_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) rng: StdRng,
}

/// The engine of the data folder.
pub(super) enum Reached {
    /// Nobody holds the folder: opened by this command.
    Here(Box<Engine>, DataDir),
    /// The gateway that holds the folder does it for us.
    There(Control),
}

impl Context {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, rng: StdRng::from_os_rng() }
    }

    /// The database, and its time.
    pub(super) async fn db(&self) -> anyhow::Result<(Db, Micros)> {
        let db = Db::open(&self.settings.database_url(), 2, &self.settings.data_dir).await?;
        let db = db.shifted(self.settings.database.clock_shift);
        let now = db.now().await?;
        Ok((db, now))
    }

    /// The engine, wherever it is.
    pub(super) async fn engine(&self) -> anyhow::Result<Reached> {
        for _ in 0..CONTROL_TRIES {
            if let Some(data_dir) = DataDir::try_lock(&self.settings.data_dir)? {
                let clock = Clock::system();
                let (db, _) = self.db().await?;
                let engine = Engine::open(&self.settings, &data_dir, &db, clock, Arc::new(Metrics::default())).await?;
                engine.settle_journeys().await?;
                return Ok(Reached::Here(Box::new(engine), data_dir));
            }
            if let Some(control) = Control::connect(&self.settings.data_dir).await? {
                return Ok(Reached::There(control));
            }
            tokio::time::sleep(CONTROL_PAUSE).await;
        }
        Err(self.held())
    }

    /// Asks a running gateway, if there is one, to ship its usage, so that what was answered until now is counted.
    pub(super) async fn ship(&self) -> anyhow::Result<()> {
        if let Some(control) = Control::connect(&self.settings.data_dir).await? {
            control.ship().await?;
        }
        Ok(())
    }

    /// Ships, seals and archives the usage of this data folder, through the gateway that runs on it or, where none does, here, and
    /// promises in the ledger how far: what must have happened before a month is closed. Other replicas do it by themselves.
    pub(super) async fn close_journal(&self) -> anyhow::Result<()> {
        let path = &self.settings.data_dir;
        for _ in 0..CONTROL_TRIES {
            // Finance may work beside a database of other machines, with no data folder at all.
            if !path.join("replica").exists() {
                return Ok(());
            }
            if let Some(control) = Control::connect(path).await? {
                return control.close_journal().await.map(drop);
            }
            if let Some(data_dir) = DataDir::try_lock(path)? {
                let (db, now) = self.db().await?;
                let archive = Archive::open(&self.settings.archive, path)?;
                return at_rest::close(&data_dir.journal(), &data_dir.replica(now)?, &db, &archive).await;
            }
            tokio::time::sleep(CONTROL_PAUSE).await;
        }
        Err(self.held())
    }

    fn held(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "the data folder {} is held by another process that does not answer: wait for it, or stop it",
            self.settings.data_dir.display()
        )
    }

    /// Tells a running gateway of a change, so that it need not look for it; it would within a moment.
    pub(super) async fn refresh(&self) {
        if let Ok(Some(control)) = Control::connect(&self.settings.data_dir).await {
            drop(control.refresh().await);
        }
    }
}
