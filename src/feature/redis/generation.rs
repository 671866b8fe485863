//! From one generation of keys to the next: a replay writes it beside the live one, and switches.
//!
//! What readers see must not go back by that. So the live generation is sealed first: nothing is written to it any more, and the next
//! one goes on to where it stands. Who is sealed out waits; a replay that died in between is waited for some seconds, then its seal is
//! broken, by taking it out of the layout: the switch finds it there, or does not take place.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use arc_swap::ArcSwap;

use super::held::Held;
use super::keys::Keys;
use super::layout::Layout;
use super::write::{self, Stopped, Writer};
use super::{RedisStore, Shared, Slot};
use crate::clock::Micros;
use crate::feature::ApplyError;
use crate::feature::state::Partition;

/// From a seal to the switch a replay has the log's tail to read, which takes a part of a second.
const SEAL_LASTS: Duration = Duration::from_secs(10);
/// Who is sealed out looks this often whether it is over.
const SEALED_PAUSE: Duration = Duration::from_millis(50);

/// Over an earlier one only: a replay that was overtaken must not take away what holds for the other.
const SET_SEAL: &str = "local there = redis.call('GET', KEYS[1]) \
    if there and there ~= ARGV[1] and tonumber(string.match(there, '^%d+')) >= tonumber(string.match(ARGV[1], '^%d+')) then return 0 end \
    redis.call('SET', KEYS[1], ARGV[1]) return 1";
/// This one only: another replay may have set its own.
const REMOVE_SEAL: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1";

/// The live generation, closed by a replay that is about to switch.
#[derive(Debug)]
pub struct Seal(Layout);

impl RedisStore {
    /// An empty store beside this one, in the next generation of keys, for a replay: nobody reads it before [`Self::switch_to`]. What an
    /// earlier replay left there is written over. Its checkpoints are its own.
    pub async fn next_generation(&self) -> anyhow::Result<Self> {
        let Shared { link, prefix, partitions, .. } = &*self.shared;
        let keys = Keys::new(prefix, self.generation() + 1, *partitions);
        for partition in 0..*partitions {
            // Without a head a partition is written anew as a whole.
            let _: i64 = link.query(redis::cmd("DEL").arg(keys.head(partition))).await?;
        }
        let keys = ArcSwap::from_pointee(keys);
        let shared = Shared { link: link.clone(), prefix: prefix.clone(), partitions: *partitions, keys, layout_read: None };
        Ok(Self { is_replay: true, ..Self::of(shared, (*self.bounds.load_full()).clone(), self.checkpoints.clone()) })
    }

    /// Saves what this process holds, all of it committed, so that others can go on from there.
    pub async fn save(&self) {
        for (partition, slot) in (0..).zip(&self.slots) {
            let mut saving = slot.turn.lock().await;
            self.checkpoint(partition, &mut saving, true).await;
        }
    }

    /// Keeps everybody from writing to this generation, for seconds: until [`Self::switch_to`] or [`Self::break_seal`].
    pub async fn seal(&self) -> anyhow::Result<Seal> {
        let Shared { link, prefix, partitions, .. } = &*self.shared;
        let keys = self.shared.keys.load_full();
        let there = Layout::new(keys.generation, *partitions).agree(link, prefix).await?;
        ensure!(there.generation == keys.generation, SWITCHED);
        // A replay that had one there does not get through with it.
        let (sealed, seal) = there.sealed_anew();
        ensure!(there.replace(&sealed, link, prefix).await?, SWITCHED);
        for partition in 0..*partitions {
            let command = &mut redis::cmd("EVAL");
            let is_set = link.query(command.arg(SET_SEAL).arg(1).arg(keys.seal(partition)).arg(&seal)).await;
            if !matches!(is_set, Ok(true)) {
                self.break_seal(Seal(sealed)).await?;
                return is_set.and_then(|_| Err(anyhow!(SWITCHED)));
            }
        }
        Ok(Seal(sealed))
    }

