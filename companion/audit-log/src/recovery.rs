//! Opening a log: what a crash left is told from what was tampered with.
//!
//! A group that is not whole at the end of the last segment was never acknowledged, and is cut. It is not cut when a
//! later group stands behind it (that one was written after this one was durable), when a root on the way is not the
//! tree's, or when the published head knows of more records: then records that were acknowledged are damaged, and
//! [`OpenError`] says so. What this cannot tell: damage to the last group alone, before a head covers it, looks like a tear.

use std::io;

use crate::frame::Signed;
use crate::merkle::Range;
use crate::note::{Checkpoint, MAX_NOTE_BYTES, NoteError, Signer};
use crate::segment::{self, Contents, Place};
use crate::storage::{self, File, Storage};

/// The file with the newest published checkpoint.
pub const HEAD: &str = "head";
/// The file with the log's verifier key.
pub const KEY: &str = "verifier-key";

/// Why a log is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes it.
    #[error("the audit log is open in another process; stop that one first")]
    Taken,
    /// The folder cannot be used.
    #[error("the audit log's folder: {0}; check its owner and the free space")]
    Io(#[from] io::Error),
    /// Records that were acknowledged are damaged.
    #[error(
        "the audit log is damaged at record {record}: {what}; `portcullis audit verify` tells more. Nothing was changed. \
         To go on, keep the folder as evidence under another name: a new log begins in its place"
    )]
    Damaged {
        /// The first that cannot be relied on.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Another key signed it.
    #[error(
        "the audit log was signed with another key: {0}; give that key, or keep the folder under another name and begin a new log"
    )]
    Key(NoteError),
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The log's name, which its checkpoints carry.
    pub origin: String,
    /// How many records it has.
    pub size: u64,
    /// How many bytes of unfinished writes were cut.
    pub cut_bytes: u64,
    /// Whether the log was begun just now.
    pub new: bool,
}

/// What the writer goes on from.
pub(crate) struct State {
    pub log: u64,
    pub tree: Range,
    pub active: Option<Active>,
}

/// The segment that is being written.
pub(crate) struct Active {
    pub place: Place,
    pub file: Box<dyn File>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun: u64,
    /// How many bytes of it are durable and count.
    pub length: u64,
    pub contents: Contents,
}

impl State {
    pub fn active_first(&self) -> u64 {
        self.active.as_ref().map_or(self.tree.end(), |active| active.place.first)
    }
}

/// The name that a log's checkpoints carry.
#[must_use]
pub fn origin(log: u64) -> String {
    format!("portcullis.audit/{log:016x}")
}

pub(crate) fn recover(storage: &dyn Storage, signer: &Signer) -> Result<(State, Recovered), OpenError> {
    let names = storage.list()?;
    for draft in names.iter().filter(|name| name.ends_with(".new")) {
        storage.remove(draft)?;
    }
    let mut places = segment::places(storage)?;
    for place in places.iter().filter(|place| place.gone) {
        // A deletion that was interrupted after it was decided.
        let deleted = Place { gone: false, ..*place }.name();
        if names.contains(&deleted) {
            storage.remove(&deleted)?;
        }
    }
    // Files whose first group was never finished, so that nobody was told of it.
    let mut torn = Vec::new();
    let mut found = None;
    while let Some(place) = places.pop() {
        found = resume(storage, signer, place)?;
        if found.is_some() {
            break;
        }
        torn.push(place);
    }
    let first = torn.last().map_or(0, |place| place.first);
    match &found {
        Some((state, _)) => check_head(storage, signer, &origin(state.log), &state.tree)?,
        None if storage::whole(storage, HEAD, 1)?.is_some() => {
            return Err(OpenError::Damaged { record: first, what: "there is a head, and no segment" });
        }
        None => {}
    }
    // From here on it is known that only what nobody was told of is cut.
    let mut cut_bytes = 0;
    for place in torn {
        cut_bytes += storage.read(&place.name())?.length()?;
        storage.remove(&place.name())?;
    }
    storage.sync_names()?;
    let Some((state, cut)) = found else { return begin(storage, signer, cut_bytes) };
    if let Some(active) = state.active.as_ref().filter(|_| cut > 0) {
        active.file.truncate(active.length)?;
        active.file.sync()?;
    }
    let recovered = Recovered {
        origin: origin(state.log),
        size: state.tree.end(),
        cut_bytes: cut_bytes + cut,
        new: false,
    };
    Ok((state, recovered))
}

