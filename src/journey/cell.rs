//! What is answered of a cell: counts that may be known, medians made, nothing else.

use serde::{Deserialize, Serialize};

use super::message::Layer;
use super::product::{Product, Unit};
use super::tally::{Seconds, Step, Tally, median_doubled};

/// Paths that are told of a cell.
const PATHS_MAX: usize = 20;

/// A cell that was released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// How often it was revised.
    pub revision: u32,
    /// Sessions, and what they are made of; none where that is suppressed.
    pub sessions: Option<OfSessions>,
    /// How long it took to convert.
    pub conversions: Option<Duration>,
    /// Units and times by step.
    pub funnel: Option<Vec<OfStep>>,
}

/// What sessions were like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSessions {
    /// How many.
    pub sessions: i64,
    /// Distinct visitors that had them.
    pub visitors: i64,
    /// By the numbers of two actions.
    pub transitions: Vec<(u8, u8, i64)>,
    /// The most frequent first: actions, sessions, visitors.
    pub paths: Vec<(Vec<u8>, i64, i64)>,
    /// Those with something in the cart.
    pub carts: i64,
    /// Those that were left with it.
    pub abandoned: i64,
    /// Those that bought it.
    pub converted: i64,
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duration {
    /// How often it is known.
    pub count: i64,
    /// All together, in seconds.
    pub seconds: i64,
    /// Twice the median, in seconds.
    pub median_doubled: u64,
}

/// Who got to a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfStep {
    /// Sessions or visitors.
    pub units: i64,
    /// Twice the median time from the step before; none for the first one, and where too few visitors stand behind it.
    pub median_doubled: Option<u64>,
}

impl Duration {
    fn of(seconds: &Seconds) -> Self {
        Self {
            count: seconds.values().sum(),
            seconds: seconds.iter().map(|(seconds, count)| i64::from(*seconds) * count).sum(),
            median_doubled: median_doubled(seconds).unwrap_or_default(),
        }
    }
}

impl OfSessions {
    pub(super) fn of(tally: &Tally, k: u32) -> Self {
        let mut paths: Vec<_> = tally.paths.iter().map(|(path, taken)| (path.clone(), taken.sessions, taken.visitors)).collect();
        paths.sort_by(|(a, of_a, _), (b, of_b, _)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        let is_many = |(_, _, visitors): &(Vec<u8>, i64, i64)| *visitors >= i64::from(k);
        let (mut told, mut rest): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_many);
        rest.extend(told.split_off(told.len().min(PATHS_MAX)));
        // All less those that are told is a number too.
        if !rest.is_empty() && !rest.iter().any(is_many) {
            told.pop();
        }
        Self {
            sessions: tally.sessions,
            visitors: tally.visitors,
            transitions: tally.transitions.iter().map(|((from, to), count)| (*from, *to, *count)).collect(),
            paths: told,
            carts: tally.carts,
            abandoned: tally.abandoned,
            converted: tally.converted,
        }
    }
}

impl Cell {
    /// Whether a layer of it was released.
    pub(super) fn has(&self, layer: Layer, unit: Unit) -> bool {
        match layer {
            Layer::Sessions => self.sessions.is_some(),
            Layer::Conversions => self.conversions.is_some(),
            Layer::Funnel => unit == Unit::Visitor && self.funnel.is_some(),
        }
    }

    /// Tells what a layer is now. A funnel of sessions is of theirs.
    pub(super) fn tell(&mut self, layer: Layer, product: &Product, tally: &Tally) {
        match layer {
            Layer::Sessions => {
                self.sessions = Some(OfSessions::of(tally, product.k));
                if product.unit == Unit::Session {
                    self.funnel = Some(funnel(product, tally));
                }
            }
            Layer::Conversions => self.conversions = Some(Duration::of(&tally.convert_seconds)),
            Layer::Funnel => self.funnel = Some(funnel(product, tally)),
        }
    }
}

/// With as many steps as the product has.
fn funnel(product: &Product, tally: &Tally) -> Vec<OfStep> {
    let none = Step::default();
    let step = |at: usize| {
        let step = tally.funnel.get(at).unwrap_or(&none);
        let median = (at > 0 && step.visitors >= i64::from(product.k)).then(|| median_doubled(&step.seconds)).flatten();
        OfStep { units: step.units, median_doubled: median }
    };
    (0..product.steps.len()).map(step).collect()
}
