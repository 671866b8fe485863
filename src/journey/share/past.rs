//! What a share does with what lies behind: late events, and letting go.

use std::sync::Arc;

use super::{Share, tag};
use crate::clock::Micros;
use crate::journey::calendar::{Granularity, Hour, begin_of, hour_of};
use crate::journey::message::Body;
use crate::journey::reading::{Reading, SESSION_MAX};
use crate::journey::visitor::{self, Came, Seen};

impl Share {
    /// Late events of cells that are closed, all that they touch: told as changes.
    pub(super) fn admit(&mut self, reading: &Reading, watermark: Micros) {
        let (frozen_to, closed_to) = (self.kept_from.map(frozen_to), self.closed_to.unwrap_or(Hour::MIN));
        for key in self.late.clone() {
            self.settle(reading, key, watermark);
            let Some(visitor) = self.visitors.get(key) else { continue };
            let mut events = visitor.events.clone();
            // What came too late for any revision stays apart.
            events.retain(|event| event.counts() || frozen_to.is_none_or(|to| hour_of(event.time) >= to));
            let is_over = |event: &Seen| {
                // A session that they lengthen, or join, ends by then; and so does what they begin.
                let last = hour_of(Micros(event.time.0.saturating_add(2 * SESSION_MAX).saturating_add(reading.window())));
                [Granularity::Week, Granularity::Month].iter().all(|by| by.of(last).end() <= closed_to)
            };
            let mut left = false;
            for event in events.iter_mut().filter(|event| !event.counts()) {
                if is_over(event) {
                    event.came = Came::Admitted;
                } else {
                    left = true;
                }
            }
            if !left {
                self.late.remove(&key);
            }
            let before = visitor::count(reading, &visitor.events, visitor.settled);
            let after = visitor::count(reading, &events, visitor.settled);
            self.visitors.entry(key).events = events;
            let parts = self.differ(reading, key, &before, after);
            if !parts.is_empty() {
                self.tell(Body::Changed { tag: tag(key), parts, cohorts: Vec::new() });
            }
        }
    }

    /// Lets go of events that no cell needs any more, and of visitors that were not seen for long.
    pub(super) fn forget(&mut self, reading: &Reading, closed_to: Hour, watermark: Micros) {
        let needed =
            Micros(begin_of(closed_to).0.saturating_sub(reading.kept()).saturating_sub(reading.window() + 2 * SESSION_MAX));
        let month = Granularity::Month.of(hour_of(needed)).begin();
        let from = Granularity::Month.of(month - 1).begin();
        if self.kept_from.is_some_and(|kept| kept >= from) {
            return;
        }
        self.kept_from = Some(from);
        let seen_after = reading.product.retention.as_ref().map(|retention| {
            let oldest = watermark.0.saturating_sub(i64::try_from(reading.product.keep.visitors.as_micros()).unwrap_or(i64::MAX));
            retention.period.of(Micros(oldest), &reading.zone)
        });
        let (timers, late) = (&mut self.timers, &mut self.late);
        self.visitors.retain(|key, visitor| {
            if visitor.events.first().is_some_and(|event| hour_of(event.time) < from) {
                let visitor = Arc::make_mut(visitor);
                let (gone, kept) = visitor::parted(reading, &visitor.events, from);
                visitor::remember(reading, &mut visitor.periods, &gone);
                visitor.events = kept;
            }
            if let Some(seen_after) = seen_after
                && visitor.periods.iter().any(|(_, _, last)| *last < seen_after)
            {
                Arc::make_mut(visitor).periods.retain(|(_, _, last)| *last >= seen_after);
            }
            let is_kept = !visitor.events.is_empty() || !visitor.periods.is_empty();
            if !is_kept {
                late.remove(&key);
                if let Some(due) = visitor.due {
                    timers.remove(&(due, key));
                }
            }
            is_kept
        });
        let gone = begin_of(from);
        self.erased.retain(|_, time| *time >= gone);
    }
}

/// Where what can be revised begins, of months from `month` on: the week that it shares with the one before is not.
pub(super) fn frozen_to(month: Hour) -> Hour {
    let week = Granularity::Week.of(month);
    if week.begin() == month { month } else { week.end() }
}
