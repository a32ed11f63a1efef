//! A plan: what is advised, why, and what it rests on; as JSON for programs, as SQL for people and for `apply`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::advise::{Found, Prepared, Skipped};
use crate::catalog::{Catalog, quoted};
use crate::findings::{Finding, findings};
use crate::proof::Timing;

/// What is advised.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The schema that the plan was made for. Applied to another, it is refused.
    pub schema: String,
    /// Bytes that new indexes may take together.
    pub budget_bytes: f64,
    /// Bytes that they take.
    pub bytes: f64,
    /// Indexes to build, those that save most first.
    pub indexes: Vec<Advice>,
    /// Indexes that were chosen, built for proof, and taken out again.
    pub rejected: Vec<Rejected>,
    /// What the catalog alone tells.
    pub findings: Vec<Finding>,
    /// Every statement, before and after.
    pub statements: Vec<Effect>,
    /// Statements that were left out.
    pub skipped: Vec<Skipped>,
    /// The workload's estimated cost with the plan, as a share of that without.
    pub cost: f64,
    /// Its measured time with the plan, as a share of that without; statements that could be run.
    pub time: Option<f64>,
    /// How the plan was judged.
    pub judged: Judged,
}

/// How a plan was judged.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// `measured`, `planner` (hypothetical indexes) or `reckoned` (without hypopg).
    pub by: &'static str,
    /// Why nothing was measured.
    pub unproven: Option<String>,
    /// How time was taken: `cpu` or `elapsed`.
    pub clock: Option<crate::proof::Clock>,
    /// Questions that the planner was asked.
    pub questions: u64,
    /// Candidates that were weighed.
    pub candidates: usize,
}

/// An index to build.
#[derive(Debug, Serialize)]
pub struct Advice {
    /// Its name.
    pub name: String,
    /// Its table.
    pub table: String,
    /// The statement that builds it.
    pub create: String,
    /// The statement that takes it back.
    pub drop: String,
    /// Bytes as foreseen.
    pub foreseen_bytes: f64,
    /// Bytes as built for proof.
    pub bytes: Option<u64>,
    /// The share of the workload's cost that the statements which use it lose.
    pub saves: f64,
    /// Why.
    pub reasons: Vec<String>,
    /// What kind of index it is: `btree`, and `partial`, `expression`, `covering`, or `brin`.
    pub kinds: Vec<&'static str>,
    /// By how much a row that is written to its table becomes dearer, as a share: the entries that are added, of those that
    /// are made already with the row itself. An estimate.
    pub write_tax: f64,
}

/// An index that measurement rejected.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// What comes behind `ON`.
    pub definition: String,
    /// Why.
    pub reason: String,
}

/// A statement's cost.
#[derive(Debug, Serialize)]
pub struct Effect {
    /// Its name.
    pub name: String,
    /// How often it runs.
    pub weight: f64,
    /// Estimated cost without the plan.
    pub cost_before: f64,
    /// With it.
    pub cost_after: f64,
    /// Seconds.
    pub seconds: Option<Timing>,
    /// Indexes of the plan that it would use.
    pub uses: Vec<String>,
}

impl Plan {
    pub(crate) fn new(catalog: &Catalog, prepared: Prepared, found: Found, budget: f64) -> Self {
        let Prepared { space, atoms, skipped, foreseen, entries } = prepared;
        let timings = found.proof.as_ref().map(|proof| proof.timings.clone()).unwrap_or_default();
        let names: BTreeMap<usize, String> = found
            .choice
            .set
            .iter()
            .filter_map(|index| Some((*index, space.candidates.get(*index)?.name())))
            .collect();
        let mut statements = Vec::new();
        for (number, (planned, outcome)) in space.queries.iter().zip(&found.after).enumerate() {
            statements.push(Effect {
                name: planned.query.name.clone(),
                weight: planned.query.weight,
                cost_before: atoms.queries().get(number).map_or(0.0, |known| known.base),
                cost_after: outcome.cost,
                seconds: timings.get(&number).copied(),
                uses: outcome.used.iter().filter_map(|index| names.get(index).cloned()).collect(),
            });
        }
        let before: f64 = statements.iter().map(|one| one.weight * one.cost_before).sum();
        let after: f64 = statements.iter().map(|one| one.weight * one.cost_after).sum();
        let mut indexes: Vec<Advice> = Vec::new();
        for (index, name) in &names {
            let Some(candidate) = space.candidates.get(*index) else { continue };
            indexes.push(Advice {
                table: candidate.table.sql(),
                create: candidate.create(name, true),
                drop: format!("DROP INDEX CONCURRENTLY {}.{}", quoted(&candidate.table.schema), quoted(name)),
                foreseen_bytes: foreseen.get(*index).copied().unwrap_or(0.0),
                bytes: found.proof.as_ref().and_then(|proof| proof.bytes.get(index).copied()),
                saves: saved(&statements, name) / before.max(1e-9),
                reasons: (statements.iter().filter(|one| one.uses.contains(name)).map(reason))
                    .chain(candidate.since.iter().map(|since| recent(since)))
                    .chain(candidate.table.part_of.iter().map(|whole| part(whole)))
                    .collect(),
                kinds: candidate.kinds(),
                write_tax: entries.get(*index).copied().unwrap_or(0.0)
                    / (1.0 + candidate.table.indexes.iter().map(|_| 1.0).sum::<f64>()),
                name: name.clone(),
            });
        }
        indexes.sort_by(|a, b| b.saves.total_cmp(&a.saves));
        let rejected = found.proof.iter().flat_map(|proof| &proof.rejected);
        let rejected = rejected.filter_map(|(index, reason)| {
            Some(Rejected { definition: space.candidates.get(*index)?.definition(), reason: reason.clone() })
        });
        Self {
            schema: catalog.fingerprint(),
            budget_bytes: budget,
            bytes: found.choice.set.iter().filter_map(|index| space.sizes.get(*index)).sum(),
            rejected: rejected.collect(),
            findings: findings(catalog),
            cost: if before > 0.0 { after / before } else { 1.0 },
            time: time(&statements),
            judged: Judged {
                by: match (&found.proof, found.hypothetical) {
                    (Some(_), _) => "measured",
                    (None, true) => "planner",
                    (None, false) => "reckoned",
                },
                unproven: found.unproven,
                clock: found.proof.as_ref().and_then(|proof| proof.clock),
                questions: found.asked,
                candidates: space.candidates.len(),
            },
            indexes,
            statements,
            skipped,
        }
    }

