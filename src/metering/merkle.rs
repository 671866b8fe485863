//! The Merkle tree hash of RFC 6962, section 2.1, over SHA-256: a leaf is hashed behind a byte 0, an inner node behind a byte 1,
//! so that neither can be taken for the other; the root of nothing is the SHA-256 of nothing.

use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows leaf by leaf. It keeps one hash for each whole subtree on its right edge: 64 at most.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    leaves: u64,
    /// Of whole subtrees, from the largest, which is the leftmost: one for each bit that is set in `leaves`.
    whole: Vec<Hash>,
}

impl Tree {
    /// Adds the next leaf by its hash: see [`leaf`].
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each bit that carries is a subtree that now has a sibling as large.
        for _ in 0..self.leaves.trailing_ones() {
            if let Some(left) = self.whole.pop() {
                hash = node(&left, &hash);
            }
        }
        self.whole.push(hash);
        self.leaves += 1;
    }

    /// How many leaves it has.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The Merkle tree hash of all of them.
    pub fn root(&self) -> Hash {
        // The left part is always the largest power of two below the whole, so the right edge folds from its small end.
        let folded = self.whole.iter().rev().copied().reduce(|right, left| node(&left, &right));
        folded.unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The Merkle tree hash of leaves given by their data.
pub fn root<T: AsRef<[u8]>>(leaves: impl IntoIterator<Item = T>) -> Hash {
    let mut tree = Tree::default();
    leaves.into_iter().for_each(|data| tree.push(leaf(data.as_ref())));
    tree.root()
}

#[cfg(test)]
mod tests {
    use super::super::journal::hex;
    use super::*;

    /// The inputs that Certificate Transparency's own tests use, in hex.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    /// The roots that they publish: of the first leaf, of the first two, and so on.
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn data(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_published_roots_come_out() {
        assert_eq!(hex(&root::<&[u8]>([])), EMPTY);
        for leaves in 1..=LEAVES.len() {
            assert_eq!(hex(&root(LEAVES[..leaves].iter().map(|leaf| data(leaf)))), ROOTS[leaves - 1], "{leaves} leaves");
        }
    }

    /// The definition as the RFC has it: split at the largest power of two below the length.
    fn defined(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => Sha256::digest([&[0], one.as_slice()].concat()).into(),
            more => {
                let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
                Sha256::digest([&[1][..], &defined(left), &defined(right)].concat()).into()
            }
        }
    }

    #[test]
    fn growing_leaf_by_leaf_gives_what_the_definition_gives() {
        let leaves: Vec<Vec<u8>> = (0..300_u16).map(|n| n.to_le_bytes().to_vec()).collect();
        let mut tree = Tree::default();
        for (count, data) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), defined(&leaves[..count]), "{count} leaves");
            tree.push(leaf(data));
            assert_eq!(tree.leaves(), count as u64 + 1);
        }
    }
}
