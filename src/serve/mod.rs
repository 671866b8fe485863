//! A gateway from its start to its stop: put together here, once, in the order of the flow.

pub mod projector;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::clock::{Clock, Micros};
use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::db::{ANSWER_TIMEOUT, Db, within};
use crate::directory::{Directory, LastUsed};
use crate::engine::Engine;
use crate::gate::Gate;
use crate::gate::admit::House;
use crate::gate::budget::Budgets;
use crate::gate::limiter::Limiter;
use crate::gate::shield::Shield;
use crate::http::{self, server};
use crate::ids::ReplicaId;
use crate::metering::replica_store::{self, Silent};
use crate::metering::{Archive, Archiver, InFlight, Journal, Shipped, Shipper, reship, retention};
use crate::operation::Documents;
use crate::operator::Issuer;
use crate::product::{self, Services};
use crate::segment::Options;
use crate::telemetry::Metrics;

/// The clock is tied to the database's this often.
const ANCHOR_EVERY: Duration = Duration::from_secs(30);
/// Addresses that are calm again are forgotten this often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A start that waits for the ledger says so this often.
const BACKLOG_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Who has a replica's id reports every second; silent for so long, another data folder may have it.
const REPLICA_LEASE: Duration = Duration::from_secs(10);
/// Whether it reports is looked up this often.
const REPLICA_LOOK_EVERY: Duration = Duration::from_millis(250);
/// A stop waits this long for an archive that does not answer: what is missing there stays on this disk for the next start.
const ARCHIVE_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Whether other replicas want leased quota back is looked up this often.
const BUDGETS_EVERY: Duration = Duration::from_millis(500);
/// What is past retention is looked for this often.
const RETENTION_EVERY: Duration = Duration::from_secs(3600);
/// Operators and commands are few.
const SIDE_CONNECTIONS_MAX: usize = 64;

/// A gateway that runs.
pub struct Running {
    /// Where partners reach it.
    pub address: SocketAddr,
    /// Where operators do.
    pub operator_address: SocketAddr,
    /// What its requests share.
    pub app: Arc<App>,
    /// Background work that feeds answers: stopped after the listeners.
    workers: Vec<JoinHandle<()>>,
    listeners: Vec<JoinHandle<()>>,
    shipper: JoinHandle<()>,
    archiver: JoinHandle<()>,
    stop_listening: watch::Sender<bool>,
    stop_working: watch::Sender<bool>,
    stop_shipping: watch::Sender<bool>,
    stop_archiving: watch::Sender<bool>,
    db: Db,
    socket: std::path::PathBuf,
    _data_dir: DataDir,
}

/// Starts a gateway that is its own projector.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    start_gateway(settings, true).await
}

