//! Keys: `tg_live_`, `tg_test_` or `tg_producer_`, then the public id (10), the secret (27, 160 random bits) and the CRC32 of
//! all before it (6), each in base62.
//!
//! The checksum refuses a mistyped key without a look-up. Only the SHA-256 of the secret is kept: at this entropy a slow hash
//! adds nothing, and would be a lever for denial of service.

use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::KeyId;
use crate::metering::Mode;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID: usize = 10;
/// 62^27 is above 2^160.
const SECRET: usize = 27;
const CHECKSUM: usize = 6;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Queries, billed.
    Live,
    /// Queries, never billed.
    Test,
    /// Events.
    Producer,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Live, Self::Test, Self::Producer];

    /// The kind of an API key in `mode`.
    pub fn of(mode: Mode) -> Self {
        match mode {
            Mode::Live => Self::Live,
            Mode::Test => Self::Test,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Live => "tg_live_",
            Self::Test => "tg_test_",
            Self::Producer => "tg_producer_",
        }
    }
}

/// A key as it was presented; its checksum is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// By its prefix.
    pub kind: Kind,
    /// The public id.
    pub id: &'a str,
    secret: &'a str,
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

/// A key that was just made. Its text is shown once and kept nowhere.
pub struct NewKey {
    /// All of it.
    pub text: String,
    /// The public id.
    pub id: KeyId,
    /// What is kept.
    pub hash: SecretHash,
}

/// Makes a key.
pub fn generate(kind: Kind, rng: &mut impl Rng) -> NewKey {
    let id = draw(ID, rng).into();
    another(kind, id, rng)
}

/// Makes another secret for a key that there is.
pub fn another(kind: Kind, id: KeyId, rng: &mut impl Rng) -> NewKey {
    let secret = draw(SECRET, rng);
    let mut text = format!("{}{id}{secret}", kind.prefix());
    text.push_str(&checksum(&text));
    NewKey { text, id, hash: SecretHash::of(&secret) }
}

fn draw(length: usize, rng: &mut impl Rng) -> String {
    (0..length).map(|_| char::from(BASE62[rng.random_range(0..62)])).collect()
}

/// Whether a text could be a key's public id. What cannot may hold a secret, and is not to be repeated in a message.
pub fn is_id(text: &str) -> bool {
    (1..=ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Takes a key apart. None when it is no key, or mistyped.
pub fn parse(text: &str) -> Option<Presented<'_>> {
    let kind = Kind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
    let rest = &text[kind.prefix().len()..];
    if rest.len() != ID + SECRET + CHECKSUM || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (checked, sum) = text.split_at(text.len() - CHECKSUM);
    (checksum(checked) == sum).then(|| Presented { kind, id: &rest[..ID], secret: &rest[ID..ID + SECRET] })
}

fn checksum(text: &str) -> String {
    let mut crc = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(crc % 62) as usize];
        crc /= 62;
    }
    digits.map(char::from).iter().collect()
}

impl Presented<'_> {
    /// Of its secret: worked out once, compared with each that may be presented.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.secret)
    }

    /// Whether its secret is the one behind `hash`, in constant time.
    pub fn matches(&self, hash: &SecretHash) -> bool {
        self.hash().is(hash)
    }
}

impl SecretHash {
    fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Whether both are of one secret, in constant time.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// As it is stored.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As it was stored.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn key(kind: Kind) -> NewKey {
        generate(kind, &mut rand_chacha::ChaCha8Rng::seed_from_u64(7))
    }

    #[test]
    fn a_key_comes_apart_again_and_matches_its_hash_alone() {
        for kind in Kind::ALL {
            let made = key(kind);
            let presented = parse(&made.text).unwrap();
            assert!(presented.kind == kind && presented.id == made.id.as_str());
            let stored = SecretHash::from_hex(&made.hash.to_hex()).unwrap();
            assert!(presented.matches(&stored));
            let other = generate(kind, &mut rand_chacha::ChaCha8Rng::seed_from_u64(8));
            assert!(!parse(&other.text).unwrap().matches(&stored));
        }
    }

    #[test]
    fn another_secret_of_a_key_keeps_its_id_and_kind() {
        let first = key(Kind::Test);
        let second = another(Kind::Test, first.id.clone(), &mut rand_chacha::ChaCha8Rng::seed_from_u64(9));
        let presented = parse(&second.text).unwrap();
        assert!(presented.kind == Kind::Test && presented.id == first.id.as_str());
        assert!(presented.matches(&second.hash) && !presented.matches(&first.hash));
    }

    #[test]
    fn what_may_hold_a_secret_is_no_id() {
        let made = key(Kind::Live);
        assert!(is_id(made.id.as_str()) && is_id("abc"));
        for text in [made.text.as_str(), &made.text[8..], "", "a b", "a\nb", "tg_live_"] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn every_single_mistyped_character_is_seen_without_a_look_up() {
        let text = key(Kind::Live).text;
        for place in 0..text.len() {
            for wrong in ["0", "z", "_", " ", "é"] {
                let mistyped = format!("{}{wrong}{}", &text[..place], &text[place + 1..]);
                assert!(mistyped == text || parse(&mistyped).is_none(), "{mistyped}");
            }
            assert!(parse(&text[..place]).is_none());
        }
        assert!(parse(&format!("{text}0")).is_none());
        // The kind is under the checksum too.
        assert!(parse(&text.replace("live", "test")).is_none());
    }
}
