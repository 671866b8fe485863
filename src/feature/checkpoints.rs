//! Checkpoints: a partition's whole state, event ids included, with its position, so that a process which takes a partition
//! reads the log's tail only. The two newest of each partition are kept: should one be damaged, the other and a longer piece of
//! log give the same state.
//!
//! An object is magic, CRC32C u32, then the state.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::state::{Frozen, Partition};

const MAGIC: &[u8; 8] = b"TGCKP\x02\0\0";
const KEPT: usize = 2;

/// Where the states of partitions are kept.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Keeps the state of `partition` at the offset `applied`; durable when this returns. Each generation has its own: a replay must not go
    /// on from what it replaced.
    async fn save(&self, generation: u32, partition: u16, applied: u64, state: Bytes) -> anyhow::Result<()>;

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

/// Rests three times as long as it worked.
struct Paced {
    bytes: Vec<u8>,
    pace: Pace,
    rested_at: usize,
    worked_since: Instant,
}

const WORK_BYTES: usize = 64 << 10;

impl Extend<u8> for Paced {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.bytes.extend(bytes);
        if self.pace == Pace::Gentle && self.bytes.len() - self.rested_at >= WORK_BYTES {
            std::thread::sleep(3 * self.worked_since.elapsed());
            (self.rested_at, self.worked_since) = (self.bytes.len(), Instant::now());
        }
    }
}

pub(super) fn encode(state: &Frozen, partitions: u16, pace: Pace) -> anyhow::Result<Bytes> {
    let paced = Paced { bytes: Vec::new(), pace, rested_at: 0, worked_since: Instant::now() };
    Ok(postcard::to_extend(&(partitions, state), paced)?.bytes.into())
}

pub(super) fn decode(bytes: &[u8], partitions: u16) -> anyhow::Result<Partition> {
    let (of, state): (u16, Partition) =
        postcard::from_bytes(bytes).context("a checkpoint of the feature store cannot be read")?;
    ensure!(
        of == partitions,
        "the checkpoints of the feature store have {of} partitions, but the event log has {partitions}: give each log a place of its \
         own for checkpoints"
    );
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
    let (crc, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then(|| bytes.slice_ref(body))
}

#[async_trait]
impl Checkpoints for ObjectCheckpoints {
    async fn save(&self, generation: u32, partition: u16, applied: u64, state: Bytes) -> anyhow::Result<()> {
        let name = self.of_partition(generation, partition).join(format!("{applied:020}.ckp"));
        let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + state.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&crc32c::crc32c(&state).to_le_bytes());
        bytes.extend_from_slice(&state);
        self.store.put(&name, bytes.into()).await.with_context(|| format!("the checkpoint {name} cannot be written"))?;
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

    #[tokio::test]
    async fn two_are_kept_and_a_damaged_one_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = ObjectCheckpoints::folder(folder.path()).unwrap();
        assert_eq!(checkpoints.load(0, 7).await.unwrap(), None);
        for applied in [9, 10, 200] {
            checkpoints.save(0, 7, applied, applied.to_string().into()).await.unwrap();
        }
        assert_eq!(checkpoints.list(0, 7).await.unwrap().len(), 2);
        assert_eq!(checkpoints.load(0, 7).await.unwrap().unwrap(), "200");
        assert_eq!(checkpoints.load(0, 8).await.unwrap(), None);
        assert_eq!(checkpoints.load(1, 7).await.unwrap(), None);
        let damage = |applied: u64| {
            let path = folder.path().join(format!("g0/00007/{applied:020}.ckp"));
            let mut bytes = std::fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(path, bytes).unwrap();
        };
        damage(200);
        assert_eq!(checkpoints.load(0, 7).await.unwrap().unwrap(), "10");
        damage(10);
        assert_eq!(checkpoints.load(0, 7).await.unwrap(), None);
    }
}
