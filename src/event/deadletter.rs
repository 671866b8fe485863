//! The dead-letter log: what could not be taken, with its reason, where it came from and its payload. Nothing that came in
//! is dropped in silence, and one poison event stops nobody.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::log::Position;
use crate::clock::{Clock, Micros};
use crate::segment::{self, AppendError, Appender, Encoder, Item, Options, Reader};

/// With segments of 16 MiB: 1 GiB.
const SEGMENTS_MAX: usize = 64;
/// How much of a payload is kept; its size and SHA-256 are kept of all of it.
pub const PAYLOAD_BYTES_KEPT: usize = 64 << 10;

/// What could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Its first 64 KiB; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The size of all of it.
    pub bytes: u64,
    /// SHA-256 of all of it, in hex.
    pub sha256: String,
}

impl Payload {
    /// Of bytes that are all at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self::cut(bytes, bytes.len() as u64, &Sha256::digest(bytes))
    }

    pub(super) fn cut(first: &[u8], bytes: u64, sha256: &[u8]) -> Self {
        let kept = &first[..first.len().min(PAYLOAD_BYTES_KEPT)];
        let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text: String::from_utf8_lossy(kept).into_owned(), bytes, sha256 }
    }

    /// Whether `text` is the whole payload.
    pub fn is_whole(&self) -> bool {
        self.bytes == self.text.len() as u64 && Self::of(self.text.as_bytes()).sha256 == self.sha256
    }
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Refused on its way into the log.
    Ingest {
        /// The producer's name; none for the command line.
        producer: Option<String>,
        /// Its line, or its place in the batch.
        line: u64,
    },
    /// Found in the log by the projector.
    Log {
        /// The partition.
        partition: u16,
        /// The offset in it.
        offset: u64,
    },
}

/// A dead letter, before it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// One sentence.
    pub reason: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it was.
    pub payload: Payload,
}

/// A dead letter in the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its number, from 1.
    pub id: u64,
    /// When it was written.
    pub at: Micros,
    /// What and why.
    #[serde(flatten)]
    pub letter: Letter,
    /// Whether it was taken on a later try.
    #[serde(default)]
    pub retried: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    Letter(DeadLetter),
    Retried { id: u64, at: Micros },
}

enum NewEntry {
    Letter(Letter),
    Retried(u64),
}

#[derive(Clone, Serialize, Deserialize)]
struct Numbering {
    next: u64,
    /// When the latest entry was written.
    latest: Micros,
}

impl Encoder for Numbering {
    type Entry = NewEntry;
    type Place = u64;

    fn header(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn encode(&mut self, now: Micros, entry: &NewEntry, body: &mut Vec<u8>) -> u64 {
        self.latest = self.latest.max(now);
        let (id, entry) = match entry {
            NewEntry::Letter(letter) => {
                let id = self.next;
                self.next += 1;
                (id, Entry::Letter(DeadLetter { id, at: now, letter: letter.clone(), retried: false }))
            }
            NewEntry::Retried(id) => (*id, Entry::Retried { id: *id, at: now }),
        };
        body.extend_from_slice(&serde_json::to_vec(&entry).unwrap_or_default());
        id
    }
}

/// The dead-letter log of this process.
pub struct DeadLetters {
    folder: PathBuf,
    appender: Appender<Numbering>,
    /// Which records of the event log are here already: the projector meets the same ones again after a crash.
    from_log: Mutex<HashSet<(u16, u64)>>,
}

impl DeadLetters {
    /// Opens the log in `folder`, or begins one there.
    pub fn open(folder: &Path, options: Options, clock: Clock) -> anyhow::Result<Self> {
        segment::Folder::from(folder).create()?;
        let mut numbering = Numbering { next: 1, latest: Micros(0) };
        if let Some(&last) = segment::list(folder)?.last() {
            numbering = serde_json::from_slice(&segment::header_of(folder, last)?.0)?;
        }
        let last = segment::recover(folder, |body| {
            if let Entry::Letter(letter) = serde_json::from_slice(body)? {
                numbering.next = letter.id + 1;
            }
            Ok(())
        })?;
        let appender = Appender::open(folder, last, false, numbering, options, clock)?;
        let letters = Self { folder: folder.to_owned(), appender, from_log: Mutex::default() };
        letters.each(|entry| {
            if let Entry::Letter(letter) = entry {
                letters.note(&letter.letter.origin);
            }
        })?;
        Ok(letters)
    }

    fn note(&self, origin: &Origin) {
        if let Origin::Log { partition, offset } = origin {
            self.from_log.lock().insert((*partition, *offset));
        }
    }

    /// Whether the record at `position` is here already.
    pub fn has(&self, position: Position) -> bool {
        self.from_log.lock().contains(&(position.partition, position.offset))
    }

    /// Writes letters, durably when it returns.
    pub async fn append(&self, letters: Vec<Letter>) -> Result<(), AppendError> {
        if letters.is_empty() {
            return Ok(());
        }
        let origins: Vec<Origin> = letters.iter().map(|letter| letter.origin.clone()).collect();
        self.appender.append(letters.into_iter().map(NewEntry::Letter).collect()).await?;
        origins.iter().for_each(|origin| self.note(origin));
        Ok(())
    }

    /// Marks a letter as taken on a later try.
    pub async fn mark_retried(&self, id: u64) -> Result<(), AppendError> {
        self.appender.append(vec![NewEntry::Retried(id)]).await.map(drop)
    }

    /// All letters, oldest first.
    pub fn list(&self) -> anyhow::Result<Vec<DeadLetter>> {
        let mut letters = BTreeMap::new();
        self.each(|entry| match entry {
            Entry::Letter(letter) => drop(letters.insert(letter.id, letter)),
            Entry::Retried { id, .. } => {
                if let Some(letter) = letters.get_mut(&id) {
                    letter.retried = true;
                }
            }
        })?;
        Ok(letters.into_values().collect())
    }

    /// Every entry, one at a time: a start must not need memory for all payloads.
    fn each(&self, mut of: impl FnMut(Entry)) -> anyhow::Result<()> {
        let first = segment::list(&self.folder)?.first().copied().unwrap_or(1);
        let mut reader = Reader::new(&self.appender, first);
        loop {
            let (items, at_end) = reader.read()?;
            for item in items {
                if let Item::Frame(body) = item {
                    of(serde_json::from_slice(&body)?);
                }
            }
            if at_end.is_some() {
                return Ok(());
            }
        }
    }

    /// Deletes whole segments that are older than `cutoff`, and the oldest past [`SEGMENTS_MAX`]: rejects must not fill the disk
    /// that usage needs.
    pub fn retire(&self, cutoff: Micros) -> anyhow::Result<()> {
        let numbers = segment::list(&self.folder)?;
        let mut keep = numbers.len().checked_sub(SEGMENTS_MAX).map(|past| numbers[past]);
        for &number in numbers.iter().rev() {
            let begins: Numbering = serde_json::from_slice(&segment::header_of(&self.folder, number)?.0)?;
            if begins.latest < cutoff {
                keep = keep.max(Some(number));
                break;
            }
        }
        keep.map_or(Ok(()), |keep| segment::remove_before(&self.folder, keep))
    }
}
