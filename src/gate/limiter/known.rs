//! A rate as one replica knows it: all that was taken, its own at once, what others took with each exchange.
//!
//! Two cells decide, and a unit must be in both. `all` holds what is known to be taken. `share` holds the same, where what the others
//! cannot know of yet counts once for each replica: as much as if each of them took the same now. So all together take no more
//! than there was when they last heard of each other; and a replica that hears nothing is left with its part of rate and burst. With one
//! replica both are the same, and the decisions are those of one cell.

use std::time::Duration;

use super::cell::{Cell, UNIT};
use crate::billing::plan::Rate;
use crate::clock::Micros;

/// Between two exchanges of a rate,
const PAUSE: Duration = Duration::from_millis(25);
/// and where more is asked than the share has.
const PAUSE_URGENT: Duration = Duration::from_millis(5);
/// What the others have not heard of for so long was paced by this replica's part of the rate, and flowed back at that.
const PACED_AFTER: Duration = Duration::from_secs(1);

/// Where the count of a cell in Redis began, and how far it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) is_of: u64,
    pub(super) count: i64,
}

/// What a replica tells.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) rate: Rate,
    /// Units taken less those given back, as far as they have not flowed back.
    pub(super) units: i64,
    /// What is used of the burst as it is known here, in millionths of a unit.
    used: u128,
    /// What was heard last.
    pub(super) mark: Option<Mark>,
    at: Micros,
    /// Units that it stands for.
    of: i64,
}

impl Told {
    pub(super) fn used_at_most(&self, most: u64) -> u64 {
        u64::try_from(self.used).unwrap_or(u64::MAX).min(most)
    }
}

/// What it hears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) mark: Mark,
    /// Millionths of a unit that are used, and were not known to be.
    pub(super) more: i64,
}

/// What is next for a rate that is listed for exchange.
pub(super) enum Next {
    Tell(Told),
    Wait,
    /// The others know all.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    rate: Option<Rate>,
    all: Cell,
    share: Cell,
    /// Net units that the others cannot know of yet,
    untold: i64,
    /// the first of them taken at this instant.
    untold_since: Micros,
    mark: Option<Mark>,
    /// When the last exchange began.
    exchanged_at: Micros,
    /// A request was refused that others' news might let in.
    is_wanted: bool,
    is_urgent: bool,
    is_listed: bool,
}

impl Known {
    /// Takes units, or says how long they are not there; none when they never will be.
    pub(super) fn take(&mut self, rate: Rate, replicas: u32, units: u64, now: Micros) -> Result<(), Option<Duration>> {
        self.come_under(rate, now);
        let mut all = self.all;
        all.take(rate, units, now).inspect_err(|wait| self.is_wanted |= wait.is_some() && replicas > 1)?;
        if units > 0 && replicas > 1 {
            // One unit of the share lets all of a request in: else none that asks for more than a share would ever be.
            let free_in = self.share_free_in(rate, replicas, now);
            if !free_in.is_zero() {
                (self.is_wanted, self.is_urgent) = (true, true);
                return Err(Some(free_in));
            }
        }
        self.all = all;
        self.share.take_anyway(rate, units.saturating_mul(u64::from(replicas)), now);
        self.note(units, false, now);
        let untold = u128::from(self.untold.unsigned_abs()) * u128::from(replicas) * UNIT;
        let left = (u128::from(rate.burst) * UNIT).saturating_sub(self.share.used(rate, now));
        self.is_urgent |= replicas > 1 && self.untold > 0 && untold >= left;
        Ok(())
    }

    /// Gives back units that were taken.
    pub(super) fn give_back(&mut self, rate: Rate, replicas: u32, units: u64, now: Micros) {
        self.come_under(rate, now);
        self.all.give_back(units);
        self.share.give_back(units.saturating_mul(u64::from(replicas)));
        self.share = self.share.max(self.all);
        self.note(units, true, now);
    }

    /// Whole units that could be taken now; where nothing is heard of the others, those of this replica's part.
    pub(super) fn left(&mut self, rate: Rate, replicas: u32, is_together: bool, now: Micros) -> u64 {
        self.come_under(rate, now);
        let left = self.all.left(rate, now);
        if is_together { left } else { left.min(self.share.left(rate, now) / u64::from(replicas.max(1))) }
    }

