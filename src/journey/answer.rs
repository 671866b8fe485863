//! What is answered, as stores keep it.

use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::calendar::{Bucket, Granularity};
use super::cell::Cell;
use super::home::{Cohorts, Entry, Progress};
use super::message::Slice;

/// What stands under an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A cell.
    Cell(Arc<Cell>),
    /// Cohorts seen in a period.
    Cohorts(Arc<Cohorts>),
    /// How far the product is decided.
    Progress(Arc<Progress>),
}

const LAYOUT: u8 = 1;

impl Answer {
    /// As bytes: a layout byte, then postcard.
    pub fn write(&self) -> anyhow::Result<Vec<u8>> {
        Ok(postcard::to_extend(self, vec![LAYOUT])?)
    }

    /// From bytes.
    pub fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let body = bytes.strip_prefix(&[LAYOUT]).context("it is of another version of Tollgate")?;
        Ok(postcard::from_bytes(body)?)
    }
}

impl Entry {
    /// Its name among all of a product.
    pub fn name(&self) -> String {
        let slice = |slice: &Slice| match slice {
            Slice::Total => "total".to_owned(),
            Slice::Rest => "rest".to_owned(),
            Slice::Of(values) => serde_json::to_string(values).unwrap_or_default(),
        };
        match self {
            Self::Cell(of, bucket) => format!("{}:{}:{}", bucket.by.as_str(), bucket.number, slice(of)),
            Self::Cohorts(of, period) => format!("cohorts:{period}:{}", slice(of)),
            Self::Progress => "progress".to_owned(),
        }
    }

    /// The one that has this name.
    pub fn of_name(name: &str) -> Option<Self> {
        if name == "progress" {
            return Some(Self::Progress);
        }
        let (kind, rest) = name.split_once(':')?;
        let (number, slice) = rest.split_once(':')?;
        let number = number.parse().ok()?;
        let slice = match slice {
            "total" => Slice::Total,
            "rest" => Slice::Rest,
            values => Slice::Of(serde_json::from_str(values).ok()?),
        };
        if kind == "cohorts" {
            return Some(Self::Cohorts(slice, number));
        }
        let by = Granularity::ALL.into_iter().find(|by| by.as_str() == kind)?;
        Some(Self::Cell(slice, Bucket { by, number }))
    }
}
