//! Journeys: what of them is asked, which cells that is, and what may be seen of each.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object};

use super::asker::{Asker, Noted, coded};
use super::cost::{cost, free, list_size};
use super::item::Freshness;
use super::journey_counts::JourneyCounts;
use super::query::{Services, unreadable};
use super::retention::CohortPeriod;
use super::scalars::DateTime;
use crate::clock::Micros;
use crate::error::Code;
use crate::journey::calendar::{Bucket, Granularity, begin_of, hour_of};
use crate::journey::message::Slice;
use crate::journey::product::Product;
use crate::journey::{Answer, Entry, Progress};
use crate::metering;

/// Cells of one answer, where it is not said how many.
pub(super) const CELLS_DEFAULT: i32 = 31;
const CELLS_MAX: usize = 1000;
/// What looking up the slices of a product counts for.
const SLICES_ROWS: usize = 50;
/// Slices that are listed.
const SLICES_DEFAULT: i32 = 100;

/// How long cells are; all in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "JourneyGranularity")]
pub(super) enum By {
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks of ISO 8601, from Monday on.
    Week,
    /// Calendar months.
    Month,
}

impl From<By> for Granularity {
    fn from(by: By) -> Self {
        match by {
            By::Hour => Self::Hour,
            By::Day => Self::Day,
            By::Week => Self::Week,
            By::Month => Self::Month,
        }
    }
}

/// A dimension's value, such as the brand Alba.
#[derive(InputObject)]
pub(super) struct DimensionInput {
    /// The dimension's name.
    name: String,
    /// Its value.
    value: String,
}

/// A dimension's value.
pub(super) struct Dimension {
    name: String,
    value: String,
}

/// A dimension's value.
#[Object(name = "JourneyDimension", directive = cost::apply(free()))]
impl Dimension {
    /// The dimension.
    async fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    async fn value(&self) -> &str {
        &self.value
    }
}

fn dimensions(product: &Product, slice: &Slice) -> Vec<Dimension> {
    let Slice::Of(values) = slice else { return Vec::new() };
    let pairs = product.dimensions.iter().cloned().zip(values.iter().cloned());
    pairs.map(|(name, value)| Dimension { name, value }).collect()
}

/// What is asked of journeys.
pub(super) struct Asked {
    pub(super) product: String,
    pub(super) from: Micros,
    pub(super) to: Micros,
    pub(super) by: By,
    pub(super) first: i32,
    pub(super) slice: Option<Vec<DimensionInput>>,
}

/// Journeys of a slice.
pub(super) struct Journey {
    product: Arc<Product>,
    slice: Slice,
    by: By,
    /// From the first cell to behind the last.
    bounds: (Micros, Micros),
    cells: Vec<JourneyCell>,
    retention: Vec<CohortPeriod>,
    freshness: Freshness,
}

/// Shoppers' journeys in cells of time: what each number is stands in docs/journeys.md of Tollgate. Visitors are never told apart in an
/// answer, and what too few of them stand behind is null.
#[Object(directive = cost::apply(free()))]
impl Journey {
    /// The product's name.
    async fn product(&self) -> ID {
        ID(self.product.name.clone())
    }

    /// How many distinct visitors stand behind whatever is answered, at least.
    async fn k(&self) -> i32 {
        i32::try_from(self.product.k).unwrap_or(i32::MAX)
    }

    /// The values of its dimensions; empty for the total.
    #[graphql(directive = list_size::apply(Some(4), None, None, false))]
    async fn slice(&self) -> Vec<Dimension> {
        dimensions(&self.product, &self.slice)
    }

    /// How long cells are.
    async fn by(&self) -> By {
        self.by
    }

    /// When the first cell begins: a range is cut to whole cells.
    async fn from(&self) -> DateTime {
        DateTime(self.bounds.0)
    }

    /// When the last cell ends.
    async fn to(&self) -> DateTime {
        DateTime(self.bounds.1)
    }

    /// How fresh it is: the instant up to which all events, of every visitor, are counted as far as their cells are closed.
    async fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The cells, in order.
    async fn cells(&self) -> &[JourneyCell] {
        &self.cells
    }

    /// Who came again: the product's retention periods that begin within the range. Periods of too few visitors are left out.
    async fn retention(&self) -> &[CohortPeriod] {
        &self.retention
    }
}

/// An hour, a day, a week or a month.
pub(super) struct JourneyCell {
    bucket: Bucket,
    is_pending: bool,
    counts: Option<JourneyCounts>,
}

/// An hour, a day, a week or a month.
#[Object(directive = cost::apply(free()))]
impl JourneyCell {
    /// Its first instant.
    async fn from(&self) -> DateTime {
        DateTime(begin_of(self.bucket.begin()))
    }

    /// The first instant past it.
    async fn to(&self) -> DateTime {
        DateTime(begin_of(self.bucket.end()))
    }

    /// Whether it is not decided yet: events of it may still come.
    async fn pending(&self) -> bool {
        self.is_pending
    }