    /// How long until the whole burst is there.
    pub(super) fn full_in(&mut self, rate: Rate, now: Micros) -> Duration {
        self.come_under(rate, now);
        self.all.full_in(rate, now)
    }

    fn come_under(&mut self, rate: Rate, now: Micros) {
        if let Some(before) = self.rate.filter(|before| *before != rate) {
            (self.all, self.share) = (self.all.under(rate, before, now), self.share.under(rate, before, now));
        }
        self.rate = Some(rate);
    }

    /// How long until the share has a unit. Each has one at least, where the burst has none for some.
    fn share_free_in(&self, rate: Rate, replicas: u32, now: Micros) -> Duration {
        let most = u128::from(rate.burst.saturating_sub(replicas)) * UNIT;
        let wait = self.share.used(rate, now).saturating_sub(most).div_ceil(u128::from(rate.units_per_second));
        Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    fn note(&mut self, units: u64, is_given_back: bool, now: Micros) {
        if self.untold == 0 {
            self.untold_since = now;
        }
        let units = i64::try_from(units).unwrap_or(i64::MAX);
        self.untold = if is_given_back { self.untold.saturating_sub(units) } else { self.untold.saturating_add(units) };
    }

    /// Whether it is to be listed for exchange; says so once until [`Self::next`] says that there is nothing to do.
    pub(super) fn must_be_listed(&mut self) -> bool {
        let was_listed = self.is_listed;
        self.is_listed |= self.untold != 0 || self.is_wanted;
        !was_listed && self.is_listed
    }

    /// What is next for a rate that is listed; what is told must be followed by [`Self::hear`] or [`Self::miss`].
    pub(super) fn next(&mut self, replicas: u32, at_once: bool, now: Micros) -> Next {
        let pause = if self.is_urgent { PAUSE_URGENT } else { PAUSE };
        let Some(rate) = self.rate.filter(|_| self.untold != 0 || self.is_wanted) else {
            self.is_listed = false;
            return Next::Nothing;
        };
        if !at_once && now.since(self.exchanged_at) < pause {
            return Next::Wait;
        }
        (self.is_wanted, self.is_urgent, self.exchanged_at) = (false, false, now);
        let mut units = self.untold;
        if now.since(self.untold_since) > PACED_AFTER {
            let paced = self.share.used(rate, now).div_ceil(UNIT * u128::from(replicas.max(1)));
            units = units.min(i64::try_from(paced).unwrap_or(i64::MAX));
        }
        Next::Tell(Told { rate, units, used: self.all.used(rate, now), mark: self.mark, at: now, of: self.untold })
    }

    /// The others know what was told. Whether there is more to tell: then it stays listed.
    pub(super) fn hear(&mut self, told: &Told, heard: Heard, replicas: u32, now: Micros) -> bool {
        self.untold = self.untold.saturating_sub(told.of);
        self.untold_since = told.at;
        self.mark = Some(heard.mark);
        let rate = self.rate.unwrap_or(told.rate);
        self.all = self.all.moved(heard.more, rate, now);
        self.share = self.all;
        // It is in `all` once.
        if let Ok(untold @ 1..) = u64::try_from(self.untold) {
            self.share.take_anyway(rate, untold.saturating_mul(u64::from(replicas.saturating_sub(1))), now);
        }
        self.is_listed = self.untold != 0 || self.is_wanted;
        self.is_listed
    }

    /// Whether the others heard what was told is not known. Units taken are told again, and may then count twice, as if the others had
    /// taken them too. Units given back are not: they stay taken where they were not heard of; and the count in Redis, which may be less by
    /// them already, is begun anew from what is known here.
    pub(super) fn miss(&mut self, told: &Told) {
        if told.units < 0 {
            self.untold = self.untold.saturating_sub(told.of);
            self.mark = None;
        }
        self.is_wanted = true;
    }

    /// Nothing is used, nothing is to be told, and nobody asked for a while.
    pub(super) fn is_forgettable(&self, idle: Duration, now: Micros) -> bool {
        let is_full = self.rate.is_none_or(|rate| self.all.full_in(rate, now).is_zero());
        is_full && !self.is_listed && self.untold == 0 && now.since(self.exchanged_at) > idle
    }
}
