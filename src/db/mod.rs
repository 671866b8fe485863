//! The database: one SQL text for SQLite and PostgreSQL, each statement written once, in `store.rs` files.
//!
//! What makes that possible: ids and JSON as TEXT, time as BIGINT microseconds, money as BIGINT minor units or decimal
//! TEXT, flags as BIGINT 0/1, `$1` parameters, `cast(sum(x) as bigint)`. Always bind i64. The few differences live in
//! [`dialect`].

pub mod dialect;
mod guards;
pub(crate) mod notify;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use sqlx::any::AnyPoolOptions;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Row, Transaction};
use tokio::sync::watch;

use crate::clock::Micros;
use dialect::Dialect;

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// For short questions that a loop asks again and again.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Gives up on a database that does not answer: a server that vanished without a word would hold its caller for a quarter of
/// an hour, or for good.
pub async fn within<T>(limit: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let answered = tokio::time::timeout(limit, work).await;
    answered.unwrap_or_else(|_| Err(anyhow::anyhow!("the database did not answer within {} s", limit.as_secs())))
}

/// A pool of connections, and which of the two databases they go to.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
    dialect: Dialect,
    /// For the connection on which it tells of changes.
    url: String,
    /// Added to its time: for rehearsals.
    shift: SignedDuration,
}

impl Db {
    /// Connects to `url`, and brings the schema up to date. `data_dir` is where an SQLite file's folder is made.
    pub async fn open(url: &str, connections_max: u32, data_dir: &Path) -> anyhow::Result<Self> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(url);
        let mut url = url.to_owned();
        if dialect == Dialect::Sqlite {
            crate::data_dir::create(data_dir)?;
            // Without a mode the file must exist.
            if !url.contains('?') {
                url.push_str("?mode=rwc");
            }
        }
        // Once by hand: a pool would try until its own time-out, and tell that instead of the cause.
        within(ANSWER_TIMEOUT, async {
            let mut first = AnyConnection::connect(&url).await?;
            for statement in dialect.on_connect() {
                first.execute(*statement).await?;
            }
            Ok(first.close().await?)
        })
        .await
        .context("cannot connect to the database: check database.url and that the server runs")?;
        let pool = AnyPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in dialect.on_connect() {
                        connection.execute(*statement).await?;
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .context("cannot connect to the database: check database.url and that the server runs")?;
        let db = Self { pool, dialect, url, shift: SignedDuration::ZERO };
        db.migrate(data_dir).await?;
        Ok(db)
    }

    async fn migrate(&self, data_dir: &Path) -> anyhow::Result<()> {
        // SQLite has no advisory lock to keep two processes from migrating at once; PostgreSQL's is taken by sqlx.
        let guard = match self.dialect {
            Dialect::Sqlite => {
                let lock = File::create(data_dir.join("migrate.lock"))?;
                Some(tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??)
            }
            Dialect::Postgres => None,
        };
        let migrated = async {
            sqlx::migrate!("./migrations").run(&self.pool).await?;
            let mut transaction = self.begin().await?;
            guards::set(&mut transaction, self.dialect).await?;
            Ok(transaction.commit().await?)
        };
        let migrated: anyhow::Result<()> = migrated.await;
        drop(guard);
        migrated.context("cannot bring the database's schema up to date")
    }

    /// The same database, with its time `shift` away.
    #[must_use]
    pub fn shifted(self, shift: SignedDuration) -> Self {
        Self { shift, ..self }
    }

    /// A connection for reading.
    pub async fn read(&self) -> anyhow::Result<PoolConnection<Any>> {
        self.pool.acquire().await.context("the database cannot be reached")
    }

    /// A transaction for reading: every statement sees the same instant.
    pub async fn snapshot(&self) -> anyhow::Result<Transaction<'static, Any>> {
        self.pool.begin_with(self.dialect.begin_read()).await.context("the database cannot be reached")
    }

    /// A transaction for writing; rolled back when dropped.
    pub async fn begin(&self) -> anyhow::Result<Transaction<'static, Any>> {
        self.pool.begin_with(self.dialect.begin_write()).await.context("the database cannot be written to")
    }

    /// A transaction for writing in which every statement sees the same instant; rolled back when dropped.
    pub async fn begin_snapshot(&self) -> anyhow::Result<Transaction<'static, Any>> {
        let begun = self.pool.begin_with(self.dialect.begin_write_snapshot()).await;
        begun.context("the database cannot be written to")
    }

    /// The database's time.
    pub async fn now(&self) -> anyhow::Result<Micros> {
        within(ANSWER_TIMEOUT, async {
            let mut connection = self.read().await?;
            let row = sqlx::query(self.dialect.now()).fetch_one(&mut *connection).await?;
            let now: i64 = row.try_get(0)?;
            let shift = i64::try_from(self.shift.as_micros()).unwrap_or(0);
            Ok(Micros(now.saturating_add(shift)))
        })
        .await
    }

    /// Counts up whenever another process may have changed the control plane. Runs until `told` has no receiver.
    pub async fn listen(&self, told: watch::Sender<u64>) {
        tokio::select! {
            () = notify::listen(self.url.clone(), self.dialect, told.clone()) => {}
            () = told.closed() => {}
        }
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
