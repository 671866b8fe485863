//! A shop that never was: a seeded generator of the events a lifelike retailer would send, for `tollgate demo` and for
//! tests that need more than a handful of events.
//!
//! Promises:
//! - **Pure.** Time and seed are arguments; the same seed and the same sequence of `now` give byte-identical events.
//!   Nothing here iterates in hash order, reads a clock or touches the outside.
//! - **Coherent.** A sale happens only where unreserved stock is, so that counts, adjustments and compensations, folded
//!   in order from [`Shop::opening`] on, never go below zero; a purchase in a journey brings its sale with it.
//! - **Bounded.** However long it runs, open sessions, promotions and sales that may be undone have fixed limits.
//! - **Exact.** Money is integer cents inside and a decimal string outside.
//!
//! No event carries a `version`: without one the event's `time`, then its offset, decides (contract, Events). A counter
//! would begin anew with each run and lose against what an earlier run left in the same store; time does not.

mod catalogue;
mod journey;
mod places;
mod pricing;
mod scene;
mod stock;
#[cfg(test)]
mod tests;
mod words;

use jiff::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use catalogue::Catalogue;
use journey::Visits;
use places::{LOCATIONS, MARKETS};
use pricing::Prices;
use scene::{Scene, Writer, weighted};
use stock::Stock;

/// Names that exist in the shop, for an example to paste: its best seller, so that what the example shows moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The SKU, such as `SKU-10023`.
    pub sku: String,
    /// A location that stocks it, such as `BER-1`.
    pub location: &'static str,
    /// A market that prices it, such as `DE`.
    pub market: &'static str,
    /// The brand of the SKU.
    pub brand: &'static str,
}

/// The shop: what it sells, what stands on its shelves, what things cost and who is looking around.
pub struct Shop {
    scene: Scene,
    stock: Stock,
    prices: Prices,
    visits: Visits,
}

#[derive(Clone, Copy)]
enum Happening {
    Journey,
    Sale,
    Restock,
    Price,
    Recount,
    Undo,
    Edit,
}

/// How often each comes, in a thousand ticks.
const MIX: [(Happening, u32); 7] = [
    (Happening::Journey, 454),
    (Happening::Sale, 400),
    (Happening::Restock, 70),
    (Happening::Price, 50),
    (Happening::Recount, 20),
    (Happening::Undo, 4),
    (Happening::Edit, 2),
];

impl Shop {
    /// A shop that `seed` decides. `run` only keeps the events of one run apart from those of another: it stands in
    /// their `source` (`/demo/shop/{run}`), and `source` + `id` is an event's identity.
    pub fn new(seed: u64, run: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let catalogue = Catalogue::new(&mut rng);
        let stock = Stock::new(&catalogue, &mut rng);
        let prices = Prices::new(&catalogue, &mut rng);
        Self { scene: Scene { rng, catalogue, writer: Writer::new(run) }, stock, prices, visits: Visits::new(seed) }
    }

    /// The whole shop as it stands: each SKU's catalogue entry, its count at every location and its price in every
    /// market, all at `now`. Send it before the first tick: adjustments need a count to start from.
    pub fn opening(&mut self, now: Timestamp) -> Vec<Value> {
        self.scene.writer.advance(now);
        self.stock.forget_sales();
        let mut events = Vec::new();
        for product in 0..self.scene.catalogue.len() {
            events.push(self.scene.upserted(product));
            for location in 0..LOCATIONS.len() {
                events.push(self.stock.counted(&mut self.scene, product, location));
            }
            for market in 0..MARKETS.len() {
                events.push(self.prices.set(&mut self.scene, product, market));
            }
        }
        events
    }

    /// What happens next: one or a few events, never none. A `now` before the last one counts as the last one, since
    /// an older `time` would lose against what is already stored.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Value> {
        self.scene.writer.advance(now);
        let Self { scene, stock, prices, visits } = self;
        let single = match weighted(&mut scene.rng, MIX) {
            Happening::Journey => return visits.journey(scene, stock, prices),
            Happening::Sale => None,
            Happening::Restock => stock.restock(scene),
            Happening::Price => prices.change(scene),
            Happening::Recount => Some(stock.recount(scene)),
            Happening::Undo => stock.undo(scene),
            Happening::Edit => Some(scene.edit()),
        };
        // Nothing to refill, reprice or undo: trade goes on.
        single.map_or_else(|| stock.receipt(scene), |event| vec![event])
    }

    /// A SKU, a location, a market and a brand that exist and belong together.
    pub fn example(&self) -> Example {
        let best = self.scene.catalogue.best_seller();
        Example {
            sku: best.sku.clone(),
            location: LOCATIONS[0].name,
            market: MARKETS[LOCATIONS[0].market].name,
            brand: best.brand,
        }
    }

    /// All SKUs, in catalogue order.
    pub fn skus(&self) -> impl Iterator<Item = &str> {
        self.scene.catalogue.products().iter().map(|product| product.sku.as_str())
    }
}
