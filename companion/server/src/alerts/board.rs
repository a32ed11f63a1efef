//! Incidents, and what each webhook has been told of them. Pure but for names of new incidents.
//!
//! What is to be told is not a queue but a difference: what is so, less what was told. So an outage of a webhook costs nothing, however long it
//! is, and nothing is told twice; what began and ended meanwhile is told by its end, with both times.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::incident::{Change, Patience, Phase};
use super::reading::Figure;
use super::rule::{CALM, RULES, Rule};
use crate::clock::{Timestamp, rfc3339};

/// Incidents at once; what is beyond is counted.
pub const MOST: usize = 200;
/// Incidents that are over and remembered.
const OVER: usize = 200;

/// Where an incident is, for those outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its condition holds, not long enough yet.
    Pending,
    /// It is going on.
    Firing,
    /// It is over.
    Resolved,
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name, of its own for ever.
    pub id: String,
    /// The rule's name.
    pub rule: String,
    /// Whose; none: of the companion as a whole.
    pub tenant: Option<String>,
    /// Where it is.
    pub status: Status,
    /// The figure now, or when it fired last.
    pub value: f64,
    /// What the figure must be above.
    pub threshold: f64,
    /// When the condition began.
    #[serde(with = "millis")]
    pub began_at: Timestamp,
    /// When it fired.
    #[serde(with = "millis::option")]
    pub fired_at: Option<Timestamp>,
    /// When it was over.
    #[serde(with = "millis::option")]
    pub resolved_at: Option<Timestamp>,
    #[serde(skip, default = "firing")]
    phase: Phase,
}

/// One that is read back was going on.
fn firing() -> Phase {
    Phase::Firing { calm_since: None }
}

/// Instants as milliseconds since the Unix epoch.
mod millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::{Timestamp, at_millis};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.as_millisecond())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let millis = i64::deserialize(deserializer)?;
        at_millis(millis).ok_or_else(|| serde::de::Error::custom("no instant"))
    }

    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use crate::clock::{Timestamp, at_millis};

        pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
            at.map(Timestamp::as_millisecond).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<i64>::deserialize(deserializer)?.and_then(at_millis))
        }
    }
}

/// What is kept when the companion ends.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    firing: Vec<Incident>,
    over: Vec<Incident>,
    told: BTreeMap<String, BTreeMap<String, Status>>,
}

type Key = (String, Option<String>);

/// Incidents, and what was told of them.
#[derive(Debug, Default)]
pub struct Board {
    open: BTreeMap<Key, Incident>,
    /// Oldest first.
    over: Vec<Incident>,
    /// By webhook and incident.
    told: BTreeMap<String, BTreeMap<String, Status>>,
    beyond: u64,
}

impl Board {
    /// As it was when the companion ended.
    #[must_use]
    pub fn from_kept(kept: Kept) -> Self {
        let open =
            kept.firing.into_iter().take(MOST).map(|one| ((one.rule.clone(), one.tenant.clone()), one));
        Self { open: open.collect(), over: kept.over, told: kept.told, beyond: 0 }
    }

