//! What stands on the shelves: one shelf for each SKU and location.
//!
//! A shelf sells only what is neither gone nor reserved, so `0 <= reserved <= on hand` holds after every event. Only a
//! count says what is reserved; sales, deliveries and undone sales move what is on hand.

use std::collections::VecDeque;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::places::LOCATIONS;
use super::scene::{Scene, id_of, weighted};

/// Sales that may still be undone; the oldest falls out.
pub(super) const UNDOABLE_MAX: usize = 64;
/// Draws before a sale gives up finding stock and a shelf is filled instead.
const TRIES: usize = 8;

#[derive(Clone, Copy)]
struct Shelf {
    on_hand: u32,
    reserved: u32,
    /// What it holds when full.
    capacity: u32,
}

impl Shelf {
    fn available(&self) -> u32 {
        self.on_hand.saturating_sub(self.reserved)
    }

    fn is_low(&self) -> bool {
        self.available() <= (self.capacity / 6).max(2)
    }
}

struct Sale {
    id: String,
    product: usize,
    location: usize,
    units: u32,
}

pub(super) struct Stock {
    shelves: Vec<[Shelf; LOCATIONS.len()]>,
    undoable: VecDeque<Sale>,
}

impl Stock {
    pub(super) fn new(catalogue: &Catalogue, rng: &mut ChaCha8Rng) -> Self {
        let shelf = |demand: u32, rng: &mut ChaCha8Rng| {
            let capacity = 14 + demand / 6 + rng.random_range(0..10);
            let on_hand = rng.random_range(0..=capacity);
            Shelf { on_hand, reserved: rng.random_range(0..=on_hand / 6), capacity }
        };
        let shelves = catalogue.demand().into_iter().map(|demand| std::array::from_fn(|_| shelf(demand, rng))).collect();
        Self { shelves, undoable: VecDeque::with_capacity(UNDOABLE_MAX) }
    }

    /// A receipt at a till: mostly one product, sometimes a second. Never empty: bare shelves are filled instead.
    pub(super) fn receipt(&mut self, scene: &mut Scene) -> Vec<Value> {
        let location = weighted(&mut scene.rng, [(0, 30), (1, 20), (2, 20), (3, 16), (4, 14)]);
        let lines = weighted(&mut scene.rng, [(1, 88), (2, 12)]);
        let mut events = Vec::with_capacity(lines);
        let mut last = scene.popular();
        for _ in 0..TRIES {
            let available = self.shelves[last][location].available();
            if available > 0 {
                let wanted = weighted(&mut scene.rng, [(1, 62), (2, 24), (3, 9), (4, 5)]);
                let units = available.min(wanted);
                let event = self.sell(scene, last, location, units);
                self.remember(Sale { id: id_of(&event).to_owned(), product: last, location, units });
                events.push(event);
                if events.len() == lines {
                    break;
                }
            }
            last = scene.popular();
        }
        if events.is_empty() {
            events.push(self.deliver(scene, last, location));
        }
        events
    }

    /// Where the web shop can send a product from: the location in that market that has most of it, and how many of the
    /// units wanted it has. `None` when it is sold out.
    pub(super) fn offer(&self, product: usize, market: usize, wanted: u32) -> Option<(usize, u32)> {
        (0..LOCATIONS.len())
            .filter(|&location| LOCATIONS[location].market == market)
            .map(|location| (location, self.shelves[product][location].available()))
            .max_by_key(|&(_, available)| available)
            .map(|(location, available)| (location, available.min(wanted)))
            .filter(|&(_, units)| units > 0)
    }

    /// Takes sold units, at most those available, off a shelf.
    pub(super) fn sell(&mut self, scene: &mut Scene, product: usize, location: usize, units: u32) -> Value {
        let shelf = &mut self.shelves[product][location];
        debug_assert!(units <= shelf.available(), "more sold than stands there");
        shelf.on_hand -= units;
        adjusted(scene, product, location, -i64::from(units), "sale")
    }

    /// Fills a shelf that runs low; `None` while none does.
    pub(super) fn restock(&mut self, scene: &mut Scene) -> Option<Value> {
        let products = self.shelves.len();
        let start = scene.rng.random_range(0..products * LOCATIONS.len());
        let (product, location) = (0..products * LOCATIONS.len())
            .map(|step| (start + step) % (products * LOCATIONS.len()))
            .map(|place| (place / LOCATIONS.len(), place % LOCATIONS.len()))
            .find(|&(product, location)| self.shelves[product][location].is_low())?;
        Some(self.deliver(scene, product, location))
    }

    /// Someone counts a shelf: now and then a little is missing, and what is reserved is known anew.
    pub(super) fn recount(&mut self, scene: &mut Scene) -> Value {
        let product = scene.popular();
        let location = scene.rng.random_range(0..LOCATIONS.len());
        let missing = weighted(&mut scene.rng, [(0, 60), (1, 25), (2, 10), (3, 5)]);
        let shelf = &mut self.shelves[product][location];
        shelf.on_hand = shelf.on_hand.saturating_sub(missing);
        shelf.reserved = scene.rng.random_range(0..=shelf.on_hand / 6);
        // Whether an undone sale moves a count taken after it is the reader's question, not one to put by chance.
        self.undoable.retain(|sale| (sale.product, sale.location) != (product, location));
        self.counted(scene, product, location)
    }

    /// Undoes a sale that was scanned by mistake; `None` when there is none to undo.
    pub(super) fn undo(&mut self, scene: &mut Scene) -> Option<Value> {
        if self.undoable.is_empty() {
            return None;
        }
        let at = scene.rng.random_range(0..self.undoable.len());
        let sale = self.undoable.remove(at)?;
        self.shelves[sale.product][sale.location].on_hand += sale.units;
        let data = json!({ "compensates": sale.id, "reason": "mis-scanned" });
        Some(scene.about(sale.product, "event.compensated", data))
    }

    /// The count of a shelf as it stands.
    pub(super) fn counted(&self, scene: &mut Scene, product: usize, location: usize) -> Value {
        let shelf = &self.shelves[product][location];
        let data = json!({
            "sku": scene.catalogue.products()[product].sku,
            "location": LOCATIONS[location].name,
            "onHand": shelf.on_hand,
            "reserved": shelf.reserved,
        });
        scene.about(product, "inventory.counted", data)
    }

    /// After all shelves were counted anew, nothing before is undone any more (see [`Stock::recount`]).
    pub(super) fn forget_sales(&mut self) {
        self.undoable.clear();
    }

    #[cfg(test)]
    pub(super) fn undoable_len(&self) -> usize {
        self.undoable.len()
    }

    fn deliver(&mut self, scene: &mut Scene, product: usize, location: usize) -> Value {
        let shelf = &mut self.shelves[product][location];
        let units = scene.rng.random_range(shelf.capacity / 5..=shelf.capacity / 2).max(6);
        shelf.on_hand += units;
        adjusted(scene, product, location, i64::from(units), "restock")
    }

    fn remember(&mut self, sale: Sale) {
        if self.undoable.len() == UNDOABLE_MAX {
            self.undoable.pop_front();
        }
        self.undoable.push_back(sale);
    }
}

fn adjusted(scene: &mut Scene, product: usize, location: usize, delta: i64, reason: &str) -> Value {
    let data = json!({
        "sku": scene.catalogue.products()[product].sku,
        "location": LOCATIONS[location].name,
        "delta": delta,
        "reason": reason,
    });
    scene.about(product, "inventory.adjusted", data)
}
