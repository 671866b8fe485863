//! Who looks around in the web shop: sessions that interleave, one action at a time.
//!
//! A visitor searches, views, fills a cart, and buys or leaves. Leaving is silence, as in reality: no event says so.
//! A purchase is one event for each product in the cart, so that each brand sees its own, followed by the sale.
//!
//! The web shop serves the euro markets alone: `value` carries no currency, and a sum over euros and francs means nothing.

use jiff::SignedDuration;
use jiff::Timestamp;
use rand::Rng;
use serde_json::{Value, json};

use super::pricing::{Prices, decimal};
use super::scene::{Scene, weighted};
use super::stock::Stock;

/// Sessions open at once.
pub(super) const OPEN_MAX: usize = 64;
const CART_LINES_MAX: usize = 4;
const STEPS_MAX: u32 = 40;
/// One who is silent for longer has left; one session stays one session also where gaps decide (30 min).
const IDLE_MAX: SignedDuration = SignedDuration::from_mins(30);

struct Line {
    product: usize,
    units: u32,
}

struct Session {
    visitor: String,
    id: String,
    /// An index of [`super::places::MARKETS`], among those in euros.
    market: usize,
    platform: &'static str,
    channel: &'static str,
    viewed: Option<usize>,
    cart: Vec<Line>,
    at_checkout: bool,
    steps: u32,
    last: Timestamp,
}

pub(super) struct Visits {
    open: Vec<Session>,
    opened: u64,
    /// Visitors known so far; they are numbers, so that none has to be kept.
    known: u32,
    mask: u32,
}

#[derive(Clone, Copy)]
enum Step {
    View,
    Search,
    Add,
    Remove,
    Checkout,
    Purchase,
    Leave,
}

impl Visits {
    pub(super) fn new(seed: u64) -> Self {
        let folded = (seed ^ (seed >> 32)) & u64::from(u32::MAX);
        Self { open: Vec::with_capacity(OPEN_MAX), opened: 0, known: 0, mask: u32::try_from(folded).unwrap_or_default() }
    }

    /// The next action of someone in the shop, or of someone who enters. Never empty.
    pub(super) fn journey(&mut self, scene: &mut Scene, stock: &mut Stock, prices: &Prices) -> Vec<Value> {
        // The emptier the shop, the likelier someone enters: the crowd settles below the limit.
        let vacancies = OPEN_MAX - self.open.len();
        let enters = scene.rng.random_range(0..2 * OPEN_MAX) < vacancies;
        if !enters && !self.open.is_empty() {
            let at = scene.rng.random_range(0..self.open.len());
            let mut session = self.open.swap_remove(at);
            if scene.writer.now().duration_since(session.last) <= IDLE_MAX {
                let events = session.advance(scene, stock, prices);
                if !session.is_over() {
                    self.open.push(session);
                }
                if !events.is_empty() {
                    return events;
                }
            }
        }
        // Here there is room: either there were vacancies, or someone has just left.
        let mut session = self.enter(scene);
        let event = if scene.rng.random_ratio(2, 5) { session.search(scene) } else { session.view(scene) };
        self.open.push(session);
        vec![event]
    }

    #[cfg(test)]
    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }

    fn enter(&mut self, scene: &mut Scene) -> Session {
        let returning =
            (self.known > 0 && scene.rng.random_ratio(2, 5)).then(|| scene.rng.random_range(1..=self.known)).filter(|&number| {
                let visitor = self.visitor(number);
                self.open.iter().all(|session| session.visitor != visitor)
            });
        let number = returning.unwrap_or_else(|| {
            self.known = self.known.wrapping_add(1);
            self.known
        });
        self.opened += 1;
        let now = scene.writer.now();
        Session {
            visitor: self.visitor(number),
            // The start keeps sessions of a later run apart, whose visitors are the same.
            id: format!("s-{:x}-{}", now.as_millisecond(), self.opened),
            // Home and device are the visitor's own, the way in is the session's.
            market: usize::from(number % 10 >= 7),
            platform: ["web", "ios", "android", "web", "ios", "web", "android"][number as usize % 7],
            channel: weighted(&mut scene.rng, [("direct", 34), ("search", 30), ("email", 14), ("social", 14), ("affiliate", 8)]),
            viewed: None,
            cart: Vec::new(),
            at_checkout: false,
            steps: 0,
            last: now,
        }
    }

    /// An odd factor and a mask permute the 32-bit numbers: ids look random, and no two visitors share one.
    fn visitor(&self, number: u32) -> String {
        format!("v-{:08x}", number.wrapping_mul(0x9E37_79B1) ^ self.mask)
    }
}

