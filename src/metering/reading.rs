//! An archived journal segment, read record by record: whether it is what was archived, whether its sequence has no gap and its
//! chain of hashes holds, within the segment and from one to the next. What is wrong is said with its byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::archive_store::ArchivedSegment;
use super::journal::{FIXED_BYTES, Header, hex};
use super::merkle::Hash;
use super::meter::{Meter, Product};
use super::record::Mode;
use crate::clock::Micros;
use crate::segment::Image;

/// How far a journal has been read: what the next record, or the next segment, must continue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Epoch and sequence of the last record; none before the first.
    pub last: Option<(i64, u64)>,
    /// SHA-256 of its body; zeros before the first.
    pub hash: Hash,
}

impl End {
    /// Whether a segment with this header continues from here.
    pub fn is_continued_by(&self, header: &Header) -> anyhow::Result<()> {
        let say = |last: Option<(i64, u64)>| match last {
            Some((epoch, sequence)) => format!("record {epoch}/{sequence}"),
            None => "nothing".to_owned(),
        };
        ensure!(
            header.before == self.last,
            "its header says that {} lies before it, but the segment before it ends with {}: records are missing between them",
            say(header.before),
            say(self.last)
        );
        ensure!(
            header.previous == hex(&self.hash),
            "its header does not continue the chain of hashes: {} before it was changed",
            say(self.last)
        );
        let begins = match self.last {
            Some((epoch, sequence)) if epoch == header.epoch => header.first == sequence + 1,
            Some((epoch, _)) => header.epoch > epoch && header.first == 1,
            None => header.first == 1,
        };
        ensure!(begins, "it begins with record {}/{} behind {}", header.epoch, header.first, say(self.last));
        Ok(())
    }
}

/// A record in its segment.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where its frame begins in the file.
    pub byte: u64,
    /// Which record of the epoch.
    pub sequence: u64,
    /// Exactly as it was journaled; shares the segment's memory.
    pub json: Bytes,
}

impl Entry {
    /// What the record says.
    pub fn record(&self) -> anyhow::Result<Glance<'_>> {
        Glance::of(&self.json).with_context(|| format!("record {} at byte {} cannot be read", self.sequence, self.byte))
    }
}

/// A segment whose header was read. Iterating gives its records in order, or the first thing that is wrong, and then nothing.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What the segment's header says.
    pub header: Header,
    image: Image,
    end: End,
    next: u64,
    broken: bool,
}

/// Whether the bytes that the archive has for `row` are the ones that were archived.
pub(super) fn is_archived(row: &ArchivedSegment, bytes: &Bytes) -> anyhow::Result<()> {
    let (size, sha256) = (bytes.len() as u64, hex(&Sha256::digest(bytes)));
    ensure!(
        size == row.bytes && sha256 == row.sha256,
        "it has {size} bytes with the SHA-256 {sha256}, but {} bytes with {} were archived",
        row.bytes,
        row.sha256
    );
    Ok(())
}

impl Reading {
    /// Of a segment's bytes.
    pub fn new(bytes: Bytes) -> anyhow::Result<Self> {
        let image = Image::new(bytes)?;
        let header: Header = serde_json::from_slice(image.header()).context("damaged at byte 0: the header cannot be read")?;
        let hash = super::journal::unhex(&header.previous).context("damaged at byte 0: the header holds no hash")?;
        let (end, next) = (End { last: header.before, hash }, header.first);
        Ok(Self { header, image, end, next, broken: false })
    }

    /// Of the bytes that the archive has for `row`; they must be the ones that were archived.
    pub fn archived(row: &ArchivedSegment, bytes: Bytes) -> anyhow::Result<Self> {
        let reading = Self::new(bytes.clone())?;
        reading.is_of(row)?;
        is_archived(row, &bytes)?;
        Ok(reading)
    }

