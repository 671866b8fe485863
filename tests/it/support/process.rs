//! A gateway as a process of its own, which can be killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::Database;

pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Metrics and health.
    pub(crate) operators: SocketAddr,
}

impl Process {
    /// Starts `tollgate serve` on free ports.
    pub(crate) fn serve(database: &Database) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("serve");
        Self::start(command, database)
    }

    /// Starts `tollgate serve --role projector`.
    pub(crate) fn projector(database: &Database) -> Self {
        Self::in_role("projector", database)
    }

    /// Starts `tollgate serve --role gateway`.
    pub(crate) fn gateway(database: &Database) -> Self {
        Self::in_role("gateway", database)
    }

    fn in_role(role: &str, database: &Database) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["serve", "--role", role]);
        Self::start(command, database)
    }

    /// Starts what is given, which must become a gateway or a projector.
    pub(crate) fn start(mut command: Command, database: &Database) -> Self {
        let mut child = command
            .envs(database.environment())
            .env("TOLLGATE__SERVER__LISTEN", "127.0.0.1:0")
            .env("TOLLGATE__SERVER__OPERATOR_LISTEN", "127.0.0.1:0")
            .env("TOLLGATE__LOG__FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, listening) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
                let address = |name: &str| entry[name].as_str().map(|address| address.parse::<SocketAddr>().unwrap());
                if let ("listening" | "projecting", Some(operators)) =
                    (entry["message"].as_str().unwrap_or_default(), address("operator_address"))
                {
                    // A projector has no partners.
                    if found.send((address("address").unwrap_or(operators), operators)).is_err() {
                        return;
                    }
                } else if entry["level"] == "ERROR" {
                    println!("gateway: {line}");
                }
            }
        });
        match listening.recv_timeout(Duration::from_secs(60)) {
            Ok((address, operators)) => Self { child, address, operators },
            Err(_) => {
                drop(child.kill());
                panic!("the gateway did not start: {:?}", child.wait());
            }
        }
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// `STOP`, `CONT`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        super::postgres::signal(name, &[self.child.id()]);
    }

    /// SIGKILL: nothing is flushed, nobody is asked.
    pub(crate) fn kill(mut self) {
        // It may be dead already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn terminate(mut self) {
        let killed = Command::new("kill").args(["-TERM", &self.pid()]).status().unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
