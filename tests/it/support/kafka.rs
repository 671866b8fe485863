//! A broker of a test's own, which can be killed, suspended and started again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::postgres::signal;

pub(crate) struct Kafka {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests with scripts/test, which fetches Apache Kafka"))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Kafka {
    /// A new broker that takes connections.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("tgkafka").tempdir().unwrap();
        let port = free_port();
        let properties = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka.properties")).unwrap();
        let properties = properties
            .replace("{folder}", folder.path().to_str().unwrap())
            .replace("{port}", &port.to_string())
            .replace("{controller_port}", &free_port().to_string());
        std::fs::write(folder.path().join("server.properties"), properties).unwrap();
        let mut kafka = Self { folder, port, server: None };
        let formatted = kafka.java(&["-Xmx128m"], "kafka.tools.StorageTool", &["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"]);
        let formatted = { formatted }.output().unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        kafka.restart().await;
        kafka
    }

    /// A program of Kafka's, over this broker's settings.
    fn java(&self, flags: &[&str], class: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(setting("TOLLGATE_TEST_JAVA"));
        command.args(flags).args(["-cp", &format!("{}/*", setting("TOLLGATE_TEST_KAFKA_LIBS")), class]).args(arguments);
        command.arg(self.folder.path().join("server.properties")).stdin(Stdio::null());
        command
    }

    /// Starts the broker again where it was killed, and waits until it takes connections.
    pub(crate) async fn restart(&mut self) {
        assert!(self.server.is_none());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let flags = [
            "-Xms128m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        ];
        let mut command = self.java(&flags, "kafka.Kafka", &[]);
        self.server = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the broker did not start: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            server.wait().unwrap();
        }
    }

    /// Connections stay open, and nobody answers.
    pub(crate) fn suspend(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        if let Some(server) = &self.server {
            signal(name, &[server.id()]);
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}
