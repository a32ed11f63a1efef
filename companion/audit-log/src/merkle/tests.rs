use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// The RFC's own definition, word for word and slow.
fn naive(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of_nothing(),
        [leaf] => *leaf,
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            Hash::node(&naive(&leaves[..k]), &naive(&leaves[k..]))
        }
    }
}

struct Leaves(Vec<Hash>);

impl Nodes for Leaves {
    type Error = Infallible;
    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let size = 1_usize << level;
        let start = usize::try_from(index).unwrap() * size;
        Ok(naive(&self.0[start..start + size]))
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| Hash::leaf(&number.to_be_bytes())).collect()
}

#[test]
fn the_hashes_are_those_of_rfc_9162() {
    let hex = |hash: Hash| format!("{hash:?}");
    assert_eq!(hex(Hash::of_nothing()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    // The one-leaf tree of the empty string, as Certificate Transparency's test data has it.
    assert_eq!(hex(Hash::leaf(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

#[test]
fn a_range_grows_as_the_tree_does() {
    let leaves = leaves(130);
    let mut range = Range::starting_at(0);
    for size in 0..=leaves.len() {
        assert_eq!(range.root(), naive(&leaves[..size]), "{size}");
        let hashes: Vec<Hash> = range.nodes().iter().map(|node| node.hash).collect();
        assert_eq!(Range::frontier(range.end(), &hashes), Some(range.clone()), "{size}");
        if let Some(leaf) = leaves.get(size) {
            range.push(*leaf);
        }
    }
    assert_eq!(Range::frontier(3, &leaves[..1]), None);
}

proptest! {
    #[test]
    fn proofs_hold_for_what_is_so_and_for_nothing_else(size in 1_u64..300, pick: u64, flip in 0_usize..256, which: usize) {
        let all = leaves(size);
        let index = pick % size;
        let root = naive(&all);
        let leaf = all[usize::try_from(index).unwrap()];
        let mut nodes = Leaves(all.clone());
        let path = inclusion(&mut nodes, index, size).unwrap();
        prop_assert!(includes(&root, size, index, leaf, &path));
        prop_assert!(!includes(&root, size, index + 1, leaf, &path));
        prop_assert!(!includes(&root, size, index, Hash::leaf(b"other"), &path));
        if !path.is_empty() {
            let mut wrong = path.clone();
            let place = which % wrong.len();
            wrong[place].0[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!includes(&root, size, index, leaf, &wrong));
            prop_assert!(!includes(&root, size, index, leaf, &path[1..]));
        }

        let old = 1 + pick % size;
        let old_root = naive(&all[..usize::try_from(old).unwrap()]);
        let proof = consistency(&mut nodes, old, size).unwrap();
        prop_assert!(extends(old, &old_root, size, &root, &proof));
        prop_assert!(!extends(old, &Hash::leaf(b"other"), size, &root, &proof));
        if !proof.is_empty() {
            let mut wrong = proof.clone();
            let place = which % wrong.len();
            wrong[place].0[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!extends(old, &old_root, size, &root, &wrong));
        }
    }

    #[test]
    fn ranges_in_the_middle_keep_their_subtrees(start in 0_u64..200, count in 1_u64..200) {
        let all = leaves(start + count);
        let mut range = Range::starting_at(start);
        for leaf in &all[usize::try_from(start).unwrap()..] {
            range.push(*leaf);
        }
        let mut nodes = Leaves(all);
        let mut next = start;
        for node in range.nodes() {
            prop_assert_eq!(node.first(), next);
            prop_assert_eq!(node.hash, nodes.node(node.level, node.index).unwrap());
            next += 1 << node.level;
        }
        prop_assert_eq!(next, start + count);
        prop_assert!(range.nodes().len() <= 128);
    }
}