/// Starts a gateway; one that does not project reads what projectors elsewhere have applied.
pub async fn start_gateway(settings: Settings, projects: bool) -> anyhow::Result<Running> {
    let data_dir = DataDir::lock(&settings.data_dir)?;
    let socket = DataDir::socket(&settings.data_dir)?;
    // Before anything is written: a taken port is the commonest mistake.
    let partners = listen("server.listen", settings.server.listen).await?;
    let operators = listen("server.operator_listen", settings.server.operator_listen).await?;
    let (address, operator_address) = (partners.local_addr()?, operators.local_addr()?);

    let clock = Clock::system();
    let metrics = Arc::new(Metrics::default());
    let db = Db::open(&settings.database_url(), settings.database.connections_max, &settings.data_dir).await?;
    let db = db.shifted(settings.database.clock_shift);
    clock.anchor(db.now().await?);

    let engine = Arc::new(Engine::open(&settings, &data_dir, &db, clock.clone(), metrics.clone()).await?);
    let directory = Arc::new(Directory::open(db.clone(), clock.clone(), settings.gate.directory_stale_max).await?);
    let last_used = LastUsed::new(directory.clone(), db.clone());
    let archive = Archive::open(&settings.archive, &settings.data_dir)?;
    let journal = Arc::new(open_journal(&settings, &data_dir, &db, &clock).await?);
    let (folder, replica, epoch) = (data_dir.journal(), journal.replica(), journal.epoch());
    reship::from_archive(&folder, replica, epoch, &db, &archive, &clock, metrics.clone()).await?;
    let in_flight = Arc::new(InFlight::new(&clock));
    let (ship_now, ship_asked) = watch::channel(0);
    let (shipper, shipped) = Shipper::new(
        journal.clone(),
        in_flight.clone(),
        db.clone(),
        clock.clone(),
        settings.journal.ship_every,
        metrics.clone(),
        ship_asked,
    );

    let (archive_now, archive_asked) = watch::channel(0);
    let (archiver, archived) = Archiver::new(
        journal.clone(),
        archive.clone(),
        db.clone(),
        clock.clone(),
        settings.journal.segment_age,
        metrics.clone(),
        shipped.clone(),
        archive_asked,
    );
    let (stop_archiving, archiving) = watch::channel(false);
    let archiver = tokio::spawn(archiver.run(archiving));

    // Shipped before anything is answered: the ledger then has all that the quotas and caps begin with.
    let (stop_shipping, shipping) = watch::channel(false);
    let shipper = tokio::spawn(shipper.run(shipping));
    wait_for_backlog(&journal, shipped.clone(), &ship_now).await?;
    let budgets = Budgets::open(&db, journal.replica(), journal.epoch(), clock.now()).await?;

    let sdl = product::sdl();
    let validate = product::validator(settings.gate.suggestions);
    let documents = Documents::new(&sdl, validate, Default::default(), settings.gate.documents_bytes_max)?;
    let documents = Arc::new(documents);
    let services = Services {
        features: engine.features(),
        sample: Arc::new(product::sample().await?),
        documents: documents.clone(),
        db: db.clone(),
        shipped: shipped.clone(),
    };
    let gate = Gate {
        clock: clock.clone(),
        directory: directory.clone(),
        shield: Shield::new(settings.gate.shield_burst, settings.gate.shield_interval)
            .context("the settings gate.shield_burst and gate.shield_interval must not be zero")?,
        limiter: open_limiter(&settings, journal.replica(), metrics.clone()).await?,
        budgets,
        house: House { answer_fields_max: settings.gate.answer_fields_max, introspection: settings.gate.introspection },
        documents,
        schema: product::schema(services),
        in_flight,
        journal: journal.clone(),
        metrics: metrics.clone(),
        body_bytes_max: settings.server.graphql_body_bytes_max,
        body_timeout: settings.server.body_timeout,
        execution_timeout: settings.server.execution_timeout,
        ids: Gate::ids(),
    };
    let app = Arc::new(App {
        clock: clock.clone(),
        db: db.clone(),
        operators: Issuer::open(data_dir.path(), &mut StdRng::from_os_rng())?,
        directory: directory.clone(),
        engine: engine.clone(),
        gate,
        journal,
        shipped,
        ship_now,
        archived,
        archive_now,
        metrics: metrics.clone(),
        sdl,
        settings,
    });

    let (stop_listening, listening) = watch::channel(false);
    let (stop_working, working) = watch::channel(false);
    let projecting = projects.then(|| {
        let (engine, stop) = (engine.clone(), working.clone());
        tokio::spawn(async move { engine.run(stop).await })
    });
    let mut workers = vec![
        tokio::spawn({
            let (directory, poll, stop) = (directory.clone(), app.settings.gate.directory_poll, working.clone());
            async move { directory.follow(poll, stop).await }
        }),
        tokio::spawn({
            let (engine, stop) = (engine.clone(), working.clone());
            async move { engine.run_journeys(stop).await }
        }),
        tokio::spawn({
            let (app, stop) = (app.clone(), working.clone());
            async move { app.gate.budgets.follow(BUDGETS_EVERY, stop).await }
        }),
        tokio::spawn({
            let (app, stop) = (app.clone(), working.clone());
            async move { app.gate.limiter.follow(stop).await }
        }),
        tokio::spawn(last_used.run(app.settings.gate.last_used_every, working.clone())),
        tokio::spawn(every(app.settings.features.snapshot_every, working.clone(), {
            let engine = engine.clone();
            move || checkpoint(engine.clone())
        })),
        tokio::spawn(every(ANCHOR_EVERY, working.clone(), {
            let (clock, db) = (clock.clone(), db.clone());
            move || anchor(clock.clone(), db.clone())
        })),
        tokio::spawn(every_from_now(RETENTION_EVERY, working.clone(), {
            let app = app.clone();
            let db = db.clone();
            move || remove_old(app.clone(), archive.clone(), db.clone())
        })),
        tokio::spawn(every(SWEEP_EVERY, working, {
            let app = app.clone();
            move || {
                app.gate.shield.sweep();
                std::future::ready(())
            }
        })),
    ];
    workers.extend(projecting);

    let bounds = server::Bounds {
        connections_max: app.settings.server.connections_max,
        header_timeout: app.settings.server.header_timeout,
        drain_timeout: app.settings.server.drain_timeout,
    };
    let side = server::Bounds { connections_max: SIDE_CONNECTIONS_MAX, ..bounds.clone() };
    let control = control_listener(&socket)?;
    let connections = metrics.connections.clone();
    let listeners = vec![
        tokio::spawn(server::serve(partners, http::partner(app.clone()), bounds, connections, listening.clone())),
        tokio::spawn(server::serve(operators, http::operator(app.clone()), side.clone(), Default::default(), listening.clone())),
        tokio::spawn(server::serve(control, http::control::router(app.clone()), side, Default::default(), listening)),
    ];
    tracing::info!(%address, %operator_address, "listening");
    Ok(Running {
        address,
        operator_address,
        app,
        workers,
        listeners,
        shipper,
        archiver,
        stop_listening,
        stop_working,
        stop_shipping,
        stop_archiving,
        db,
        socket,
        _data_dir: data_dir,
    })
}

