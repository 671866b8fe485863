//! What this replica may use, leased from the database. A request is admitted when what is used and held back stays within what
//! the database has granted; the database grants what is within the partner's limits with all that other replicas were granted.
//!
//! What is granted here is never more than what the database has: a grant counts once its transaction is committed, and what is
//! given back is no longer used before the database hears of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Ask;
use super::block;
use super::book::{Book, More, limits};
use super::used::Used;
use crate::billing::budget_store::{Counted, Grants};
use crate::clock::Micros;
use crate::error::Refusal;

/// What other replicas were granted is looked up again after this time; until then a refusal that follows from it is repeated.
const HEARD_FOR: Duration = Duration::from_millis(500);
/// Usage that was not leased is looked up in the ledger this often.
const COUNTED_FOR: Duration = Duration::from_secs(60);

/// The leases of one partner's month.
#[derive(Default)]
pub(super) struct Held {
    /// Counted from the month's start, as the database has it.
    granted: Grants,
    /// What the database may have at most: more, where the outcome of a transaction is unknown.
    granted_at_most: Grants,
    /// What was leased ahead the last time.
    blocks: Grants,
    /// What was held back since then: the next block is a mix like it.
    pub(super) recent: Used,
    /// When the others' grants were heard,
    heard_at: Option<Instant>,
    /// and when they were held against the ledger.
    counted_at: HashMap<Counted, Instant>,
    /// The last time that somebody found nothing left, and this replica gave back what it did not use.
    gave_back_for: Micros,
}

/// What a transaction writes.
pub(super) struct Decided {
    /// Counted from the month's start.
    pub(super) grants: Grants,
    blocks: Grants,
    /// Why what was asked for is not among it.
    pub(super) refusal: Option<Refusal>,
}

impl Book {
    /// Whether `ask` fits into what is granted.
    pub(super) fn fits(&self, ask: &Ask) -> bool {
        let more = More::of(Used::by_one(ask.units));
        limits(ask).iter().all(|counted| {
            let part = more.part(counted);
            part == 0 || self.mine(counted).saturating_add(part) <= self.granted(counted)
        })
    }

    fn granted(&self, counted: &Counted) -> u64 {
        self.lease.granted.get(counted).copied().unwrap_or(0)
    }

    fn unused(&self, counted: &Counted) -> u64 {
        self.granted(counted).saturating_sub(self.mine(counted))
    }

    /// Whether the database said so lately.
    pub(super) fn refuses(&mut self, ask: &Ask) -> Option<Refusal> {
        let heard = self.lease.heard_at.is_some_and(|heard| heard.elapsed() < HEARD_FOR);
        if heard { self.check(ask).err() } else { None }
    }

    /// Whether less than half a block is left.
    pub(super) fn runs_low(&self, ask: &Ask) -> bool {
        limits(ask).iter().any(|counted| {
            let block = self.lease.blocks.get(counted).copied().unwrap_or(0);
            self.unused(counted).saturating_mul(2) < block
        })
    }

    /// Whether usage that was not leased is to be looked up.
    pub(super) fn is_to_be_counted(&self, asked: &[Counted]) -> bool {
        let is_fresh = |counted| self.lease.counted_at.get(counted).is_some_and(|at| at.elapsed() < COUNTED_FOR);
        !asked.iter().all(is_fresh)
    }

    /// It was.
    pub(super) fn is_counted(&mut self, asked: &[Counted]) {
        let now = Instant::now();
        self.lease.counted_at.extend(asked.iter().map(|counted| (counted.clone(), now)));
    }

    /// What to grant for `ask`, after the others' grants were heard under the month's lock. What is not asked for now is given
    /// back: it could stand in the way. Until the transaction is committed this replica keeps to what both the old and the new
    /// grants allow.
    pub(super) fn decide(&mut self, ask: &Ask, replicas: u64, ahead: bool) -> Option<Decided> {
        self.lease.heard_at = Some(Instant::now());
        let asked = limits(ask);
        let mut least = More::default();
        if ahead {
            for counted in &asked {
                match counted {
                    Counted::Units => least.units = self.unused(counted),
                    Counted::Key(_) => least.key = self.unused(counted),
                    Counted::Line(_, _, meter) => least.line.add(*meter, self.unused(counted)),
                }
            }
            if !self.allows(ask, &least) {
                self.lease.blocks.clear();
                return None;
            }
        } else {
            least = More::of(Used::by_one(ask.units));
        }
        let refusal = if ahead { None } else { self.check(ask).err() };
        let (mut more, mut leased) = (More::default(), More::default());
        if refusal.is_none() {
            let mut mix = std::mem::take(&mut self.lease.recent);
            if !ahead {
                mix = mix.plus(&Used::by_one(ask.units));
            }
            let with = |size| {
                let block = More::of(mix.sized(size));
                if ahead { least.max(&block) } else { least.plus(&block) }
            };
            let book = std::cell::RefCell::new(&mut *self);
            let size = block::largest(ask.plan.rate, replicas, |size| book.borrow_mut().allows(ask, &with(size)));
            (more, leased) = (with(size), More::of(mix.sized(size)));
        }
        let of = |part: &More| asked.iter().map(|counted| (counted.clone(), part.part(counted))).collect::<Grants>();
        let (more, blocks) = (of(&more), of(&leased));
        let mut grants = Grants::new();
        for counted in self.lease.granted_at_most.keys().chain(&asked) {
            // Other keys' quotas have nothing to do with it.
            if asked.contains(counted) || !matches!(counted, Counted::Key(_)) {
                let units = self.mine(counted).saturating_add(more.get(counted).copied().unwrap_or(0));
                grants.insert(counted.clone(), units);
            }
        }
        self.lower(&grants, |counted| if ahead && asked.contains(counted) { u64::MAX } else { 0 });
        Some(Decided { grants, blocks, refusal })
    }

    /// All that is granted and not used, to be given back; none when nothing is.
    pub(super) fn give_back(&mut self, wanted_at: Micros) -> Option<Decided> {
        self.lease.gave_back_for = self.lease.gave_back_for.max(wanted_at);
        let granted = self.lease.granted_at_most.iter();
        let grants: Grants = granted
            .map(|(counted, units)| (counted.clone(), self.mine(counted), *units))
            .filter(|(_, mine, granted)| mine < granted)
            .map(|(counted, mine, _)| (counted, mine))
            .collect();
        if grants.is_empty() {
            return None;
        }
        self.lower(&grants, |_| 0);
        let blocks = grants.keys().map(|counted| (counted.clone(), 0)).collect();
        Some(Decided { grants, blocks, refusal: None })
    }

    pub(super) fn gave_back_for(&self) -> Micros {
        self.lease.gave_back_for
    }

    pub(super) fn has_leases(&self) -> bool {
        !self.lease.granted_at_most.is_empty()
    }

    /// What was granted goes down to what is used and held back, at least `keep` of it stays.
    fn lower(&mut self, grants: &Grants, keep: impl Fn(&Counted) -> u64) {
        for (counted, units) in grants {
            let lowered = self.granted(counted).min(self.mine(counted).max(keep(counted)));
            self.lease.granted.insert(counted.clone(), lowered);
            let at_most = self.lease.granted_at_most.entry(counted.clone()).or_default();
            *at_most = (*at_most).max(*units);
        }
    }

    /// The transaction is committed.
    pub(super) fn take(&mut self, decided: Decided) {
        for (counted, units) in decided.grants {
            self.lease.granted_at_most.insert(counted.clone(), units);
            self.lease.granted.insert(counted, units);
        }
        self.lease.blocks.extend(decided.blocks);
    }
}
