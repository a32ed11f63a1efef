//! What a request's findings come to together.
//!
//! The surest finding counts in full, and a fifth of each further one of at least [`WEAKEST`], as far as they are in
//! different parameters: one clear attack suffices, and several doubtful ones add up. At most [`KEPT`] parameters are
//! remembered, so that the sum is bounded: 99 at most; what is found beyond that adds nothing.

use crate::finding::Families;
use crate::inspector::Found;

/// The confidence from which a finding adds to others.
const WEAKEST: u8 = 50;
/// Parameters whose findings are summed. More: the surest only.
const KEPT: usize = 8;

/// The sum of one request.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// A number for each parameter, and the surest finding in it.
    entries: [(u32, u8); KEPT],
    length: usize,
    /// The surest of all.
    pub best: Option<Found>,
    /// What the findings that count are of.
    pub families: Families,
}

impl Default for Tally {
    fn default() -> Self {
        Self { entries: Default::default(), length: 0, best: None, families: Families::NONE }
    }
}

impl Tally {
    /// Whether nothing was found yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.best.is_none()
    }

    /// Adds a finding; the sum.
    pub(crate) fn add(&mut self, found: &Found) -> u8 {
        let confidence = found.finding.confidence;
        if self.best.as_ref().is_none_or(|best| confidence > best.finding.confidence) {
            self.best = Some(found.clone());
        }
        if confidence >= WEAKEST || self.families == Families::NONE {
            self.families = self.families.with(found.finding.family);
        }
        if confidence >= WEAKEST {
            let parameter = parameter(found);
            let known = self.entries.iter_mut().take(self.length).find(|(known, _)| *known == parameter);
            if let Some((_, surest)) = known {
                *surest = confidence.max(*surest);
            } else if let Some(slot) = self.entries.get_mut(self.length) {
                *slot = (parameter, confidence);
                self.length += 1;
            }
        }
        self.sum()
    }

    /// The parameters that count.
    pub(crate) fn parameters(&self) -> usize {
        self.length.max(1)
    }

    /// What they come to.
    pub(crate) fn sum(&self) -> u8 {
        let surest = self.best.as_ref().map_or(0, |best| best.finding.confidence);
        let all: u32 =
            self.entries.iter().take(self.length).map(|(_, confidence)| u32::from(*confidence)).sum();
        let others = all.saturating_sub(u32::from(surest));
        u8::try_from(u32::from(surest) + others / 5).unwrap_or(99).min(99)
    }
}

/// A number for place and name (FNV-1a).
fn parameter(found: &Found) -> u32 {
    let bytes = found.name.bytes().chain([found.place as u8]);
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Family, Finding};
    use crate::inspector::Part;
    use crate::place::Place;

    fn found(name: &str, confidence: u8) -> Found {
        let finding = Finding::new(Family::Code, confidence, "x", 0);
        Found::new(finding, Place::Query, Part::Value, name.as_bytes(), true)
    }

    #[test]
    fn doubtful_findings_add_up_and_never_beyond_a_bound() {
        let mut tally = Tally::default();
        assert_eq!(tally.add(&found("a", 60)), 60);
        assert_eq!(tally.add(&found("a", 60)), 60);
        assert_eq!(tally.add(&found("b", 49)), 60);
        assert_eq!(tally.add(&found("c", 55)), 71);
        for n in 0..500 {
            assert!(tally.add(&found(&format!("p{n}"), 69)) <= 99);
        }
        assert_eq!(tally.parameters(), KEPT);
        assert_eq!(tally.add(&found("z", 98)), 99);
    }
}
