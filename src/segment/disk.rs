//! What segments ask of a disk. Behind a trait, so that tests can put a disk in its place that loses what was not synced.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The operations on names. What they change may be lost until the folder was synced, in any part: one of two renames may
/// survive, and not the first.
pub trait Disk: Send + Sync + 'static {
    /// Creates the folder, and those above it, where they are missing; durable when it returns.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// The names in a folder, in any order.
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Creates a file, or empties the one that is there; open for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, in place of what had it. An error says that nothing changed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's names durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Whether a sync costs so much that writers wait for company.
    fn sync_is_dear(&self) -> bool {
        true
    }
}

/// An open file. Writes and lengths may be lost until it was synced, in any part. Its name is the folder's matter.
pub trait DiskFile: Send + Sync {
    /// Fills `bytes` from `at` on, or fails.
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `at`; when it fails, some of them may have been written.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// The length, in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file, or fills it up with zeros.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
    /// Makes the bytes durable, and the length.
    fn sync_data(&self) -> io::Result<()>;
    /// The same, and the file's times.
    fn sync_all(&self) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        durably(folder, || fs::create_dir_all(folder))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// Makes the names of `folder` and of those above it durable, where `create` makes them: a folder that is lost takes along
/// whatever was synced in it.
pub(crate) fn durably(folder: &Path, create: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    create()?;
    for made in missing {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        RealDisk.sync_folder(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

impl DiskFile for File {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}

/// A folder of segments, and the disk that it is on. A path alone is one on the machine's own.
#[derive(Clone)]
pub struct Folder {
    pub(super) disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Folder {
    /// A folder on `disk`.
    pub fn on(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For messages.
    pub fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Creates it where it is missing; durable when it returns.
    pub fn create(&self) -> anyhow::Result<()> {
        use anyhow::Context;
        self.disk.create_folder(&self.path).with_context(|| format!("cannot create the folder {}", self.display()))
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        !matches!(self.disk.names(&self.path), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl From<&Path> for Folder {
    fn from(path: &Path) -> Self {
        Self::on(Arc::new(RealDisk), path)
    }
}

impl From<&PathBuf> for Folder {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&Folder> for Folder {
    fn from(folder: &Folder) -> Self {
        folder.clone()
    }
}