impl Running {
    /// The control plane and the ledger.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Stops: no new connections, requests in flight finish, the log is applied, usage shipped, a snapshot written.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!("stopping");
        drop(std::fs::remove_file(&self.socket));
        self.stop_listening.send_replace(true);
        for listener in self.listeners {
            listener.await?;
        }
        self.stop_working.send_replace(true);
        for worker in self.workers {
            worker.await?;
        }
        self.app.engine.catch_up().await?;
        if let Err(error) = self.app.journal.seal().await {
            tracing::warn!(%error, "the journal's last segment was not sealed; the next start takes care of it");
        }
        self.stop_shipping.send_replace(true);
        self.shipper.await?;
        if let Err(error) = within(ANSWER_TIMEOUT, let_go(&self.db, &self.app.journal)).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the replica's id was not let go; a start from a moved data folder waits for it"
            );
        }
        self.stop_archiving.send_replace(true);
        if tokio::time::timeout(ARCHIVE_STOP_TIMEOUT, self.archiver).await.is_err() {
            tracing::warn!("the archive did not take the journal's last segments in time; the next start brings them there");
        }
        self.app.engine.checkpoint().await?;
        self.db.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn let_go(db: &Db, journal: &Journal) -> anyhow::Result<()> {
    let mut transaction = db.begin().await?;
    replica_store::let_go(&mut transaction, journal.replica(), journal.epoch()).await?;
    Ok(transaction.commit().await?)
}

async fn listen(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: stop what listens there, or set {setting} to another address"))
}

