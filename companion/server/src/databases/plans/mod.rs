//! Plans of indexes: proposed, approved, applied, observed, and kept or taken back.
//!
//! A plan is named by its digest, over the schema that it was made for and all its statements: whoever approves one approves these
//! statements for this schema. It stands in the store with all that has happened to it, so that every companion on the store and everybody
//! who looks later sees the same. Each change names the states that it may come from, so that of two who act at once one is refused.
//!
//! Limits: [`KEPT`] plans of a tenant that are nowhere applied; [`TIMELINE`] entries of one; the newest remain.

pub mod permit;
mod store;

use std::fmt::Write;

use portcullis_database::apply::{Measured, Outcome, Script};
use portcullis_database::plan::{Advice, Plan as Advised};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Timestamp, rfc3339};

/// Plans of a tenant that are remembered although nothing of them is in the database.
pub const KEPT: u32 = 50;
/// What is remembered of the history of one.
const TIMELINE: usize = 100;
/// Reasons that are told of an index.
const REASONS: usize = 10;

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for an approval.
    Planned,
    /// May be applied.
    Approved,
    /// Is being built.
    Applying,
    /// Is built, and watched.
    Observing,
    /// Stays: all of it, or what did no harm.
    Kept,
    /// Nothing of it stands.
    RolledBack,
    /// Could not be built.
    Failed,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Planned,
        Self::Approved,
        Self::Applying,
        Self::Observing,
        Self::Kept,
        Self::RolledBack,
        Self::Failed,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Approved => "approved",
            Self::Applying => "applying",
            Self::Observing => "observing",
            Self::Kept => "kept",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }

    /// Whether somebody is, or was, in the middle of applying it.
    #[must_use]
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Applying | Self::Observing)
    }

    /// Whether something of it may be in the database.
    #[must_use]
    pub fn stands(self) -> bool {
        !matches!(self, Self::Planned | Self::Approved | Self::RolledBack)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its digest: 12 hexadecimal digits.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// The rest.
    pub document: Document,
    /// When it was proposed first.
    pub created_at: Timestamp,
    /// When anything happened to it last.
    pub updated_at: Timestamp,
}

/// What a plan says, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The schema that it was made for.
    pub schema: String,
    /// The indexes, those that save most first.
    pub steps: Vec<Step>,
    /// What has happened, in order.
    pub timeline: Vec<Entry>,
}

/// An index of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The index, as SQL has it.
    pub index: String,
    /// Its table.
    pub table: String,
    /// The statement that builds it.
    pub create: String,
    /// The statement that takes it back.
    pub drop: String,
    /// `btree` or `brin`, and `partial`, `expression`, `covering`.
    pub kinds: Vec<String>,
    /// Bytes that it is foreseen to take.
    pub size_bytes: u64,
    /// Bytes that it took when it was built.
    pub built_bytes: Option<i64>,
    /// The planner's cost of the statements that use it, weighted, without the plan.
    pub cost_before: f64,
    /// With it.
    pub cost_after: f64,
    /// The share of the whole workload's cost that they lose.
    pub saves: f64,
    /// By how much a row that is written to its table becomes dearer, as a share; an estimate.
    pub write_tax: f64,
    /// Which statements it is for.
    pub reasons: Vec<String>,
    /// How far this can be trusted.
    pub confidence: Confidence,
    /// Why it needs an approval; null when the tenant's policy permits it.
    pub not_permitted: Option<String>,
    /// `planned`, or what became of it: `kept`, `dropped`, `failed`, `left` (it should go and could not yet).
    pub state: String,
    /// Why.
    pub reason: Option<String>,
}

/// How far what is said of an index can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confidence {
    /// `measured` (built, run, rolled back), `planner` (hypothetical indexes), `reckoned` (by the planner's formulas), or, once it was
    /// applied, `observed` (what others ran, counted before and after).
    pub by: String,
    /// In words.
    pub explanation: String,
    /// What the statements on its table took before and after, where that was counted.
    pub interval: Option<Interval>,
}

