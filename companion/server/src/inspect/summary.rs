//! A log added up: what enforcing would refuse, and which parameters cause most of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Fate, Judged, printable};

/// Kinds of decisions and parameters that are told apart. More: counted without their names.
const KINDS: usize = 10_000;
/// Parameters that are listed.
const LISTED: usize = 20;

/// Counts of a log.
#[derive(Debug, Default)]
pub struct Summary {
    requests: u64,
    refused: u64,
    monitored: u64,
    changed: u64,
    unreadable: u64,
    /// Policy, reason and place.
    kinds: BTreeMap<[String; 3], u64>,
    /// Place, name and family; how often, and where first.
    parameters: BTreeMap<[String; 3], (u64, String)>,
    beyond: u64,
}

impl Summary {
    /// Counts a request.
    pub fn add(&mut self, judged: &Judged) {
        self.requests = self.requests.saturating_add(1);
        match judged.fate() {
            Fate::Allowed => return,
            Fate::Monitored => self.monitored = self.monitored.saturating_add(1),
            Fate::Changed => self.changed = self.changed.saturating_add(1),
            Fate::Refused => self.refused = self.refused.saturating_add(1),
        }
        for decision in &judged.decisions {
            let detail = |name: &str| {
                let found = decision.details.iter().find(|(known, _)| *known == name);
                found.and_then(|(_, value)| value.as_str()).map(ToOwned::to_owned)
            };
            let (place, name) = (detail("place").unwrap_or_default(), detail("name"));
            let kind = [decision.policy.to_owned(), decision.reason.to_owned(), place.clone()];
            if self.kinds.len() < KINDS || self.kinds.contains_key(&kind) {
                let count = self.kinds.entry(kind).or_default();
                *count = count.saturating_add(1);
            }
            let Some(name) = name else { continue };
            let parameter = [place, name, decision.reason.to_owned()];
            if self.parameters.len() < KINDS || self.parameters.contains_key(&parameter) {
                let entry = self.parameters.entry(parameter).or_insert_with(|| (0, judged.origin.clone()));
                entry.0 = entry.0.saturating_add(1);
            } else {
                self.beyond = self.beyond.saturating_add(1);
            }
        }
    }

    /// Counts what could not be read.
    pub fn unreadable(&mut self) {
        self.unreadable = self.unreadable.saturating_add(1);
    }

    /// Requests that are refused, or would be by `enforce`.
    pub fn against(&self) -> u64 {
        self.refused.saturating_add(self.monitored)
    }

    /// Whether everything could be read.
    pub fn is_whole(&self) -> bool {
        self.unreadable == 0
    }

    /// Requests that pass as they came.
    fn allowed(&self) -> u64 {
        self.requests.saturating_sub(self.against()).saturating_sub(self.changed)
    }

    /// The first line of it.
    pub fn line(&self) -> String {
        let allowed = self.allowed();
        let mut parts = vec![format!("{allowed} would pass"), format!("{} would be refused", self.refused)];
        if self.monitored > 0 {
            parts.push(format!("{} would pass now, and be refused by `enforce`", self.monitored));
        }
        if self.changed > 0 {
            parts.push(format!("{} would pass cleaned or tagged", self.changed));
        }
        if self.unreadable > 0 {
            parts.push(format!("{} could not be read", self.unreadable));
        }
        format!("{} requests: {}", self.requests, parts.join(", "))
    }