fn control_listener(socket: &std::path::Path) -> anyhow::Result<UnixListener> {
    // We hold the folder's lock: a socket that is there was left by a process that is gone.
    drop(std::fs::remove_file(socket));
    let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Gateways on one Redis share rates; one that has its features to itself has its rates to itself.
async fn open_limiter(settings: &Settings, replica: &ReplicaId, metrics: Arc<Metrics>) -> anyhow::Result<Limiter> {
    let features = &settings.features;
    if features.is_shared() {
        return Limiter::shared(&features.url, &features.prefix, replica, Clock::system(), metrics).await;
    }
    Ok(Limiter::default())
}

async fn open_journal(settings: &Settings, data_dir: &DataDir, db: &Db, clock: &Clock) -> anyhow::Result<Journal> {
    let folder = data_dir.journal();
    let replica = data_dir.replica(clock.now())?;
    let local = Journal::last_epoch(&folder)?;
    let epoch = begin_epoch(data_dir, &replica, local, db, clock).await?;
    let options = Options { segment_bytes: settings.journal.segment_bytes, durability: settings.journal.durability };
    Journal::open(&folder, replica, epoch, options, clock.clone())
}

/// Registers this start, once the replica's id is this folder's. It is at once, unless a copy of the folder, or the one that this is
/// a copy of, has it: what that one may use of quotas is leased to the id, and would be used twice.
async fn begin_epoch(data_dir: &DataDir, replica: &ReplicaId, local: i64, db: &Db, clock: &Clock) -> anyhow::Result<i64> {
    let holder = data_dir.identity()?;
    let lease = i64::try_from(REPLICA_LEASE.as_micros())?;
    let (mut seen, mut watched) = (None, Instant::now());
    loop {
        let now = clock.now();
        let mut transaction = db.begin().await?;
        let begun = replica_store::begin_epoch(&mut transaction, replica, local, now).await?;
        let since = seen.filter(|_| watched.elapsed() >= REPLICA_LEASE);
        let silent = Silent { before: Micros(now.0.saturating_sub(lease)), since };
        let Some(reported) = replica_store::take(&mut transaction, replica, &holder, silent, now).await? else {
            transaction.commit().await?;
            return Ok(begun.epoch);
        };
        transaction.rollback().await?;
        match seen {
            None => {
                (seen, watched) = (Some(reported), Instant::now());
                tracing::warn!(
                    replica.id = %replica,
                    "the replica's id was last used from another data folder, or before this machine started; waiting until it is sure \
                     that nobody has it"
                );
            }
            Some(before) => anyhow::ensure!(
                before == reported,
                "the data folder {} is a copy: a gateway runs as {replica} from another one. Stop that one, or, when both shall run, \
                 set data_dir to a new folder",
                data_dir.path().display()
            ),
        }
        tokio::time::sleep(REPLICA_LOOK_EVERY).await;
    }
}

/// Waits until all that an earlier start journaled is in the ledger.
async fn wait_for_backlog(
    journal: &Journal,
    mut shipped: watch::Receiver<Shipped>,
    ship_now: &watch::Sender<u64>,
) -> anyhow::Result<()> {
    let end = *journal.watch().borrow();
    ship_now.send_modify(|asked| *asked += 1);
    loop {
        match tokio::time::timeout(BACKLOG_TOLD_EVERY, shipped.wait_for(|shipped| shipped.to >= end)).await {
            Ok(done) => return done.map(drop).context("the shipper stopped"),
            Err(_) => tracing::warn!("waiting for the ledger to take the usage of earlier starts, before anything is answered"),
        }
    }
}

/// Works `interval` by `interval`, the first time at once.
async fn every_from_now<F: Future<Output = ()>>(interval: Duration, stop: watch::Receiver<bool>, mut work: impl FnMut() -> F) {
    work().await;
    every(interval, stop, work).await;
}

async fn every<F: Future<Output = ()>>(interval: Duration, mut stop: watch::Receiver<bool>, mut work: impl FnMut() -> F) {
    while tokio::time::timeout(interval, stop.wait_for(|stop| *stop)).await.is_err() {
        work().await;
    }
}

async fn remove_old(app: Arc<App>, archive: Archive, db: Db) {
    match retention::remove_old(&archive, &db, &app.clock, app.journal.replica(), app.settings.retention.usage).await {
        Ok(0) => {}
        Ok(segments) => tracing::info!(segments, "archived usage past its retention was removed"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "archived usage past its retention could not be removed"),
    }
}

async fn checkpoint(engine: Arc<Engine>) {
    if let Err(error) = engine.checkpoint().await {
        tracing::error!(error = format!("{error:#}"), "no snapshot could be written; the log is kept until one can");
    }
}

async fn anchor(clock: Clock, db: Db) {
    match db.now().await {
        Ok(now) => {
            if let Err(step) = clock.follow(now) {
                tracing::error!(
                    step_seconds = step.as_secs(),
                    "the database's clock jumped and is not followed; if it is right, restart the gateway"
                );
            }
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "the database's time cannot be read; carried forward meanwhile")
        }
    }
}
