//! What a cell counts. All of it can be added and taken away again, so that partitions, visitors and corrections add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Durations in whole seconds, and how often each is there.
pub type Seconds = BTreeMap<u32, i64>;

/// Ends of a path in transitions.
pub const START: u8 = u8::MAX - 1;
/// Behind the last action.
pub const END: u8 = u8::MAX;
/// How many actions of a path are kept.
pub const PATH_MAX: usize = 8;

/// How often a path was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Sessions.
    pub sessions: i64,
    /// Distinct visitors.
    pub visitors: i64,
}

/// Who reached a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Sessions or visitors, as the product says.
    pub units: i64,
    /// Distinct visitors.
    pub visitors: i64,
    /// How long it took from the step before.
    pub seconds: Seconds,
}

/// The counts of a cell, of a part of it, or of what is to be added to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Sessions.
    pub sessions: i64,
    /// Distinct visitors that have them.
    pub visitors: i64,
    /// By the numbers of two actions.
    pub transitions: BTreeMap<(u8, u8), i64>,
    /// By the actions' numbers; longer ones are cut and end with [`END`].
    pub paths: BTreeMap<Vec<u8>, Taken>,
    /// Sessions with something in the cart.
    pub carts: i64,
    /// Those that were left with it.
    pub abandoned: i64,
    /// Sessions that bought what was put into the cart.
    pub converted: i64,
    /// Distinct visitors that have these.
    pub convert_visitors: i64,
    /// How long that took.
    pub convert_seconds: Seconds,
    /// By step.
    pub funnel: Vec<Step>,
}

fn add_to<K: Ord + Clone>(map: &mut BTreeMap<K, i64>, other: &BTreeMap<K, i64>, sign: i64) {
    for (key, count) in other {
        let sum = map.entry(key.clone()).or_default();
        *sum += sign * count;
        if *sum == 0 {
            map.remove(key);
        }
    }
}

/// Takes up to `left` entries of one to the other.
fn cut<K: Ord + Clone, V>(from: &mut BTreeMap<K, V>, to: &mut BTreeMap<K, V>, left: &mut usize) {
    let Some(end) = from.keys().nth(*left).cloned() else {
        *left -= from.len();
        to.append(from);
        return;
    };
    let behind = from.split_off(&end);
    *left = 0;
    *to = std::mem::replace(from, behind);
}

impl Tally {
    /// Adds `other`, or takes it away: `sign` is 1 or −1.
    pub fn add(&mut self, other: &Self, sign: i64) {
        self.sessions += sign * other.sessions;
        self.visitors += sign * other.visitors;
        add_to(&mut self.transitions, &other.transitions, sign);
        for (path, taken) in &other.paths {
            let sum = self.paths.entry(path.clone()).or_default();
            sum.sessions += sign * taken.sessions;
            sum.visitors += sign * taken.visitors;
            if *sum == Taken::default() {
                self.paths.remove(path);
            }
        }
        self.carts += sign * other.carts;
        self.abandoned += sign * other.abandoned;
        self.converted += sign * other.converted;
        self.convert_visitors += sign * other.convert_visitors;
        add_to(&mut self.convert_seconds, &other.convert_seconds, sign);
        if self.funnel.len() < other.funnel.len() {
            self.funnel.resize_with(other.funnel.len(), Step::default);
        }
        for (step, other) in self.funnel.iter_mut().zip(&other.funnel) {
            step.units += sign * other.units;
            step.visitors += sign * other.visitors;
            add_to(&mut step.seconds, &other.seconds, sign);
        }
        while self.funnel.last().is_some_and(|step| *step == Step::default()) {
            self.funnel.pop();
        }
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        let of_steps = self.funnel.iter().map(|step| 2 + step.seconds.len()).sum::<usize>();
        7 + self.transitions.len() + self.paths.len() + self.convert_seconds.len() + of_steps
    }

    /// The same in parts that have about `numbers` each: they add up to it.
    pub fn split(mut self, numbers: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        while self.len() > numbers {
            let mut part = Self::default();
            let mut left = numbers;
            cut(&mut self.convert_seconds, &mut part.convert_seconds, &mut left);
            cut(&mut self.paths, &mut part.paths, &mut left);
            cut(&mut self.transitions, &mut part.transitions, &mut left);
            part.funnel.resize_with(self.funnel.len(), Step::default);
            for (step, part) in self.funnel.iter_mut().zip(&mut part.funnel) {
                cut(&mut step.seconds, &mut part.seconds, &mut left);
            }
            if left == numbers {
                break;
            }
            parts.push(part);
        }
        parts.push(self);
        parts
    }

    /// Nothing is counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Twice the median, which is then whole; none of nothing.
pub fn median_doubled(seconds: &Seconds) -> Option<u64> {
    let count: i64 = seconds.values().sum();
    let at = |place: i64| {
        let mut passed = 0;
        seconds.iter().find(|(_, n)| {
            passed += **n;
            passed > place
        })
    };
    let (low, high) = (at((count - 1) / 2)?, at(count / 2)?);
    (count > 0).then(|| u64::from(*low.0) + u64::from(*high.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_exact() {
        let of = |values: &[u32]| {
            let mut seconds = Seconds::new();
            values.iter().for_each(|value| *seconds.entry(*value).or_default() += 1);
            median_doubled(&seconds)
        };
        assert_eq!(
            (of(&[]), of(&[7]), of(&[1, 4]), of(&[9, 1, 4]), of(&[3, 3, 5, 6])),
            (None, Some(14), Some(5), Some(8), Some(8))
        );
    }

    #[test]
    fn what_is_added_can_be_taken_away() {
        let step = |units| Step { units, visitors: units, seconds: [(3, units)].into() };
        let one = Tally {
            sessions: 2,
            transitions: [((START, 0), 2), ((0, END), 2)].into(),
            paths: [(vec![0], Taken { sessions: 2, visitors: 1 })].into(),
            funnel: vec![step(2), step(1)],
            ..Tally::default()
        };
        let mut sum = one.clone();
        sum.add(&Tally { funnel: vec![step(1)], ..Tally::default() }, 1);
        assert_eq!((sum.funnel[0].units, sum.funnel[0].seconds[&3], sum.funnel.len()), (3, 3, 2));
        sum.add(&one, -1);
        assert_eq!(sum, Tally { funnel: vec![step(1)], ..Tally::default() });

        let whole = Tally { convert_seconds: (0..100).map(|n| (n, 1)).collect(), ..one };
        let parts = whole.clone().split(30);
        assert!(parts.len() > 3 && parts.iter().all(|part| part.len() <= 50));
        let mut sum = Tally::default();
        parts.iter().for_each(|part| sum.add(part, 1));
        assert_eq!(sum, whole);
    }
}
