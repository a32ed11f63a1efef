//! Judging recorded requests: what `portcullis inspect` does, without its command line.
//!
//! [`source`] reads what people have at hand, [`Judged`] is what a configuration says of one request, [`summary`] adds
//! up a log. Nothing is sent and nothing is stored; rates are not limited (see [`portcullis_replay`]).

pub mod source;
pub mod summary;

use portcullis_policy::{Decision, Verdict as Judgement};
use portcullis_replay::{Guard, Request};
use serde_json::{Map, Value, json};

/// Characters of a path that are shown. More: cut.
const PATH: usize = 200;

/// What a configuration says of one request.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Where it stands: a file, with a line or an entry's number.
    pub origin: String,
    /// The place into which a recorded value was put, if it was no whole request.
    pub place: Option<String>,
    /// Method and path, without the query.
    pub asked: (String, String),
    /// The answer in the application's place, if it is refused: status and reason.
    pub refusal: Option<(u16, &'static str)>,
    /// What the policies decided, in order.
    pub decisions: Vec<Decision>,
    /// Whose traffic it is.
    pub tenant: String,
    /// The configured route that applies, `""` for the defaults.
    pub route: String,
    /// What the application would see otherwise than it came, without the values: headers, and `body`.
    pub changed: Vec<String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It passes.
    Allowed,
    /// It passes, because the section's mode is `monitor`; `enforce` would refuse it.
    Monitored,
    /// It passes, but not as it came: what was dangerous is taken out, or a header tells the application of it.
    Changed,
    /// It is refused.
    Refused,
}

impl Fate {
    /// As in audit records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Monitored | Self::Changed => "monitor",
            Self::Refused => "deny",
        }
    }
}

impl Judged {
    /// Judges a request.
    pub fn new(guard: &mut Guard, origin: String, place: Option<String>, request: &Request) -> Self {
        let verdict = guard.judge(request);
        let path = request.target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        Self {
            origin,
            place,
            asked: (shown(&request.method), shown(path)),
            refusal: verdict.refusal.map(|refusal| (refusal.status, refusal.reason)),
            decisions: verdict.decisions,
            tenant: verdict.tenant,
            route: verdict.route,
            changed: verdict.changed.into_iter().map(|(name, _)| printable(&name)).collect(),
        }
    }

    /// What becomes of it.
    pub fn fate(&self) -> Fate {
        let against = |decision: &Decision| decision.verdict != Judgement::Allow;
        match self.refusal {
            Some(_) => Fate::Refused,
            None if self.done().next().is_some() => Fate::Changed,
            None if self.decisions.iter().any(against) => Fate::Monitored,
            None => Fate::Allowed,
        }
    }

    /// What was done instead of refusing it: `cleaned`, `tagged`.
    fn done(&self) -> impl Iterator<Item = &str> {
        let details = self.decisions.iter().flat_map(|decision| &decision.details);
        details.filter(|(name, _)| *name == "action").filter_map(|(_, value)| value.as_str())
    }

    /// As lines for people.
    pub fn lines(&self) -> String {
        let place = self.place.as_ref().map(|place| format!(" as {place}")).unwrap_or_default();
        let (method, path) = &self.asked;
        let first = match (self.fate(), self.refusal) {
            (_, Some((status, reason))) => format!("would be refused: {status} {reason}"),
            (Fate::Monitored, None) => "would pass now, and be refused by `enforce`".to_owned(),
            (Fate::Changed, None) => {
                format!("would pass {}", self.done().collect::<Vec<_>>().join(" and "))
            }
            _ => "would pass".to_owned(),
        };
        let mut lines = vec![format!("{}{place}: {method} {path}", self.origin), format!("  {first}")];
        let mut line = |name: &str, value: &str| lines.push(format!("  {name:<12}{value}"));
        for decision in &self.decisions {
            line("policy", decision.policy);
            line("decision", code(decision.verdict));
            line("reason", decision.reason);
            for (name, value) in &decision.details {
                line(name, &printable(&plain(value)));
            }
        }
        if !self.changed.is_empty() {
            line("changes", &self.changed.join(", "));
        }
        line("tenant", &self.tenant);
        if !self.route.is_empty() {
            line("route", &printable(&self.route));
        }
        lines.join("\n")
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        let decisions: Vec<Value> = self
            .decisions
            .iter()
            .map(|decision| {
                let details: Map<String, Value> = decision
                    .details
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect();
                json!({
                    "policy": decision.policy, "decision": code(decision.verdict), "reason": decision.reason,
                    "event_type": decision.event_type, "details": details,
                })
            })
            .collect();
        json!({
            "origin": self.origin, "place": self.place, "method": self.asked.0, "path": self.asked.1,
            "decision": self.fate().code(), "status": self.refusal.map(|(status, _)| status),
            "reason": self.refusal.map(|(_, reason)| reason), "tenant": self.tenant, "route": self.route,
            "decisions": decisions, "changed": self.changed,
        })
    }
}

const fn code(verdict: Judgement) -> &'static str {
    match verdict {
        Judgement::Allow => "allow",
        Judgement::Monitor => "monitor",
        Judgement::Deny => "deny",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Recorded bytes for eyes: what is not text or would steer a terminal is replaced, and the rest cut.
fn shown(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes).chars().take(PATH).collect::<String>())
}

/// A recording may come from anyone: its control characters stay off the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use portcullis_replay::Known;

    use super::*;

    fn judged(configuration: &str, target: &str) -> Judged {
        let Ok((mut guard, _)) = Guard::new(configuration.as_bytes(), Known::default()) else {
            panic!("compiles")
        };
        Judged::new(&mut guard, "here".to_owned(), None, &Request::new("GET", target).with("host", "h"))
    }

    #[test]
    fn a_decision_is_explained_without_the_value() {
        let attack = judged("{}", "/a\u{1b}[31m?token=hunter2&name=1%27%20or%201=1%20--%20");
        let lines = attack.lines();
        for part in [
            "here: GET /a\u{fffd}[31m\n",
            "would be refused: 403 sql-injection",
            "policy      sanitize",
            "place       query",
            "name        name",
            "confidence  ",
        ] {
            assert!(lines.contains(part), "{part} not in {lines}");
        }
        assert!(!lines.contains("hunter2") && !lines.contains("or 1=1"), "{lines}");
        assert_eq!(attack.json()["decisions"][0]["details"]["family"], "sql-injection");
        assert_eq!((attack.fate(), attack.json()["status"].as_u64()), (Fate::Refused, Some(403)));
    }

    #[test]
    fn monitoring_and_passing_are_told_apart() {
        let monitored =
            judged(r#"{"sanitize": {"mode": "monitor"}}"#, "/?q=%3Cscript%3Ealert(1)%3C/script%3E");
        assert_eq!(monitored.fate(), Fate::Monitored);
        assert!(
            monitored.lines().contains("would pass now, and be refused by `enforce`"),
            "{}",
            monitored.lines()
        );
        let cleaned = judged(r#"{"sanitize": {"action": "clean"}}"#, "/?q=%3Cscript%3Ego()%3C/script%3Etea");
        assert_eq!(cleaned.fate(), Fate::Changed);
        for part in ["would pass cleaned", "cleaned     query q", "changes     :path"] {
            assert!(cleaned.lines().contains(part), "{part} not in {}", cleaned.lines());
        }
        let fine = judged("{}", "/?q=tea");
        assert_eq!((fine.fate(), fine.json()["decision"].as_str()), (Fate::Allowed, Some("allow")));
    }
}