    /// Lets others write again, where a replay does not come to its switch.
    pub async fn break_seal(&self, seal: Seal) -> anyhow::Result<()> {
        let Shared { link, prefix, .. } = &*self.shared;
        let Seal(sealed) = seal;
        // Where it is not there, it was broken. Those on the partitions are found to be stale.
        sealed.replace(&sealed.unsealed(), link, prefix).await?;
        Ok(())
    }

    /// Everybody reads `generation` from now on, within a second; who holds partitions takes them up anew. The keys of the one before stay,
    /// sealed: whoever still reads them must not see more than who does not. Nothing is changed where the seal was broken meanwhile.
    pub async fn switch_to(&self, generation: u32, seal: Seal) -> anyhow::Result<()> {
        let Shared { link, prefix, .. } = &*self.shared;
        let Seal(sealed) = seal;
        ensure!(
            sealed.replace(&sealed.switched_to(generation), link, prefix).await?,
            "the replay took too long from sealing the feature store to switching, or another one came in between: the live one is as it \
             was, try again"
        );
        self.shared.use_generation(generation);
        Ok(())
    }

    /// Removes what `generation` has in Redis, which nobody reads any more.
    pub async fn remove(&self, generation: u32) -> anyhow::Result<()> {
        let Shared { link, prefix, partitions, .. } = &*self.shared;
        ensure!(generation != self.generation(), "generation {generation} of the feature store is the one in use");
        let keys = Keys::new(prefix, generation, *partitions);
        for partition in 0..*partitions {
            let _: i64 = link.query(redis::cmd("DEL").arg(keys.seal(partition))).await?;
            let slot = Slot::default();
            let mut nothing = Held::new(Partition::default(), generation);
            nothing.expected = write::head(link, &keys, partition).await?.position();
            *slot.held.write() = Some(nothing);
            match (Writer { link, keys: &keys, partition, slot: &slot }).commit(None).await {
                Ok(()) => {}
                Err(Stopped::Failed(error)) => return Err(error.into()),
                Err(Stopped::Sealed(_)) => anyhow::bail!("generation {generation} of the feature store is sealed anew"),
            }
            let _: i64 = link.query(redis::cmd("DEL").arg(keys.head(partition))).await?;
        }
        Ok(())
    }

    /// Writes what is held of the partition, once that may be.
    pub(super) async fn write(&self, partition: u16, slot: &Slot, complete_to: Option<Micros>) -> Result<(), ApplyError> {
        let began = Instant::now();
        loop {
            let keys = self.shared.current();
            if slot.held.read().as_ref().is_none_or(|held| held.generation != keys.generation) {
                return Err(ApplyError::Moved { stands: None, expected: None });
            }
            match (Writer { link: &self.shared.link, keys: &keys, partition, slot }).commit(complete_to).await {
                Ok(()) => return Ok(()),
                Err(Stopped::Failed(error)) => return Err(error),
                Err(Stopped::Sealed(seal)) => self.sealed_out(partition, &keys, &seal, began).await?,
            }
        }
    }

    /// Waits for the replay that set the seal, or removes what it left.
    async fn sealed_out(&self, partition: u16, keys: &Keys, seal: &str, since: Instant) -> anyhow::Result<()> {
        let Shared { link, prefix, partitions, .. } = &*self.shared;
        let there = Layout::new(keys.generation, *partitions).agree(link, prefix).await?;
        if there.generation != keys.generation {
            self.shared.use_generation(there.generation);
            return Ok(());
        }
        if there.seal() == Some(seal) {
            if since.elapsed() < SEAL_LASTS {
                tokio::time::sleep(SEALED_PAUSE).await;
                return Ok(());
            }
            if !there.replace(&there.unsealed(), link, prefix).await? {
                return Ok(());
            }
            tracing::warn!(partition, "a replay that sealed the feature store did not come to its switch: its seal is broken");
        }
        let command = &mut redis::cmd("EVAL");
        link.query(command.arg(REMOVE_SEAL).arg(1).arg(keys.seal(partition)).arg(seal)).await.context("a stale seal stays")
    }
}

const SWITCHED: &str = "another replay has switched the feature store meanwhile: nothing was changed by this one";