    /// Whether it is decided, and too few visitors stand behind it, or behind what it would tell of other cells. It costs nothing.
    async fn suppressed(&self) -> bool {
        !self.is_pending && self.counts.is_none()
    }

    /// Whether it changed since it was released.
    async fn revised(&self) -> bool {
        self.counts.as_ref().is_some_and(JourneyCounts::is_revised)
    }

    /// What was counted; null while it is pending, and when it is suppressed.
    async fn counts(&self, ctx: &Context<'_>) -> Option<async_graphql::Result<&JourneyCounts>> {
        let counts = self.counts.as_ref()?;
        Some(Noted::of(ctx).map(|noted| {
            if counts.is_stale() {
                noted.is_stale(ctx.path_node.as_ref(), None);
            }
            counts
        }))
    }
}

/// A journey product.
pub(super) struct JourneyProduct {
    product: Arc<Product>,
    slices: Vec<Slice>,
}

/// A journey product that you can ask for.
#[Object(directive = cost::apply(free()))]
impl JourneyProduct {
    /// Its name, for `journey`.
    async fn name(&self) -> ID {
        ID(self.product.name.clone())
    }

    /// How many distinct visitors stand behind whatever is answered, at least.
    async fn k(&self) -> i32 {
        i32::try_from(self.product.k).unwrap_or(i32::MAX)
    }

    /// The steps of its funnel.
    #[graphql(directive = list_size::apply(Some(32), None, None, false))]
    async fn steps(&self) -> &[String] {
        &self.product.steps
    }

    /// Seconds within which all steps lie.
    async fn window_seconds(&self) -> i32 {
        i32::try_from(self.product.window.as_secs()).unwrap_or(i32::MAX)
    }

    /// What the funnel counts: `session` or `visitor`.
    async fn unit(&self) -> &'static str {
        match self.product.unit {
            crate::journey::product::Unit::Session => "session",
            crate::journey::product::Unit::Visitor => "visitor",
        }
    }

    /// By what cells are told apart.
    #[graphql(directive = list_size::apply(Some(4), None, None, false))]
    async fn dimensions(&self) -> &[String] {
        &self.product.dimensions
    }

    /// What of it you may ask for, of what was ever answered.
    #[graphql(directive = list_size::apply(Some(SLICES_DEFAULT), Some(vec!["first".to_owned()]), None, false))]
    async fn slices(
        &self,
        #[graphql(desc = "How many: 1 to 1000; 100 when left out.")] first: Option<i32>,
    ) -> Vec<JourneySlice<'_>> {
        let first = usize::try_from(first.unwrap_or(SLICES_DEFAULT)).unwrap_or_default();
        self.slices.iter().take(first).map(|slice| JourneySlice { product: &self.product, slice }).collect()
    }
}

/// What cells can be of.
pub(super) struct JourneySlice<'a> {
    product: &'a Product,
    slice: &'a Slice,
}

/// What cells can be of: a value of each dimension, or the total.
#[Object(directive = cost::apply(free()))]
impl JourneySlice<'_> {
    /// Whether it is the total.
    async fn total(&self) -> bool {
        *self.slice == Slice::Total
    }

    /// Its values; empty for the total.
    #[graphql(directive = list_size::apply(Some(4), None, None, false))]
    async fn dimensions(&self) -> Vec<Dimension> {
        dimensions(self.product, self.slice)
    }
}

fn bad(message: impl Into<String>) -> async_graphql::Error {
    coded(Code::BadUserInput, message)
}

/// The products that may be asked for.
pub(super) async fn products(ctx: &Context<'_>) -> async_graphql::Result<Vec<JourneyProduct>> {
    let asker = Asker::of(ctx)?;
    asker.entitled(metering::Product::Journey)?;
    let features = ctx.data::<Services>()?.features(asker);
    let mut products = Vec::new();
    for product in features.sold() {
        Noted::of(ctx)?.take_rows(SLICES_ROWS)?;
        let answered = features.answers(&product.name, &[Entry::Progress]).await.map_err(|error| unreadable(asker, &error))?;
        let progress = progress(answered.answers.first());
        let slices = progress.slices.into_iter().filter(|slice| asker.scope().has_slice(&product, slice)).collect();
        products.push(JourneyProduct { product, slices });
    }
    Ok(products)
}

fn progress(answer: Option<&Option<Answer>>) -> Progress {
    match answer {
        Some(Some(Answer::Progress(progress))) => (**progress).clone(),
        _ => Progress::default(),
    }
}

