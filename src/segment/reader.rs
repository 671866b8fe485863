//! Reads segments from a cursor up to the durable end, and on as it moves.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;

use super::appender::{Appender, Encoder, Shared};
use super::disk::{DiskFile, Folder};
use super::file::{self, FRAME_PREFIX_BYTES, Parsed};
use crate::clock::Micros;

const READ_BYTES: usize = 1 << 20;

/// A place in a folder of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The segment's number.
    pub segment: u64,
    /// The byte in its file.
    pub byte: u64,
}

/// What a reader meets, in order.
#[derive(Debug)]
pub enum Item {
    /// The header of the segment that the following frames are in.
    Segment(Vec<u8>),
    /// A frame's body.
    Frame(Bytes),
}

/// Where the durable end is.
enum End {
    /// Somebody appends.
    Moving(Arc<Shared>),
    /// Nobody does.
    Fixed(Cursor),
}

/// A reader's place.
pub struct Reader {
    folder: Folder,
    end: End,
    next: Cursor,
    open: Option<Box<dyn DiskFile>>,
    path: PathBuf,
}

impl Reader {
    /// Begins at the header of segment `first`.
    pub fn new<E: Encoder>(of: &Appender<E>, first: u64) -> Self {
        let shared = of.shared().clone();
        Self::begin(shared.folder.clone(), End::Moving(shared), first)
    }

    /// The same over a folder that nobody appends to, up to `end`: what [`super::recover`] found of its last segment.
    pub fn at_rest(folder: &Folder, first: u64, end: Cursor) -> Self {
        Self::begin(folder.clone(), End::Fixed(end), first)
    }

    fn begin(folder: Folder, end: End, first: u64) -> Self {
        let path = file::path(&folder, first);
        Self { folder, end, next: Cursor { segment: first, byte: 0 }, open: None, path }
    }

    /// Some of what comes next; empty at the durable end. With it, at the end only, the instant up to which everything
    /// appended has been read.
    pub fn read(&mut self) -> anyhow::Result<(Vec<Item>, Option<Micros>)> {
        let (end, complete_to) = match &self.end {
            End::Moving(shared) => shared.end(),
            End::Fixed(end) => (*end, Micros(i64::MAX)),
        };
        let mut items = Vec::new();
        while items.is_empty() && self.next < end {
            if self.next.byte == 0 {
                let (header, start) = file::header_of(&self.folder, self.next.segment)?;
                self.path = file::path(&self.folder, self.next.segment);
                let open = self.folder.disk.open(&self.path);
                self.open = Some(open.with_context(|| format!("cannot open {}", self.path.display()))?);
                self.next.byte = start;
                items.push(Item::Segment(header));
            }
            let Some(open) = &self.open else { bail!("the reader of {} has no open segment", self.path.display()) };
            let last = self.next.segment == end.segment;
            let until = if last { end.byte } else { open.length()? };
            if self.next.byte < until {
                let read = Self::frames(&**open, self.next.byte, until, &mut items)
                    .with_context(|| format!("cannot read {}", self.path.display()))?;
                self.next.byte += read;
            } else if !last {
                self.next = Cursor { segment: self.next.segment + 1, byte: 0 };
            }
        }
        let at_end = self.next >= end;
        Ok((items, at_end.then_some(complete_to)))
    }

