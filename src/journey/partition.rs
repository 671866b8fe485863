//! Journeys of one partition: its event time, its share of each product, and the cells of the products that are at home in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Answer;
use super::home::{Entry, Home};
use super::message::Told;
use super::product::Product;
use super::reading::Reading;
use super::share::{Apart, Share, Visit};
use super::visitors::Key;
use crate::clock::Micros;
use crate::event::{Dimensions, Identity, partition_of};

/// What turns visitors' ids into hashes that nobody else can make.
#[derive(Clone)]
pub struct VisitorKey(Hmac<Sha256>);

impl VisitorKey {
    /// From a secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        // HMAC takes keys of any length.
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Self(Hmac::new_from_slice(secret).expect("a key of any length"))
    }

    fn hash(&self, visitor: &str) -> Key {
        let mut hmac = self.0.clone();
        hmac.update(visitor.as_bytes());
        first_half(&hmac.finalize().into_bytes())
    }
}

fn first_half(hash: &[u8]) -> u128 {
    hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// What a journey event says.
#[derive(Clone, Debug)]
pub struct Journey<'a> {
    /// Whose.
    pub visitor: &'a str,
    /// When.
    pub time: Micros,
    /// Which event.
    pub identity: Identity,
    /// What was done.
    pub action: &'a str,
    /// The producer's session.
    pub session: Option<&'a str>,
    /// Of what.
    pub brand: Option<&'a str>,
    /// What else.
    pub dimensions: &'a Dimensions,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sold {
    product: Product,
    share: Share,
    home: Option<Home>,
    #[serde(skip)]
    reading: Option<Arc<Reading>>,
}

/// All journeys of one partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Journeys {
    /// And when the log had it.
    event_time: Option<(Micros, Micros)>,
    sold: BTreeMap<String, Sold>,
}

/// How much a partition holds of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Visitors with something that is still open, can be revised, or is needed for retention.
    pub visitors: usize,
    /// Cells that are answered.
    pub cells: usize,
    /// What is to be told to the product's home.
    pub untold: usize,
    /// Events that count nowhere.
    pub apart: Apart,
}

impl Size {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.visitors += other.visitors;
        self.cells += other.cells;
        self.untold += other.untold;
        self.apart.late += other.apart.late;
        self.apart.overflow += other.apart.overflow;
        self.apart.erased += other.apart.erased;
    }
}

impl Sold {
    fn reading(&self) -> Arc<Reading> {
        self.reading.clone().unwrap_or_else(|| Arc::new(Reading::of(self.product.clone())))
    }
}

impl Journeys {
    /// A product is counted from here on.
    pub fn begin(&mut self, product: &Product, partition: u16, partitions: u16) {
        let home = (partition_of(&product.name, partitions) == partition).then(|| Home::new(partitions));
        let reading = Some(Arc::new(Reading::of(product.clone())));
        let sold = Sold { product: product.clone(), share: Share::default(), home, reading };
        self.sold.entry(product.name.clone()).or_insert(sold);
    }

    /// Takes over products that were counted aside, up to the same place of the log.
    pub fn adopt(&mut self, other: Self) {
        self.event_time = self.event_time.max(other.event_time);
        self.sold.extend(other.sold);
        for sold in self.sold.values_mut() {
            if let Some(home) = &mut sold.home {
                home.changed.extend(home.entries());
            }
        }
    }

    /// A product is no longer counted, nor answered.
    pub fn end(&mut self, product: &str) {
        self.sold.remove(product);
    }

