//! Bringing Redis to where the memory is.

use std::sync::Arc;

use super::Slot;
use super::call::Call;
use super::head::{self, Head};
use super::held::{Listed, Pending};
use super::keys::Keys;
use super::link::Link;
use super::read;
use crate::clock::Micros;
use crate::feature::ApplyError;
use crate::feature::state::Product;

/// A commit is one call, so that it is seen at once, as long as that can be asked of a server; past it, it is written as a restore is.
const COMMIT_BYTES: usize = 64 << 20;
const COMMIT_KEYS: usize = 200_000;
/// A call of a restore: others wait meanwhile.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK_KEYS: usize = 2000;
/// SKUs that are looked up at once.
const LOOKED_UP: usize = 200;

/// One partition and where it is written.
pub(super) struct Writer<'a> {
    pub(super) link: &'a Link,
    pub(super) keys: &'a Keys,
    pub(super) partition: u16,
    pub(super) slot: &'a Slot,
}

/// What a commit comes to.
enum Plan<'a> {
    Nothing,
    Once(Call<'a>),
    /// After what Redis has of these was looked up.
    Reread(Vec<Arc<str>>),
    /// Piece by piece: these SKUs; with `all`, whatever else Redis has goes.
    Pieces {
        skus: Vec<Arc<str>>,
        all: bool,
    },
}

impl<'a> Writer<'a> {
    /// Nobody else changes what is held meanwhile: the caller has the partition's turn.
    pub(super) async fn commit(&self, complete_to: Option<Micros>) -> Result<(), ApplyError> {
        let Some((plan, expected, position, as_of)) = self.plan(complete_to)? else {
            return Err(ApplyError::Moved { stands: None, expected: None });
        };
        match plan {
            Plan::Nothing => return Ok(()),
            Plan::Once(call) => self.send(&call, &expected, &position, as_of).await?,
            Plan::Reread(skus) => {
                let mut call = Call::new(self.keys, self.partition);
                self.add(&mut call, &skus).await?;
                self.send(&call, &expected, &position, as_of).await?;
            }
            Plan::Pieces { skus, all } => self.write_anew(&skus, all, &expected, &position, as_of).await?,
        }
        if let Some(held) = &mut *self.slot.held.write() {
            held.committed(as_of);
        }
        Ok(())
    }

    fn plan(&self, complete_to: Option<Micros>) -> anyhow::Result<Option<(Plan<'a>, String, String, Option<Micros>)>> {
        let held = self.slot.held.read();
        let Some(held) = &*held else { return Ok(None) };
        let as_of = held.as_of.max(complete_to);
        let plan = match &held.pending {
            Pending::Behind(_) => Plan::Nothing,
            Pending::Some { changed, reread: true } => Plan::Reread(changed.keys().cloned().collect()),
            Pending::Some { changed, reread: false } => {
                let mut call = Call::new(self.keys, self.partition);
                for (sku, changed) in changed {
                    let now = held.state.products.get(sku);
                    if now.is_some() || changed.before.is_some() {
                        call.put(sku, now, changed.before.as_ref(), Some(&changed.markets))?;
                    }
                }
                if call.bytes() > COMMIT_BYTES || call.len() > COMMIT_KEYS {
                    Plan::Pieces { skus: changed.keys().cloned().collect(), all: false }
                } else {
                    Plan::Once(call)
                }
            }
            Pending::All => Plan::Pieces { skus: held.state.products.keys().cloned().collect(), all: true },
        };
        Ok(Some((plan, held.expected.clone(), head::position(held.state.applied), as_of)))
    }

    async fn send(&self, call: &Call<'_>, expected: &str, position: &str, as_of: Option<Micros>) -> Result<(), ApplyError> {
        let stands = match call.send(self.link, expected, position, as_of).await? {
            Ok(()) => return Ok(()),
            Err(head) => head.applied(),
        };
        let expected = self.slot.held.read().as_ref().and_then(|held| held.stands);
        Err(ApplyError::Moved { stands, expected })
    }

    /// Readers are told nothing of the partition until all of it is there.
    async fn write_anew(
        &self,
        skus: &[Arc<str>],
        all: bool,
        expected: &str,
        position: &str,
        as_of: Option<Micros>,
    ) -> Result<(), ApplyError> {
        let partition = self.partition;
        tracing::info!(partition, products = skus.len(), all, "a partition of the feature store is written anew");
        let mark = head::new_mark();
        self.send(&Call::new(self.keys, partition), expected, &mark, None).await?;
        for skus in skus.chunks(LOOKED_UP) {
            self.write_piece(skus, &mark).await?;
        }
        let mut after: Option<Arc<str>> = None;
        while all {
            let there = read::listed(self.link, &self.keys.all(partition), after.as_deref(), LOOKED_UP).await?;
            let Some(last) = there.last() else { break };
            after = Some(last.clone());
            let is_gone = |sku: &Arc<str>| {
                let held = self.slot.held.read();
                held.as_ref().is_some_and(|held| !held.state.products.contains_key(sku))
            };
            let gone: Vec<_> = there.into_iter().filter(is_gone).collect();
            self.write_piece(&gone, &mark).await?;
        }
        self.send(&Call::new(self.keys, partition), &mark, position, as_of).await
    }

    async fn write_piece(&self, skus: &[Arc<str>], mark: &str) -> Result<(), ApplyError> {
        let mut left = skus;
        let before = self.before(skus).await?;
        let mut before = before.iter();
        while !left.is_empty() {
            let mut call = Call::new(self.keys, self.partition);
            while let Some((sku, rest)) = left.split_first()
                && call.bytes() < CHUNK_BYTES
                && call.len() < CHUNK_KEYS
            {
                self.put(&mut call, sku, before.next().and_then(Option::as_ref))?;
                left = rest;
            }
            self.send(&call, mark, mark, None).await?;
        }
        Ok(())
    }

    async fn add(&self, call: &mut Call<'_>, skus: &[Arc<str>]) -> anyhow::Result<()> {
        for skus in skus.chunks(LOOKED_UP) {
            for (sku, before) in skus.iter().zip(self.before(skus).await?) {
                self.put(call, sku, before.as_ref())?;
            }
        }
        Ok(())
    }

    fn put(&self, call: &mut Call<'_>, sku: &Arc<str>, before: Option<&Listed>) -> anyhow::Result<()> {
        let held = self.slot.held.read();
        call.put(sku, held.as_ref().and_then(|held| held.state.products.get(sku)), before, None)
    }

    /// How Redis lists each of `skus`.
    async fn before(&self, skus: &[Arc<str>]) -> anyhow::Result<Vec<Option<Listed>>> {
        let keys: Vec<String> = skus.iter().map(|sku| self.keys.view(self.partition, sku)).collect();
        let views = self.link.get_many(&keys).await?;
        let listed = |view: &Vec<u8>| Product::of_view(view).map(|product| Listed::of(&product));
        let known = |(sku, view): (&Arc<str>, Option<Vec<u8>>)| {
            view.and_then(|view| match listed(&view) {
                Ok(listed) => Some(listed),
                // What it was listed under stays: readers look at the view too.
                Err(error) => {
                    tracing::warn!(%sku, error = format!("{error:#}"), "what the feature store had of a product cannot be read");
                    None
                }
            })
        };
        Ok(skus.iter().zip(views).map(known).collect())
    }
}

/// How `partition` stands.
pub(super) async fn head(link: &Link, keys: &Keys, partition: u16) -> anyhow::Result<Head> {
    let head: Option<Vec<u8>> = link.query(redis::cmd("GET").arg(keys.head(partition))).await?;
    Head::of(head.as_deref())
}
