//! A whole segment as bytes, such as the archive holds it: the header and each frame with its place. Every checksum is looked
//! at, and what is wrong is said with its byte. A sealed segment has no torn tail: whatever is not a frame is damage.

use bytes::Bytes;

use super::file::{self, FRAME_PREFIX_BYTES, Parsed};

/// Where a segment is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged at byte {byte}: {what}")]
pub struct Damage {
    /// The byte at which reading stopped: the start of the header or of the frame.
    pub byte: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The byte in the file at which it begins.
    pub byte: u64,
    /// Its body; shares the segment's memory.
    pub body: Bytes,
}

/// A segment file's bytes, whose header was checked. Iterating gives its frames, or the first damage, and then nothing.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Bytes,
    header: Bytes,
    next: usize,
}

impl Image {
    /// Checks the header.
    pub fn new(bytes: Bytes) -> Result<Self, Damage> {
        let (header, next) = file::parse_header(&bytes).map_err(|what| Damage { byte: 0, what })?;
        let header = bytes.slice(header);
        Ok(Self { bytes, header, next })
    }

    /// The owner's header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// How far the frames that were given reach.
    pub fn byte(&self) -> u64 {
        self.next as u64
    }
}

impl Iterator for Image {
    type Item = Result<Frame, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.next;
        if at >= self.bytes.len() {
            return None;
        }
        let what = match file::parse_frame(&self.bytes[at..]) {
            Parsed::Frame { body_bytes, .. } => {
                let body = at + FRAME_PREFIX_BYTES;
                self.next = body + body_bytes;
                return Some(Ok(Frame { byte: at as u64, body: self.bytes.slice(body..self.next) }));
            }
            Parsed::Short { .. } => "the file ends within a record",
            Parsed::Broken => "a record does not match its checksum",
        };
        self.next = self.bytes.len();
        Some(Err(Damage { byte: at as u64, what }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> (Vec<u8>, Vec<u64>) {
        let mut bytes = file::header_bytes(b"whose").unwrap();
        let mut starts = vec![0];
        for body in [&b"one"[..], b"two", b"three"] {
            starts.push(bytes.len() as u64);
            let synced = bytes.len() as u64;
            file::write_frame(&mut bytes, synced, |out| out.extend_from_slice(body));
        }
        (bytes, starts)
    }

    fn read(bytes: &[u8]) -> Result<(Vec<u64>, Vec<Bytes>), Damage> {
        let image = Image::new(Bytes::copy_from_slice(bytes))?;
        assert_eq!(image.header(), b"whose");
        let mut starts = vec![0];
        let mut bodies = Vec::new();
        for frame in image {
            let frame = frame?;
            starts.push(frame.byte);
            bodies.push(frame.body);
        }
        Ok((starts, bodies))
    }

    #[test]
    fn frames_come_with_their_places() {
        let (bytes, starts) = segment();
        assert_eq!(read(&bytes).unwrap(), (starts, vec!["one".into(), "two".into(), "three".into()]));
    }

    #[test]
    fn every_changed_byte_is_found_where_its_frame_begins() {
        let (bytes, starts) = segment();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let damage = read(&changed).unwrap_err();
            let expected = starts.iter().rev().find(|&&start| start <= at as u64).unwrap();
            assert_eq!(damage.byte, *expected, "byte {at}: {damage}");
        }
    }

    #[test]
    fn a_file_that_ends_early_is_damage_unless_it_ends_between_frames() {
        let (bytes, starts) = segment();
        for length in 0..bytes.len() {
            let whole = starts.contains(&(length as u64)) && length > 0;
            assert_eq!(read(&bytes[..length]).is_ok(), whole, "cut at {length}");
        }
    }
}
