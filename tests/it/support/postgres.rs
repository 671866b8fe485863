//! A PostgreSQL server of a test's own, with fsync on, which can be killed, suspended and started again.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;

pub(crate) struct Postgres {
    binaries: PathBuf,
    /// The server refuses to run as root.
    owner: (u32, u32),
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

/// Sends a signal to processes that this test started; some may be gone already.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status().unwrap();
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with scripts/test, which finds PostgreSQL"))
}

impl Postgres {
    /// A new server that takes connections.
    pub(crate) async fn start() -> Self {
        let owner = setting("TOLLGATE_TEST_POSTGRES_OWNER");
        let (user, group) = owner.split_once(':').unwrap();
        let owner = (user.parse().unwrap(), group.parse().unwrap());
        let folder = tempfile::Builder::new().prefix("tgpg").tempdir().unwrap();
        chown(folder.path(), Some(owner.0), Some(owner.1)).unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(folder.path().join("data")).unwrap();
        chown(folder.path().join("data"), Some(owner.0), Some(owner.1)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { binaries: setting("TOLLGATE_TEST_POSTGRES_BIN").into(), owner, folder, port, server: None };
        let made = postgres
            .command("initdb")
            .args(["-U", "tollgate", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        postgres.restart().await;
        postgres
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.arg("-D").arg(self.folder.path().join("data"));
        command.current_dir(self.folder.path()).uid(self.owner.0).gid(self.owner.1).stdin(Stdio::null());
        command
    }

    /// Starts the server again where it was killed, and waits until it takes connections.
    pub(crate) async fn restart(&mut self) {
        assert!(self.server.is_none());
        let mut command = self.command("postgres");
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.path().display()));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let server = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.server = Some(server);
        sqlx::any::install_default_drivers();
        for _ in 0..600 {
            if AnyConnection::connect(&format!("{}/postgres", self.url())).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL did not start: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    /// Where databases are made.
    pub(crate) fn url(&self) -> String {
        format!("postgres://tollgate@127.0.0.1:{}", self.port)
    }

    /// The server's processes, its first one in front.
    fn pids(&self) -> Vec<u32> {
        let Some(server) = &self.server else { return Vec::new() };
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.id())).unwrap_or_default();
        std::iter::once(server.id()).chain(children.split_whitespace().map(|pid| pid.parse().unwrap())).collect()
    }

    /// SIGKILL to all of its processes.
    pub(crate) fn kill(&mut self) {
        // Stopped first: nobody is born or cleans up while the others die.
        self.suspend();
        let pids = self.pids();
        signal("KILL", &pids);
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
        // The next one refuses to start while one of them has the shared memory.
        while pids.iter().any(|pid| lives(*pid)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Connections stay open, and nobody answers.
    pub(crate) fn suspend(&self) {
        // Twice: the first one could still have had a child.
        signal("STOP", &self.pids());
        signal("STOP", &self.pids());
    }

    pub(crate) fn resume(&self) {
        signal("CONT", &self.pids());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}
