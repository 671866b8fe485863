//! The embedded feature store: a map in this process, rebuilt from the newest snapshot and the log.

use std::collections::BinaryHeap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::ensure;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;

use super::index::Index;
use super::journeys::{Answered, Holds, JourneyStore, of_memory};
use super::state::{self, Partition, Product};
use super::{Applied, ApplyError, Bounds, Change, ChangeBatch, FeatureStore, Found, Read, Scope, Standing, snapshot};
use crate::clock::Micros;
use crate::event::{Body, Identity, partition_of};
use crate::journey::{self, Entry};

/// One partition's state, and how far it is known to be complete.
#[derive(Default)]
struct Slot {
    state: Partition,
    index: Index,
    as_of: Option<Micros>,
}

impl Slot {
    fn of(state: Partition) -> Self {
        Self { index: Index::of(&state), state, as_of: None }
    }

    fn apply(&mut self, change: &Change, bounds: &Bounds, applied: &mut Applied) {
        // Nothing else changes details.
        let of_details =
            change.event.as_ref().filter(|event| matches!(event.body, Body::ProductUpserted { .. } | Body::Compensated { .. }));
        let details = |state: &Partition, sku: &str| state.products.get(sku).and_then(|product| product.details()).cloned();
        let before = of_details.map(|event| details(&self.state, &event.subject));
        self.state.apply(change, bounds, applied);
        if let (Some(event), Some(before)) = (of_details, before) {
            let after = details(&self.state, &event.subject);
            if before != after {
                self.index.change(&event.subject.as_str().into(), before.as_ref(), after.as_ref());
            }
        }
    }
}

/// The first few of several ascending sequences.
struct First {
    /// The last of them on top.
    skus: BinaryHeap<Arc<str>>,
    limit: usize,
}

impl First {
    fn add<'a>(&mut self, ascending: impl Iterator<Item = &'a Arc<str>>, is_in: impl Fn(&Arc<str>) -> bool) {
        for sku in ascending {
            let is_full = self.skus.len() >= self.limit;
            if is_full && self.skus.peek().is_none_or(|last| sku >= last) {
                return;
            }
            if is_in(sku) {
                self.skus.push(sku.clone());
                if is_full {
                    self.skus.pop();
                }
            }
        }
    }
}

/// Features in this process.
pub struct EmbeddedStore {
    folder: PathBuf,
    bounds: ArcSwap<Bounds>,
    slots: Vec<RwLock<Slot>>,
}

impl EmbeddedStore {
    /// From the newest snapshot in `folder` that can be read; empty where there is none.
    pub fn open(folder: &Path, partitions: u16, bounds: impl Into<Bounds>) -> anyhow::Result<Self> {
        let bounds = bounds.into();
        let mut states = match snapshot::newest(folder)? {
            Some(states) => {
                ensure!(
                    states.len() == usize::from(partitions),
                    "the snapshots in {} have {} partitions, but events.partitions is {partitions}: set it back, or begin in another data_dir",
                    folder.display(),
                    states.len()
                );
                states
            }
            None => vec![Partition::default(); usize::from(partitions)],
        };
        for (partition, state) in (0..).zip(&mut states) {
            state.sell(&bounds.products, partition, partitions);
        }
        let slots = states.into_iter().map(|state| RwLock::new(Slot::of(state))).collect();
        Ok(Self { folder: folder.to_owned(), bounds: ArcSwap::from_pointee(bounds), slots })
    }

    /// Nothing yet: for a rebuild from the log's start.
    pub fn empty(folder: &Path, partitions: u16, bounds: impl Into<Bounds>) -> Self {
        let bounds = bounds.into();
        let slots = (0..partitions).map(|partition| {
            let mut state = Partition::default();
            state.sell(&bounds.products, partition, partitions);
            RwLock::new(Slot::of(state))
        });
        Self { folder: folder.to_owned(), slots: slots.collect(), bounds: ArcSwap::from_pointee(bounds) }
    }

    /// Nothing yet, where the log no longer has what lies before these offsets.
    pub fn empty_behind(folder: &Path, behind: Vec<Option<u64>>, bounds: impl Into<Bounds>) -> Self {
        let store = Self::empty(folder, behind.len() as u16, bounds);
        for (slot, behind) in store.slots.iter().zip(behind) {
            slot.write().state.applied = behind;
        }
        store
    }

    /// Puts `other` in this one's place, partition by partition.
    pub fn adopt(&self, other: Self) {
        for (slot, other) in self.slots.iter().zip(other.slots) {
            let (mut slot, other) = (slot.write(), other.into_inner());
            (slot.state, slot.index) = (other.state, other.index);
        }
    }

    /// Writes a snapshot, and answers the positions that both kept snapshots are past; none while there is only one.
    pub fn checkpoint(&self) -> anyhow::Result<Option<Vec<Option<u64>>>> {
        let partitions = self.slots.iter().map(|slot| {
            let frozen = slot.read().state.frozen();
            snapshot::encode(&frozen)
        });
        snapshot::write(&self.folder, partitions)
    }

