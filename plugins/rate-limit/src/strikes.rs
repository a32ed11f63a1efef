//! Keeping out the banned, and counting what they are banned for.

use portcullis_policy::{Context, Decision, Effect, Effects, Headers, Verdict};

use crate::{
    Attacks, Limited, RateLimit,
    ban::{self, Ban, Struck, Table},
    metrics, reply,
    set::Tag,
    stream::{Place, Stream, nanoseconds},
};

impl RateLimit {
    /// Refuses the banned; true when it did.
    pub(crate) fn keep_out(
        &self,
        context: &mut Context<'_>,
        stream: &mut Stream,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) -> bool {
        if self.bans.is_empty() {
            return false;
        }
        // A request that waits for tokens is decided on again, and is one request all the same.
        stream.bans.clear();
        let (seed, now_ns) = (context.shared.seed(), nanoseconds(context.moment.now));
        let mut loaded: Option<(u32, Table)> = None;
        let mut refused = false;
        for (number, ban) in self.bans.iter().enumerate() {
            let place = ban.counted.place(seed, context.request, headers);
            let (slot, tag) = (place.ban_slot(), Tag::new(place.entry(ban.salt), 0).number());
            stream.bans.push(Place { ban: number, slot, tag });
            if loaded.as_ref().is_none_or(|(known, _)| *known != slot) {
                let Ok(value) = context.shared.load(slot) else {
                    // Without the shared state nobody knows who is banned; the limits' `on_error` decides on the rest.
                    effects.push(Effect::Count(&metrics::ERRORS, 1));
                    continue;
                };
                loaded = Some((slot, Table::decode(&value.bytes)));
            }
            let running = loaded.as_ref().and_then(|(_, table)| table.running(tag, now_ns));
            let Some((rest_ns, times)) = running else { continue };
            if refused {
                continue;
            }
            effects.push(Effect::Decide(reply::kept_out(ban, rest_ns, times)));
            if ban.enforce {
                refused = true;
                effects.push(Effect::Count(&metrics::BANNED, 1));
                effects.push(Effect::Refuse(reply::banned(ban, rest_ns)));
            } else {
                effects.push(Effect::Count(&metrics::MONITORED, 1));
            }
        }
        stream.banned = refused;
        refused
    }

    /// The stream is over: what it was may be a strike.
    pub(crate) fn strike(
        &self,
        context: &mut Context<'_>,
        stream: &Stream,
        status: Option<u16>,
        effects: &mut Effects,
    ) {
        if stream.banned {
            return;
        }
        for place in &stream.bans {
            let Some(ban) = self.bans.get(place.ban) else { continue };
            let strikes = self.is_limited(ban, stream)
                || is_attack(ban.on_attacks, context.decisions)
                || status.is_some_and(|status| {
                    ban.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
                });
            if !strikes {
                continue;
            }
            let now = context.moment.now;
            match ban::strike(context.shared, place.slot, place.tag, now, &ban.terms) {
                Ok(Struck::Counted) => {}
                Ok(Struck::Banned(_)) => effects.push(Effect::Count(&metrics::BANS, 1)),
                Ok(Struck::Forgotten | Struck::NoPlace) => {
                    effects.push(Effect::Count(&metrics::BANS_FULL, 1));
                }
                Err(_) => effects.push(Effect::Count(&metrics::ERRORS, 1)),
            }
        }
    }

    /// Whether a limit had no room that the ban looks at. A ban that only monitors looks also at limits that do.
    fn is_limited(&self, ban: &Ban, stream: &Stream) -> bool {
        let named = |rule: usize| match &ban.on_limited {
            Limited::Any(any) => *any,
            Limited::Rules(names) => self.rules.get(rule).is_some_and(|rule| names.contains(&rule.name)),
        };
        stream.limited.iter().any(|(rule, enforced)| (*enforced || !ban.enforce) && named(*rule))
    }
}

fn is_attack(on: Attacks, decisions: &[Decision]) -> bool {
    decisions.iter().any(|decision| {
        decision.event_type.starts_with("ATTACK_")
            && match on {
                Attacks::Off => false,
                Attacks::Refused => decision.verdict == Verdict::Deny,
                Attacks::Reported => true,
            }
    })
}
