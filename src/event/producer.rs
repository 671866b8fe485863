//! Producers: who may append events over HTTP, and for which sources.

use crate::ids::KeyId;

/// A producer whose key was good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The public part of its key.
    pub id: KeyId,
    /// As the operator named it.
    pub name: String,
    /// It may append events whose `source` begins with one of these.
    pub sources: Vec<String>,
}

impl Producer {
    /// Whether an event of `source` may come from it.
    pub fn may_write(&self, source: &str) -> bool {
        self.sources.iter().any(|prefix| source.starts_with(prefix))
    }
}