    /// What is to be kept.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let firing = self.open.values().filter(|one| one.status == Status::Firing).cloned().collect();
        Kept { firing, over: self.over.clone(), told: self.told.clone() }
    }

    /// One look at all figures; the incidents that fired or are over by it. A figure that is not there does not hold.
    pub fn look(
        &mut self,
        figures: &[Figure],
        config: &Config,
        now: Duration,
        at: Timestamp,
        mut fresh_id: impl FnMut() -> Option<String>,
    ) -> Vec<Incident> {
        let mut news = Vec::new();
        let mut holding: BTreeMap<Key, (&Rule, f64, f64)> = BTreeMap::new();
        for rule in &RULES {
            let setting = config.of(rule);
            let threshold = setting.threshold.unwrap_or(rule.threshold);
            let held = figures.iter().filter(|figure| {
                figure.rule == rule.name && setting.enabled == Some(true) && figure.value > threshold
            });
            for figure in held {
                holding
                    .insert((rule.name.to_owned(), figure.tenant.clone()), (rule, figure.value, threshold));
            }
        }
        for (key, (_, value, threshold)) in &holding {
            if self.open.contains_key(key) {
                continue;
            }
            if self.open.len() >= MOST {
                self.beyond = self.beyond.saturating_add(1);
                continue;
            }
            // Without a name it is looked at again the next time.
            let Some(id) = fresh_id() else { continue };
            let incident = Incident {
                id,
                rule: key.0.clone(),
                tenant: key.1.clone(),
                status: Status::Pending,
                value: *value,
                threshold: *threshold,
                began_at: at,
                fired_at: None,
                resolved_at: None,
                phase: Phase::Pending { since: now },
            };
            self.open.insert(key.clone(), incident);
        }
        let mut ended = Vec::new();
        for (key, incident) in &mut self.open {
            let held = holding.get(key);
            let hold =
                RULES.iter().find(|rule| rule.name == key.0).and_then(|rule| config.of(rule).hold_seconds);
            let hold = Duration::from_secs(hold.unwrap_or_default().into());
            let (phase, change) =
                incident.phase.step(held.is_some(), Patience { hold, calm: CALM.min(hold) }, now);
            incident.phase = phase;
            if let Some((_, value, threshold)) = held {
                (incident.value, incident.threshold) = (*value, *threshold);
            }
            match change {
                Change::None => continue,
                Change::Fired => (incident.status, incident.fired_at) = (Status::Firing, Some(at)),
                Change::Resolved => {
                    (incident.status, incident.resolved_at) = (Status::Resolved, Some(at));
                    ended.push(key.clone());
                }
                Change::Withdrawn => {
                    ended.push(key.clone());
                    continue;
                }
            }
            news.push(incident.clone());
        }
        for key in ended {
            if let Some(incident) = self.open.remove(&key).filter(|one| one.status == Status::Resolved) {
                self.over.push(incident);
            }
        }
        let surplus = self.over.len().saturating_sub(OVER);
        self.over.drain(..surplus);
        news
    }

    /// All incidents: those that go on first, then those that are over, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Incident> {
        self.open.values().chain(self.over.iter().rev()).cloned().collect()
    }

    /// Incidents that were beyond what can be at once.
    #[must_use]
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Those who are told from now on: a new one is not told what is over, and who is gone is forgotten.
    pub fn listeners<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let names: Vec<&String> = names.collect();
        self.told.retain(|name, _| names.contains(&name));
        for name in names {
            let over = &self.over;
            let told = self
                .told
                .entry(name.clone())
                .or_insert_with(|| over.iter().map(|one| (one.id.clone(), Status::Resolved)).collect());
            told.retain(|id, _| {
                over.iter().any(|one| one.id == *id) || self.open.values().any(|one| one.id == *id)
            });
        }
    }

    /// Everything that a webhook has not been told, oldest first.
    #[must_use]
    pub fn untold(&self, webhook: &str) -> Vec<Incident> {
        let told = self.told.get(webhook);
        let known = |one: &Incident| told.and_then(|told| told.get(&one.id)).copied();
        let mut untold: Vec<Incident> = self
            .over
            .iter()
            .chain(self.open.values())
            .filter(|one| one.status != Status::Pending && known(one) != Some(one.status))
            .cloned()
            .collect();
        untold.sort_by_key(|one| one.resolved_at.or(one.fired_at));
        untold
    }

    /// It was told that.
    pub fn has_told(&mut self, webhook: &str, incident: &Incident) {
        if let Some(told) = self.told.get_mut(webhook) {
            told.insert(incident.id.clone(), incident.status);
        }
    }
}

