//! A projector from its start to its stop: event log in, feature store out. No partner reaches it; several share the log's partitions.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{ANCHOR_EVERY, SIDE_CONNECTIONS_MAX, anchor, checkpoint, control_listener, every, listen};
use crate::clock::Clock;
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::db::Db;
use crate::engine::Engine;
use crate::http::{self, Projecting, server};
use crate::telemetry::Metrics;

/// A projector that runs.
pub struct Running {
    /// Where operators reach it.
    pub operator_address: SocketAddr,
    engine: Arc<Engine>,
    workers: Vec<JoinHandle<()>>,
    listeners: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    socket: std::path::PathBuf,
    db: Db,
    _data_dir: DataDir,
}

/// Starts a projector.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let data_dir = DataDir::lock(&settings.data_dir)?;
    let socket = DataDir::socket(&settings.data_dir)?;
    let operators = listen("server.operator_listen", settings.server.operator_listen).await?;
    let operator_address = operators.local_addr()?;

    let clock = Clock::system();
    let metrics = Arc::new(Metrics::default());
    // Freshness is told by this clock, and read by gateways that go by the database's.
    let db = Db::open(&settings.database_url(), 2, &settings.data_dir).await?.shifted(settings.database.clock_shift);
    clock.anchor(db.now().await?);
    let engine = Arc::new(Engine::open(&settings, &data_dir, &db, clock.clone(), metrics.clone()).await?);

    let (stop, stopping) = watch::channel(false);
    let workers = vec![
        tokio::spawn({
            let (engine, stop) = (engine.clone(), stopping.clone());
            async move { engine.run(stop).await }
        }),
        tokio::spawn({
            let (engine, stop) = (engine.clone(), stopping.clone());
            async move { engine.run_journeys(stop).await }
        }),
        tokio::spawn(every(settings.features.snapshot_every, stopping.clone(), {
            let engine = engine.clone();
            move || checkpoint(engine.clone())
        })),
        tokio::spawn(every(ANCHOR_EVERY, stopping.clone(), {
            let (clock, db) = (clock.clone(), db.clone());
            move || anchor(clock.clone(), db.clone())
        })),
    ];
    let bounds = server::Bounds {
        connections_max: SIDE_CONNECTIONS_MAX,
        header_timeout: settings.server.header_timeout,
        drain_timeout: settings.server.drain_timeout,
    };
    let routes = http::projector(Projecting { engine: engine.clone(), metrics, clock });
    let commands = http::control::engine(engine.clone(), settings.events.event_bytes_max);
    let control = control_listener(&socket)?;
    let listeners = vec![
        tokio::spawn(server::serve(operators, routes, bounds.clone(), Default::default(), stopping.clone())),
        tokio::spawn(server::serve(control, commands, bounds, Default::default(), stopping)),
    ];
    tracing::info!(%operator_address, "projecting");
    Ok(Running { operator_address, engine, workers, listeners, stop, socket, db, _data_dir: data_dir })
}

impl Running {
    /// Stops: what was read is applied, and the partitions go to the others.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!("stopping");
        drop(std::fs::remove_file(&self.socket));
        self.stop.send_replace(true);
        for task in self.listeners.into_iter().chain(self.workers) {
            task.await?;
        }
        self.engine.checkpoint().await?;
        self.db.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}
