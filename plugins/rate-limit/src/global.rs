//! Limits that all proxies share: asking for tokens, and waiting for them.

use portcullis_policy::{Context, Effect, Effects, Headers, LeaseAsk, Leases};

use crate::{
    OnError, RateLimit,
    commit::{Asks, Claim},
    metrics, reply,
    set::Step,
    stream::Stream,
};

/// The tenant of limits that all tenants share.
const EVERYBODY: &str = "*";

/// What becomes of a request whose lease has no token.
pub(crate) enum Dry {
    /// It waits, or is refused because no token came.
    Decided,
    /// It is refused like one for which there is no room.
    Refused,
    /// This process's own limits decide.
    WithoutTokens,
}

impl RateLimit {
    /// Whether there is a limit that all proxies share.
    pub fn is_global(&self) -> bool {
        self.rules.iter().any(|rule| rule.global)
    }

    /// Asks for tokens of all limits that have none, or few.
    pub(crate) fn ask(&self, claims: &[Claim], context: &mut Context<'_>, headers: &Headers<'_>) {
        for claim in claims {
            let Asks::Rate { quota, cost, leased: true, share, .. } = &claim.asks else { continue };
            let need = match claim.step {
                Step::Dry => *cost,
                Step::Admit { renew: true, .. } => 0,
                _ => continue,
            };
            let Some(rule) = self.rules.get(claim.rule) else { continue };
            let request = context.request;
            let of_tenant = rule.counted.is_per_tenant();
            // What needs no tokens is not the companion's to give.
            let (limit, burst) = match rule.share.zip(*share) {
                Some((all, part)) => {
                    (all.rest(quota.limit(), part.limit()), all.rest(quota.burst(), part.burst()))
                }
                None => (quota.limit(), quota.burst()),
            };
            let ask = LeaseAsk {
                slot: claim.slot,
                tag: claim.tag.number(),
                tenant: if of_tenant { request.tenant.as_str().to_owned() } else { EVERYBODY.to_owned() },
                rule: rule.name.clone(),
                subject: rule.counted.subject(request, headers),
                limit,
                window_ms: u64::try_from(quota.window().as_millis()).unwrap_or(u64::MAX),
                burst,
                need,
                most: (burst / 10).max(1),
            };
            if let Some(worker) = context.shared.worker() {
                worker.ask(ask);
            }
        }
    }

    /// A lease has no token: asks for some, and waits if that is possible.
    pub(crate) fn await_tokens(
        &self,
        claims: &mut [Claim],
        context: &mut Context<'_>,
        stream: &mut Stream,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) -> Dry {
        self.ask(claims, context, headers);
        let on_error = |claim: &Claim| self.rules.get(claim.rule).map(|rule| rule.on_error);
        let dry = |claim: &Claim| claim.enforce && claim.step == Step::Dry;
        // A limit too small to be shared out has no share: its requests wait.
        let shared = |claim: &Claim| matches!(claim.asks, Asks::Rate { share: Some(_), .. });
        let mut refused = false;
        for claim in claims.iter_mut() {
            if dry(claim) && shared(claim) {
                claim.step = Step::Refuse { wait_ns: 1_000_000_000 };
                refused = true;
            }
        }
        if refused {
            return Dry::Refused;
        }
        let now = context.moment.now;
        let since = *stream.waits_since.get_or_insert(now);
        let can_wait = context.shared.worker().is_some_and(|worker| worker.leases() == Leases::Wait);
        // One that waits already has its place.
        let may_wait =
            can_wait || (since < now && context.shared.worker().is_some_and(|w| w.leases() == Leases::Ask));
        if may_wait && context.facts.may_wait() && now.saturating_sub(since) < self.settings.lease_wait {
            if since == now {
                effects.push(Effect::Count(&metrics::WAITED, 1));
            }
            effects.push(Effect::Wait);
            return Dry::Decided;
        }
        effects.push(Effect::Count(&metrics::UNLEASED, 1));
        if claims.iter().any(|claim| dry(claim) && on_error(claim) != Some(OnError::Allow)) {
            effects.push(Effect::Decide(reply::failed()));
            effects.push(Effect::Refuse(reply::unavailable()));
            return Dry::Decided;
        }
        Dry::WithoutTokens
    }
}
