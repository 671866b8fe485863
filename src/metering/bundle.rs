//! A partner's bundle: the records behind one of its months as a file that can be checked without Tollgate's database.
//!
//! ```text
//! {"tollgate":"usage","v":1,"partner":…}              the header
//! {"period":"2026-11","day":"2026-11-01","records":2} a UTC day, as far as it lies in the month; ascending
//! {"v":1,"request":…}                                 that many records, by admission, then request: byte for byte the
//! {"v":1,"request":…}                                 journal's, so that a line is a leaf of the day's Merkle tree
//! ```

use std::io::Write;

use anyhow::{Context, ensure};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::archive_store::ArchivedSegment;
use super::evidence::{Part, Sink, walk};
use super::merkle::{self, Hash};
use super::reading::Glance;
use crate::ids::{InvoiceId, PartnerId};

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// What this file is: `usage`.
    pub tollgate: String,
    /// The layout's version: 1.
    pub v: u8,
    /// Whose records.
    pub partner: PartnerId,
    /// Behind which month's invoice.
    pub period: String,
    /// The month's first instant, in RFC 3339,
    pub from: String,
    /// and the first one past it.
    pub to: String,
    /// The invoice; none when there is none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoice_id: Option<InvoiceId>,
    /// Its number; none when it is not finalized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoice: Option<String>,
    /// In words, when this is not all that an invoice bills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Header {
    /// What the file is.
    pub const TOLLGATE: &str = "usage";
    /// The layout's version.
    pub const V: u8 = 1;
}

/// The line before a day's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DayMark {
    /// The month that they are billed for; an earlier one than the header's for what came late.
    pub period: String,
    /// The UTC day.
    pub day: Date,
    /// How many records follow.
    pub records: u64,
}

/// Writes the bundle of `parts`: one partner's months, ascending, each with its period.
pub async fn write(
    archive: &Archive,
    segments: &[ArchivedSegment],
    header: &Header,
    parts: Vec<(String, Part)>,
    mut out: Box<dyn Write + Send>,
) -> anyhow::Result<()> {
    ensure!(parts.iter().all(|(_, part)| part.partner == header.partner), "a bundle holds the records of one partner");
    line(&mut out, header)?;
    let (periods, parts) = parts.into_iter().unzip();
    let mut writer = walk(archive, segments, parts, Writer { periods, out }).await?;
    Ok(writer.out.flush()?)
}

fn line(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

struct Writer {
    periods: Vec<String>,
    out: Box<dyn Write + Send>,
}

impl Sink for Writer {
    /// Led by the leaf's hash: records that are alike up to their request come in the order of the Merkle tree.
    type Kept = (Hash, Box<[u8]>);

    fn take(&mut self, _part: usize, record: &Glance<'_>, json: &[u8]) -> anyhow::Result<Self::Kept> {
        ensure!(!json.contains(&b'\n'), "the record of request {} has more than one line", record.request);
        Ok((merkle::leaf(json), json.into()))
    }

    fn day(&mut self, part: usize, day: Date, records: &mut dyn ExactSizeIterator<Item = &Self::Kept>) -> anyhow::Result<()> {
        let period = self.periods.get(part).context("a part has no period")?.clone();
        line(&mut self.out, &DayMark { period, day, records: records.len() as u64 })?;
        for (_, json) in records {
            self.out.write_all(json)?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }
}
