//! The feature store in Redis, or a Redis Cluster: what many gateways read and one projector a partition writes.
//!
//! The fold stays here (`state::Partition`): the process that has a partition keeps all of it in memory, event ids included, and
//! Redis gets what readers need as bytes, with the position, in one step a batch. What Redis holds of a partition always is the state
//! at the position that its head names: a commit names the position that it builds on and changes nothing where that is another
//! one, so neither a process that lost the partition nor a Redis that lost writes can make a mix. What Redis lost is written
//! again from memory; what memory lost, from a checkpoint and the log.
//!
//! Redis must not evict keys (`maxmemory-policy noeviction`, its default), and be 7.0 or later.

mod call;
mod generation;
mod head;
mod held;
mod keys;
mod layout;
mod read;
mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::checkpoints::{self, Checkpoints, Pace};
use super::journeys::{Answered, Holds, JourneyStore, of_memory};
use super::state::Partition;
use super::{Applied, ApplyError, Bounds, ChangeBatch, FeatureStore, Found, Read, Scope, Standing};
use crate::clock::Micros;
use crate::event::Identity;
use crate::journey::Entry;
use crate::redis_link::Link;
pub use generation::Seal;
use head::Head;
use held::{Held, Pending};
use keys::Keys;
use layout::Layout;

/// Another generation is seen after this, at the latest.
const LAYOUT_READ_EVERY: Duration = Duration::from_secs(1);
/// A checkpoint is due after so many events, or a quarter of what it holds: writing one costs what is in it.
const CHECKPOINT_EVERY_MIN: usize = 100_000;

/// One partition of this process.
#[derive(Default)]
struct Slot {
    /// Held by whoever applies, commits, takes or lets go; with the checkpoint that is being saved.
    turn: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// None while it is another process's.
    held: RwLock<Option<Held>>,
}

/// What requests share.
struct Shared {
    link: Link,
    prefix: String,
    partitions: u16,
    keys: ArcSwap<Keys>,
    /// When the layout was read; none where this store stays with its generation.
    layout_read: Option<Mutex<Instant>>,
}

/// Features in Redis.
pub struct RedisStore {
    shared: Arc<Shared>,
    bounds: ArcSwap<Bounds>,
    checkpoints: Option<Arc<dyn Checkpoints>>,
    /// One partition's at a time.
    saving: Arc<Semaphore>,
    /// Whatever checkpoints there are, this one begins with nothing.
    is_replay: bool,
    slots: Vec<Arc<Slot>>,
}

impl RedisStore {
    /// The store at `url` (`redis://…`, `rediss://…`, `redis+cluster://HOST:PORT,HOST:PORT…`, `rediss+cluster://…`) under `prefix`, for a log
    /// of so many partitions. With `checkpoints`, a projector that starts reads the log's tail only, else all of it.
    pub async fn open(
        url: &str,
        prefix: &str,
        partitions: u16,
        bounds: impl Into<Bounds>,
        checkpoints: Option<Arc<dyn Checkpoints>>,
    ) -> anyhow::Result<Self> {
        ensure!(partitions > 0, "a feature store needs at least one partition");
        keys::check_prefix(prefix)?;
        let link = Link::open(url).await?;
        let layout = Layout::new(0, partitions).agree(&link, prefix).await?;
        let shared = Shared {
            keys: ArcSwap::from_pointee(Keys::new(prefix, layout.generation, partitions)),
            link,
            prefix: prefix.to_owned(),
            partitions,
            layout_read: Some(Mutex::new(Instant::now())),
        };
        Ok(Self::of(shared, bounds.into(), checkpoints))
    }

    fn of(shared: Shared, bounds: Bounds, checkpoints: Option<Arc<dyn Checkpoints>>) -> Self {
        let slots = (0..shared.partitions).map(|_| Arc::default()).collect();
        let (bounds, saving) = (ArcSwap::from_pointee(bounds), Arc::new(Semaphore::new(1)));
        Self { shared: Arc::new(shared), bounds, checkpoints, saving, is_replay: false, slots }
    }

    /// Which generation of keys this store is in.
    pub fn generation(&self) -> u32 {
        self.shared.keys.load().generation
    }

    fn slot(&self, partition: u16) -> &Arc<Slot> {
        &self.slots[usize::from(partition)]
    }