    /// Those that are counted.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.sold.values().map(|sold| &sold.product)
    }

    /// A copy to be written while this goes on.
    pub fn frozen(&self) -> Self {
        let frozen = |sold: &Sold| Sold {
            product: sold.product.clone(),
            share: sold.share.frozen(),
            home: sold.home.clone(),
            reading: None,
        };
        Self { event_time: self.event_time, sold: self.sold.iter().map(|(name, sold)| (name.clone(), frozen(sold))).collect() }
    }

    /// What follows from the rest, after it was read.
    pub fn complete(&mut self) {
        for sold in self.sold.values_mut() {
            sold.reading = Some(sold.reading());
            sold.share.complete();
        }
    }

    /// The latest event time, and when the log had it; none before the first journey event.
    pub fn event_time(&self) -> Option<(Micros, Micros)> {
        self.event_time
    }

    /// The event time at which something closes; none where nothing is sold.
    pub fn due(&self) -> Option<Micros> {
        let due =
            |sold: &Sold| sold.share.due(&sold.reading.clone().unwrap_or_else(|| Arc::new(Reading::of(sold.product.clone()))));
        self.sold.values().map(due).min()
    }

    /// Takes an event that is no duplicate.
    pub fn take(&mut self, key: &VisitorKey, journey: &Journey<'_>) {
        let event_time = self.event_time.map(|(time, _)| time);
        let found = self.sold.values_mut().find_map(|sold| {
            let reading = sold.reading();
            let action = reading.action(journey.action)?;
            Some((&mut sold.share, reading, action))
        });
        let Some((share, reading, action)) = found else { return };
        if reading.product.begins.is_some_and(|begins| journey.time < begins) {
            return;
        }
        let value = |dimension: &String| match dimension.as_str() {
            "brand" => journey.brand.map(str::to_owned),
            other => journey.dimensions.get(other).cloned(),
        };
        let dimensions = &reading.product.dimensions;
        let values = if dimensions.is_empty() { None } else { dimensions.iter().map(value).collect() };
        let visit = Visit {
            key: key.hash(journey.visitor),
            id: first_half(&journey.identity.bytes()) as u64,
            time: journey.time,
            action,
            session: journey.session.map_or(0, |session| first_half(&Sha256::digest(session.as_bytes())) as u64 | 1),
            values,
        };
        share.take(visit, event_time.map(|time| reading.watermark(time)));
    }

    /// Event time moves on: by an event, at most to where the log's own time was, or by a mark in the log.
    pub fn pass(&mut self, time: Micros, appended: Micros) {
        if self.event_time.is_some_and(|(passed, _)| passed >= time) {
            return;
        }
        self.event_time = Some((time, appended));
        for sold in self.sold.values_mut() {
            let reading = sold.reading();
            sold.share.advance(&reading, reading.watermark(time));
        }
    }

    /// Takes an event back. False where none of the products has it.
    pub fn undo(&mut self, key: &VisitorKey, visitor: &str, identity: Identity) -> bool {
        if self.sold.is_empty() {
            return false;
        }
        let (key, id) = (key.hash(visitor), first_half(&identity.bytes()) as u64);
        self.sold.values_mut().any(|sold| {
            let reading = sold.reading();
            sold.share.undo(&reading, key, id)
        })
    }

    /// Takes a visitor out of all that is not released.
    pub fn erase(&mut self, key: &VisitorKey, visitor: &str, time: Micros) {
        let key = key.hash(visitor);
        for sold in self.sold.values_mut() {
            let reading = sold.reading();
            sold.share.erase(&reading, key, time);
        }
    }

    /// Hears what a partition tells of a product that is at home here.
    pub fn hear(&mut self, told: &Told) {
        if let Some(Sold { product, home: Some(home), .. }) = self.sold.get_mut(&told.product) {
            home.hear(product, told.partition, &told.messages);
        }
    }

    /// What is to be told of a product behind the message `after`; about so many bytes of it.
    pub fn untold(&self, partition: u16, after: impl Fn(&str) -> u64, bytes_max: usize) -> Vec<Told> {
        let mut all = Vec::new();
        for (name, sold) in &self.sold {
            let mut told = Told { product: name.clone(), partition, messages: Vec::new() };
            let (mut bytes, after) = (0, after(name));
            for message in sold.share.outbox().filter(|message| message.number > after) {
                let size = message.size();
                if bytes + size > bytes_max && !told.messages.is_empty() {
                    break;
                }
                bytes += size;
                told.messages.push((**message).clone());
            }
            if !told.messages.is_empty() {
                all.push(told);
            }
        }
        all
    }

    /// The log has what was told of `product` up to `number`.
    pub fn heard(&mut self, product: &str, number: u64) {
        if let Some(sold) = self.sold.get_mut(product) {
            sold.share.heard(number);
        }
    }

    /// How far `partition` was heard by a product's home, where that is here.
    pub fn heard_of(&self, product: &str, partition: u16) -> Option<u64> {
        self.sold.get(product)?.home.as_ref().map(|home| home.heard(partition))
    }

    /// An answer of a product that is at home here.
    pub fn answer(&self, product: &str, entry: &Entry) -> Option<Answer> {
        self.sold.get(product)?.home.as_ref()?.answer(entry)
    }

    /// All that is answered, by product.
    pub fn answers(&self) -> impl Iterator<Item = (&Product, Entry, Answer)> {
        let homes = self.sold.values().filter_map(|sold| Some((&sold.product, sold.home.as_ref()?)));
        homes.flat_map(|(product, home)| {
            home.entries().into_iter().filter_map(move |entry| home.answer(&entry).map(|answer| (product, entry, answer)))
        })
    }

    /// What is answered otherwise since [`Self::looked_at`].
    pub fn changed(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let homes = self.sold.iter().filter_map(|(name, sold)| Some((name.as_str(), sold.home.as_ref()?)));
        homes.flat_map(|(name, home)| home.changed.iter().map(move |entry| (name, entry)))
    }

    /// Nothing is changed any more.
    pub fn looked_at(&mut self) {
        self.sold.values_mut().filter_map(|sold| sold.home.as_mut()).for_each(|home| home.changed.clear());
    }

    /// How much there is, by product.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, Size)> {
        self.sold.iter().map(|(name, sold)| {
            let size = Size {
                visitors: sold.share.visitors(),
                cells: sold.home.as_ref().map_or(0, |home| home.cells.len()),
                untold: sold.share.outbox().count(),
                apart: sold.share.apart,
            };
            (name.as_str(), size)
        })
    }
}