    /// The plan as SQL: what is to be run, with everything else in comments.
    #[must_use]
    pub fn sql(&self) -> String {
        let mut text = format!(
            "-- Index plan. `portcullis database apply` says what applying it would do, and applies it once it is approved: it watches\n\
             -- locks, keeps a ledger, and takes back what fails or harms. Statements may be taken out.\n\
             -- schema: {}\n-- {}\n",
            self.schema,
            self.summary()
        );
        for index in &self.indexes {
            #[expect(clippy::cast_precision_loss, reason = "bytes of a disk")]
            let size = match index.bytes {
                Some(bytes) => {
                    format!("{} (foreseen {})", megabytes(bytes as f64), megabytes(index.foreseen_bytes))
                }
                None => format!("{} foreseen", megabytes(index.foreseen_bytes)),
            };
            let _ = write!(
                text,
                "\n-- {size}; statements that use it save {:.2} % of the cost\n",
                index.saves * 100.0
            );
            for reason in &index.reasons {
                let _ = writeln!(text, "--   {}", line(reason));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a disk")]
            let bytes = index.bytes.unwrap_or(index.foreseen_bytes as u64);
            let _ = writeln!(text, "-- bytes: {bytes}\n{};", index.create);
        }
        if !self.indexes.is_empty() {
            text.push_str("\n-- To take it all back:\n");
            for index in &self.indexes {
                let _ = writeln!(text, "--   {};", index.drop);
            }
        }
        for rejected in &self.rejected {
            let _ =
                writeln!(text, "-- rejected: {} - {}", line(&rejected.definition), line(&rejected.reason));
        }
        for finding in &self.findings {
            let _ = writeln!(
                text,
                "-- found: {} ({}): {}\n--   {}",
                finding.name,
                finding.table,
                line(&finding.reason),
                line(&finding.remedy)
            );
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "-- left out: {}: {}", skipped.name, line(&skipped.reason));
        }
        text
    }

    /// In a line: how many, how large, what they bring.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!(
            "{} indexes, {} of {}; estimated cost x {:.4}",
            self.indexes.len(),
            megabytes(self.bytes),
            megabytes(self.budget_bytes),
            self.cost
        );
        if let Some(time) = self.time {
            let _ = write!(text, "; measured time x {time:.4}");
        }
        match &self.judged.unproven {
            Some(reason) => drop(write!(text, "; not proven: {}", line(reason))),
            None => text.push_str("; proven by building and running, rolled back"),
        }
        text
    }
}

fn saved(statements: &[Effect], name: &String) -> f64 {
    let users = statements.iter().filter(|one| one.uses.contains(name));
    users.map(|one| one.weight * (one.cost_before - one.cost_after)).sum()
}

fn reason(effect: &Effect) -> String {
    let mut text = format!(
        "{} (weight {}): cost {:.0} -> {:.0}",
        effect.name, effect.weight, effect.cost_before, effect.cost_after
    );
    if let Some(Timing { before, after }) = effect.seconds {
        let _ = write!(text, ", measured {:.2} ms -> {:.2} ms", before * 1e3, after * 1e3);
    }
    text
}

fn recent(since: &str) -> String {
    format!(
        "holds what is recent ({since}), and serves what asks for that or later; build it anew with a later bound when it has grown"
    )
}

fn part(whole: &str) -> String {
    format!(
        "a part of {whole}: parts that are made later have no such index; CREATE INDEX on {whole} would give it to them, and takes this one over"
    )
}

fn time(statements: &[Effect]) -> Option<f64> {
    let timed = || statements.iter().filter_map(|one| Some((one.weight, one.seconds?)));
    let before: f64 = timed().map(|(weight, timing)| weight * timing.before).sum();
    let after: f64 = timed().map(|(weight, timing)| weight * timing.after).sum();
    (before > 0.0).then(|| after / before)
}

/// In one line, so that a comment ends where it should.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bytes for people.
#[must_use]
pub fn megabytes(bytes: f64) -> String {
    format!("{:.2} MB", bytes / 1_048_576.0)
}
