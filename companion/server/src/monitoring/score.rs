//! A score of 0 to 100: a weighted mean of sub-scores, each with its reasons and what to do.
//!
//! Pure: figures in, score out. A sub-score is 100 up to its goal and falls in a straight line to 0 at its worst; of several
//! figures the worst one counts, because a good disk does not make up for a full memory.

use schemars::JsonSchema;
use serde::Serialize;

use crate::metrics::{header, put};

/// The goal for an average response, in milliseconds.
pub const RESPONSE_GOAL_MS: f64 = 200.0;

/// A part of the score.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Part {
    /// `responses`, `errors`, `store`, `databases`, `machine`.
    pub name: &'static str,
    /// Its share of the whole: all weights add up to 100.
    pub weight: u32,
    /// 0 to 100.
    pub score: f64,
    /// What it rests on.
    pub reasons: Vec<String>,
    /// What to do; null when there is nothing to gain.
    pub fix: Option<&'static str>,
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Score {
    /// 0 to 100: the mean of the parts by their weights.
    pub score: f64,
    /// The parts.
    pub parts: Vec<Part>,
}

impl Score {
    /// Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let (whole, parts) = ("portcullis_score", "portcullis_score_part");
        header(
            &mut text,
            whole,
            "gauge",
            "How the whole fares, 0 to 100: the mean of its parts by their weights.",
        );
        put(&mut text, format_args!("{whole} {}", self.score));
        header(&mut text, parts, "gauge", "How a part fares, 0 to 100.");
        for Part { name, score, .. } in &self.parts {
            put(&mut text, format_args!("{parts}{{part=\"{name}\"}} {score}"));
        }
        text
    }
}

/// A figure with its goal: at most `good` is best, `bad` and more is worst.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// What was measured.
    pub value: f64,
    /// Up to here nothing is missing.
    pub good: f64,
    /// From here on nothing is left.
    pub bad: f64,
}

impl Figure {
    /// 0 to 100. What is no number is worst.
    #[must_use]
    pub fn score(self) -> f64 {
        if self.value <= self.good {
            return 100.0;
        }
        let left = (self.bad - self.value) / (self.bad - self.good);
        if left.is_finite() { left.clamp(0.0, 1.0) * 100.0 } else { 0.0 }
    }
}

/// Puts a part together: the worst of its figures, each with its sentence.
#[must_use]
pub fn part(
    name: &'static str,
    weight: u32,
    figures: Vec<(Figure, String)>,
    fix: &'static str,
    nothing: &str,
) -> Part {
    let score = figures.iter().map(|(figure, _)| figure.score()).fold(100.0, f64::min);
    let reasons = match figures.is_empty() {
        true => vec![nothing.to_owned()],
        false => figures.into_iter().map(|(_, reason)| reason).collect(),
    };
    Part { name, weight, score: tenth(score), reasons, fix: (score < 100.0).then_some(fix) }
}

/// The weighted mean of parts.
#[must_use]
pub fn whole(parts: Vec<Part>) -> Score {
    let weights: u32 = parts.iter().map(|part| part.weight).sum();
    let sum: f64 = parts.iter().map(|part| part.score * f64::from(part.weight)).sum();
    let score = if weights == 0 { 100.0 } else { sum / f64::from(weights) };
    Score { score: tenth(score), parts }
}

fn tenth(score: f64) -> f64 {
    (score * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: f64) -> Figure {
        Figure { value, good: 200.0, bad: 1000.0 }
    }

    #[test]
    fn a_figure_falls_from_its_goal_to_its_worst() {
        let scores = [0.0, 200.0, 600.0, 1000.0, 1e9, f64::NAN].map(|value| at(value).score());
        assert_eq!(scores, [100.0, 100.0, 50.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_worst_figure_counts_and_only_what_can_be_gained_has_a_fix() {
        let told = |value| (at(value), format!("{value} ms"));
        let bad = part("responses", 60, vec![told(100.0), told(600.0)], "do this", "nothing");
        assert_eq!((bad.score, bad.fix, bad.reasons.len()), (50.0, Some("do this"), 2));
        let good = part("errors", 40, Vec::new(), "do that", "nothing was seen");
        assert_eq!((good.score, good.fix), (100.0, None));
        assert_eq!(good.reasons, ["nothing was seen"]);
        let whole = whole(vec![bad, good]);
        assert_eq!(whole.score, 70.0);
    }
}
