//! A partition's head: `POSITION AS_OF`, each `-` where there is none. While a partition is written anew its position is a mark.

use anyhow::{Context, bail};

use crate::clock::Micros;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Nobody wrote this partition yet, or Redis lost it.
    Absent,
    At {
        applied: Option<u64>,
        as_of: Option<Micros>,
    },
    /// It is being written anew; by whom this names.
    Restoring(String),
}

impl Head {
    pub(super) fn of(bytes: Option<&[u8]>) -> anyhow::Result<Self> {
        let Some(bytes) = bytes else { return Ok(Self::Absent) };
        let parsed = std::str::from_utf8(bytes).ok().and_then(Self::parse);
        parsed.with_context(|| format!("\"{}\" is no position of a partition", String::from_utf8_lossy(bytes)))
    }

    fn parse(text: &str) -> Option<Self> {
        let (position, as_of) = text.split_once(' ')?;
        if position.starts_with('~') {
            return Some(Self::Restoring(position.to_owned()));
        }
        let applied = if position == "-" { None } else { Some(position.parse().ok()?) };
        let as_of = if as_of == "-" { None } else { Some(Micros(as_of.parse().ok()?)) };
        Some(Self::At { applied, as_of })
    }

    /// What a script must find to go on.
    pub(super) fn position(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::At { applied, .. } => position(*applied),
            Self::Restoring(mark) => mark.clone(),
        }
    }

    pub(super) fn applied(&self) -> Option<u64> {
        match self {
            Self::At { applied, .. } => *applied,
            Self::Absent | Self::Restoring(_) => None,
        }
    }

    /// The instant up to which it is complete. An error where nothing can be said of what is in the partition.
    pub(super) fn as_of(&self, partition: u16) -> anyhow::Result<Option<Micros>> {
        match self {
            Self::At { as_of, .. } => Ok(*as_of),
            Self::Absent => bail!("partition {partition} of the feature store has no position yet"),
            Self::Restoring(_) => bail!("partition {partition} of the feature store is being written anew"),
        }
    }
}

pub(super) fn position(applied: Option<u64>) -> String {
    applied.map_or_else(|| "-".into(), |applied| applied.to_string())
}

pub(super) fn instant(at: Option<Micros>) -> String {
    at.map_or_else(|| "-".into(), |at| at.0.to_string())
}

/// A mark that nobody else has.
pub(super) fn new_mark() -> String {
    format!("~{:016x}", rand::random::<u64>())
}
