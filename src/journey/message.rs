//! What a partition tells the partition where a product's cells come together: counts, never who.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Hour};
use super::tally::Tally;

const LAYOUT: u8 = 1;

/// A visitor, as counting tells them apart; keyed, and of no use elsewhere.
pub type Tag = u64;

/// Which events a cell is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slice {
    /// All.
    Total,
    /// Those without a value of each dimension. Never answered.
    Rest,
    /// Those with these values, in the order of the product's dimensions.
    Of(Vec<String>),
}

/// Of what a cell's privacy is decided, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Layer {
    /// Who has sessions there: all but the two below.
    Sessions,
    /// Who bought what was in the cart: how long that took.
    Conversions,
    /// Who began the funnel, where visitors are its units.
    Funnel,
}

impl Layer {
    /// All.
    pub const ALL: [Self; 3] = [Self::Sessions, Self::Conversions, Self::Funnel];
}

/// Distinct visitors: who they are, as long as they are few.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crowd {
    /// These.
    Few(BTreeSet<Tag>),
    /// Some, and perhaps not enough: they were many, and then somebody went.
    Some,
    /// So many at least: as many as must stand behind an answer, or more.
    Many(u32),
}

impl Default for Crowd {
    fn default() -> Self {
        Self::Few(BTreeSet::new())
    }
}

impl Crowd {
    /// Of these visitors.
    pub(super) fn of(tags: &BTreeSet<Tag>, k: u32) -> Self {
        if tags.len() >= k as usize { Self::Many(tags.len() as u32) } else { Self::Few(tags.clone()) }
    }

    /// This one and that of another partition, in which nobody is the same.
    pub(super) fn join_other(&mut self, other: &Self, k: u32) {
        let sum = self.at_least().saturating_add(other.at_least());
        self.join(other, k);
        if let Self::Many(count) = self {
            *count = sum.max(*count);
        }
    }

    /// How many there are at least.
    pub(super) fn at_least(&self) -> u32 {
        match self {
            Self::Few(tags) => tags.len() as u32,
            Self::Some => 0,
            Self::Many(count) => *count,
        }
    }

    /// Both together: some may be in both.
    pub(super) fn join(&mut self, other: &Self, k: u32) {
        let most = self.at_least().max(other.at_least());
        match (&mut *self, other) {
            (Self::Few(mine), Self::Few(others)) => {
                mine.extend(others);
                if mine.len() >= k as usize {
                    *self = Self::Many(mine.len() as u32);
                }
            }
            (Self::Many(_), _) | (_, Self::Many(_)) => *self = Self::Many(most),
            _ => *self = Self::Some,
        }
    }

    /// A visitor came, or went, before it was decided on.
    pub(super) fn change(&mut self, tag: Tag, comes: bool, k: u32) {
        match self {
            // It may have come from another hour, and hide nobody here.
            Self::Few(tags) if comes && tags.is_empty() && k > 0 => *self = Self::Some,
            Self::Few(_) if comes => {}
            Self::Few(tags) => {
                tags.remove(&tag);
            }
            Self::Many(count) if !comes => {
                *count = count.saturating_sub(1);
                if *count < k {
                    *self = Self::Some;
                }
            }
            Self::Many(_) | Self::Some => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(tags) if tags.is_empty())
    }

    pub(super) fn is_many(&self) -> bool {
        matches!(self, Self::Many(_))
    }
}

/// A part of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Of which slice
    pub slice: Slice,
    /// and bucket.
    pub bucket: Bucket,
    /// What the partition has of it, or how that changed.
    pub tally: Tally,
}

/// Who stands behind an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Which slice
    pub slice: Slice,
    /// and hour.
    pub hour: Hour,
    /// Of what.
    pub layer: Layer,
    /// Who.
    pub crowd: Crowd,
}

/// Visitors of a cohort that were seen in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cohort {
    /// Which slice.
    pub slice: Slice,
    /// The period in which they were first seen,
    pub cohort: i32,
    /// and the one in which they were seen now.
    pub period: i32,
    /// How many.
    pub visitors: i64,
}

/// What a partition says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// What some cells have there that are about to close.
    Counted {
        /// Cells.
        parts: Vec<Part>,
        /// Who stands behind the hours among them.
        behind: Vec<Behind>,
    },
    /// All hours before `to` are closed there, and all that they have is told.
    Closed {
        /// The first hour that is open.
        to: Hour,
    },
    /// All retention periods before `to` are closed there.
    Retained {
        /// The first period that is open.
        to: i32,
        /// What was seen in those that closed.
        cohorts: Vec<Cohort>,
    },
    /// What a visitor counts in closed cells changed: it was late, was compensated, or was erased.
    Changed {
        /// Who.
        tag: Tag,
        /// By how much.
        parts: Vec<Part>,
        /// In which cohorts it is no longer, or now.
        cohorts: Vec<Cohort>,
    },
}

/// What a partition says, in the order of its saying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// From 1.
    pub number: u64,
    /// What.
    pub body: Body,
}

impl Message {
    /// About how many bytes it has.
    pub(super) fn size(&self) -> usize {
        let parts = |parts: &[Part]| parts.iter().map(|part| 24 + 6 * part.tally.len()).sum::<usize>();
        32 + match &self.body {
            Body::Counted { parts: of, behind } => {
                let tags = |behind: &Behind| if let Crowd::Few(tags) = &behind.crowd { tags.len() } else { 0 };
                parts(of) + behind.iter().map(|behind| 24 + 10 * tags(behind)).sum::<usize>()
            }
            Body::Changed { parts: of, cohorts, .. } => parts(of) + cohorts.len() * 24,
            Body::Retained { cohorts, .. } => cohorts.len() * 24,
            Body::Closed { .. } => 0,
        }
    }
}

/// Messages of one partition about one product, as the log carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// About which product.
    pub product: String,
    /// Which partition says it.
    pub partition: u16,
    /// In order.
    pub messages: Vec<Message>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    product: String,
    partition: u16,
    layout: u8,
    messages: String,
}

impl Told {
    /// The `data` of an event.
    pub fn write(&self) -> anyhow::Result<serde_json::Value> {
        let messages = STANDARD_NO_PAD.encode(postcard::to_allocvec(&self.messages)?);
        Ok(serde_json::to_value(Data { product: self.product.clone(), partition: self.partition, layout: LAYOUT, messages })?)
    }

    /// From the `data` of an event.
    pub fn read(data: &str) -> anyhow::Result<Self> {
        let Data { product, partition, layout, messages } = serde_json::from_str(data)?;
        ensure!(layout == LAYOUT, "layout {layout} is not known to this version of Tollgate");
        let bytes = STANDARD_NO_PAD.decode(messages).context("messages are not base64")?;
        let messages = postcard::from_bytes(&bytes).context("messages cannot be read")?;
        Ok(Self { product, partition, messages })
    }
}