    /// Whether the header is of the segment that `row` tells of.
    pub fn is_of(&self, row: &ArchivedSegment) -> anyhow::Result<()> {
        let header = &self.header;
        ensure!(
            header.replica == row.replica && header.epoch == row.epoch && header.first == row.first_sequence,
            "its header is of replica {} from record {}/{} on, but replica {} from record {}/{} on was archived",
            header.replica,
            header.epoch,
            header.first,
            row.replica,
            row.epoch,
            row.first_sequence
        );
        Ok(())
    }

    /// How far it has been read.
    pub fn end(&self) -> &End {
        &self.end
    }

    /// The byte up to which it has been read.
    pub fn byte(&self) -> u64 {
        self.image.byte()
    }

    /// Whether something was wrong, so that nothing more comes.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The sequence of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    fn entry(&mut self, byte: u64, body: &Bytes) -> anyhow::Result<Entry> {
        let epoch = self.header.epoch;
        let expected = self.next;
        ensure!(body.len() > FIXED_BYTES, "damaged at byte {byte}: a record of {} bytes is too short", body.len());
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&body[..8]);
        let sequence = u64::from_le_bytes(sequence);
        ensure!(
            sequence == expected,
            "record {epoch}/{expected} is not where it must be: record {epoch}/{sequence} stands at byte {byte}"
        );
        ensure!(
            body[8..FIXED_BYTES] == self.end.hash,
            "record {epoch}/{sequence} at byte {byte} does not continue the chain of hashes: what lies before it was changed"
        );
        self.end = End { last: Some((epoch, sequence)), hash: Sha256::digest(body).into() };
        self.next = sequence.checked_add(1).with_context(|| format!("record {epoch}/{sequence} at byte {byte} has no next"))?;
        Ok(Entry { byte, sequence, json: body.slice(FIXED_BYTES..) })
    }
}

impl Iterator for Reading {
    type Item = anyhow::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let entry = match self.image.next()? {
            Ok(frame) => self.entry(frame.byte, &frame.body),
            Err(damage) => Err(damage.into()),
        };
        self.broken = entry.is_err();
        Some(entry)
    }
}

/// What a record counts of one meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Units that are rated.
    pub units: u64,
    /// Units of what was staler than the plan promised: shown, never rated.
    pub waived: u64,
}

/// A usage record as far as counting needs it, without copies of its text.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as in UsageRecord")]
pub struct Glance<'a> {
    v: u8,
    #[serde(borrow)]
    pub request: Cow<'a, str>,
    pub at: Micros,
    #[serde(borrow)]
    pub partner: Cow<'a, str>,
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    pub mode: Mode,
    #[serde(borrow)]
    pub plan: Cow<'a, str>,
    pub plan_version: i64,
    units: BTreeMap<Product, u64>,
    #[serde(default)]
    waived_units: BTreeMap<Product, u64>,
}

impl<'a> Glance<'a> {
    /// Of a record's JSON.
    pub fn of(json: &'a [u8]) -> anyhow::Result<Self> {
        let glance: Self = serde_json::from_slice(json).context("this is no usage record")?;
        ensure!(glance.v == 1, "this is a usage record of version {}, which this version of Tollgate does not know", glance.v);
        Ok(glance)
    }

    /// What it counts of each meter that it counts: every answer is one request.
    pub fn counted(&self) -> impl Iterator<Item = (Meter, Counted)> {
        let of = |from: &BTreeMap<Product, u64>, product| from.get(&product).copied();
        let products = Product::ALL.into_iter().filter_map(move |product| {
            let (units, waived) = (of(&self.units, product), of(&self.waived_units, product));
            let counted = Counted { units: units.unwrap_or(0), waived: waived.unwrap_or(0) };
            (units.is_some() || waived.is_some()).then_some((Meter::from(product), counted))
        });
        products.chain([(Meter::Requests, Counted { units: 1, waived: 0 })])
    }
}

#[cfg(test)]
mod tests {
    use super::super::journal::testing;
    use super::*;

    fn read(bytes: &[u8]) -> anyhow::Result<(End, Vec<Bytes>)> {
        let mut reading = Reading::new(Bytes::copy_from_slice(bytes))?;
        let records = reading.by_ref().map(|entry| Ok(entry?.json)).collect::<anyhow::Result<_>>()?;
        Ok((*reading.end(), records))
    }

