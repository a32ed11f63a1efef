//! The sanitize policy.

use portcullis_policy::{ConfigErrors, Context, Effects, Event, Metric, Mode, Policy, Site, Vocabulary};
use serde::Deserialize;

/// The section.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Wire {
    /// The mode.
    pub mode: Mode,
}

/// The compiled policy.
#[derive(Debug)]
pub struct Sanitize;

impl Policy for Sanitize {
    const NAME: &'static str = "sanitize";
    const METRICS: &'static [Metric] = &[];
    type Wire = Wire;
    type Stream = ();

    fn compile(_: Wire, _: &Site, _: &Vocabulary, _: &mut ConfigErrors) -> Option<Self> {
        Some(Self)
    }

    fn on(&self, _: &mut Context<'_>, (): &mut (), _: &Event<'_>, _: &mut Effects) {}
}
