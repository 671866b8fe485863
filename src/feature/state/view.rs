//! What a reader in another process needs of a product, as compact bytes: values, versions and times, without ids and without
//! what it takes to undo them.
//!
//! A view reads like the product that it was made of: the same answers, the same dump. The prices of the past of a market are
//! bytes of their own, since hardly anybody asks for them.
//!
//! The first byte is [`LAYOUT`], the rest is postcard.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::register::{Entry, Register};
use super::stock::Stock;
use super::{PriceTag, Product, Rank};
use crate::clock::Micros;
use crate::event::Identity;
use crate::feature::{Details, StockLevel};

const LAYOUT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct View {
    details: Vec<Begun<Details>>,
    stock: Vec<(Arc<str>, Level)>,
    prices: Vec<(Arc<str>, Vec<Begun<PriceTag>>)>,
}

/// From which instant what is in force.
type Begun<V> = (Option<Micros>, Kept<V>);

#[derive(Serialize, Deserialize)]
struct Kept<V> {
    version: Option<i64>,
    time: Micros,
    offset: u64,
    from: Option<Micros>,
    value: V,
}

#[derive(Serialize, Deserialize)]
struct Level {
    on_hand: i64,
    reserved: i64,
    updated_at: Micros,
    version: Option<i64>,
}

impl<V: Clone> Kept<V> {
    fn of(entry: &Entry<V>) -> Self {
        let Rank { version, time, offset } = entry.rank;
        Self { version, time, offset, from: entry.from, value: entry.value.clone() }
    }

    fn entry(self) -> Entry<V> {
        let rank = Rank { version: self.version, time: self.time, offset: self.offset };
        // Only undoing asks for it, which is done where the whole state is.
        Entry { identity: Identity::default(), rank, from: self.from, value: self.value }
    }
}

fn begun<V: Clone>(register: &Register<V>) -> Vec<Begun<V>> {
    register.begins().map(|(start, entry)| (start, Kept::of(entry))).collect()
}

fn register<V: Clone>(begun: Vec<Begun<V>>) -> Register<V> {
    Register::of_begins(begun.into_iter().map(|(start, kept)| (start, kept.entry())))
}

fn encode(view: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    Ok(postcard::to_extend(view, vec![LAYOUT])?)
}

fn decode<'a, V: Deserialize<'a>>(bytes: &'a [u8]) -> anyhow::Result<V> {
    let (layout, rest) = bytes.split_first().context("a product's view is empty")?;
    ensure!(*layout == LAYOUT, "a product's view has layout {layout}, but this version of Tollgate reads layout {LAYOUT}");
    postcard::from_bytes(rest).context("a product's view is damaged")
}

impl Product {
    /// All but the prices of the past.
    pub(in crate::feature) fn view(&self) -> anyhow::Result<Vec<u8>> {
        let level = |stock: &Stock| {
            let StockLevel { on_hand, reserved, updated_at } = stock.level();
            Level { on_hand, reserved, updated_at, version: stock.version() }
        };
        encode(&View {
            details: begun(&self.details),
            stock: self.stock.iter().map(|(location, stock)| (location.clone(), level(stock))).collect(),
            prices: self.prices.iter().map(|(market, prices)| (market.clone(), begun(prices))).collect(),
        })
    }

    /// From [`Self::view`].
    pub(in crate::feature) fn of_view(bytes: &[u8]) -> anyhow::Result<Self> {
        let view: View = decode(bytes)?;
        let stock = |level: Level| {
            let Level { on_hand, reserved, updated_at, version } = level;
            Stock::of_level(StockLevel { on_hand, reserved, updated_at }, version)
        };
        Ok(Self {
            details: register(view.details),
            stock: view.stock.into_iter().map(|(location, level)| (location, Arc::new(stock(level)))).collect(),
            prices: view.prices.into_iter().map(|(market, begun)| (market, Arc::new(register(begun)))).collect(),
        })
    }

    /// The prices of the past of `market`; none where it has none.
    pub(in crate::feature) fn past(&self, market: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let kept = |prices: &Arc<Register<PriceTag>>| encode(&prices.entries().map(Kept::of).collect::<Vec<_>>());
        self.prices.get(market).map(kept).transpose()
    }

    /// Puts what [`Self::past`] gave in its place.
    pub(in crate::feature) fn add_past(&mut self, market: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let kept: Vec<Kept<PriceTag>> = decode(bytes)?;
        if let Some(prices) = self.prices.get_mut(market) {
            *prices = Arc::new(Register::of_entries(kept.into_iter().map(Kept::entry).collect()));
        }
        Ok(())
    }

    /// Where it has prices.
    pub(in crate::feature) fn markets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.prices.keys()
    }
}
