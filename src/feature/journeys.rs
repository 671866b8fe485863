//! The part of the feature store's seam that is about journeys: what is sold, what partitions tell each other, what is answered.

use std::sync::Arc;

use async_trait::async_trait;

use super::Bounds;
use super::state::Partition;
use crate::clock::Micros;
use crate::journey::message::Told;
use crate::journey::product::Product;
use crate::journey::{Answer, Entry, Journeys, Size};

/// What a partition of this process is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// Which one.
    pub partition: u16,
    /// Its event time, and when the log had it; none before its first journey event.
    pub event_time: Option<(Micros, Micros)>,
    /// The event time at which something closes; none where nothing is sold.
    pub due: Option<Micros>,
}

/// Answers, in the order asked.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// None for what was not released.
    pub answers: Vec<Option<Answer>>,
    /// The instant up to which every partition is fully applied; none where one has no position yet.
    pub as_of: Option<Micros>,
}

/// Journeys of the feature store.
#[async_trait]
pub trait JourneyStore: Send + Sync {
    /// What is counted from now on. Partitions that have applied events already lack a new one until [`Self::adopt`].
    fn sell(&self, products: &[Arc<Product>]);

    /// What is sold.
    fn sold(&self) -> Vec<Arc<Product>>;

    /// Products that are sold and that some partition of this process lacks.
    fn missing(&self) -> Vec<Arc<Product>>;

    /// Where each partition of this process stands in memory.
    fn stands(&self) -> Vec<(u16, Option<u64>)>;

    /// Takes over what was counted of `partition` aside, up to the offset `applied`. False where it stands elsewhere.
    fn adopt(&self, partition: u16, applied: Option<u64>, journeys: Journeys) -> bool;

    /// What was counted of `partition`.
    fn counted(&self, partition: u16) -> Option<Journeys>;

    /// What `partition` is to tell of each product behind a message.
    fn untold(&self, partition: u16, after: &(dyn Fn(&str) -> u64 + Sync), bytes_max: usize) -> Vec<Told>;

    /// The log has what `partition` told of `product` up to the message `number`.
    fn heard(&self, partition: u16, product: &str, number: u64);

    /// Forgets what was told and heard, where both are of this process: after a replay.
    fn forget_heard(&self);

    /// The partitions of this process and how far their event time is.
    fn passing(&self) -> Vec<Passing>;

    /// How much partitions of this process hold of each product.
    fn sizes(&self) -> Vec<(u16, String, Size)>;

    /// Answers of a product, in the order asked.
    async fn answers(&self, product: &str, entries: &[Entry]) -> anyhow::Result<Answered>;
}

/// A store that has states of partitions in memory.
pub(super) trait Holds {
    fn bounds(&self) -> Arc<Bounds>;

    fn set_bounds(&self, bounds: Bounds);

    fn partitions(&self) -> u16;

    /// Of a partition that is not this process's, nothing.
    fn see<R>(&self, partition: u16, look: impl FnOnce(&Partition) -> R) -> Option<R>;

    fn change<R>(&self, partition: u16, change: impl FnOnce(&mut Partition) -> R) -> Option<R>;
}

impl Partition {
    /// A state to go on from: what ended is let go of, and where nothing was applied yet, whatever is new begins.
    pub(super) fn sell(&mut self, products: &[Arc<Product>], partition: u16, partitions: u16) {
        let gone: Vec<String> = self
            .journeys
            .products()
            .filter(|product| products.iter().all(|sold| **sold != **product))
            .map(|product| product.name.clone())
            .collect();
        gone.iter().for_each(|name| self.journeys.end(name));
        if self.applied.is_none() {
            products.iter().for_each(|product| self.journeys.begin(product, partition, partitions));
        }
    }
}

pub(super) fn sell(store: &impl Holds, products: &[Arc<Product>]) {
    store.set_bounds(Bounds { products: products.to_vec(), ..(*store.bounds()).clone() });
    for partition in 0..store.partitions() {
        store.change(partition, |state| state.sell(products, partition, store.partitions()));
    }
}

