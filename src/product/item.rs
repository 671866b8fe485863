//! A product and its values.

use async_graphql::{Context, ID, Object};

use super::asker::{Asker, Noted, coded};
use super::cost::{cost, free, list_size, one};
use super::scalars::{BigInt, DateTime, Decimal};
use crate::clock::Micros;
use crate::error::Code;
use crate::feature::{self, PriceHistory};
use crate::metering::{self, Deniable};
use crate::operation::LIST_MAX;

/// How fresh a value is.
#[derive(Clone, Copy)]
pub(super) struct Freshness {
    as_of: Micros,
    now: Micros,
    stale: bool,
}

impl Freshness {
    /// Of what is complete up to `as_of`.
    pub(super) fn of(asker: &Asker, as_of: Micros) -> Self {
        let promised = asker.account().plan.as_ref().and_then(|plan| plan.freshness_max);
        let stale = promised.is_some_and(|promised| asker.now.since(as_of) > promised);
        Self { as_of: as_of.min(asker.now), now: asker.now, stale }
    }

    /// Whether it is staler than the plan promises.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }
}

/// How fresh a value is.
#[Object(directive = cost::apply(free()))]
impl Freshness {
    /// The instant up to which everything that was appended about this product has been applied.
    async fn as_of(&self) -> DateTime {
        DateTime(self.as_of)
    }

    /// Now less `asOf`, in milliseconds.
    async fn lag_ms(&self) -> i32 {
        i32::try_from(self.now.since(self.as_of).as_millis()).unwrap_or(i32::MAX)
    }

    /// Whether that is more than your plan promises; then the value is not billed.
    async fn stale(&self) -> bool {
        self.stale
    }
}

/// A field that the plan may leave out: null then, with an error.
type Allowed<T> = Option<async_graphql::Result<T>>;

fn allowed<T>(ctx: &Context<'_>, field: Deniable, value: T) -> Allowed<T> {
    Some(Asker::of(ctx).and_then(|asker| asker.allowed(field, value)))
}

/// A stock level at a location.
pub(super) struct Inventory {
    location: String,
    level: feature::StockLevel,
    freshness: Freshness,
}

/// A stock level at a location. Its units are those of `inventory`. What your plan leaves out is null.
#[Object(directive = cost::apply(one()))]
impl Inventory {
    /// The location.
    async fn location(&self) -> &str {
        &self.location
    }

    /// Pieces there.
    async fn on_hand(&self, ctx: &Context<'_>) -> Allowed<BigInt> {
        allowed(ctx, Deniable::OnHand, BigInt(self.level.on_hand))
    }

    /// Pieces there that are promised to somebody.
    async fn reserved(&self, ctx: &Context<'_>) -> Allowed<BigInt> {
        allowed(ctx, Deniable::Reserved, BigInt(self.level.reserved))
    }