    /// A partition's state to go on from: of the newest checkpoint, else empty.
    async fn load(&self, partition: u16) -> anyhow::Result<Partition> {
        let Some(checkpoints) = self.checkpoints.as_ref().filter(|_| !self.is_replay) else { return Ok(Partition::default()) };
        let loaded = checkpoints.load(self.generation(), partition).await;
        let bytes = loaded.with_context(|| format!("the checkpoint of partition {partition} cannot be read"))?;
        bytes.map_or_else(|| Ok(Partition::default()), |bytes| checkpoints::decode(&bytes, self.shared.partitions))
    }

    /// Saves what is held, which is committed, where that is due: a copy of it, on the side. The caller has the partition's turn.
    async fn checkpoint(&self, partition: u16, saving: &mut Option<JoinHandle<()>>, at_the_end: bool) {
        let Some(checkpoints) = self.checkpoints.clone() else { return };
        let is_due = |held: &Held| {
            let size = held.state.seen.len() + held.state.products.len();
            let due_after = if at_the_end { 1 } else { CHECKPOINT_EVERY_MIN.max(size / 4) };
            held.is_committed() && held.since_checkpoint >= due_after
        };
        let slot = self.slot(partition).clone();
        if !slot.held.read().as_ref().is_some_and(is_due) {
            return;
        }
        if let Some(saving) = saving.take_if(|saving| at_the_end || saving.is_finished()) {
            drop(saving.await);
        } else if saving.is_some() {
            return;
        }
        let permit = self.saving.clone().try_acquire_owned().ok();
        if permit.is_none() && !at_the_end {
            return;
        }
        let Some((generation, applied, state)) = slot.held.write().as_mut().and_then(|held| {
            held.since_checkpoint = 0;
            Some((held.generation, held.state.applied?, held.state.frozen()))
        }) else {
            return;
        };
        let (partitions, pace) = (self.shared.partitions, if at_the_end { Pace::Full } else { Pace::Gentle });
        let save = async move {
            let saved = checkpoints.save(generation, partition, applied, checkpoints::encode(state, partitions, pace)).await;
            if let Err(error) = saved {
                // Nothing is lost: the log is read from the one before.
                tracing::error!(partition, error = format!("{error:#}"), "a checkpoint of the feature store could not be saved");
            }
            drop(permit);
        };
        if at_the_end {
            save.await;
        } else {
            *saving = Some(tokio::spawn(save));
        }
    }
}

impl Shared {
    fn use_generation(&self, generation: u32) {
        if self.keys.load().generation != generation {
            self.keys.store(Arc::new(Keys::new(&self.prefix, generation, self.partitions)));
        }
    }

    /// The keys to read by. Now and then it is looked, on the side, whether they are still the ones.
    fn current(self: &Arc<Self>) -> Arc<Keys> {
        if let Some(read) = &self.layout_read {
            let mut read = read.lock();
            if read.elapsed() >= LAYOUT_READ_EVERY {
                *read = Instant::now();
                let shared = self.clone();
                tokio::spawn(async move {
                    match Layout::new(0, shared.partitions).read(&shared.link, &shared.prefix).await {
                        Ok(Some(layout)) => shared.use_generation(layout.generation),
                        // Redis lost it: whoever writes puts it there again.
                        Ok(None) => {}
                        Err(error) => {
                            tracing::warn!(error = format!("{error:#}"), "the layout of the feature store cannot be read");
                        }
                    }
                });
            }
        }
        self.keys.load_full()
    }
}

impl Holds for RedisStore {
    fn bounds(&self) -> Arc<Bounds> {
        self.bounds.load_full()
    }

    fn set_bounds(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
    }

    fn partitions(&self) -> u16 {
        self.shared.partitions
    }

    fn see<R>(&self, partition: u16, look: impl FnOnce(&Partition) -> R) -> Option<R> {
        self.slots.get(usize::from(partition))?.held.read().as_ref().map(|held| look(&held.state))
    }

    fn change<R>(&self, partition: u16, change: impl FnOnce(&mut Partition) -> R) -> Option<R> {
        self.slots.get(usize::from(partition))?.held.write().as_mut().map(|held| change(&mut held.state))
    }
}

#[async_trait]
impl JourneyStore for RedisStore {
    of_memory!();

    async fn answers(&self, product: &str, entries: &[Entry]) -> anyhow::Result<Answered> {
        read::journeys(&self.shared.link, &self.shared.current(), self.shared.partitions, product, entries).await
    }
}

