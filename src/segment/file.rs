//! One segment file: names, header, frames, and what is left of it after a crash.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::disk::{DiskFile, Folder};

const MAGIC: &[u8; 8] = b"TGSEG\x01\0\0";
const HEADER_PREFIX_BYTES: usize = 16;
pub(super) const FRAME_PREFIX_BYTES: usize = 16;
/// No entry is larger: a length past it is damage, not a reason to allocate.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;

/// The file of segment `number`.
pub(super) fn path(folder: &Folder, number: u64) -> PathBuf {
    folder.path().join(format!("{number:016}.seg"))
}

/// The numbers of a folder's segments, ascending. A gap is damage.
pub fn list(folder: impl Into<Folder>) -> anyhow::Result<Vec<u64>> {
    let folder = folder.into();
    let mut numbers = Vec::new();
    for name in folder.disk.names(folder.path()).with_context(|| format!("cannot read the folder {}", folder.display()))? {
        if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".seg")) {
            numbers.push(stem.parse::<u64>().with_context(|| format!("{name:?} in {} is no segment's name", folder.display()))?);
        }
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        ensure!(
            pair[1] == pair[0] + 1,
            "segment {} is missing in {}: bring it back from a backup",
            pair[0] + 1,
            folder.display()
        );
    }
    Ok(numbers)
}

/// Why a segment was not created.
pub(super) enum NotCreated {
    /// There is none of that number.
    Nothing(io::Error),
    /// There is one, but a crash may take it away: nothing may be built on it, nor go on without it.
    Unsynced(io::Error),
}

/// Creates segment `number` with its header, durably: under another name first, so that a header is never torn.
pub(super) fn create(folder: &Folder, number: u64, header: &[u8]) -> Result<(Box<dyn DiskFile>, u64), NotCreated> {
    let draft = folder.path().join("next.new");
    let written = || {
        let bytes = header_bytes(header)?;
        let file = folder.disk.create(&draft)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        folder.disk.rename(&draft, &path(folder, number))?;
        Ok((file, bytes.len() as u64))
    };
    let created = written().map_err(NotCreated::Nothing)?;
    folder.disk.sync_folder(folder.path()).map_err(NotCreated::Unsynced)?;
    Ok(created)
}

/// How a segment with this header begins.
pub(super) fn header_bytes(header: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER_PREFIX_BYTES + header.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(header).to_le_bytes());
    bytes.extend_from_slice(header);
    Ok(bytes)
}

/// Where the header lies in a segment's bytes, and where its frames begin.
pub(super) fn parse_header(bytes: &[u8]) -> Result<(Range<usize>, usize), &'static str> {
    let fixed = bytes.get(..HEADER_PREFIX_BYTES).ok_or("the file ends within its header")?;
    if &fixed[..8] != MAGIC {
        return Err("this is no segment of this version of Tollgate");
    }
    let header = HEADER_PREFIX_BYTES..HEADER_PREFIX_BYTES.saturating_add(le_u32(&fixed[8..12]) as usize);
    let text = bytes.get(header.clone()).ok_or("the file ends within its header")?;
    if crc32c::crc32c(text) != le_u32(&fixed[12..16]) {
        return Err("the header does not match its checksum");
    }
    let frames = header.end;
    Ok((header, frames))
}

/// The header of segment `number`, and where its frames begin.
pub fn header_of(folder: impl Into<Folder>, number: u64) -> anyhow::Result<(Vec<u8>, u64)> {
    let folder = folder.into();
    let path = path(&folder, number);
    let file = folder.disk.open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut fixed = [0; HEADER_PREFIX_BYTES];
    file.read_exact_at(&mut fixed, 0).with_context(|| format!("{} has no header", path.display()))?;
    ensure!(&fixed[..8] == MAGIC, "{} is no segment of this version of Tollgate", path.display());
    let length = le_u32(&fixed[8..12]) as usize;
    ensure!(length <= 1 << 20, "the header of {} is damaged: bring the file back from a backup", path.display());
    let mut header = vec![0; length];
    file.read_exact_at(&mut header, HEADER_PREFIX_BYTES as u64)
        .with_context(|| format!("the header of {} is cut off", path.display()))?;
    ensure!(
        crc32c::crc32c(&header) == le_u32(&fixed[12..16]),
        "the header of {} is damaged: bring the file back from a backup",
        path.display()
    );
    Ok((header, (HEADER_PREFIX_BYTES + length) as u64))
}