    fn slot(&self, sku: &str) -> &RwLock<Slot> {
        &self.slots[usize::from(partition_of(sku, self.slots.len() as u16))]
    }
}

impl Holds for EmbeddedStore {
    fn bounds(&self) -> Arc<Bounds> {
        self.bounds.load_full()
    }

    fn set_bounds(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
    }

    fn partitions(&self) -> u16 {
        self.slots.len() as u16
    }

    fn see<R>(&self, partition: u16, look: impl FnOnce(&Partition) -> R) -> Option<R> {
        Some(look(&self.slots.get(usize::from(partition))?.read().state))
    }

    fn change<R>(&self, partition: u16, change: impl FnOnce(&mut Partition) -> R) -> Option<R> {
        Some(change(&mut self.slots.get(usize::from(partition))?.write().state))
    }
}

#[async_trait]
impl JourneyStore for EmbeddedStore {
    of_memory!();

    async fn answers(&self, product: &str, entries: &[Entry]) -> anyhow::Result<Answered> {
        let as_of = self.slots.iter().map(|slot| slot.read().as_of).min().flatten();
        let home = self.slot(product).read();
        let answers = entries.iter().map(|entry| home.state.journeys.answer(product, entry)).collect();
        Ok(Answered { answers, as_of })
    }
}

#[async_trait]
impl FeatureStore for EmbeddedStore {
    async fn resume(&self, partition: u16) -> anyhow::Result<Option<u64>> {
        Ok(self.slots[usize::from(partition)].read().state.applied)
    }

    async fn apply(&self, partition: u16, batch: ChangeBatch) -> Result<Applied, ApplyError> {
        let mut slot = self.slots[usize::from(partition)].write();
        if slot.state.applied != batch.after {
            return Err(ApplyError::Moved { stands: slot.state.applied, expected: batch.after });
        }
        let mut applied = Applied::default();
        let bounds = self.bounds.load_full();
        for change in &batch.changes {
            slot.apply(change, &bounds, &mut applied);
        }
        Ok(applied)
    }

    async fn commit(&self, partition: u16, complete_to: Option<Micros>) -> Result<(), ApplyError> {
        let mut slot = self.slots[usize::from(partition)].write();
        slot.as_of = slot.as_of.max(complete_to);
        Ok(())
    }

    async fn release(&self, _partition: u16) {}

    async fn standings(&self) -> anyhow::Result<Vec<Standing>> {
        let standing = |slot: &RwLock<Slot>| {
            let slot = slot.read();
            Standing { applied: slot.state.applied, as_of: slot.as_of, ids: slot.state.seen.len() }
        };
        Ok(self.slots.iter().map(standing).collect())
    }

    async fn get_many(&self, reads: &[Read], scope: &Scope, now: Micros) -> anyhow::Result<Vec<Found>> {
        let answer = |read: &Read| {
            let slot = self.slot(&read.sku).read();
            let product = slot.state.products.get(read.sku.as_str());
            Found { product: product.and_then(|product| product.answer(read, scope, now)), as_of: slot.as_of }
        };
        Ok(reads.iter().map(answer).collect())
    }

    async fn scan(&self, after: Option<&str>, limit: usize, scope: &Scope) -> anyhow::Result<Vec<Arc<str>>> {
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut first = First { skus: BinaryHeap::with_capacity(limit + 1), limit };
        for slot in &self.slots {
            let slot = slot.read();
            let products = &slot.state.products;
            let is_in = |sku: &Arc<str>| products.get(&**sku).is_some_and(|product| product.is_in(scope));
            match slot.index.candidates(scope) {
                Some(by_value) => by_value.into_iter().for_each(|candidates| first.add(candidates.range::<str, _>(from), is_in)),
                None => first.add(products.range::<str, _>(from).map(|(sku, _)| sku), is_in),
            }
        }
        Ok(first.skus.into_sorted_vec())
    }

    fn has_seen(&self, partition: u16, identity: Identity, now: Micros) -> bool {
        self.slots[usize::from(partition)].read().state.seen.contains(identity, now, &self.bounds.load().limits)
    }

    async fn dump(&self) -> anyhow::Result<String> {
        let mut journeys = journey::Dump::default();
        let mut products: Vec<(Arc<str>, Arc<Product>)> = Vec::new();
        for slot in &self.slots {
            let slot = slot.read();
            slot.state.journeys.answers().for_each(|(product, entry, answer)| journeys.add(product, &entry, &answer));
            products.extend(slot.state.products.iter().map(|(sku, product)| (sku.clone(), product.clone())));
        }
        products.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(state::dump(products.iter().map(|(sku, product)| (sku, &**product)))? + &journeys.lines()?)
    }
}