#[async_trait]
impl FeatureStore for RedisStore {
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>> {
        let slot = self.slot(partition);
        let _turn = slot.turn.lock().await;
        let Shared { link, prefix, partitions, layout_read, .. } = &*self.shared;
        if layout_read.is_some() {
            let layout = Layout::new(self.generation(), *partitions).agree(link, prefix).await?;
            self.shared.use_generation(layout.generation);
        }
        let keys = self.shared.keys.load_full();
        let head = write::head(link, &keys, partition).await?;
        let is_held = slot.held.read().as_ref().is_some_and(|held| held.generation == keys.generation);
        if !is_held {
            let mut state = self.load(partition).await?;
            state.sell(&self.bounds.load().products, partition, *partitions);
            let held = Held::new(state, keys.generation);
            *slot.held.write() = Some(held);
        }
        let mut held = slot.held.write();
        Ok(held.as_mut().and_then(|held| {
            held.reconsider(&head);
            let applied = held.state.applied;
            if applied.is_some() && matches!(held.pending, Pending::All) {
                tracing::warn!(
                    partition,
                    ?head,
                    applied,
                    "the feature store in Redis does not have what it had: it gets it again"
                );
            }
            applied
        }))
    }

    async fn apply(&self, partition: u16, batch: ChangeBatch) -> Result<Applied, ApplyError> {
        let slot = self.slot(partition);
        let _turn = slot.turn.lock().await;
        let generation = self.generation();
        let mut held = slot.held.write();
        let Some(held) = held.as_mut().filter(|held| held.generation == generation) else {
            return Err(ApplyError::Moved { stands: None, expected: batch.after });
        };
        if held.state.applied != batch.after {
            return Err(ApplyError::Moved { stands: held.state.applied, expected: batch.after });
        }
        let mut applied = Applied::default();
        let bounds = self.bounds.load_full();
        for change in &batch.changes {
            held.apply(change, &bounds, &mut applied);
        }
        Ok(applied)
    }

    async fn commit(&self, partition: u16, complete_to: Option<Micros>) -> Result<(), ApplyError> {
        let slot = self.slot(partition);
        let mut turn = slot.turn.lock().await;
        self.write(partition, slot, complete_to).await?;
        self.checkpoint(partition, &mut turn, false).await;
        Ok(())
    }

    async fn release(&self, partition: u16) {
        let slot = self.slot(partition);
        let mut turn = slot.turn.lock().await;
        self.checkpoint(partition, &mut turn, true).await;
        *slot.held.write() = None;
    }

    async fn standings(&self) -> anyhow::Result<Vec<Standing>> {
        let Shared { link, partitions, .. } = &*self.shared;
        let heads = read::heads(link, &self.shared.current(), *partitions).await?;
        let standing = |(head, slot): (Head, &Arc<Slot>)| {
            let as_of = if let Head::At { as_of, .. } = head { as_of } else { None };
            let ids = slot.held.read().as_ref().map_or(0, |held| held.state.seen.len());
            Standing { applied: head.applied(), as_of, ids }
        };
        Ok(heads.into_iter().zip(&self.slots).map(standing).collect())
    }

    async fn get_many(&self, reads: &[Read], scope: &Scope, now: Micros) -> anyhow::Result<Vec<Found>> {
        read::get_many(&self.shared.link, &self.shared.current(), reads, scope, now).await
    }

    async fn scan(&self, after: Option<&str>, limit: usize, scope: &Scope) -> anyhow::Result<Vec<Arc<str>>> {
        let Shared { link, partitions, .. } = &*self.shared;
        read::scan(link, &self.shared.current(), *partitions, after, limit, scope).await
    }

    /// Of partitions of this process; elsewhere nothing is known of ids, and the projector's own look is the one that counts.
    fn has_seen(&self, partition: u16, identity: Identity, now: Micros) -> bool {
        let held = self.slot(partition).held.read();
        held.as_ref().is_some_and(|held| held.state.seen.contains(identity, now, &self.bounds.load().limits))
    }

    async fn dump(&self) -> anyhow::Result<String> {
        let Shared { link, partitions, .. } = &*self.shared;
        read::dump(link, &self.shared.current(), *partitions, &self.bounds.load().products).await
    }
}