    /// `onHand` less `reserved`.
    async fn available(&self, ctx: &Context<'_>) -> Allowed<BigInt> {
        allowed(ctx, Deniable::Available, BigInt(self.level.on_hand.saturating_sub(self.level.reserved)))
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

/// The price in force in a market. Its units are those of `pricing`. What your plan leaves out is null.
#[Object(directive = cost::apply(one()))]
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
    async fn amount(&self, ctx: &Context<'_>) -> Allowed<Decimal> {
        allowed(ctx, Deniable::Amount, Decimal(self.price.amount))
    }

    /// What it is listed at, where that differs.
    async fn list_amount(&self, ctx: &Context<'_>) -> Allowed<Decimal> {
        allowed(ctx, Deniable::ListAmount, self.price.list_amount.map(Decimal)).and_then(Result::transpose)
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

/// A price of the past.
pub(super) struct PricePoint {
    past: feature::PastPrice,
    freshness: Freshness,
}

/// A price that came into force at an instant. Its units are those of `pricing`. What your plan leaves out is null.
#[Object(directive = cost::apply(one()))]
impl PricePoint {
    /// From then on it was in force, until the next one.
    async fn valid_from(&self) -> DateTime {
        DateTime(self.past.valid_from)
    }

    /// ISO 4217.
    async fn currency(&self) -> &'static str {
        self.past.price.currency.code()
    }

    /// What it cost.
    async fn amount(&self, ctx: &Context<'_>) -> Allowed<Decimal> {
        allowed(ctx, Deniable::Amount, Decimal(self.past.price.amount))
    }

    /// What it was listed at, where that differs.
    async fn list_amount(&self, ctx: &Context<'_>) -> Allowed<Decimal> {
        allowed(ctx, Deniable::ListAmount, self.past.price.list_amount.map(Decimal)).and_then(Result::transpose)
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
    /// How fresh a value of it is; noted for settling where that is less than the plan promises.
    fn freshness(&self, ctx: &Context<'_>, item: Option<usize>) -> async_graphql::Result<Freshness> {
        let freshness = Freshness::of(Asker::of(ctx)?, self.as_of);
        if freshness.stale {
            Noted::of(ctx)?.is_stale(ctx.path_node.as_ref(), item);
        }
        Ok(freshness)
    }

    fn stock_at(&self, ctx: &Context<'_>, location: String) -> async_graphql::Result<Option<Inventory>> {
        Asker::of(ctx)?.entitled(metering::Product::Inventory)?;
        let place = self.read.wanted.locations.iter().position(|read| *read == location);
        let level = place.and_then(|place| self.found.stock.get(place).copied().flatten());
        let Some(level) = level else { return Ok(None) };
        Ok(Some(Inventory { location, level, freshness: self.freshness(ctx, None)? }))
    }

    fn price_in(&self, ctx: &Context<'_>, market: String) -> async_graphql::Result<Option<Price>> {
        Asker::of(ctx)?.entitled(metering::Product::Pricing)?;
        let place = self.read.wanted.markets.iter().position(|read| *read == market);
        let price = place.and_then(|place| self.found.prices.get(place).copied().flatten());
        let Some(price) = price else { return Ok(None) };
        Ok(Some(Price { market, price, freshness: self.freshness(ctx, None)? }))
    }

    fn history(&self, ctx: &Context<'_>, wanted: &PriceHistory) -> async_graphql::Result<Option<Vec<PricePoint>>> {
        Asker::of(ctx)?.entitled(metering::Product::Pricing)?;
        let place = self.read.wanted.histories.iter().position(|read| read == wanted);
        let points = place.and_then(|place| self.found.histories.get(place)?.as_deref());
        let point = |(item, past): (usize, &feature::PastPrice)| {
            Ok(PricePoint { past: *past, freshness: self.freshness(ctx, Some(item))? })
        };
        points.map(|points| points.iter().enumerate().map(point).collect()).transpose()
    }
}

/// A product of the catalogue. Its own fields are free; what your plan leaves out is null.
#[Object(directive = cost::apply(free()))]
impl Product {
    /// Its SKU.
    async fn sku(&self) -> ID {
        ID(self.read.sku.clone())
    }

    /// Null until the catalogue has it; so are the next three.
    async fn title(&self, ctx: &Context<'_>) -> Allowed<Option<&str>> {
        allowed(ctx, Deniable::Title, self.found.details.as_ref().map(|details| details.title.as_str()))
    }

    /// Its brand.
    async fn brand(&self, ctx: &Context<'_>) -> Allowed<Option<&str>> {
        allowed(ctx, Deniable::Brand, self.found.details.as_ref().map(|details| details.brand.as_str()))
    }

    /// Its category.
    async fn category(&self, ctx: &Context<'_>) -> Allowed<Option<&str>> {
        allowed(ctx, Deniable::Category, self.found.details.as_ref().map(|details| details.category.as_str()))
    }

    /// Who supplies it.
    async fn supplier(&self, ctx: &Context<'_>) -> Allowed<Option<&str>> {
        allowed(ctx, Deniable::Supplier, self.found.details.as_ref().map(|details| details.supplier.as_str()))
    }

    /// Its stock at a location; null where the location is unknown or outside of your scope. Costs nothing when it is null.
    async fn inventory(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The location, as the stream names it.")] location: String,
    ) -> Option<async_graphql::Result<Inventory>> {
        self.stock_at(ctx, location).transpose()
    }

    /// Its price in a market; null where the market is unknown or outside of your scope. Costs nothing when it is null.
    async fn price(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The market, as the stream names it.")] market: String,
    ) -> Option<async_graphql::Result<Price>> {
        self.price_in(ctx, market).transpose()
    }

    /// Its prices in a market, as far as they are kept: the one in force first, then those before it; null where the market is
    /// unknown or outside of your scope.
    #[graphql(directive = list_size::apply(Some(LIST_MAX as i32), Some(vec!["first".to_owned()]), None, false))]
    async fn price_history(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The market, as the stream names it.")] market: String,
        #[graphql(desc = "That came into force at this instant or later.")] from: Option<DateTime>,
        #[graphql(desc = "That came into force before this instant.")] to: Option<DateTime>,
        #[graphql(desc = "How many: 1 to 100; 100 when left out.")] first: Option<i32>,
    ) -> Option<async_graphql::Result<Vec<PricePoint>>> {
        let first = first.unwrap_or(LIST_MAX as i32);
        let limit = usize::try_from(first).ok().filter(|first| (1..=LIST_MAX).contains(first));
        let limit = limit.ok_or_else(|| coded(Code::BadUserInput, format!("first is {first}, but must be 1 to {LIST_MAX}.")));
        let wanted = |limit| PriceHistory { market, from: from.map(|from| from.0), to: to.map(|to| to.0), limit };
        limit.and_then(|limit| self.history(ctx, &wanted(limit))).transpose()
    }
}