    fn frames(open: &dyn DiskFile, from: u64, until: u64, items: &mut Vec<Item>) -> anyhow::Result<u64> {
        let mut want = usize::try_from(until - from)?.min(READ_BYTES);
        loop {
            let mut chunk = vec![0; want];
            open.read_exact_at(&mut chunk, from)?;
            let chunk = Bytes::from(chunk);
            let mut at = 0;
            loop {
                match file::parse_frame(&chunk[at..]) {
                    Parsed::Frame { body_bytes, .. } => {
                        let body = at + FRAME_PREFIX_BYTES;
                        items.push(Item::Frame(chunk.slice(body..body + body_bytes)));
                        at = body + body_bytes;
                    }
                    Parsed::Short { .. } if at > 0 => return Ok(at as u64),
                    // One frame larger than a read: ask for all of it.
                    Parsed::Short { need } if (need as u64) <= until - from && need > want => {
                        want = need;
                        break;
                    }
                    Parsed::Short { .. } | Parsed::Broken => {
                        bail!("damaged at byte {}: bring the file back from a backup", from + at as u64)
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AppendError, Appender, Encoder, Options, recover};
    use super::*;
    use crate::clock::Clock;
    use crate::config::Durability;

    #[derive(Clone)]
    struct Numbered(u64);

    impl Encoder for Numbered {
        type Entry = Vec<u8>;
        type Place = u64;

        fn header(&self) -> Vec<u8> {
            self.0.to_le_bytes().to_vec()
        }

        fn encode(&mut self, _now: Micros, entry: &Vec<u8>, body: &mut Vec<u8>) -> u64 {
            body.extend_from_slice(entry);
            self.0 += 1;
            self.0
        }
    }

    fn open(folder: &std::path::Path, fresh: bool) -> Appender<Numbered> {
        let mut count = 0;
        let last = recover(folder, |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        let options = Options { segment_bytes: 4096, durability: Durability::Fsync };
        Appender::open(folder, last, fresh, Numbered(count), options, Clock::manual(Micros(7))).unwrap()
    }

    fn read_all(reader: &mut Reader) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        loop {
            let (items, complete_to) = reader.read().unwrap();
            bodies.extend(items.into_iter().filter_map(|item| match item {
                Item::Frame(body) => Some(body.to_vec()),
                Item::Segment(_) => None,
            }));
            if complete_to.is_some() {
                return bodies;
            }
        }
    }

    #[tokio::test]
    async fn what_is_appended_is_read_in_order_over_segments_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for restart in 0..4_u8 {
            let log = open(folder.path(), restart % 2 == 1);
            for n in 0..40_u8 {
                let entries: Vec<Vec<u8>> = (0..3).map(|k| [restart, n, k].repeat(40)).collect();
                expected.extend(entries.clone());
                log.append(entries).await.unwrap();
            }
            let mut reader = Reader::new(&log, 1);
            assert_eq!(read_all(&mut reader), expected);
            assert!(read_all(&mut reader).is_empty());
            log.append(vec![b"later".to_vec()]).await.unwrap();
            expected.push(b"later".to_vec());
            assert_eq!(read_all(&mut reader), [b"later".to_vec()]);
        }
        assert!(super::super::list(folder.path()).unwrap().len() > 4);
    }

    #[tokio::test]
    async fn sealing_begins_a_segment_behind_what_was_appended_and_an_empty_one_is_not_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), false);
        log.seal().await.unwrap();
        assert_eq!(super::super::list(folder.path()).unwrap(), [1]);
        log.append(vec![b"one".to_vec()]).await.unwrap();
        log.seal().await.unwrap();
        log.seal().await.unwrap();
        log.append(vec![b"two".to_vec()]).await.unwrap();
        assert_eq!(super::super::list(folder.path()).unwrap(), [1, 2]);
        assert_eq!(read_all(&mut Reader::new(&log, 1)), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(read_all(&mut Reader::new(&log, 2)), [b"two".to_vec()]);
    }

    #[tokio::test]
    async fn a_frame_larger_than_one_read_comes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), false);
        let large = vec![5; READ_BYTES * 2 + 3];
        log.append(vec![b"small".to_vec(), large.clone(), b"small".to_vec()]).await.unwrap();
        assert_eq!(read_all(&mut Reader::new(&log, 1)), [b"small".to_vec(), large, b"small".to_vec()]);
    }

    #[tokio::test]
    async fn a_write_that_fails_is_refused_and_the_reader_never_sees_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), false);
        log.append(vec![vec![1; 5000]]).await.unwrap();
        // The next append begins a segment, which cannot be done where its draft's name is a folder.
        std::fs::create_dir(folder.path().join("next.new")).unwrap();
        let error = log.append(vec![b"lost".to_vec()]).await.unwrap_err();
        assert!(matches!(error, AppendError::NotWritten(..)), "{error}");
        std::fs::remove_dir(folder.path().join("next.new")).unwrap();
        assert_eq!(log.append(vec![b"kept".to_vec()]).await.unwrap(), [2], "the place was given back");
        assert_eq!(read_all(&mut Reader::new(&log, 1)), [vec![1; 5000], b"kept".to_vec()]);
    }
}
