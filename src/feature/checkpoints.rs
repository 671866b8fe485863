//! Checkpoints: a partition's whole state, event ids included, with its position, so that a process which takes a partition
//! reads the log's tail only. The two newest of each partition are kept: should one be damaged, the other and a longer piece of
//! log give the same state.
//!
//! An object is magic, the state, CRC32C u32 of the state. It is written as it is encoded: ten million ids are half a gigabyte, which
//! need not be in memory once more.

use std::future::ready;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::state::{Frozen, Partition};

const MAGIC: &[u8; 8] = b"TGCKP\x04\0\0";
const KEPT: usize = 2;
/// What is encoded at once, and
const PIECE_BYTES: usize = 64 << 10;
/// how many of those may wait for who writes.
const PIECES_AHEAD: usize = 16;
/// Of a large object. S3 has it that all but the last of one have 5 MiB or more.
const PART_BYTES: usize = 5 << 20;

/// An encoded state, piece by piece. What ends in an error is none.
pub type Encoded = BoxStream<'static, anyhow::Result<Bytes>>;

/// Where the states of partitions are kept.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Keeps the state of `partition` at the offset `applied`; durable when this returns. Each generation has its own: a replay must not go
    /// on from what it replaced.
    async fn save(&self, generation: u32, partition: u16, applied: u64, state: Encoded) -> anyhow::Result<()>;

    /// The newest state of `partition` that is whole; none where there is none.
    async fn load(&self, generation: u32, partition: u16) -> anyhow::Result<Option<Bytes>>;
}

/// How much of a core encoding may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Full,
    /// A quarter: events are applied meanwhile, and must not be late for it.
    Gentle,
}

/// Sends what it gets in pieces; at a gentle pace, it rests three times as long as it worked.
struct Pieces {
    bytes: Vec<u8>,
    pace: Pace,
    to: mpsc::Sender<Bytes>,
    worked_since: Instant,
}

impl Pieces {
    fn send(&mut self) {
        if self.pace == Pace::Gentle {
            std::thread::sleep(3 * self.worked_since.elapsed());
        }
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(PIECE_BYTES));
        // Whoever went away does not want the rest either.
        drop(self.to.blocking_send(bytes.into()));
        self.worked_since = Instant::now();
    }
}

impl Extend<u8> for Pieces {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.bytes.extend(bytes);
        if self.bytes.len() >= PIECE_BYTES {
            self.send();
        }
    }
}

pub(super) fn encode(state: Frozen, partitions: u16, pace: Pace) -> Encoded {
    let (to, mut pieces) = mpsc::channel(PIECES_AHEAD);
    let encoding = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let pieces = Pieces { bytes: Vec::with_capacity(PIECE_BYTES), pace, to, worked_since: Instant::now() };
        postcard::to_extend(&(partitions, state), pieces)?.send();
        Ok(())
    });
    let failure = stream::once(encoding).filter_map(|ended| ready(ended.map_err(anyhow::Error::from).flatten().err().map(Err)));
    stream::poll_fn(move |context| pieces.poll_recv(context)).map(Ok).chain(failure).boxed()
}

pub(super) fn decode(bytes: &[u8], partitions: u16) -> anyhow::Result<Partition> {
    let (of, mut state): (u16, Partition) =
        postcard::from_bytes(bytes).context("a checkpoint of the feature store cannot be read")?;
    ensure!(
        of == partitions,
        "the checkpoints of the feature store have {of} partitions, but the event log has {partitions}: give each log a place of its \
         own for checkpoints"
    );
    state.journeys.complete();
    Ok(state)
}

/// In a folder, or in an object store: `PREFIX/g{generation}/{partition:05}/{applied:020}.ckp`.
pub struct ObjectCheckpoints {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl ObjectCheckpoints {
    /// Under `prefix` of an object store.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix }
    }

    /// In a folder, which is made where there is none.
    pub fn folder(folder: &FilePath) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder of checkpoints {} cannot be made", folder.display()))?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), prefix: Path::default() })
    }

    fn of_partition(&self, generation: u32, partition: u16) -> Path {
        self.prefix.clone().join(format!("g{generation}")).join(format!("{partition:05}"))
    }

    /// Newest first.
    async fn list(&self, generation: u32, partition: u16) -> anyhow::Result<Vec<Path>> {
        let found: Vec<_> = self.store.list(Some(&self.of_partition(generation, partition))).try_collect().await?;
        let mut names: Vec<Path> = found.into_iter().map(|object| object.location).collect();
        names.retain(|name| name.filename().is_some_and(|name| name.ends_with(".ckp")));
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    async fn read(&self, name: &Path) -> anyhow::Result<Bytes> {
        Ok(self.store.get(name).await?.bytes().await?)
    }
}

