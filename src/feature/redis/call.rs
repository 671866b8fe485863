//! One call of the script that writes: all of it, or nothing where the partition stands elsewhere.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use anyhow::Context;

use super::head::Head;
use super::held::{Before, Listed};
use super::keys::Keys;
use crate::clock::Micros;
use crate::feature::state::Product;
use crate::journey::{Answer, Entry};
use crate::redis_link::{Link, Script};

static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("commit.lua")));

/// What is written in one step.
pub(super) struct Call<'a> {
    keys: &'a Keys,
    partition: u16,
    set: Vec<(String, Vec<u8>)>,
    delete: Vec<String>,
    add: Vec<(String, Arc<str>)>,
    remove: Vec<(String, Arc<str>)>,
    bytes: usize,
}

/// What became of a call.
pub(super) enum Sent {
    Written,
    /// Nothing was written: the partition stands here.
    Elsewhere(Head),
    /// Nothing was written: the partition has this seal.
    Sealed(String),
}

impl<'a> Call<'a> {
    pub(super) fn new(keys: &'a Keys, partition: u16) -> Self {
        Self { keys, partition, set: Vec::new(), delete: Vec::new(), add: Vec::new(), remove: Vec::new(), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.set.len() + self.delete.len() + self.add.len() + self.remove.len()
    }

    fn set(&mut self, key: String, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.set.push((key, value));
    }

    /// A SKU as it is `now`, where Redis lists it as `before`. Of prices of the past, those of the markets that `changed` names; else all
    /// of it, whatever Redis is thought to have.
    pub(super) fn put(
        &mut self,
        sku: &Arc<str>,
        now: Option<&Product>,
        before: &Before,
        changed: Option<&BTreeSet<Arc<str>>>,
    ) -> anyhow::Result<()> {
        let (keys, partition) = (self.keys, self.partition);
        match now {
            Some(product) => {
                self.set(keys.view(partition, sku), product.view()?);
                for market in product.markets().filter(|market| changed.is_none_or(|changed| changed.contains(*market))) {
                    if let Some(past) = product.past(market)? {
                        self.set(keys.past(partition, sku, market), past);
                    }
                }
                if *before == Before::Absent || changed.is_none() {
                    self.add.push((keys.all(partition), sku.clone()));
                }
            }
            None => {
                self.delete.push(keys.view(partition, sku));
                self.remove.push((keys.all(partition), sku.clone()));
            }
        }
        let there = match before {
            Before::Same => return Ok(()),
            Before::Absent => &Listed::default(),
            Before::Listed(listed) => listed,
        };
        let here = now.map(Listed::of).unwrap_or_default();
        let gone = there.markets.difference(&here.markets);
        self.delete.extend(gone.map(|market| keys.past(partition, sku, market)));
        let key = |(column, value): &(_, String)| (keys.column(partition, *column, value), sku.clone());
        let listed_now = here.columns.iter().filter(|listed| changed.is_none() || !there.columns.contains(listed));
        self.add.extend(listed_now.map(key));
        self.remove.extend(there.columns.iter().filter(|listed| !here.columns.contains(listed)).map(key));
        Ok(())
    }

    /// An answer of a journey product, as it is now.
    pub(super) fn journey(&mut self, product: &str, entry: &Entry, answer: Option<&Answer>) -> anyhow::Result<()> {
        let name: Arc<str> = format!("{product}:{}", entry.name()).into();
        let (key, list) = (self.keys.journey(self.partition, &name), self.keys.journeys(self.partition));
        match answer {
            Some(answer) => {
                self.set(key, answer.write()?);
                self.add.push((list, name));
            }
            None => self.forget_journey(&name),
        }
        Ok(())
    }

    /// An answer of that name is not there any more.
    pub(super) fn forget_journey(&mut self, name: &Arc<str>) {
        self.delete.push(self.keys.journey(self.partition, name));
        self.remove.push((self.keys.journeys(self.partition), name.clone()));
    }

    /// Writes it all where the partition stands at `expected`, which becomes `position`.
    pub(super) async fn send(&self, link: &Link, expected: &str, position: &str, as_of: Option<Micros>) -> anyhow::Result<Sent> {
        let build = |command: &mut redis::Cmd| {
            command.arg(2 + self.len()).arg(self.keys.head(self.partition)).arg(self.keys.seal(self.partition));
            let (added, removed) = (self.add.iter().map(|(key, _)| key), self.remove.iter().map(|(key, _)| key));
            for key in self.set.iter().map(|(key, _)| key).chain(&self.delete).chain(added).chain(removed) {
                command.arg(key);
            }
            command.arg(expected).arg(position).arg(super::head::instant(as_of));
            command.arg(self.set.len()).arg(self.delete.len()).arg(self.add.len()).arg(self.remove.len());
            for (_, value) in &self.set {
                command.arg(value);
            }
            for (_, sku) in self.add.iter().chain(&self.remove) {
                command.arg(&**sku);
            }
        };
        let answered: redis::RedisResult<(u8, Option<Vec<u8>>)> = link.script(&COMMIT, build).await;
        match answered.with_context(|| link.failed())? {
            (1, _) => Ok(Sent::Written),
            (2, seal) => Ok(Sent::Sealed(String::from_utf8_lossy(&seal.unwrap_or_default()).into_owned())),
            (_, head) => Ok(Sent::Elsewhere(Head::of(head.as_deref())?)),
        }
    }
}