impl Session {
    /// One more step; no event when the visitor leaves.
    fn advance(&mut self, scene: &mut Scene, stock: &mut Stock, prices: &Prices) -> Vec<Value> {
        match self.next_step(scene) {
            Step::View => vec![self.view(scene)],
            Step::Search => vec![self.search(scene)],
            Step::Add => vec![self.add(scene)],
            Step::Remove => vec![self.remove(scene)],
            Step::Checkout => {
                self.at_checkout = true;
                vec![self.recorded(scene, "checkout", None, None)]
            }
            Step::Purchase => self.purchase(scene, stock, prices),
            Step::Leave => {
                self.steps = STEPS_MAX;
                Vec::new()
            }
        }
    }

    fn is_over(&self) -> bool {
        self.steps >= STEPS_MAX
    }

    fn next_step(&self, scene: &mut Scene) -> Step {
        if self.at_checkout {
            return weighted(&mut scene.rng, [(Step::Purchase, 72), (Step::View, 8), (Step::Leave, 20)]);
        }
        let may_add = self.viewed.is_some() && self.cart.len() < CART_LINES_MAX;
        let has_cart = !self.cart.is_empty();
        weighted(
            &mut scene.rng,
            [
                (Step::View, 44),
                (Step::Search, 14),
                (Step::Add, if may_add { 15 } else { 0 }),
                (Step::Remove, if has_cart { 5 } else { 0 }),
                (Step::Checkout, if has_cart { 16 } else { 0 }),
                (Step::Leave, 16),
            ],
        )
    }

    fn view(&mut self, scene: &mut Scene) -> Value {
        let product = scene.popular();
        self.viewed = Some(product);
        self.at_checkout = false;
        self.recorded(scene, "view", Some(product), None)
    }

    fn search(&mut self, scene: &mut Scene) -> Value {
        self.viewed = None;
        self.recorded(scene, "search", None, None)
    }

    fn add(&mut self, scene: &mut Scene) -> Value {
        let Some(product) = self.viewed.take() else {
            return self.view(scene);
        };
        let units = weighted(&mut scene.rng, [(1, 75), (2, 18), (3, 7)]);
        match self.cart.iter_mut().find(|line| line.product == product) {
            Some(line) => line.units += units,
            None => self.cart.push(Line { product, units }),
        }
        self.recorded(scene, "add_to_cart", Some(product), None)
    }

    fn remove(&mut self, scene: &mut Scene) -> Value {
        let at = scene.rng.random_range(0..self.cart.len());
        let line = self.cart.swap_remove(at);
        self.recorded(scene, "remove_from_cart", Some(line.product), None)
    }

    /// Buys the cart, and ends the session. What has sold out meanwhile is taken out of the cart instead.
    fn purchase(&mut self, scene: &mut Scene, stock: &mut Stock, prices: &Prices) -> Vec<Value> {
        let mut events = Vec::with_capacity(2 * self.cart.len());
        for Line { product, units } in std::mem::take(&mut self.cart) {
            let Some((location, units)) = stock.offer(product, self.market, units) else {
                events.push(self.recorded(scene, "remove_from_cart", Some(product), None));
                continue;
            };
            let value = decimal(units * prices.cents(product, self.market));
            events.push(self.recorded(scene, "purchase", Some(product), Some(value)));
            // Not among the sales that may be undone: only a till mis-scans.
            events.push(stock.sell(scene, product, location, units));
        }
        self.steps = STEPS_MAX;
        events
    }

    fn recorded(&mut self, scene: &mut Scene, action: &str, product: Option<usize>, value: Option<String>) -> Value {
        self.steps += 1;
        self.last = scene.writer.now();
        let mut data = json!({
            "visitor": self.visitor,
            "session": self.id,
            "action": action,
            "dimensions": { "platform": self.platform, "channel": self.channel },
        });
        if let Some(product) = product {
            let product = &scene.catalogue.products()[product];
            data["sku"] = product.sku.as_str().into();
            data["brand"] = product.brand.into();
        }
        if let Some(value) = value {
            data["value"] = value.into();
        }
        scene.writer.event("journey.recorded", &self.visitor, data)
    }
}
