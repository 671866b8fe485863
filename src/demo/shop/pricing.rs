//! What things cost: one price for each SKU and market, in integer cents.
//!
//! A promotion lowers the amount below the list price and shows both; its end restores the list price. List prices
//! drift a little and pull back to where they began, so that a long run neither doubles nor gives away the shop.

use std::collections::VecDeque;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::places::MARKETS;
use super::scene::{Scene, weighted};

/// Promotions that run at once; then the longest-running ends first.
pub(super) const PROMOTIONS_MAX: usize = 40;
const PROMOTIONS_AT_OPENING: usize = 24;
/// Draws for a price that can change before the tick is given to something else.
const TRIES: usize = 16;

#[derive(Clone, Copy)]
struct Price {
    start: u32,
    list: u32,
    amount: u32,
}

impl Price {
    fn is_promoted(&self) -> bool {
        self.amount < self.list
    }
}

pub(super) struct Prices {
    prices: Vec<[Price; MARKETS.len()]>,
    /// (product, market), longest-running first: exactly those that are promoted.
    promotions: VecDeque<(usize, usize)>,
}

#[derive(Clone, Copy)]
enum Move {
    Promote,
    Restore,
    Drift,
}

impl Prices {
    pub(super) fn new(catalogue: &Catalogue, rng: &mut ChaCha8Rng) -> Self {
        let price = |cents: u32, market: usize, rng: &mut ChaCha8Rng| {
            let percent = MARKETS[market].price_percent + rng.random_range(0..4);
            let start = rounded(cents * percent / 100, market);
            Price { start, list: start, amount: start }
        };
        let prices =
            catalogue.products().iter().map(|product| std::array::from_fn(|market| price(product.cents, market, rng))).collect();
        let mut shop = Self { prices, promotions: VecDeque::with_capacity(PROMOTIONS_MAX) };
        for _ in 0..PROMOTIONS_AT_OPENING {
            let product = catalogue.popular(rng);
            shop.promote(product, rng);
        }
        shop
    }

    /// What a product costs now, in cents.
    pub(super) fn cents(&self, product: usize, market: usize) -> u32 {
        self.prices[product][market].amount
    }

    /// A promotion begins or ends, or a list price moves; `None` when no draw could change anything.
    pub(super) fn change(&mut self, scene: &mut Scene) -> Option<Value> {
        let (product, market) = match weighted(&mut scene.rng, [(Move::Promote, 42), (Move::Restore, 30), (Move::Drift, 28)]) {
            Move::Promote if self.promotions.len() < PROMOTIONS_MAX => (0..TRIES).find_map(|_| {
                let product = scene.popular();
                self.promote(product, &mut scene.rng)
            })?,
            Move::Promote | Move::Restore => self.restore()?,
            Move::Drift => (0..TRIES).find_map(|_| {
                let product = scene.popular();
                self.drift(product, &mut scene.rng)
            })?,
        };
        Some(self.set(scene, product, market))
    }

    /// The price as it stands; the list price is named only where it is undercut.
    pub(super) fn set(&self, scene: &mut Scene, product: usize, market: usize) -> Value {
        let price = &self.prices[product][market];
        let mut data = json!({
            "sku": scene.catalogue.products()[product].sku,
            "market": MARKETS[market].name,
            "currency": MARKETS[market].currency,
            "amount": decimal(price.amount),
        });
        if price.is_promoted() {
            data["listAmount"] = decimal(price.list).into();
        }
        scene.about(product, "price.set", data)
    }

    #[cfg(test)]
    pub(super) fn promotions_len(&self) -> usize {
        self.promotions.len()
    }

    fn promote(&mut self, product: usize, rng: &mut ChaCha8Rng) -> Option<(usize, usize)> {
        let market = rng.random_range(0..MARKETS.len());
        let percent = weighted(rng, [(90, 20), (85, 20), (80, 30), (75, 15), (60, 10), (50, 5)]);
        let price = &mut self.prices[product][market];
        let lowered = rounded(price.list * percent / 100, market);
        if price.is_promoted() || lowered >= price.list {
            return None;
        }
        price.amount = lowered;
        self.promotions.push_back((product, market));
        Some((product, market))
    }

    fn restore(&mut self) -> Option<(usize, usize)> {
        let (product, market) = self.promotions.pop_front()?;
        let price = &mut self.prices[product][market];
        price.amount = price.list;
        Some((product, market))
    }

    fn drift(&mut self, product: usize, rng: &mut ChaCha8Rng) -> Option<(usize, usize)> {
        let market = rng.random_range(0..MARKETS.len());
        let price = &mut self.prices[product][market];
        let percent = rng.random_range(2..=9);
        let towards_start = rng.random_ratio(3, 4);
        let up = (price.list <= price.start) == towards_start;
        let percent = if up { 100 + percent } else { 100 - percent };
        let moved = rounded(price.list * percent / 100, market);
        let within = price.start * 3 / 4..=price.start * 5 / 4;
        if price.is_promoted() || moved == price.list || !within.contains(&moved) {
            return None;
        }
        price.list = moved;
        price.amount = moved;
        Some((product, market))
    }
}

/// Cents as a decimal with two places, `1299` as `12.99`.
pub(super) fn decimal(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The nearest price as a shop would print it: just below a round one, and in francs a multiple of five, since there
/// is no smaller coin.
fn rounded(cents: u32, market: usize) -> u32 {
    let step = match cents {
        0..500 => 10,
        500..10_000 => 50,
        _ => 100,
    };
    ((cents + step / 2) / step).max(1) * step - MARKETS[market].cents_below
}
