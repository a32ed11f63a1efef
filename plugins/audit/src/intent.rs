//! A request of a strict route waits until its intent is stored ([`crate::strict`]).

use std::time::Duration;

use portcullis_policy::{
    Context, Decision, Effect, Effects, Fate, Metric, Outcome, Policy, Refusal, Ticket, Verdict,
};

use crate::{
    Audit,
    record::{self, Account},
};

/// Requests of strict routes whose intent was stored.
pub const STORED: Metric = Metric {
    name: "portcullis_audit_intents_total",
    help: "Requests of strict routes whose intent was stored before they went on.",
};
/// Those whose intent was not.
pub const UNSTORED: Metric = Metric {
    name: "portcullis_audit_intents_unstored_total",
    help: "Requests of strict routes whose intent was not stored in time: refused, or let pass in mode monitor.",
};

/// How a route's requests wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strict {
    /// For how long at most.
    pub wait: Duration,
    /// Whether one without a stored intent is refused.
    pub enforce: bool,
}

/// A stream's intent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intent {
    ticket: Ticket,
    since: Duration,
}

impl Audit {
    /// Decides whether the request goes on, waits or is refused.
    pub(crate) fn intend(
        &self,
        strict: Strict,
        context: &mut Context<'_>,
        headers: &[u8],
        intent: &mut Option<Intent>,
        effects: &mut Effects,
    ) {
        let now = context.moment.now;
        if intent.is_none() {
            let outcome = Outcome::default();
            let account = Account {
                request: context.request,
                decisions: &[],
                now,
                outcome: &outcome,
                headers,
                response: None,
            };
            let line = record::intent(&account, &self.redactor);
            let ticket = context.shared.journal().and_then(|journal| journal.write(&line));
            *intent = ticket.map(|ticket| Intent { ticket, since: now });
        }
        let fate = match (intent.as_ref(), context.shared.journal()) {
            (Some(intent), Some(journal)) => journal.fate(intent.ticket),
            _ => Fate::Failed,
        };
        let in_time = intent.is_some_and(|intent| now.saturating_sub(intent.since) < strict.wait);
        match fate {
            Fate::Durable => {
                *intent = None;
                effects.push(Effect::Count(&STORED, 1));
            }
            Fate::Pending if in_time => effects.push(Effect::Wait),
            Fate::Pending | Fate::Failed => {
                self.abandon(context, intent);
                effects.push(Effect::Count(&UNSTORED, 1));
                effects.push(Effect::Decide(unstored(strict)));
                if strict.enforce {
                    effects.push(Effect::Refuse(unavailable()));
                }
            }
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn abandon(&self, context: &mut Context<'_>, intent: &mut Option<Intent>) {
        if let (Some(intent), Some(journal)) = (intent.take(), context.shared.journal()) {
            journal.withdraw(intent.ticket);
        }
    }
}

fn unstored(strict: Strict) -> Decision {
    Decision {
        policy: Audit::NAME,
        verdict: if strict.enforce { Verdict::Deny } else { Verdict::Monitor },
        event_type: "REQUEST",
        reason: "audit-unavailable",
        details: Vec::new(),
    }
}

fn unavailable() -> Refusal {
    Refusal {
        status: 503,
        problem: "urn:portcullis:problem:audit-unavailable",
        title: "The request could not be recorded",
        reason: "audit-unavailable",
        headers: vec![("retry-after", "1".to_owned())],
    }
}