impl Asked {
    pub(super) async fn answer(self, ctx: &Context<'_>) -> async_graphql::Result<Journey> {
        let asker = Asker::of(ctx)?;
        asker.entitled(metering::Product::Journey)?;
        let features = ctx.data::<Services>()?.features(asker);
        let Some(product) = features.sold().into_iter().find(|product| product.name == self.product) else {
            return Err(bad(format!(
                "There is no journey product \"{}\". journeyProducts lists them.",
                self.product.escape_debug()
            )));
        };
        let slice = self.slice(asker, &product)?;
        let buckets = self.buckets(asker.now)?;
        let is_asked = ctx.look_ahead().field("retention").exists();
        let asked = product.retention.iter().filter(|_| is_asked);
        let periods: Vec<i32> = asked.flat_map(|retention| retention.periods_within(self.from, self.to)).collect();
        if periods.len() > usize::try_from(self.first).unwrap_or_default() {
            return Err(bad(format!(
                "{} retention periods or more begin within the range, more than {}. Ask for a shorter range, or more with first.",
                periods.len(),
                self.first
            )));
        }
        Noted::of(ctx)?.take_rows(buckets.len() + periods.len())?;

        let cells = buckets.iter().map(|bucket| Entry::Cell(slice.clone(), *bucket));
        let cohorts = periods.iter().map(|period| Entry::Cohorts(slice.clone(), *period));
        let entries: Vec<Entry> = [Entry::Progress].into_iter().chain(cells).chain(cohorts).collect();
        let found = features.answers(&product.name, &entries).await.map_err(|error| unreadable(asker, &error))?;
        let Some(as_of) = found.as_of else {
            return Err(coded(Code::Unavailable, "Journeys are still being loaded. Try again."));
        };
        let freshness = Freshness::of(asker, as_of);
        let progress = progress(found.answers.first());
        let mut answers = found.answers.into_iter().skip(1);
        let cell = |(bucket, answer): (&Bucket, Option<Answer>)| JourneyCell {
            bucket: *bucket,
            is_pending: progress.is_pending(&slice, *bucket),
            counts: match answer {
                Some(Answer::Cell(cell)) => Some(JourneyCounts { product: product.clone(), cell, freshness }),
                _ => None,
            },
        };
        let cells: Vec<_> = buckets.iter().zip(answers.by_ref()).map(cell).collect();
        let period = |(period, answer): (i32, Option<Answer>)| match (answer, &product.retention) {
            (Some(Answer::Cohorts(cohorts)), Some(retention)) => {
                Some(CohortPeriod { retention: retention.clone(), period, cohorts, freshness })
            }
            _ => None,
        };
        let retention = periods.into_iter().zip(answers).filter_map(period).collect();
        let begin = buckets.first().map_or(self.from, |bucket| begin_of(bucket.begin()));
        let end = buckets.last().map_or(self.from, |bucket| begin_of(bucket.end()));
        Ok(Journey { product, slice, by: self.by, bounds: (begin, end), cells, retention, freshness })
    }

    /// Whole cells within the range.
    fn buckets(&self, now: Micros) -> async_graphql::Result<Vec<Bucket>> {
        let Self { from, to, first, .. } = self;
        if from >= to {
            return Err(bad(format!("from is {from}, and to is {to}: a range ends after it begins.")));
        }
        if *from > now {
            return Err(bad(format!("from is {from}, which lies in the future: nothing has happened there yet.")));
        }
        let first = usize::try_from(*first).ok().filter(|first| (1..=CELLS_MAX).contains(first));
        let Some(first) = first else {
            return Err(bad(format!("first is {}, but must be 1 to {CELLS_MAX}.", self.first)));
        };
        let by = Granularity::from(self.by);
        let mut bucket = by.of(hour_of(*from));
        if begin_of(bucket.begin()) < *from {
            bucket = bucket.next();
        }
        let mut buckets = Vec::new();
        while begin_of(bucket.end()) <= *to {
            if buckets.len() == first {
                return Err(bad(format!(
                    "From {from} to {to} there are more than {first} cells by {}. Ask for longer ones, a shorter range, or more \
                     with first, of which there may be {CELLS_MAX}.",
                    by.as_str()
                )));
            }
            buckets.push(bucket);
            bucket = bucket.next();
        }
        Ok(buckets)
    }

    /// Which slice is asked for, if it may be.
    fn slice(&self, asker: &Asker, product: &Product) -> async_graphql::Result<Slice> {
        let scope = asker.scope();
        let names = product.dimensions.join(", ");
        let slice = match &self.slice {
            Some(given) if !given.is_empty() => {
                let value = |name: &String| given.iter().find(|of| of.name == *name).map(|of| of.value.clone());
                let values: Option<Vec<String>> = product.dimensions.iter().map(value).collect();
                match values.filter(|values| values.len() == given.len() && !values.is_empty()) {
                    Some(values) => Slice::Of(values),
                    None if names.is_empty() => return Err(bad(format!("{} has no dimensions: leave slice out.", product.name))),
                    None => return Err(bad(format!("A slice of {} is one value of each of: {names}.", product.name))),
                }
            }
            // Who may see one slice alone need not name it.
            _ => scope.only_slice(product).unwrap_or(Slice::Total),
        };
        if slice == Slice::Total && !product.total {
            return Err(bad(format!("{} has no total: name a slice, one value of each of: {names}.", product.name)));
        }
        if scope.has_slice(product, &slice) {
            return Ok(slice);
        }
        // Whether there is any such is nobody else's business.
        Err(coded(
            Code::NotEntitled,
            format!("This slice of {} is outside of your scope. journeyProducts lists what you may ask for.", product.name),
        ))
    }
}
