//! All visitors of a partition, in pieces that a copy shares until they change: a checkpoint is written from such a copy.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calendar::Hour;
use super::visitor::{Seen, View};
use crate::clock::Micros;

const PIECES: usize = 1024;

/// A keyed hash of a visitor's id.
pub(super) type Key = u128;

/// What is kept of one visitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Visitor {
    /// By time, then offset.
    pub(super) events: Vec<Seen>,
    /// Whatever closed by this watermark is counted.
    pub(super) settled: Micros,
    /// The hour of its earliest open session.
    pub(super) open_from: Option<Hour>,
    /// The watermark at which something of it closes.
    pub(super) due: Option<Micros>,
    /// By slice, the retention periods in which it was first and last seen, as far as its events are gone.
    pub(super) periods: Vec<(View, i32, i32)>,
}

impl Default for Visitor {
    /// Nothing of it is counted, however long ago.
    fn default() -> Self {
        Self { events: Vec::new(), settled: Micros(i64::MIN), open_from: None, due: None, periods: Vec::new() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Visitors {
    pieces: Vec<Arc<HashMap<Key, Arc<Visitor>>>>,
}

impl Visitors {
    fn piece(key: Key) -> usize {
        (key % PIECES as u128) as usize
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Visitor> {
        self.pieces.get(Self::piece(key))?.get(&key).map(|visitor| &**visitor)
    }

    fn piece_mut(&mut self, key: Key) -> &mut HashMap<Key, Arc<Visitor>> {
        if self.pieces.is_empty() {
            self.pieces.resize_with(PIECES, Arc::default);
        }
        Arc::make_mut(&mut self.pieces[Self::piece(key)])
    }

    pub(super) fn entry(&mut self, key: Key) -> &mut Visitor {
        Arc::make_mut(self.piece_mut(key).entry(key).or_default())
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Visitor> {
        self.get(key)?;
        self.piece_mut(key).remove(&key).map(Arc::unwrap_or_clone)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Visitor)> {
        self.pieces.iter().flat_map(|piece| piece.iter().map(|(key, visitor)| (*key, &**visitor)))
    }

    /// Changes all of them; those that `change` says no to are gone.
    pub(super) fn retain(&mut self, mut change: impl FnMut(Key, &mut Arc<Visitor>) -> bool) {
        for piece in self.pieces.iter_mut().filter(|piece| !piece.is_empty()) {
            Arc::make_mut(piece).retain(|key, visitor| change(*key, visitor));
        }
    }
}
