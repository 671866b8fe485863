//! A product and its values.

use async_graphql::{Context, ID, Object};

use super::asker::{Asker, Metered};
use super::scalars::{BigInt, DateTime, Decimal};
use crate::clock::Micros;
use crate::feature;
use crate::metering;

/// How fresh a value is.
#[derive(Clone, Copy)]
pub(super) struct Freshness {
    as_of: Micros,
    now: Micros,
}

/// How fresh a value is.
#[Object]
impl Freshness {
    /// The instant up to which everything that was appended about this product has been applied.
    async fn as_of(&self) -> DateTime {
        DateTime(self.as_of)
    }

    /// Now less `asOf`, in milliseconds.
    async fn lag_ms(&self) -> i32 {
        i32::try_from(self.now.since(self.as_of).as_millis()).unwrap_or(i32::MAX)
    }
}

/// A stock level at a location.
pub(super) struct Inventory {
    location: String,
    level: feature::StockLevel,
    freshness: Freshness,
}

/// A stock level at a location. One unit of `inventory`.
#[Object]
impl Inventory {
    /// The location.
    async fn location(&self) -> &str {
        &self.location
    }

    /// Pieces there.
    async fn on_hand(&self) -> BigInt {
        BigInt(self.level.on_hand)
    }

    /// Pieces there that are promised to somebody.
    async fn reserved(&self) -> BigInt {
        BigInt(self.level.reserved)
    }

    /// `onHand` less `reserved`.
    async fn available(&self) -> BigInt {
        BigInt(self.level.on_hand.saturating_sub(self.level.reserved))
    }

    /// When the latest event that changed it happened, by its producer.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.level.updated_at)
    }

    /// How fresh it is.
    async fn freshness(&self) -> Freshness {
        self.freshness
    }
}

/// A price in a market.
pub(super) struct Price {
    market: String,
    price: feature::Price,
    freshness: Freshness,
}

/// The price in force in a market. One unit of `pricing`.
#[Object]
impl Price {
    /// The market.
    async fn market(&self) -> &str {
        &self.market
    }

    /// ISO 4217.
    async fn currency(&self) -> &'static str {
        self.price.currency.code()
    }

    /// What it costs.
    async fn amount(&self) -> Decimal {
        Decimal(self.price.amount)
    }

    /// What it is listed at, where that differs.
    async fn list_amount(&self) -> Option<Decimal> {
        self.price.list_amount.map(Decimal)
    }

    /// When it was set, by its producer.
    async fn updated_at(&self) -> DateTime {
        DateTime(self.price.updated_at)
    }

    /// How fresh it is.
    async fn freshness(&self) -> Freshness {
        self.freshness
    }
}

/// One SKU, with what the look-ahead read of it.
pub(super) struct Product {
    pub(super) read: feature::Read,
    pub(super) found: feature::Product,
    pub(super) as_of: Micros,
}

// A resolver that may fail returns Option<Result<…>>: the engine leaves the field of a failed Result<Option<…>> out of the
// answer, where the specification wants null.
impl Product {
    fn freshness(&self, asker: &Asker) -> Freshness {
        Freshness { as_of: self.as_of, now: asker.now }
    }

    fn price_in(&self, ctx: &Context<'_>, market: String) -> async_graphql::Result<Option<Price>> {
        let asker = Asker::of(ctx)?;
        asker.entitled(metering::Product::Pricing)?;
        let place = self.read.markets.iter().position(|read| *read == market);
        let price = place.and_then(|place| self.found.prices.get(place).copied().flatten());
        let Some(price) = price.filter(|_| asker.scope().has_market(&market)) else { return Ok(None) };
        Metered::of(ctx)?.count(metering::Product::Pricing, ctx.path_node.as_ref());
        Ok(Some(Price { market, price, freshness: self.freshness(asker) }))
    }

    fn stock_at(&self, ctx: &Context<'_>, location: String) -> async_graphql::Result<Option<Inventory>> {
        let asker = Asker::of(ctx)?;
        asker.entitled(metering::Product::Inventory)?;
        let place = self.read.locations.iter().position(|read| *read == location);
        let level = place.and_then(|place| self.found.stock.get(place).copied().flatten());
        let Some(level) = level.filter(|_| asker.scope().has_location(&location)) else { return Ok(None) };
        Metered::of(ctx)?.count(metering::Product::Inventory, ctx.path_node.as_ref());
        Ok(Some(Inventory { location, level, freshness: self.freshness(asker) }))
    }
}

/// A product of the catalogue. Its own fields are free.
#[Object]
impl Product {
    /// Its SKU.
    async fn sku(&self) -> ID {
        ID(self.read.sku.clone())
    }

    /// Null until the catalogue has it; so are the next three.
    async fn title(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.title.as_str())
    }

    /// Its brand.
    async fn brand(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.brand.as_str())
    }

    /// Its category.
    async fn category(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.category.as_str())
    }

    /// Who supplies it.
    async fn supplier(&self) -> Option<&str> {
        self.found.details.as_ref().map(|details| details.supplier.as_str())
    }

    /// Its stock at a location; null where the location is unknown or outside of your scope. One unit of `inventory` when it
    /// is not null.
    async fn inventory(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The location, as the stream names it.")] location: String,
    ) -> Option<async_graphql::Result<Inventory>> {
        self.stock_at(ctx, location).transpose()
    }

    /// Its price in a market; null where the market is unknown or outside of your scope. One unit of `pricing` when it is not
    /// null.
    async fn price(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The market, as the stream names it.")] market: String,
    ) -> Option<async_graphql::Result<Price>> {
        self.price_in(ctx, market).transpose()
    }
}
