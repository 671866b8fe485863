//! Text to tokens.

use super::Refusal;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Name(&'a str),
    Open(u8),
    Close(u8),
    Spread,
    Colon,
    At,
    /// Strings, numbers, the other punctuators, and each byte that cannot start a token.
    Other,
}

pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

pub(super) fn lex(document: &str) -> Result<Vec<Token<'_>>, Refusal> {
    let bytes = document.as_bytes();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        at += 1;
        let kind = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => continue,
            0xEF if bytes[start..].starts_with("\u{feff}".as_bytes()) => {
                at += 2;
                continue;
            }
            b'#' => {
                at += run(&bytes[at..], |byte| !matches!(byte, b'\n' | b'\r'));
                continue;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => {
                at += run(&bytes[at..], is_name);
                Kind::Name(&document[start..at])
            }
            b'-' | b'0'..=b'9' => {
                // What makes no number is taken along: it has no bracket and no quote in it.
                at += run(&bytes[at..], |byte| is_name(byte) || byte == b'.');
                if matches!(bytes[at - 1], b'e' | b'E') && matches!(bytes.get(at), Some(b'+' | b'-')) {
                    at += 1;
                    at += run(&bytes[at..], is_name);
                }
                Kind::Other
            }
            b'"' => {
                let Some(end) = string_end(bytes, start) else {
                    let line = line(document, start);
                    return Err(Refusal::Unterminated { line });
                };
                at = end;
                Kind::Other
            }
            b'.' if bytes[start..].starts_with(b"...") => {
                at += 2;
                Kind::Spread
            }
            b'{' | b'[' | b'(' => Kind::Open(byte),
            b'}' | b']' | b')' => Kind::Close(byte),
            b':' => Kind::Colon,
            b'@' => Kind::At,
            _ => Kind::Other,
        };
        let end = at;
        tokens.push(Token { kind, start, end });
    }
    Ok(tokens)
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| belongs(byte)).count()
}

/// The end of the string whose first quote is at `start`.
///
/// `None` matters most for block strings: where `"""` is never closed, the parser falls back to an
/// empty string, and goes on with what the specification takes for the text of the block.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    const BLOCK: &[u8] = b"\"\"\"";
    if bytes[start..].starts_with(BLOCK) {
        let mut at = start + BLOCK.len();
        while !bytes[at..].starts_with(BLOCK) {
            let escaped = bytes[at..].starts_with(b"\\\"\"\"");
            at += if escaped { 4 } else { 1 };
            if at >= bytes.len() {
                return None;
            }
        }
        return Some(at + BLOCK.len());
    }
    let mut at = start + 1;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (b'"', _) => return Some(at + 1),
            (b'\n' | b'\r', _) => return None,
            (b'\\', Some(b'"' | b'\\')) => at += 2,
            _ => at += 1,
        }
    }
}

pub(super) fn line(document: &str, at: usize) -> usize {
    let before = document.bytes().take(at);
    1 + before.filter(|&byte| byte == b'\n').count()
}
