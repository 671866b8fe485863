//! Redis: the shared servers that `scripts/test` starts, and one of a test's own, which can be killed, suspended and started again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::postgres::signal;

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with scripts/test, which finds Redis"))
}

/// One server, shared by tests: keep to a prefix of your own.
pub(crate) fn single() -> String {
    setting("TOLLGATE_TEST_REDIS")
}

/// A cluster of three masters, shared by tests: keep to a prefix of your own.
pub(crate) fn cluster() -> String {
    setting("TOLLGATE_TEST_REDIS_CLUSTER")
}

/// That nobody else has.
pub(crate) fn prefix() -> String {
    format!("t{:016x}", rand::random::<u64>())
}

/// A server of a test's own.
pub(crate) struct Redis {
    folder: TempDir,
    port: u16,
    append_only: bool,
    server: Option<Child>,
}

impl Redis {
    /// A new server that takes connections. With `append_only`, what it has acknowledged survives its process.
    pub(crate) async fn start(append_only: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("tgredis").tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { folder, port, append_only, server: None };
        redis.restart().await;
        redis
    }

    /// Starts the server again where it was killed, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        assert!(self.server.is_none());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(setting("TOLLGATE_TEST_REDIS_SERVER"));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", if self.append_only { "yes" } else { "no" }, "--dir"]).arg(self.folder.path());
        self.server = Some(command.stdin(Stdio::null()).stdout(log).spawn().unwrap());
        for _ in 0..600 {
            let client = redis::Client::open(self.url()).unwrap();
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("Redis did not start: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// For a look behind the store's back.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Connections stay open, and nobody answers.
    pub(crate) fn suspend(&self) {
        signal("STOP", &[self.server.as_ref().unwrap().id()]);
    }

    pub(crate) fn resume(&self) {
        signal("CONT", &[self.server.as_ref().unwrap().id()]);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