/// What statements took with an index, as a share of what they took without: 1 is no change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The share.
    pub share: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Calls since it was built.
    pub calls: i64,
    /// Milliseconds a call, before.
    pub before_ms: f64,
    /// After.
    pub after_ms: f64,
}

impl From<Measured> for Interval {
    fn from(measured: Measured) -> Self {
        let Measured { calls, after_ms, before_ms, share, low, high, .. } = measured;
        Self { share, low, high, calls, before_ms, after_ms }
    }
}

/// Something that happened to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// RFC 3339, UTC.
    pub at: String,
    /// `planned`, `approved`, `applying`, `applied`, `interrupted`, `resumed`, `observed`, `kept`, `rolled_back`, `failed`.
    pub what: String,
    /// Who: a token, the tenant's policy, or the companion itself.
    pub by: String,
    /// More of it.
    pub detail: Option<String>,
}

impl Document {
    /// Adds to the history.
    pub fn note(&mut self, now: Timestamp, what: &str, by: &str, detail: Option<String>) {
        let entry = Entry { at: rfc3339(now), what: what.to_owned(), by: by.to_owned(), detail };
        if self.timeline.len() >= TIMELINE {
            self.timeline.remove(0);
        }
        self.timeline.push(entry);
    }

    /// What is to be built.
    ///
    /// # Errors
    /// A statement that is none of ours.
    pub fn script(&self) -> Result<Script, String> {
        let mut text = format!("-- schema: {}\n", self.schema);
        for step in &self.steps {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "-- bytes: {}\n{};", step.size_bytes, step.create);
        }
        Script::read(&text).map_err(|error| error.to_string())
    }

    /// Enters what became of the indexes.
    pub fn settle(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let Some(step) = self.steps.iter_mut().find(|step| step.index == outcome.index) else { continue };
            outcome.outcome.clone_into(&mut step.state);
            step.reason = Some(outcome.reason.clone());
            step.built_bytes = outcome.bytes.or(step.built_bytes);
            if let Some(measured) = outcome.measured.clone() {
                step.confidence = Confidence {
                    by: "observed".to_owned(),
                    explanation: measured.to_string(),
                    interval: Some(measured.into()),
                };
            }
        }
    }
}

/// The indexes of what was advised.
#[must_use]
pub fn steps(advised: &Advised) -> Vec<Step> {
    advised.indexes.iter().map(|advice| step(advised, advice)).collect()
}

fn step(advised: &Advised, advice: &Advice) -> Step {
    let users = || advised.statements.iter().filter(|one| one.uses.contains(&advice.name));
    let explanation = match (advised.judged.by, advice.bytes) {
        ("measured", _) => {
            "it was built, every statement was run with it and without, and all was rolled back"
        }
        ("planner", _) => "estimated: the planner was asked with hypothetical indexes, and nothing was run",
        _ => {
            "estimated by the planner's formulas for scans, sorts and limits; hypopg is not installed, and nothing was run"
        }
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a disk")]
    let size_bytes = advice.bytes.unwrap_or(advice.foreseen_bytes.max(0.0) as u64);
    Step {
        index: advice.drop.strip_prefix("DROP INDEX CONCURRENTLY ").unwrap_or(&advice.drop).to_owned(),
        table: advice.table.clone(),
        create: advice.create.clone(),
        drop: advice.drop.clone(),
        kinds: advice.kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        size_bytes,
        built_bytes: None,
        cost_before: users().map(|one| one.weight * one.cost_before).sum(),
        cost_after: users().map(|one| one.weight * one.cost_after).sum(),
        saves: advice.saves,
        write_tax: advice.write_tax,
        reasons: advice.reasons.iter().take(REASONS).cloned().collect(),
        confidence: Confidence {
            by: advised.judged.by.to_owned(),
            explanation: explanation.to_owned(),
            interval: None,
        },
        not_permitted: None,
        state: State::Planned.as_str().to_owned(),
        reason: None,
    }
}
