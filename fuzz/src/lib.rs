//! Properties that hold for all bytes.
//!
//! Each module has one function, `hold`, that takes any bytes and panics when its property does not hold for them. A
//! target of the same name under `targets/` hands it to libFuzzer; `seeds/` holds inputs to start from, written for this
//! purpose, which `cargo test` runs too. That a call returns at all is a property like any other: libFuzzer ends what
//! takes longer than some seconds.

pub mod configurations;
pub mod growth;
pub mod ingest;
pub mod maps;
pub mod rates;
pub mod recordings;
pub mod records;
pub mod requests;
pub mod values;

/// A property, and the name of its target and of the folder with its seeds.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("values", values::hold),
    ("growth", growth::hold),
    ("requests", requests::hold),
    ("configurations", configurations::hold),
    ("records", records::hold),
    ("rates", rates::hold),
    ("ingest", ingest::hold),
    ("maps", maps::hold),
    ("recordings", recordings::hold),
];

/// Bytes that choose, before those that are tried.
pub(crate) struct Choices<'d>(pub &'d [u8]);

impl<'d> Choices<'d> {
    pub fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn one_of<'l, T: ?Sized>(&mut self, list: &[&'l T]) -> &'l T {
        list[usize::from(self.next()) % list.len()]
    }

    pub fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// What comes before the next of these bytes; all, when there is none.
    pub fn until(&mut self, end: u8) -> &'d [u8] {
        let at = self.0.iter().position(|byte| *byte == end).unwrap_or(self.0.len());
        let (before, rest) = self.0.split_at(at);
        self.0 = rest.get(1..).unwrap_or_default();
        before
    }
}
