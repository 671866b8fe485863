//! Bringing Redis to where the memory is.

use std::collections::HashSet;
use std::sync::Arc;

use super::Slot;
use super::call::{Call, Sent};
use super::head::{self, Head};
use super::held::{Before, Held, Listed, Pending};
use super::keys::Keys;
use super::read;
use crate::clock::Micros;
use crate::feature::ApplyError;
use crate::feature::state::Product;
use crate::redis_link::Link;

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

/// Why nothing more was written.
pub(super) enum Stopped {
    /// A replay is about to switch.
    Sealed(String),
    Failed(ApplyError),
}

impl From<ApplyError> for Stopped {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error)
    }
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Where a commit leads.
struct Step {
    /// The position to find,
    expected: String,
    /// and the one after it,
    position: String,
    /// complete up to this.
    as_of: Option<Micros>,
}

/// What a commit comes to.
enum Work<'a> {
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
    pub(super) async fn commit(&self, complete_to: Option<Micros>) -> Result<(), Stopped> {
        let Some((work, step)) = self.plan(complete_to)? else {
            return Err(ApplyError::Moved { stands: None, expected: None }.into());
        };
        match work {
            Work::Nothing => return Ok(()),
            Work::Once(call) => self.send(&call, &step).await?,
            Work::Reread(skus) => {
                let mut call = self.call();
                for skus in skus.chunks(LOOKED_UP) {
                    for (sku, before) in skus.iter().zip(self.before(skus).await?) {
                        self.put(&mut call, sku, &before)?;
                    }
                }
                if let Some(held) = &*self.slot.held.read() {
                    changed_journeys(&mut call, held)?;
                }
                self.send(&call, &step).await?;
            }
            Work::Pieces { skus, all } => self.write_anew(&skus, all, &step).await?,
        }
        if let Some(held) = &mut *self.slot.held.write() {
            held.committed(step.as_of);
        }
        Ok(())
    }

    fn call(&self) -> Call<'a> {
        Call::new(self.keys, self.partition)
    }

    fn plan(&self, complete_to: Option<Micros>) -> anyhow::Result<Option<(Work<'a>, Step)>> {
        let held = self.slot.held.read();
        let Some(held) = &*held else { return Ok(None) };
        let work = match &held.pending {
            Pending::Behind(_) => Work::Nothing,
            Pending::Some { changed, reread: true } => Work::Reread(changed.keys().cloned().collect()),
            Pending::Some { changed, reread: false } => {
                let mut call = self.call();
                for (sku, changed) in changed {
                    let now = held.state.products.get(sku).map(|product| &**product);
                    if now.is_some() || changed.before != Before::Absent {
                        call.put(sku, now, &changed.before, Some(&changed.markets))?;
                    }
                }
                changed_journeys(&mut call, held)?;
                if call.bytes() > COMMIT_BYTES || call.len() > COMMIT_KEYS {
                    Work::Pieces { skus: changed.keys().cloned().collect(), all: false }
                } else {
                    Work::Once(call)
                }
            }
            Pending::All => Work::Pieces { skus: held.state.products.keys().cloned().collect(), all: true },
        };
        let (expected, position) = (held.expected.clone(), head::position(held.state.applied));
        Ok(Some((work, Step { expected, position, as_of: held.as_of.max(complete_to) })))
    }

    async fn send(&self, call: &Call<'_>, step: &Step) -> Result<(), Stopped> {
        match call.send(self.link, &step.expected, &step.position, step.as_of).await? {
            Sent::Written => Ok(()),
            Sent::Sealed(seal) => Err(Stopped::Sealed(seal)),
            Sent::Elsewhere(head) => {
                let expected = self.slot.held.read().as_ref().and_then(|held| held.stands);
                Err(ApplyError::Moved { stands: head.applied(), expected }.into())
            }
        }
    }

    /// Readers are told nothing of the partition until all of it is there.
    async fn write_anew(&self, skus: &[Arc<str>], all: bool, step: &Step) -> Result<(), Stopped> {
        let partition = self.partition;
        tracing::info!(partition, products = skus.len(), all, "a partition of the feature store is written anew");
        let mark = head::new_mark();
        let to_mark = |expected: &str| Step { expected: expected.to_owned(), position: mark.clone(), as_of: None };
        self.send(&self.call(), &to_mark(&step.expected)).await?;
        let marked = to_mark(&mark);
        for skus in skus.chunks(LOOKED_UP) {
            self.write_piece(skus, &marked).await?;
        }
        self.write_journeys(all, &marked).await?;
        if all {
            self.remove_others(&marked).await?;
        }
        self.send(&self.call(), &Step { expected: mark, position: step.position.clone(), as_of: step.as_of }).await
    }

    /// Writes the answers of journeys that changed; with `all`, every one, and removes whatever else Redis has.
    async fn write_journeys(&self, all: bool, marked: &Step) -> Result<(), Stopped> {
        let (mut calls, mut names) = (vec![self.call()], HashSet::new());
        if let Some(held) = &*self.slot.held.read() {
            let journeys = &held.state.journeys;
            if all {
                for (product, entry, answer) in journeys.answers() {
                    names.insert(format!("{}:{}", product.name, entry.name()));
                    room(&mut calls, || self.call()).journey(&product.name, &entry, Some(&answer))?;
                }
            } else {
                for (product, entry) in journeys.changed() {
                    room(&mut calls, || self.call()).journey(product, entry, journeys.answer(product, entry).as_ref())?;
                }
            }
        }
        for call in calls {
            self.send(&call, marked).await?;
        }
        if all { self.remove_other_journeys(&names, marked).await } else { Ok(()) }
    }

    async fn remove_other_journeys(&self, names: &HashSet<String>, marked: &Step) -> Result<(), Stopped> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let there = read::listed(self.link, &self.keys.journeys(self.partition), after.as_deref(), LOOKED_UP).await?;
            let Some(last) = there.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut call = self.call();
            there.iter().filter(|name| !names.contains(&***name)).for_each(|name| call.forget_journey(name));
            self.send(&call, marked).await?;
        }
    }

    /// Removes what Redis has, and the memory has not.
    async fn remove_others(&self, marked: &Step) -> Result<(), Stopped> {
        let mut after: Option<Arc<str>> = None;
        loop {
            let there = read::listed(self.link, &self.keys.all(self.partition), after.as_deref(), LOOKED_UP).await?;
            let Some(last) = there.last() else { return Ok(()) };
            after = Some(last.clone());
            let is_gone = |sku: &Arc<str>| {
                let held = self.slot.held.read();
                held.as_ref().is_some_and(|held| !held.state.products.contains_key(sku))
            };
            let gone: Vec<_> = there.into_iter().filter(is_gone).collect();
            self.write_piece(&gone, marked).await?;
        }
    }

    async fn write_piece(&self, skus: &[Arc<str>], marked: &Step) -> Result<(), Stopped> {
        let mut left = skus;
        let before = self.before(skus).await?;
        let mut before = before.iter();
        while !left.is_empty() {
            let mut call = self.call();
            while let Some((sku, rest)) = left.split_first()
                && call.bytes() < CHUNK_BYTES
                && call.len() < CHUNK_KEYS
            {
                self.put(&mut call, sku, before.next().unwrap_or(&Before::Absent))?;
                left = rest;
            }
            self.send(&call, marked).await?;
        }
        Ok(())
    }

    fn put(&self, call: &mut Call<'_>, sku: &Arc<str>, before: &Before) -> anyhow::Result<()> {
        let held = self.slot.held.read();
        call.put(sku, held.as_ref().and_then(|held| held.state.products.get(sku)).map(|product| &**product), before, None)
    }

    /// How Redis lists each of `skus`.
    async fn before(&self, skus: &[Arc<str>]) -> anyhow::Result<Vec<Before>> {
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
        Ok(skus.iter().zip(views).map(known).map(Before::of).collect())
    }
}

fn changed_journeys(call: &mut Call<'_>, held: &Held) -> anyhow::Result<()> {
    let journeys = &held.state.journeys;
    journeys.changed().try_for_each(|(product, entry)| call.journey(product, entry, journeys.answer(product, entry).as_ref()))
}

/// The last of `calls`, or a new one where that is full.
fn room<'a, 'b>(calls: &'b mut Vec<Call<'a>>, new: impl Fn() -> Call<'a>) -> &'b mut Call<'a> {
    if calls.last().is_none_or(|call| call.bytes() >= CHUNK_BYTES || call.len() >= CHUNK_KEYS) {
        calls.push(new());
    }
    let last = calls.len() - 1;
    &mut calls[last]
}

/// How `partition` stands.
pub(super) async fn head(link: &Link, keys: &Keys, partition: u16) -> anyhow::Result<Head> {
    let head: Option<Vec<u8>> = link.query(redis::cmd("GET").arg(keys.head(partition))).await?;
    Head::of(head.as_deref())
}
