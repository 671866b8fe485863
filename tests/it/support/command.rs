//! The binary, as a user runs it.

use std::process::{Command, Stdio};

use super::Database;

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its stdout, when it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Its one sentence, when it failed.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, 1, "{self:?}");
        assert_eq!(self.stdout, "", "nothing on stdout: {self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "one sentence: {self:?}");
        self.stderr.trim_end().strip_prefix("error: ").unwrap().to_owned()
    }
}

/// Runs a command over `database`'s folder.
pub(crate) fn tollgate(database: &Database, arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .envs(database.environment())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