impl Incident {
    /// The rule.
    #[must_use]
    pub fn rule(&self) -> Option<&'static Rule> {
        super::rule::find(&self.rule)
    }

    /// What a webhook is told.
    #[must_use]
    pub fn message(&self) -> serde_json::Value {
        let rule = self.rule();
        serde_json::json!({
            "type": if self.status == Status::Resolved { "alert.resolved" } else { "alert.firing" },
            "timestamp": rfc3339(self.resolved_at.or(self.fired_at).unwrap_or(self.began_at)),
            "data": {
                "alert_id": self.id, "rule": self.rule, "tenant_id": self.tenant, "status": self.status,
                "severity": rule.map(|rule| rule.grade.as_str()), "value": self.value, "unit": rule.map(|rule| rule.unit),
                "threshold": self.threshold, "summary": rule.map(|rule| rule.summary), "action": rule.map(|rule| rule.action),
                "began_at": rfc3339(self.began_at), "fired_at": self.fired_at.map(rfc3339),
                "resolved_at": self.resolved_at.map(rfc3339),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::config::Setting;

    fn config() -> Config {
        let setting = Setting { threshold: Some(10.0), hold_seconds: Some(2), enabled: None };
        Config { rules: [("slow_statements".to_owned(), setting)].into(), ..Config::default() }
    }

    /// Looks once a second at how much of the rule each tenant has.
    fn run(board: &mut Board, from: u64, looks: &[&[(&str, f64)]]) -> Vec<(String, Status)> {
        let mut number = from * 1000;
        let mut news = Vec::new();
        for (second, figures) in (from..).zip(looks) {
            let figures: Vec<Figure> =
                figures.iter().map(|(tenant, value)| Figure::of("slow_statements", tenant, *value)).collect();
            let at = Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap();
            let found = board.look(&figures, &config(), Duration::from_secs(second), at, || {
                number += 1;
                Some(format!("{number}"))
            });
            news.extend(found.into_iter().map(|one| (one.tenant.unwrap(), one.status)));
        }
        news
    }

    #[test]
    fn each_tenant_has_its_own_and_each_is_told_once() {
        let mut board = Board::default();
        board.listeners([&"ops".to_owned()].into_iter());
        let high: &[(&str, f64)] = &[("acme", 11.0), ("globex", 10.0)];
        assert_eq!(run(&mut board, 0, &[high, high, high, high]), [("acme".to_owned(), Status::Firing)]);
        let untold = board.untold("ops");
        assert_eq!((untold.len(), untold[0].status), (1, Status::Firing));
        board.has_told("ops", &untold[0]);
        assert!(board.untold("ops").is_empty());
        assert_eq!(run(&mut board, 4, &[&[], &[], &[], &[]]), [("acme".to_owned(), Status::Resolved)]);
        let over = board.untold("ops");
        assert_eq!((over.len(), over[0].status, &over[0].id), (1, Status::Resolved, &untold[0].id));
    }

    #[test]
    fn what_came_and_went_in_an_outage_is_told_by_its_end_and_survives_a_restart() {
        let mut board = Board::default();
        board.listeners([&"ops".to_owned()].into_iter());
        let high: &[(&str, f64)] = &[("acme", 11.0)];
        run(&mut board, 0, &[high, high, high, &[], &[], &[], high, high, high]);
        let text = serde_json::to_string(&board.kept()).unwrap();
        let mut board = Board::from_kept(serde_json::from_str(&text).unwrap());
        board.listeners(["new".to_owned(), "ops".to_owned()].iter());
        let untold: Vec<Status> = board.untold("ops").iter().map(|one| one.status).collect();
        assert_eq!(untold, [Status::Resolved, Status::Firing]);
        assert_eq!(board.untold("new").len(), 1, "what is over is no news to one that is new");
        // It goes on after the restart, and is the same.
        assert!(run(&mut board, 0, &[high, high, high]).is_empty());
        assert_eq!(run(&mut board, 3, &[&[], &[], &[]]), [("acme".to_owned(), Status::Resolved)]);
    }

    #[test]
    fn there_is_a_most() {
        let mut board = Board::default();
        let names: Vec<String> = (0..300).map(|number| format!("t{number}")).collect();
        let all: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 99.0)).collect();
        run(&mut board, 0, &[&all, &all, &all]);
        assert_eq!(board.all().len(), MOST);
        assert!(board.beyond() >= 100);
    }
}
