//! Splits NDJSON into lines with bounded memory: a line past the bound is passed over, and remembered by its size, its
//! SHA-256 and its first bytes.

use std::io::{self, BufRead};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::deadletter::{PAYLOAD_BYTES_KEPT, Payload};
use super::ingest::{Content, Line};

/// Reads lines from `input`; blank ones are skipped but counted.
pub struct Lines<R> {
    input: R,
    number: u64,
    bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `bytes_max` bytes come whole.
    pub fn new(input: R, bytes_max: usize) -> Self {
        Self { input, number: 0, bytes_max }
    }

    /// The next line that is not blank, and how many bytes of input it and the skipped ones took.
    pub fn next_line(&mut self) -> io::Result<Option<(Line, u64)>> {
        let mut taken = 0;
        loop {
            let mut line = Vec::new();
            let mut excess: Option<Excess> = None;
            let mut ended = false;
            while !ended {
                let available = match self.input.fill_buf() {
                    Ok(available) => available,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                if available.is_empty() {
                    break;
                }
                let (part, used) = match available.iter().position(|&byte| byte == b'\n') {
                    Some(end) => (&available[..end], end + 1),
                    None => (available, available.len()),
                };
                ended = used > part.len();
                match &mut excess {
                    Some(excess) => excess.add(part),
                    None if line.len() + part.len() > self.bytes_max => {
                        line.extend_from_slice(part);
                        excess = Some(Excess::begin(&line));
                    }
                    None => line.extend_from_slice(part),
                }
                self.input.consume(used);
                taken += used as u64;
            }
            if !ended && line.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let content = match excess {
                Some(excess) => Content::Oversized(excess.payload()),
                None if line.trim_ascii().is_empty() => continue,
                None => Content::Whole(Bytes::from(line)),
            };
            return Ok(Some((Line { number: self.number, content }, taken)));
        }
    }
}

struct Excess {
    kept: Vec<u8>,
    hash: Sha256,
    bytes: u64,
}

impl Excess {
    fn begin(line: &[u8]) -> Self {
        let mut excess = Self { kept: Vec::new(), hash: Sha256::new(), bytes: 0 };
        excess.add(line);
        excess
    }

    fn add(&mut self, part: &[u8]) {
        let room = PAYLOAD_BYTES_KEPT - self.kept.len();
        self.kept.extend_from_slice(&part[..part.len().min(room)]);
        self.hash.update(part);
        self.bytes += part.len() as u64;
    }

    fn payload(self) -> Payload {
        Payload::cut(&self.kept, self.bytes, &self.hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_passed_over_and_the_numbers_stay_right() {
        let long = "x".repeat(300_000);
        let text = format!("one\n\n  \r\n{long}\nfive\n{long}");
        let mut lines = Lines::new(io::BufReader::with_capacity(7, text.as_bytes()), 10);
        let mut found = Vec::new();
        let mut total = 0;
        while let Some((line, taken)) = lines.next_line().unwrap() {
            total += taken;
            found.push(match line.content {
                Content::Whole(bytes) => (line.number, String::from_utf8(bytes.to_vec()).unwrap()),
                Content::Oversized(payload) => (line.number, format!("{} of {}", payload.text.len(), payload.bytes)),
            });
        }
        let expected = [(1, "one"), (4, "65536 of 300000"), (5, "five"), (6, "65536 of 300000")];
        assert_eq!(found, expected.map(|(number, text)| (number, text.to_owned())));
        assert_eq!(total, text.len() as u64);
    }
}
