//! Units and answers.

use crate::metering::{Meter, Tally};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) units: Tally,
    pub(super) answers: u64,
}

impl Used {
    /// What one request may use.
    pub(super) fn by_one(units: Tally) -> Self {
        Self { units, answers: 1 }
    }

    pub(super) fn of(&self, meter: Meter) -> u64 {
        meter.product().map_or(self.answers, |product| self.units.of(product))
    }

    pub(super) fn add(&mut self, meter: Meter, more: u64) {
        match meter.product() {
            Some(product) => self.units.add(product, more),
            None => self.answers = self.answers.saturating_add(more),
        }
    }

    /// Meter by meter.
    fn with(self, other: &Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let mut all = Self::default();
        for meter in Meter::ALL {
            all.add(meter, each(self.of(meter), other.of(meter)));
        }
        all
    }

    #[must_use]
    pub(super) fn plus(self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    #[must_use]
    pub(super) fn less(self, other: &Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    #[must_use]
    pub(super) fn max(self, other: &Self) -> Self {
        self.with(other, u64::max)
    }

    /// As the rate counts it, which takes one unit of a request at least.
    pub(super) fn size(&self) -> u64 {
        self.units.total().max(self.answers)
    }

    /// A mix like this one, of another size.
    #[must_use]
    pub(super) fn sized(self, size: u64) -> Self {
        let whole = u128::from(self.size().max(1));
        let share = |units: u64| u64::try_from(u128::from(units) * u128::from(size) / whole).unwrap_or(u64::MAX);
        self.with(&Self::default(), |units, _| share(units))
    }
}