/// What is in an object, where it is whole.
fn whole(bytes: &Bytes) -> Option<Bytes> {
    let (body, crc) = bytes.strip_prefix(MAGIC)?.split_last_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then(|| bytes.slice_ref(body))
}

async fn fill(to: &mut BufWriter, mut state: Encoded) -> anyhow::Result<()> {
    to.put(Bytes::from_static(MAGIC)).await?;
    let mut crc = 0;
    while let Some(piece) = state.try_next().await? {
        crc = crc32c::crc32c_append(crc, &piece);
        to.put(piece).await?;
    }
    Ok(to.put(Bytes::copy_from_slice(&crc.to_le_bytes())).await?)
}

#[async_trait]
impl Checkpoints for ObjectCheckpoints {
    async fn save(&self, generation: u32, partition: u16, applied: u64, state: Encoded) -> anyhow::Result<()> {
        let name = self.of_partition(generation, partition).join(format!("{applied:020}.ckp"));
        // One part at a time: two would be in memory.
        let mut to = BufWriter::with_capacity(self.store.clone(), name.clone(), PART_BYTES).with_max_concurrency(1);
        let written = match fill(&mut to, state).await {
            Ok(()) => to.shutdown().await.map_err(anyhow::Error::from),
            Err(error) => {
                // Parts that were sent are paid for until they are given up.
                drop(to.abort().await);
                Err(error)
            }
        };
        written.with_context(|| format!("the checkpoint {name} cannot be written"))?;
        for old in self.list(generation, partition).await?.into_iter().skip(KEPT) {
            self.store.delete(&old).await.with_context(|| format!("the checkpoint {old} cannot be removed"))?;
        }
        Ok(())
    }

    async fn load(&self, generation: u32, partition: u16) -> anyhow::Result<Option<Bytes>> {
        for name in self.list(generation, partition).await? {
            if let Some(state) = whole(&self.read(&name).await?) {
                return Ok(Some(state));
            }
            tracing::error!(checkpoint = %name, "a checkpoint is damaged; trying the one before");
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pieces: &[&[u8]]) -> Encoded {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces).boxed()
    }

    #[tokio::test]
    async fn two_are_kept_and_a_damaged_one_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = ObjectCheckpoints::folder(folder.path()).unwrap();
        assert_eq!(checkpoints.load(0, 7).await.unwrap(), None);
        for applied in [9, 10, 200] {
            checkpoints.save(0, 7, applied, state(&[b"of ", applied.to_string().as_bytes()])).await.unwrap();
        }
        assert_eq!(checkpoints.list(0, 7).await.unwrap().len(), 2);
        assert_eq!(checkpoints.load(0, 7).await.unwrap().unwrap(), "of 200");
        assert_eq!(checkpoints.load(0, 8).await.unwrap(), None);
        assert_eq!(checkpoints.load(1, 7).await.unwrap(), None);
        let damage = |applied: u64| {
            let path = folder.path().join(format!("g0/00007/{applied:020}.ckp"));
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(path, bytes).unwrap();
        };
        damage(200);
        assert_eq!(checkpoints.load(0, 7).await.unwrap().unwrap(), "of 10");
        damage(10);
        assert_eq!(checkpoints.load(0, 7).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_was_not_encoded_to_its_end_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = ObjectCheckpoints::folder(folder.path()).unwrap();
        checkpoints.save(0, 0, 1, state(&[b"whole"])).await.unwrap();
        for parts in [0, 2] {
            let sent: Vec<u8> = (0..PART_BYTES * parts + 1).map(|n| n as u8).collect();
            let failed = stream::once(ready(Err(anyhow::anyhow!("encoding failed"))));
            let broken = state(&[&sent]).chain(failed).boxed();
            let error = checkpoints.save(0, 0, 2, broken).await.unwrap_err();
            assert!(format!("{error:#}").contains("00002.ckp cannot be written: encoding failed"), "{error:#}");
        }
        assert_eq!(checkpoints.load(0, 0).await.unwrap().unwrap(), "whole");
        let left: Vec<_> =
            std::fs::read_dir(folder.path().join("g0/00000")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["00000000000000000001.ckp"]);
    }

    #[tokio::test]
    async fn a_state_of_many_pieces_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = ObjectCheckpoints::folder(folder.path()).unwrap();
        let sent: Vec<u8> = (0..3 * PART_BYTES + 5).map(|n| (n % 251) as u8).collect();
        let pieces: Vec<&[u8]> = sent.chunks(PIECE_BYTES - 1).collect();
        checkpoints.save(0, 0, 1, state(&pieces)).await.unwrap();
        assert!(checkpoints.load(0, 0).await.unwrap().unwrap() == sent);
    }
}
