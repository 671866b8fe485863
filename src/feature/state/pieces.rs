//! Large collections in many small pieces: no event waits until millions of others are moved.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::Identity;

/// Ten million ids lie in pieces of ten thousand.
const MAP_PIECES: usize = 1024;
const QUEUE_PIECE: usize = 1024;

/// By event. Identities are hashes: their first bits say in which piece they are.
#[derive(Clone, Debug)]
pub(super) struct ByIdentity<V> {
    pieces: Vec<HashMap<Identity, V>>,
    len: usize,
}

impl<V> ByIdentity<V> {
    fn piece(identity: Identity) -> usize {
        usize::from(identity.prefix()) % MAP_PIECES
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, identity: Identity) -> Option<&V> {
        self.pieces.get(Self::piece(identity))?.get(&identity)
    }

    pub(super) fn insert(&mut self, identity: Identity, value: V) {
        if self.pieces.is_empty() {
            self.pieces.resize_with(MAP_PIECES, HashMap::new);
        }
        if self.pieces[Self::piece(identity)].insert(identity, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, identity: Identity) {
        let piece = self.pieces.get_mut(Self::piece(identity));
        if piece.is_some_and(|piece| piece.remove(&identity).is_some()) {
            self.len -= 1;
        }
    }
}

impl<V> Default for ByIdentity<V> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

/// First in, first out. A copy shares the pieces, so that it costs next to nothing; whoever goes on copies those that it changes.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    /// All but the last are full.
    pieces: VecDeque<Arc<Vec<T>>>,
    /// Of the first piece.
    taken: usize,
    len: usize,
}

impl<T: Clone> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        let at = self.taken + at;
        self.pieces.get(at / QUEUE_PIECE)?.get(at % QUEUE_PIECE)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let at = self.taken + at;
        Arc::make_mut(self.pieces.get_mut(at / QUEUE_PIECE)?).get_mut(at % QUEUE_PIECE)
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.get(0)
    }

    pub(super) fn push_back(&mut self, value: T) {
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < QUEUE_PIECE => Arc::make_mut(piece).push(value),
            _ => {
                let mut piece = Vec::with_capacity(if self.pieces.is_empty() { 0 } else { QUEUE_PIECE });
                piece.push(value);
                self.pieces.push_back(Arc::new(piece));
            }
        }
        self.len += 1;
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let front = self.front()?.clone();
        (self.taken, self.len) = (self.taken + 1, self.len - 1);
        if self.taken == QUEUE_PIECE || self.len == 0 {
            self.pieces.pop_front();
            self.taken = 0;
        }
        Some(front)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flat_map(|piece| piece.iter()).skip(self.taken)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), taken: 0, len: 0 }
    }
}

/// As any sequence.
impl<T: Serialize + Clone> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut sequence = serializer.serialize_seq(Some(self.len))?;
        for value in self.iter() {
            sequence.serialize_element(value)?;
        }
        sequence.end()
    }
}

impl<'de, T: Deserialize<'de> + Clone> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pushed<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Clone> Visitor<'de> for Pushed<T> {
            type Value = Queue<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut queue = Queue::default();
                while let Some(value) = sequence.next_element()? {
                    queue.push_back(value);
                }
                Ok(queue)
            }
        }
        deserializer.deserialize_seq(Pushed(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_one_and_its_copy_stays_as_it_was() {
        let (mut queue, mut plain) = (Queue::default(), VecDeque::new());
        for n in 0..5000_u64 {
            queue.push_back(n);
            plain.push_back(n);
        }
        let (kept, kept_plain) = (queue.clone(), plain.clone());
        let same = |queue: &Queue<u64>, plain: &VecDeque<u64>| {
            assert!(queue.iter().eq(plain.iter()) && queue.len() == plain.len() && queue.front() == plain.front());
            assert!((0..plain.len() + 2).all(|at| queue.get(at) == plain.get(at)));
        };
        for n in 0..4000_u64 {
            assert_eq!(queue.pop_front(), plain.pop_front());
            if n % 3 == 0 {
                queue.push_back(n);
                plain.push_back(n);
            }
            if n % 7 == 0 {
                *queue.get_mut(100).unwrap() += 1;
                plain[100] += 1;
            }
        }
        same(&queue, &plain);
        same(&kept, &kept_plain);
        let written = postcard::to_allocvec(&queue).unwrap();
        assert_eq!(written, postcard::to_allocvec(&plain).unwrap());
        same(&postcard::from_bytes(&written).unwrap(), &plain);
        while queue.pop_front().is_some() {}
        same(&queue, &VecDeque::new());
        queue.push_back(1);
        same(&queue, &[1].into());
    }

    #[test]
    fn a_map_is_one() {
        let id = |n: u64| Identity::of("s", &n.to_string());
        let mut map = ByIdentity::default();
        (0..5000_u64).for_each(|n| map.insert(id(n), n));
        (0..5000_u64).filter(|n| n % 2 == 0).for_each(|n| map.remove(id(n)));
        map.remove(id(5000));
        map.insert(id(1), 7);
        assert_eq!((map.len(), map.get(id(1)), map.get(id(2)), map.get(id(3))), (2500, Some(&7), None, Some(&3)));
    }
}