fn begin(storage: &dyn Storage, signer: &Signer, cut_bytes: u64) -> Result<(State, Recovered), OpenError> {
    let mut log = [0; 8];
    getrandom::fill(&mut log).map_err(|error| OpenError::Io(io::Error::other(error.to_string())))?;
    let log = u64::from_le_bytes(log);
    let origin = origin(log);
    storage::replace(storage, KEY, format!("{}\n", signer.verifier(&origin)).as_bytes())?;
    let state = State { log, tree: Range::starting_at(0), active: None };
    Ok((state, Recovered { origin, size: 0, cut_bytes, new: true }))
}

/// Goes on with the last segment, and how much of its end is to be cut; `None` when nothing of it was acknowledged.
fn resume(storage: &dyn Storage, signer: &Signer, place: Place) -> Result<Option<(State, u64)>, OpenError> {
    if let Some(footer) = segment::footer(storage, place)? {
        return closed(storage, place, &footer).map(|state| Some((state, 0)));
    }
    let damaged = |record, what| Err(OpenError::Damaged { record, what });
    if place.gone {
        return damaged(place.first, "what is left of a deleted segment cannot be read");
    }
    let mut groups = segment::read_groups(storage, place)?;
    let size = groups.contents.range.end();
    if !groups.sound {
        return damaged(place.first, "a root is not the tree's");
    }
    let verifier = signer.verifier(&origin(groups.log));
    let holds = |signed: &Signed| {
        let text = Checkpoint { origin: verifier.name().to_owned(), size: signed.size, root: signed.root };
        verifier.verifies(&text.text(), &signed.signature)
    };
    if let Some(last) = &groups.last
        && !holds(last)
    {
        return Err(OpenError::Key(NoteError::Forged));
    }
    // Without a sound header its log is unknown, and so is whose signature holds: any later group speaks for damage.
    let known = groups.tree.is_some();
    if groups.rest.later_group(size, |signed| !known || holds(signed))? {
        return damaged(size, "it is not whole, and later records are");
    }
    let (Some(tree), Some(_)) = (groups.tree, &groups.last) else { return Ok(None) };
    let file = storage.open(&place.name())?;
    let cut = file.length()?.saturating_sub(groups.offset);
    let (begun, length) = (groups.begun, groups.offset);
    let active = Active { place, file, begun, length, contents: groups.contents };
    Ok(Some((State { log: groups.log, tree, active: Some(active) }, cut)))
}

/// After a segment that was closed, a new one begins.
fn closed(storage: &dyn Storage, place: Place, footer: &crate::frame::Footer) -> Result<State, OpenError> {
    let (header, _) = segment::Scanner::open(storage, place)?;
    let broken =
        OpenError::Damaged { record: place.first, what: "its segment's header or footer is changed" };
    let Some(header) = header.filter(|header| header.before.end() == place.first) else {
        return Err(broken);
    };
    let mut tree = header.before;
    let joined = footer.nodes.iter().all(|node| tree.append(*node));
    if !joined || tree.end() != footer.end {
        return Err(broken);
    }
    Ok(State { log: header.log, tree, active: None })
}

fn check_head(storage: &dyn Storage, signer: &Signer, origin: &str, tree: &Range) -> Result<(), OpenError> {
    let Some(note) = storage::whole(storage, HEAD, MAX_NOTE_BYTES as u64)? else { return Ok(()) };
    let note = String::from_utf8(note).map_err(|_| OpenError::Key(NoteError::Malformed))?;
    let head = Checkpoint::open(&note, &signer.verifier(origin)).map_err(OpenError::Key)?;
    if head.size > tree.end() {
        return Err(OpenError::Damaged {
            record: tree.end(),
            what: "its published head knows of more records",
        });
    }
    if head.size == tree.end() && head.root != tree.root() {
        return Err(OpenError::Damaged { record: tree.end(), what: "its published head has another root" });
    }
    Ok(())
}