/// All bytes of segment `number`, which no longer changes.
pub fn read(folder: &Folder, number: u64) -> anyhow::Result<Vec<u8>> {
    let path = path(folder, number);
    let whole = || {
        let file = folder.disk.open(&path)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    whole().map_err(|error: io::Error| anyhow::Error::from(error).context(format!("cannot read {}", path.display())))
}

/// Appends one frame around what `body` writes to `out`. `synced`: how much of the file is durable by now.
pub(super) fn write_frame<T>(out: &mut Vec<u8>, synced: u64, body: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&synced.to_le_bytes());
    let answer = body(out);
    let length = out.len() - start - FRAME_PREFIX_BYTES;
    debug_assert!(length <= BODY_BYTES_MAX, "owners bound their entries");
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    answer
}

/// What stands at the start of some bytes.
pub(super) enum Parsed {
    /// A whole frame; its body lies behind the prefix.
    Frame { body_bytes: usize, synced: u64 },
    /// Too few bytes to tell; this many would do.
    Short { need: usize },
    /// No frame.
    Broken,
}

pub(super) fn parse_frame(bytes: &[u8]) -> Parsed {
    if bytes.len() < FRAME_PREFIX_BYTES {
        return Parsed::Short { need: FRAME_PREFIX_BYTES };
    }
    let body_bytes = le_u32(&bytes[..4]) as usize;
    if body_bytes == 0 || body_bytes > BODY_BYTES_MAX {
        return Parsed::Broken;
    }
    let end = FRAME_PREFIX_BYTES + body_bytes;
    if bytes.len() < end {
        return Parsed::Short { need: end };
    }
    if crc32c::crc32c(&bytes[8..end]) != le_u32(&bytes[4..8]) {
        return Parsed::Broken;
    }
    let mut synced = [0; 8];
    synced.copy_from_slice(&bytes[8..16]);
    Parsed::Frame { body_bytes, synced: u64::from_le_bytes(synced) }
}

fn le_u32(bytes: &[u8]) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[..4]);
    u32::from_le_bytes(four)
}

/// The last segment after a start: cut behind its last whole frame, ready to be appended to.
pub struct Recovered {
    /// Its number.
    pub number: u64,
    /// The file, open for reading and writing.
    pub(super) file: Box<dyn DiskFile>,
    /// Its length now.
    pub bytes: u64,
    /// How much of a torn tail was cut off.
    pub cut_bytes: u64,
}

