//! Alerts as Prometheus text: a series for each rule, whoever it is about.

use super::board::Status;
use super::rule::RULES;
use super::{Alerts, locked};
use crate::metrics::{header, put};

impl Alerts {
    /// The Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let out = &mut text;
        let incidents = self.incidents();
        let name = "portcullis_alerts_firing";
        header(out, name, "gauge", "Incidents that go on, by rule.");
        for rule in &RULES {
            let firing = incidents.iter().filter(|one| one.status == Status::Firing && one.rule == rule.name);
            put(out, format_args!("{name}{{rule=\"{}\"}} {}", rule.name, firing.count()));
        }
        let name = "portcullis_alert_messages_total";
        header(out, name, "counter", "Tries to tell a webhook, by result.");
        put(out, format_args!("{name}{{result=\"delivered\"}} {}", self.0.delivered.value()));
        put(out, format_args!("{name}{{result=\"failed\"}} {}", self.0.failed.value()));
        let untold: usize = self.webhooks().keys().map(|webhook| self.delivery(webhook).1).sum();
        let name = "portcullis_alert_messages_waiting";
        header(out, name, "gauge", "Messages that webhooks have not taken yet.");
        put(out, format_args!("{name} {untold}"));
        let name = "portcullis_alerts_beyond_total";
        header(out, name, "counter", "Looks at incidents beyond those that can be at once.");
        put(out, format_args!("{name} {}", locked(&self.0.board).beyond()));
        text
    }
}
