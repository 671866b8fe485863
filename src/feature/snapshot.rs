//! Snapshots of the embedded store: the state of every partition with its position, so that a start reads the log's tail
//! only. The two newest are kept: should one be unreadable, the other and a longer piece of log give the same state.
//!
//! A file is magic, then for each partition its length u64, CRC32C u32 and bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::state::{Frozen, Partition};

const MAGIC: &[u8; 8] = b"TGSNP\x03\0\0";
const KEPT: usize = 2;

pub(super) fn encode(partition: &Frozen) -> anyhow::Result<Vec<u8>> {
    Ok(postcard::to_allocvec(partition)?)
}

/// Numbers of the snapshots in `folder`, newest first.
fn list(folder: &Path) -> anyhow::Result<Vec<u64>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut numbers: Vec<u64> = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".snap")?.parse().ok())
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.snap"))
}

/// The newest snapshot that can be read. None where there is none; an error where there are some and none can be read.
pub(super) fn newest(folder: &Path) -> anyhow::Result<Option<Vec<Partition>>> {
    let numbers = list(folder)?;
    for &number in &numbers {
        match read(&path(folder, number)) {
            Ok(states) => return Ok(Some(states)),
            Err(error) => tracing::error!(
                snapshot = number,
                error = format!("{error:#}"),
                "a snapshot cannot be read; trying the one before"
            ),
        }
    }
    ensure!(
        numbers.is_empty(),
        "no snapshot in {} can be read: bring one back from a backup, or delete them to rebuild from the log",
        folder.display()
    );
    Ok(None)
}

fn read(path: &Path) -> anyhow::Result<Vec<Partition>> {
    let bytes = fs::read(path)?;
    ensure!(bytes.starts_with(MAGIC), "{} is no snapshot of this version of Tollgate", path.display());
    let mut rest = &bytes[MAGIC.len()..];
    let mut states = Vec::new();
    while !rest.is_empty() {
        let Some((prefix, behind)) = rest.split_at_checked(12) else { bail!("{} is cut off", path.display()) };
        let (mut length, mut crc) = ([0; 8], [0; 4]);
        length.copy_from_slice(&prefix[..8]);
        crc.copy_from_slice(&prefix[8..]);
        let length = usize::try_from(u64::from_le_bytes(length))?;
        let Some((body, behind)) = behind.split_at_checked(length) else { bail!("{} is cut off", path.display()) };
        ensure!(crc32c::crc32c(body) == u32::from_le_bytes(crc), "{} is damaged", path.display());
        let mut state: Partition = postcard::from_bytes(body)?;
        state.journeys.complete();
        states.push(state);
        rest = behind;
    }
    Ok(states)
}

/// Writes a snapshot under a new number and drops the oldest past two. Answers where the older kept one stands.
pub(super) fn write(
    folder: &Path,
    partitions: impl Iterator<Item = anyhow::Result<Vec<u8>>>,
) -> anyhow::Result<Option<Vec<Option<u64>>>> {
    fs::create_dir_all(folder)?;
    let numbers = list(folder)?;
    let number = numbers.first().map_or(1, |newest| newest + 1);
    let draft = folder.join("next.snap.new");
    let mut out = BufWriter::new(File::create(&draft).with_context(|| format!("cannot write {}", draft.display()))?);
    out.write_all(MAGIC)?;
    for bytes in partitions {
        let bytes = bytes?;
        out.write_all(&(bytes.len() as u64).to_le_bytes())?;
        out.write_all(&crc32c::crc32c(&bytes).to_le_bytes())?;
        out.write_all(&bytes)?;
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&draft, path(folder, number))?;
    File::open(folder)?.sync_all()?;
    for old in numbers.iter().skip(KEPT - 1) {
        fs::remove_file(path(folder, *old))?;
    }
    let older = numbers.first().map(|&older| read(&path(folder, older))).transpose()?;
    Ok(older.map(|states| states.iter().map(|state| state.applied).collect()))
}
