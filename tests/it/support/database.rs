//! A database of its own for each test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::SignedDuration;
use sqlx::{AnyConnection, Connection, Row};
use tempfile::TempDir;
use tollgate::clock::{Clock, Micros};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A data folder, and an empty database.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    folder: TempDir,
    /// What `database.clock_shift` is, in microseconds.
    shift: AtomicI64,
    /// More settings, for commands and processes.
    settings: Vec<(String, String)>,
}

impl Database {
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => Self::with(kind, "sqlite://{data_dir}/tollgate.db".to_owned()),
            Kind::Postgres => {
                let server = std::env::var("TOLLGATE_TEST_POSTGRES")
                    .expect("TOLLGATE_TEST_POSTGRES is not set: run the tests with scripts/test, which starts PostgreSQL");
                Self::on(&server).await
            }
        }
    }

    /// On a PostgreSQL server of one's own.
    pub(crate) async fn on(server: &str) -> Self {
        let name = format!("test_{:016x}", rand::random::<u64>());
        sqlx::any::install_default_drivers();
        let mut admin = AnyConnection::connect(&format!("{server}/postgres")).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await.unwrap();
        Self::with(Kind::Postgres, format!("{server}/{name}"))
    }

    fn with(kind: Kind, url: String) -> Self {
        let folder = tempfile::Builder::new().prefix("tg").tempdir().unwrap();
        Self { kind, url, folder, shift: AtomicI64::new(0), settings: Vec::new() }
    }

    /// With a setting, such as `events.url`, for commands and processes.
    pub(crate) fn and(mut self, setting: &str, value: &str) -> Self {
        self.settings.push((format!("TOLLGATE__{}", setting.replace('.', "__").to_uppercase()), value.to_owned()));
        self
    }

    /// Another machine: the same database and settings, and a folder of its own.
    pub(crate) fn beside(&self) -> Self {
        Self { settings: self.settings.clone(), ..Self::with(self.kind, self.url.clone()) }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// For the commands and gateways that are started from now on, it is `instant`; time goes on from there.
    pub(crate) fn set_now(&self, instant: Micros) {
        self.shift.store(instant.0 - Clock::system().now().0, Ordering::Relaxed);
    }

    /// What that takes.
    pub(crate) fn clock_shift(&self) -> SignedDuration {
        SignedDuration::from_micros(self.shift.load(Ordering::Relaxed))
    }

    /// A file in the test's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A connection past Tollgate's own code.
    pub(crate) async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let url = self.url.replace("{data_dir}", &self.data_dir().display().to_string());
        AnyConnection::connect(&url).await.unwrap()
    }

    /// One number.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        let mut connection = self.connect().await;
        sqlx::query(sql).fetch_one(&mut connection).await.unwrap().try_get(0).unwrap()
    }

    /// What commands and processes need to find it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment = vec![
            ("TOLLGATE__DATA_DIR".into(), self.data_dir().display().to_string()),
            ("TOLLGATE__DATABASE__URL".into(), self.url.clone()),
            ("TOLLGATE__INVOICE__SELLER__NAME".into(), "Seller Ltd".into()),
        ];
        environment.extend(self.settings.iter().cloned());
        let shift = self.clock_shift().as_micros();
        if shift != 0 {
            let shift = format!("{}{}us", if shift < 0 { "-" } else { "" }, shift.unsigned_abs());
            environment.push(("TOLLGATE__DATABASE__CLOCK_SHIFT".into(), shift));
        }
        environment
    }
}
