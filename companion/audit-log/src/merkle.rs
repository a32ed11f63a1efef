//! Hashes of a Merkle tree as RFC 9162 (section 2.1) defines them, and the proofs over it.
//!
//! The tree itself is nowhere held whole: a [`Range`] of leaves is its few maximal perfect subtrees, and grows by one
//! leaf at a time. Proofs ask a [`Nodes`] for the subtrees that they name.
//!
//! Against: a record that is changed, removed, moved or added unseen. It deliberately knows no keys: who vouches for a
//! root is the business of a checkpoint. Limits: 2^63 leaves; a range has at most 128 nodes, a proof at most 64 hashes.

use std::fmt;

use sha2::{Digest, Sha256};

/// The most hashes a proof may have.
pub const MAX_PROOF: usize = 64;

/// A SHA-256 hash of a leaf or a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The root of the tree without leaves.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// A leaf: `SHA-256(0x00 || data)`.
    #[must_use]
    pub fn leaf(data: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
    }

    /// An inner node: `SHA-256(0x01 || left || right)`.
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A perfect subtree: the leaves `index * 2^level .. (index + 1) * 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its height.
    pub level: u8,
    /// Its place among the subtrees of that height.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Node {
    /// The first leaf.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.index.checked_shl(u32::from(self.level)).unwrap_or(u64::MAX)
    }
}

/// Leaves `start..end` as maximal perfect subtrees, left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    start: u64,
    end: u64,
    nodes: Vec<Node>,
}

impl Range {
    /// No leaves yet; the first will have the number `start`.
    #[must_use]
    pub fn starting_at(start: u64) -> Self {
        Self { start, end: start, nodes: Vec::new() }
    }

    /// The frontier of a tree of `size` leaves: its subtrees' hashes, left to right.
    /// `None` when their number does not fit the size.
    #[must_use]
    pub fn frontier(size: u64, hashes: &[Hash]) -> Option<Self> {
        if usize::try_from(size.count_ones()).ok()? != hashes.len() {
            return None;
        }
        let levels = (0..64_u8).rev().filter(|level| size & (1 << level) != 0);
        let nodes = levels
            .zip(hashes)
            .map(|(level, hash)| Node {
                level,
                // What stands left of the subtree, counted in subtrees of its size.
                index: (size >> level) - 1,
                hash: *hash,
            })
            .collect();
        Some(Self { start: 0, end: size, nodes })
    }

    /// The first leaf's number.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The next leaf's number.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The subtrees, left to right.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Takes the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.join(Node { level: 0, index: self.end, hash: leaf });
    }

    /// Takes the next subtree; `false`, and nothing changes, when it does not stand next.
    #[must_use]
    pub fn append(&mut self, node: Node) -> bool {
        let fits = node.level < 63 && node.first() == self.end;
        if fits {
            self.join(node);
        }
        fits
    }

    fn join(&mut self, mut node: Node) {
        let size = 1_u64.checked_shl(u32::from(node.level)).unwrap_or(0);
        // A right child whose left sibling stands beside it makes their parent.
        while node.index & 1 == 1
            && let Some(left) =
                self.nodes.pop_if(|left| left.level == node.level && left.index + 1 == node.index)
        {
            let hash = Hash::node(&left.hash, &node.hash);
            node = Node { level: node.level + 1, index: node.index >> 1, hash };
        }
        self.nodes.push(node);
        self.end = self.end.saturating_add(size);
    }

    /// The hash of these leaves as one tree; the root, when they start at 0.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else { return Hash::of_nothing() };
        nodes.fold(last.hash, |right, left| Hash::node(&left.hash, &right))
    }
}

/// Where proofs find the hashes of subtrees.
pub trait Nodes {
    /// Why one could not be had.
    type Error;
    /// The hash of the perfect subtree of `level` at `index`.
    ///
    /// # Errors
    /// When it cannot be known.
    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two below `size`; `size` is at least 2.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The hash of leaves `start..end`, which is a range that the RFC's recursion names.
fn subtree<N: Nodes>(nodes: &mut N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let size = end - start;
    if size == 0 {
        return Ok(Hash::of_nothing());
    }
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return nodes.node(u8::try_from(level).unwrap_or(u8::MAX), start >> level);
    }
    let middle = start + split(size);
    let left = subtree(nodes, start, middle)?;
    Ok(Hash::node(&left, &subtree(nodes, middle, end)?))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// When a node cannot be had.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    subtree(nodes, 0, size)
}

/// The audit path of leaf `index` in the tree of `size` leaves (RFC 9162, 2.1.3.1). Empty when there is no such leaf.
///
/// # Errors
/// When a node cannot be had.
pub fn inclusion<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    if index >= size {
        return Ok(path);
    }
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `old` leaves is the beginning of the tree of `size` leaves (RFC 9162, 2.1.4.1).
///
/// # Errors
/// When a node cannot be had.
pub fn consistency<N: Nodes>(nodes: &mut N, old: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    if old == 0 || old >= size {
        return Ok(proof);
    }
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            proof.push(subtree(nodes, start, middle)?);
            start = middle;
        }
    }
    // The old tree's last subtree is known to the verifier only when it is the whole old tree.
    if start != 0 {
        proof.push(subtree(nodes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `path` leads from `leaf`, number `index`, to the `root` of `size` leaves (RFC 9162, 2.1.3.2).
#[must_use]
pub fn includes(root: &Hash, size: u64, index: u64, leaf: Hash, path: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = Hash::node(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree (`old`, `old_root`) is the beginning of (`size`, `root`) (RFC 9162, 2.1.4.2).
#[must_use]
pub fn extends(old: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if old == 0 || old > size {
        // Everything begins with nothing; nothing begins with more than itself.
        return old == 0 && proof.is_empty() && *old_root == Hash::of_nothing();
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    let mut hashes = proof.iter();
    let seed = if old.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let Some(seed) = seed else { return false };
    let (mut node, mut last) = (old - 1, size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut hash) = (*seed, *seed);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = Hash::node(sibling, &old_hash);
            hash = Hash::node(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && hash == *root
}

#[cfg(test)]
mod tests;