    /// As lines for people.
    pub fn lines(&self) -> String {
        let mut text = self.line();
        text.push_str("\nRates were not limited: a recording has no time.\n");
        if !self.kinds.is_empty() {
            let head = ["count", "policy", "reason", "place"].map(ToOwned::to_owned);
            let rows = sorted(self.kinds.iter().map(|(kind, count)| (kind, *count)));
            let rows = rows.into_iter().map(|([policy, reason, place], count)| {
                vec![count.to_string(), policy.clone(), reason.clone(), or_dash(place)]
            });
            text.push_str(&columns(std::iter::once(head.to_vec()).chain(rows)));
        }
        if !self.parameters.is_empty() {
            text.push_str("\nMost by parameter; one that is meant to hold such text can be excluded:\n");
            let head = ["count", "place", "name", "reason", "first at"].map(ToOwned::to_owned);
            let rows = self.noisiest().into_iter().map(|([place, name, reason], count, first)| {
                vec![count.to_string(), place.clone(), or_dash(name), reason.clone(), printable(first)]
            });
            text.push_str(&columns(std::iter::once(head.to_vec()).chain(rows)));
            let hidden = self.parameters.len().saturating_sub(LISTED);
            if hidden > 0 || self.beyond > 0 {
                text.push_str(&format!("and {hidden} more"));
                if self.beyond > 0 {
                    text.push_str(&format!(", and {} requests with yet others", self.beyond));
                }
                text.push('\n');
            }
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        let kinds: Vec<Value> = sorted(self.kinds.iter().map(|(kind, count)| (kind, *count)))
            .into_iter()
            .map(|([policy, reason, place], count)| json!({"policy": policy, "reason": reason, "place": place, "count": count}))
            .collect();
        let parameters: Vec<Value> = self
            .noisiest()
            .into_iter()
            .map(|([place, name, reason], count, first)| {
                json!({"place": place, "name": name, "reason": reason, "count": count, "first": first})
            })
            .collect();
        json!({
            "requests": self.requests, "allow": self.allowed(), "monitor": self.monitored,
            "changed": self.changed,
            "deny": self.refused, "unreadable": self.unreadable, "decisions": kinds, "parameters": parameters,
        })
    }

    fn noisiest(&self) -> Vec<(&[String; 3], u64, &str)> {
        let all =
            self.parameters.iter().map(|(parameter, (count, first))| ((parameter, first.as_str()), *count));
        sorted(all)
            .into_iter()
            .take(LISTED)
            .map(|((parameter, first), count)| (parameter, count, first))
            .collect()
    }
}

/// The largest first; those that are equal in their own order.
fn sorted<T>(counts: impl Iterator<Item = (T, u64)>) -> Vec<(T, u64)> {
    let mut all: Vec<(T, u64)> = counts.collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// Rows under each other; the first column, which counts, to the right.
fn columns(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let most = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..most).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use portcullis_replay::{Guard, Known, Request};

    use super::*;

    #[test]
    fn a_log_is_added_up() {
        let Ok((mut guard, _)) = Guard::new(b"{}", Known::default()) else { panic!("compiles") };
        let mut summary = Summary::default();
        for (line, target) in [
            "/",
            "/?a=1%27%20or%201=1--",
            "/?b=%3Cscript%3Ego()%3C/script%3E",
            "/?b=%3Cscript%3Ego()%3C/script%3E",
        ]
        .iter()
        .enumerate()
        {
            let request = Request::new("GET", *target).with("host", "h");
            summary.add(&Judged::new(&mut guard, format!("log:{line}"), None, &request));
        }
        summary.unreadable();
        assert_eq!((summary.against(), summary.is_whole()), (3, false));
        let lines = summary.lines();
        assert!(
            lines.starts_with("4 requests: 1 would pass, 3 would be refused, 1 could not be read\n"),
            "{lines}"
        );
        let rows: Vec<String> =
            lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for row in [
            "2 sanitize xss query",
            "1 sanitize sql-injection query",
            "2 query b xss log:2",
            "1 query a sql-injection log:1",
        ] {
            assert!(rows.iter().any(|found| found == row), "{row} not in {lines}");
        }
        let json = summary.json();
        assert_eq!((json["deny"].as_u64(), json["parameters"][0]["name"].as_str()), (Some(3), Some("b")));
    }

    #[test]
    fn nothing_against_is_two_lines() {
        assert_eq!(Summary::default().lines().lines().count(), 2);
    }
}