/// Opens the last segment of `folder`, gives the body of each frame to `each`, and cuts a torn tail. None in an empty folder.
/// All that it gave is durable when it returns, and so is the segment's name.
pub fn recover(
    folder: impl Into<Folder>,
    mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Option<Recovered>> {
    let folder = folder.into();
    let Some(&number) = list(&folder)?.last() else { return Ok(None) };
    let path = path(&folder, number);
    let (_, start) = header_of(&folder, number)?;
    let (file, bytes) = read_to_mend(&folder, &path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut at = start as usize;
    let mut sure = at;
    while let Parsed::Frame { body_bytes, synced } = parse_frame(&bytes[at..]) {
        let end = at + FRAME_PREFIX_BYTES + body_bytes;
        each(&bytes[at + FRAME_PREFIX_BYTES..end]).with_context(|| format!("{} at byte {at}", path.display()))?;
        sure = usize::try_from(synced)?.clamp(sure, end);
        at = end;
    }
    if let Some(witness) = later_witness(&bytes, at) {
        bail!(
            "{} is damaged at byte {at}: the record at byte {witness} proves that it was durable. Bring the file back from a backup",
            path.display()
        );
    }
    let mend = || {
        // Whole frames may still be in the page cache alone: whoever reads them must be able to trust them. Written again,
        // because a sync that failed once marks their pages as clean, and a later one passes over them.
        file.write_all_at(&bytes[sure..at], sure as u64)?;
        if at < bytes.len() {
            file.set_length(at as u64)?;
        }
        file.sync_all()?;
        folder.disk.sync_folder(folder.path())
    };
    mend().with_context(|| format!("cannot write to {}", path.display()))?;
    Ok(Some(Recovered { number, file, bytes: at as u64, cut_bytes: (bytes.len() - at) as u64 }))
}

fn read_to_mend(folder: &Folder, path: &Path) -> io::Result<(Box<dyn DiskFile>, Vec<u8>)> {
    let file = folder.disk.open_to_write(path)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok((file, bytes))
}

/// A whole frame behind the broken one at `broken` that was written when `broken` was durable.
fn later_witness(bytes: &[u8], broken: usize) -> Option<usize> {
    let mut at = broken + 1;
    while at + FRAME_PREFIX_BYTES <= bytes.len() {
        match parse_frame(&bytes[at..]) {
            Parsed::Frame { synced, .. } if synced > broken as u64 && synced <= at as u64 => return Some(at),
            Parsed::Frame { body_bytes, .. } => at += FRAME_PREFIX_BYTES + body_bytes,
            Parsed::Short { .. } | Parsed::Broken => at += 1,
        }
    }
    None
}

/// Deletes the segments below `number`, oldest first, so that a crash leaves no gap.
pub fn remove_before(folder: impl Into<Folder>, number: u64) -> anyhow::Result<()> {
    let folder = folder.into();
    for old in list(&folder)?.into_iter().take_while(|&old| old < number) {
        // The one before it must be gone for good: of two removals, a crash may undo the first.
        folder.disk.sync_folder(folder.path())?;
        folder.disk.remove(&path(&folder, old))?;
    }
    folder.disk.sync_folder(folder.path())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn segment(groups: &[&[&[u8]]]) -> (tempfile::TempDir, PathBuf, Vec<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let (_, start) = create(&folder.path().into(), 1, b"h").ok().unwrap();
        let file = path(&folder.path().into(), 1);
        let mut bytes = fs::read(&file).unwrap();
        let mut frames = Vec::new();
        for group in groups {
            let synced = bytes.len() as u64;
            for body in *group {
                frames.push(bytes.len() as u64);
                write_frame(&mut bytes, synced, |out| out.extend_from_slice(body));
            }
        }
        assert_eq!(frames.first().copied().unwrap_or(start), start);
        fs::write(&file, bytes).unwrap();
        (folder, file, frames)
    }

    fn bodies(folder: &Path) -> anyhow::Result<(Vec<Vec<u8>>, u64)> {
        let mut found = Vec::new();
        let recovered = recover(folder, |body| {
            found.push(body.to_vec());
            Ok(())
        })?
        .unwrap();
        Ok((found, recovered.cut_bytes))
    }

    #[test]
    fn a_tail_torn_at_any_byte_is_cut_to_whole_frames() {
        let (folder, file, frames) = segment(&[&[b"one", b"two"], &[b"three"]]);
        let whole = fs::read(&file).unwrap();
        for length in frames[0] as usize..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            let (found, _) = bodies(folder.path()).unwrap();
            let expected = frames.iter().skip(1).chain([&(whole.len() as u64)]).filter(|&&end| end <= length as u64).count();
            assert_eq!(found.len(), expected, "cut at {length}");
            assert_eq!(bodies(folder.path()).unwrap().1, 0, "the second start finds nothing to cut");
        }
    }

    #[test]
    fn damage_before_a_later_group_stops_loudly() {
        let (folder, file, frames) = segment(&[&[b"one"], &[b"two"]]);
        let whole = fs::read(&file).unwrap();
        for at in frames[0]..frames[1] {
            let mut damaged = whole.clone();
            damaged[at as usize] ^= 0x40;
            fs::write(&file, &damaged).unwrap();
            let error = bodies(folder.path()).unwrap_err().to_string();
            assert!(error.contains("is damaged at byte"), "byte {at}: {error}");
        }
    }

    #[test]
    fn unsynced_pages_that_arrived_out_of_order_are_a_torn_tail() {
        // Both frames belong to one group: neither knew the other to be durable, so losing the first loses both.
        let (folder, file, frames) = segment(&[&[b"one", b"two"]]);
        let mut bytes = fs::read(&file).unwrap();
        bytes[frames[0] as usize + 16] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(bodies(folder.path()).unwrap().0, Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_missing_segment_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for number in [1, 3] {
            create(&folder.path().into(), number, b"").ok().unwrap();
        }
        assert!(list(folder.path()).unwrap_err().to_string().contains("segment 2 is missing"));
    }
}
