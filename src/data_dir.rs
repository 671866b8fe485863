//! The data folder: one process at a time, known by a lock; where everything lies in it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::Micros;
use crate::ids::ReplicaId;
use crate::segment;

/// Linux takes 107 bytes and a zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A data folder that nobody else writes to, as long as this lives.
pub struct DataDir {
    path: PathBuf,
    /// The kernel lets go of the lock when the process ends, however it ends.
    lock: File,
}

impl Drop for DataDir {
    /// Closing is not enough while a child of this process lies between fork and exec: it has a copy of every open file, and the lock
    /// lives as long as the last copy.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!("cannot unlock the data folder {}: {error}", self.path.display());
        }
    }
}

/// Makes the data folder, for its owner alone: it holds usage, and hashes of keys.
pub fn create(path: &Path) -> anyhow::Result<()> {
    segment::durably(path, || DirBuilder::new().recursive(true).mode(0o700).create(path)).with_context(|| {
        format!("cannot create the data folder {}: set data_dir to a folder that can be written", path.display())
    })
}

impl DataDir {
    /// Takes the folder, making it where there is none. None when another process has it.
    pub fn try_lock(path: &Path) -> anyhow::Result<Option<Self>> {
        create(path)?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&file).with_context(|| {
            format!("cannot write to the data folder {}: set data_dir to one that can be written", path.display())
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {}", file.display())),
        }
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        Ok(Some(Self { path: path.to_owned(), lock }))
    }

    /// Takes the folder for a gateway, or says who has it.
    pub fn lock(path: &Path) -> anyhow::Result<Self> {
        if let Some(taken) = Self::try_lock(path)? {
            return Ok(taken);
        }
        let mut holder = String::new();
        drop(File::open(path.join("lock")).and_then(|mut lock| lock.read_to_string(&mut holder)));
        bail!(
            "the data folder {} is in use by another tollgate process (pid {}): stop that one, or set another data_dir",
            path.display(),
            if holder.is_empty() { "unknown" } else { holder.trim() }
        )
    }

    /// The event log's folder.
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// The dead-letter log's folder.
    pub fn dead_letters(&self) -> PathBuf {
        self.path.join("deadletters")
    }

    /// The folder of the feature store's snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The usage journal's folder.
    pub fn journal(&self) -> PathBuf {
        Self::journal_in(&self.path)
    }

    /// The usage journal's folder in the data folder `path`, for who reads it beside a running gateway.
    pub fn journal_in(path: &Path) -> PathBuf {
        path.join("journal")
    }

    /// The Unix socket through which commands reach the process that has the folder.
    pub fn socket(path: &Path) -> anyhow::Result<PathBuf> {
        let socket = path.join("tollgate.sock");
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX,
            "the path {} is too long for a Unix socket: set data_dir to a path of at most {} bytes",
            socket.display(),
            SOCKET_PATH_BYTES_MAX - "/tollgate.sock".len()
        );
        Ok(socket)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This folder's place in the ledger; drawn once, then kept.
    pub fn replica(&self, now: Micros) -> anyhow::Result<ReplicaId> {
        if let Some(replica) = Self::replica_in(&self.path)? {
            return Ok(replica);
        }
        let replica = ReplicaId::new(now, &mut StdRng::from_os_rng());
        let draft = self.path.join("replica.new");
        let mut out = File::create(&draft)?;
        out.write_all(replica.as_str().as_bytes())?;
        out.sync_all()?;
        fs::rename(&draft, self.path.join("replica"))?;
        File::open(&self.path)?.sync_all()?;
        Ok(replica)
    }

    /// What tells this folder from every copy of it until this machine starts anew: the lock keeps it to one process, and a copy has
    /// another lock.
    pub fn identity(&self) -> anyhow::Result<String> {
        // Where there is none, two machines with the same disk look like one.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let lock = self.lock.metadata().with_context(|| format!("cannot look at the data folder {}", self.path.display()))?;
        Ok(format!("{} {}:{}", boot.trim(), lock.dev(), lock.ino()))
    }

    /// The place in the ledger of the data folder `path`; none where it never had one.
    pub fn replica_in(path: &Path) -> anyhow::Result<Option<ReplicaId>> {
        let file = path.join("replica");
        match fs::read_to_string(&file) {
            Ok(text) => {
                ensure!(text.trim().starts_with("rep_"), "{} holds no replica id: bring it back from a backup", file.display());
                Ok(Some(text.trim().into()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(format!("cannot read {}", file.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_being_started_does_not_keep_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(folder.path()).unwrap();
        assert!(DataDir::try_lock(folder.path()).unwrap().is_none());
        let copy_of_a_child = data_dir.lock.try_clone().unwrap();
        drop(data_dir);
        assert!(DataDir::try_lock(folder.path()).unwrap().is_some());
        drop(copy_of_a_child);
    }
}
