//! An append-only log that loses nothing it has acknowledged and shows any tampering.
//!
//! Records lie in segment files; each group of them ends with a signed checkpoint of an RFC 9162 Merkle tree and is
//! acknowledged when it is synced. [`log`] appends, [`feed`] reads on from any record, [`view`] proves, [`verify`] finds the
//! first record that is not as it was, [`retention`] removes and keeps every proof valid. `FORMAT.md` beside this crate
//! specifies the files byte by byte.
//!
//! Against: a crash, a torn write, a full disk; whoever can write the files but has no key; with a checkpoint kept
//! elsewhere, whoever rolls the whole folder back. Not against: the holder of the key who shows different logs to different
//! people; that takes auditors who compare checkpoints. It deliberately does not interpret records: the sealed part is
//! ciphertext to it, and a leaf hashes that, so that who destroys a key makes what it sealed unreadable and every proof stays
//! valid. It speaks to no network.
//!
//! Limits: a record of 1 MiB, one writer a folder, the bounds in [`log::Settings`]; whoever meets one is told.

pub mod cursor;
pub mod faults;
pub mod feed;
pub mod frame;
pub mod log;
pub mod merkle;
pub mod note;
pub mod recovery;
pub mod retention;
pub mod segment;
pub mod storage;
pub mod verify;
pub mod view;
mod writer;
