//! What every part of the shop shares: the dice, the catalogue and the pen that writes events.
//!
//! [`Writer`] is the one place where an event's envelope is made, so that ids never repeat and time never runs back.

use jiff::Timestamp;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::catalogue::Catalogue;

pub(super) struct Scene {
    pub(super) rng: ChaCha8Rng,
    pub(super) catalogue: Catalogue,
    pub(super) writer: Writer,
}

impl Scene {
    /// A product by popularity.
    pub(super) fn popular(&mut self) -> usize {
        self.catalogue.popular(&mut self.rng)
    }

    /// An event about one product; its SKU is the subject.
    pub(super) fn about(&mut self, product: usize, kind: &str, data: Value) -> Value {
        self.writer.event(kind, &self.catalogue.products()[product].sku, data)
    }

    /// The catalogue entry of a product.
    pub(super) fn upserted(&mut self, product: usize) -> Value {
        let entry = &self.catalogue.products()[product];
        let data = json!({
            "sku": entry.sku,
            "title": entry.title(),
            "brand": entry.brand,
            "category": entry.category,
            "supplier": entry.supplier,
        });
        self.about(product, "catalog.product.upserted", data)
    }

    /// A catalogue edit. It touches the title alone: brand and supplier decide who may see a product, and an example
    /// that works must not stop working by chance.
    pub(super) fn edit(&mut self) -> Value {
        let product = self.popular();
        self.catalogue.toggle_renewed(product);
        self.upserted(product)
    }
}

/// Writes envelopes: CloudEvents 1.0 in JSON, `time` in UTC with milliseconds (RFC 3339).
pub(super) struct Writer {
    source: String,
    written: u64,
    clock: Timestamp,
    time: String,
}

impl Writer {
    pub(super) fn new(run: &str) -> Self {
        Self { source: format!("/demo/shop/{run}"), written: 0, clock: Timestamp::MIN, time: String::new() }
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        self.clock = self.clock.max(now);
        self.time = format!("{:.3}", self.clock);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock
    }

    pub(super) fn event(&mut self, kind: &str, subject: &str, data: Value) -> Value {
        self.written += 1;
        json!({
            "specversion": "1.0",
            "id": format!("e{:09}", self.written),
            "source": self.source,
            "type": kind,
            "subject": subject,
            "time": self.time,
            "data": data,
        })
    }
}

/// The id that [`Writer::event`] gave.
pub(super) fn id_of(event: &Value) -> &str {
    event["id"].as_str().unwrap_or_default()
}

/// One of `table`, by weight.
pub(super) fn weighted<T: Copy, const N: usize>(rng: &mut ChaCha8Rng, table: [(T, u32); N]) -> T {
    let total: u32 = table.iter().map(|(_, weight)| weight).sum();
    let mut roll = rng.random_range(0..total);
    for (choice, weight) in table {
        if roll < weight {
            return choice;
        }
        roll -= weight;
    }
    table[N - 1].0
}