    #[tokio::test]
    async fn a_journals_segments_follow_each_other_over_its_starts() {
        let folder = tempfile::tempdir().unwrap();
        testing::journal(folder.path(), "rep_1", &[60, 0, 40]).await;
        let mut end = End::default();
        let mut records = 0;
        let segments = testing::segments(folder.path());
        assert!(segments.len() > 5, "epochs of several segments, an empty one among them");
        for bytes in &segments {
            let mut reading = Reading::new(bytes.clone()).unwrap();
            end.is_continued_by(&reading.header).unwrap();
            for entry in reading.by_ref() {
                let entry = entry.unwrap();
                let (record, again) = (entry.record().unwrap(), serde_json::from_slice(&entry.json).unwrap());
                let again: super::super::UsageRecord = again;
                assert_eq!(serde_json::to_vec(&again).unwrap(), entry.json, "the bytes are the record's own");
                assert_eq!((record.request.as_ref(), record.at), (again.request.as_str(), again.at));
                records += 1;
            }
            end = *reading.end();
        }
        assert_eq!((records, end.last), (100, Some((3, 40))));
        // Each one continues the one before it and no other.
        for (place, bytes) in segments.iter().enumerate() {
            let header = Reading::new(bytes.clone()).unwrap().header;
            for (other, before) in segments.iter().enumerate() {
                let mut before = Reading::new(before.clone()).unwrap();
                before.by_ref().for_each(|entry| drop(entry.unwrap()));
                let empty = before.end().last == header.before && before.end().hash == end_hash(&header);
                assert_eq!(before.end().is_continued_by(&header).is_ok(), empty, "{other} before {place}");
                assert!(other + 1 != place || empty);
            }
        }
    }

    fn end_hash(header: &Header) -> Hash {
        super::super::journal::unhex(&header.previous).unwrap()
    }

    #[tokio::test]
    async fn a_changed_byte_a_removed_and_a_swapped_record_are_found_with_their_byte() {
        let folder = tempfile::tempdir().unwrap();
        testing::journal(folder.path(), "rep_1", &[8]).await;
        let bytes = testing::segments(folder.path()).remove(0);
        let starts: Vec<usize> =
            Reading::new(bytes.clone()).unwrap().map(|entry| usize::try_from(entry.unwrap().byte).unwrap()).collect();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let error = read(&changed).unwrap_err().to_string();
            let frame = starts.iter().rev().find(|&&start| start <= at).copied().unwrap_or(0);
            assert!(error.contains(&format!("byte {frame}")), "byte {at}: {error}");
        }
        let removed = [&bytes[..starts[3]], &bytes[starts[4]..]].concat();
        let error = read(&removed).unwrap_err().to_string();
        assert!(error.starts_with("record 1/4 is not where it must be: record 1/5"), "{error}");
        let swapped =
            [&bytes[..starts[3]], &bytes[starts[4]..starts[5]], &bytes[starts[3]..starts[4]], &bytes[starts[5]..]].concat();
        assert!(read(&swapped).unwrap_err().to_string().contains(&format!("byte {}", starts[3])));
    }

    #[tokio::test]
    async fn a_record_written_anew_with_good_checksums_breaks_the_chain_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        testing::journal(folder.path(), "rep_1", &[8]).await;
        let bytes = testing::segments(folder.path()).remove(0);
        let third = Reading::new(bytes.clone()).unwrap().nth(2).unwrap().unwrap();
        let mut forged = bytes.to_vec();
        let start = usize::try_from(third.byte).unwrap();
        let body = start + 16;
        let end = body + FIXED_BYTES + third.json.len();
        let digit = (body + FIXED_BYTES..end).rev().find(|&at| forged[at].is_ascii_digit()).unwrap();
        forged[digit] ^= 1;
        let crc = crc32c::crc32c(&forged[start + 8..end]);
        forged[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        let error = read(&forged).unwrap_err().to_string();
        assert!(error.starts_with("record 1/4 ") && error.contains("does not continue the chain"), "{error}");
    }
}