pub(super) fn missing(store: &impl Holds) -> Vec<Arc<Product>> {
    let products = &store.bounds().products;
    let lacks = |product: &&Arc<Product>| {
        let has = |state: &Partition| state.journeys.products().any(|other| *other == ***product);
        (0..store.partitions()).any(|partition| store.see(partition, has) == Some(false))
    };
    products.iter().filter(lacks).cloned().collect()
}

pub(super) fn stands(store: &impl Holds) -> Vec<(u16, Option<u64>)> {
    (0..store.partitions()).filter_map(|partition| Some((partition, store.see(partition, |state| state.applied)?))).collect()
}

pub(super) fn adopt(store: &impl Holds, partition: u16, applied: Option<u64>, journeys: Journeys) -> bool {
    let adopted = store.change(partition, |state| {
        let is_there = state.applied == applied;
        if is_there {
            state.journeys.adopt(journeys);
        }
        is_there
    });
    adopted.unwrap_or_default()
}

pub(super) fn forget_heard(store: &impl Holds) {
    let products = &store.bounds().products;
    for product in products {
        let home = crate::event::partition_of(&product.name, store.partitions());
        for partition in 0..store.partitions() {
            let heard = store.see(home, |state| state.journeys.heard_of(&product.name, partition)).flatten();
            if let Some(heard) = heard {
                store.change(partition, |state| state.journeys.heard(&product.name, heard));
            }
        }
    }
}

pub(super) fn passing(store: &impl Holds) -> Vec<Passing> {
    let passing = |partition| {
        let (event_time, due) = store.see(partition, |state| (state.journeys.event_time(), state.journeys.due()))?;
        Some(Passing { partition, event_time, due })
    };
    (0..store.partitions()).filter_map(passing).collect()
}

pub(super) fn sizes(store: &impl Holds) -> Vec<(u16, String, Size)> {
    let of = |state: &Partition| state.journeys.sizes().map(|(product, size)| (product.to_owned(), size)).collect::<Vec<_>>();
    (0..store.partitions())
        .flat_map(|partition| {
            store.see(partition, of).unwrap_or_default().into_iter().map(move |(product, size)| (partition, product, size))
        })
        .collect()
}

/// Those methods of [`JourneyStore`] that only look at states in memory.
macro_rules! of_memory {
    () => {
        fn sell(&self, products: &[std::sync::Arc<crate::journey::product::Product>]) {
            crate::feature::journeys::sell(self, products);
        }

        fn sold(&self) -> Vec<std::sync::Arc<crate::journey::product::Product>> {
            self.bounds.load().products.clone()
        }

        fn missing(&self) -> Vec<std::sync::Arc<crate::journey::product::Product>> {
            crate::feature::journeys::missing(self)
        }

        fn stands(&self) -> Vec<(u16, Option<u64>)> {
            crate::feature::journeys::stands(self)
        }

        fn adopt(&self, partition: u16, applied: Option<u64>, journeys: crate::journey::Journeys) -> bool {
            crate::feature::journeys::adopt(self, partition, applied, journeys)
        }

        fn counted(&self, partition: u16) -> Option<crate::journey::Journeys> {
            self.see(partition, |state| state.journeys.clone())
        }

        fn untold(
            &self,
            partition: u16,
            after: &(dyn Fn(&str) -> u64 + Sync),
            bytes_max: usize,
        ) -> Vec<crate::journey::message::Told> {
            self.see(partition, |state| state.journeys.untold(partition, after, bytes_max)).unwrap_or_default()
        }

        fn heard(&self, partition: u16, product: &str, number: u64) {
            self.change(partition, |state| state.journeys.heard(product, number));
        }

        fn forget_heard(&self) {
            crate::feature::journeys::forget_heard(self);
        }

        fn passing(&self) -> Vec<crate::feature::Passing> {
            crate::feature::journeys::passing(self)
        }

        fn sizes(&self) -> Vec<(u16, String, crate::journey::Size)> {
            crate::feature::journeys::sizes(self)
        }
    };
}
pub(super) use of_memory;
