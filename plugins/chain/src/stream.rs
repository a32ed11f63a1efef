//! One stream through the chain.

use std::rc::Rc;

use portcullis_policy::{
    CorrelationId, Decision, Effect, Effects, Event, Facts, Headers, Moment, Refusal, Request, SharedState,
    Verdict, limits,
};

use crate::{
    Chain, REFUSED, REQUESTS, Route, UNIDENTIFIED,
    identity::{Asker, Unidentified},
    matching::Target,
    path::{loosen, normalize},
    policies::{Scene, Set, States, Watchers},
    problem::Reply,
};

/// What a chain needs from its host while it decides.
pub struct Ports<'a> {
    /// What the host knows of this stream.
    pub facts: &'a mut dyn Facts,
    /// Slots that all workers share.
    pub shared: &'a mut dyn SharedState,
}

/// What the chain remembers of one stream.
#[derive(Default)]
pub struct Stream {
    request: Option<Request>,
    set: Option<Rc<Set>>,
    states: States,
    watchers: Watchers,
    decisions: Vec<Decision>,
    refused: bool,
    /// The policy that could not decide yet on the request's headers.
    waits: Option<&'static str>,
}

impl Stream {
    /// The reply for a refusal on this stream.
    pub fn reply(&self, refusal: &Refusal) -> Reply {
        let id = self.request.as_ref().map(|request| request.correlation_id.clone());
        Reply::new(refusal, &id.unwrap_or_else(|| CorrelationId::make([0, 0])))
    }

    /// What is known of the request, once its headers were seen.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// Whether its end will leave an audit record; known once its headers were seen.
    pub fn is_audited(&self) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_audited())
    }

    /// Whether a policy hears of its response and of its end. As long as nothing is known of the request, that may be.
    pub fn hears_responses(&self) -> bool {
        self.set.as_ref().is_none_or(|set| set.hears_responses())
    }

    /// Whether the chain refused it.
    pub fn is_refused(&self) -> bool {
        self.refused
    }
}

impl Chain {
    /// Tells the chain what happened; it answers in `effects`.
    pub fn on(
        &self,
        stream: &mut Stream,
        ports: &mut Ports<'_>,
        moment: Moment,
        event: &Event<'_>,
        effects: &mut Effects,
    ) {
        let again = stream.waits.take().filter(|_| matches!(event, Event::RequestHeaders { .. }));
        if let Event::RequestHeaders { headers, .. } = event
            && again.is_none()
        {
            effects.push(Effect::Count(&REQUESTS, 1));
            let refusal = self.resolve(stream, ports, moment, headers, effects);
            if let Some((reason, refusal)) = refusal {
                self.refuse(stream, reason, refusal, effects);
            }
        }
        if stream.request.is_none() {
            stream.request = Some(self.unseen(moment));
        }
        // Once refused, a request is not looked at any further; its reply and its end are.
        let dropped =
            stream.refused && matches!(event, Event::RequestHeaders { .. } | Event::RequestBody { .. });
        if !dropped {
            self.policies(again, stream, ports, moment, event, effects);
        }
        if let (Event::ResponseHeaders { .. }, Some(request)) = (event, &stream.request) {
            let id = request.correlation_id.as_str();
            effects.push(Effect::SetResponseHeader("x-request-id".into(), id.as_bytes().into()));
        }
    }

    /// For a stream of which only the end is seen: resolves who asked from headers that the host still has, so that
    /// the record can name them. Nothing is decided.
    pub fn recall(&self, stream: &mut Stream, ports: &mut Ports<'_>, moment: Moment, headers: &Headers<'_>) {
        if stream.request.is_none() {
            self.resolve(stream, ports, moment, headers, &mut Effects::new());
        }
    }

    fn policies(
        &self,
        from: Option<&'static str>,
        stream: &mut Stream,
        ports: &mut Ports<'_>,
        moment: Moment,
        event: &Event<'_>,
        effects: &mut Effects,
    ) {
        let set = stream.set.clone().unwrap_or_else(|| self.defaults.set.clone());
        let Some(request) = &stream.request else { return };
        let (shared, facts) = (&mut *ports.shared, &mut *ports.facts);
        let mut scene = Scene { moment, request, shared, facts, watchers: &mut stream.watchers };
        let seen = effects.len();
        stream.waits = set.on(from, &mut stream.states, &mut scene, &mut stream.decisions, event, effects);
        let refusal = effects.iter().skip(seen).find_map(|effect| match effect {
            Effect::Refuse(refusal) => Some(refusal.status),
            _ => None,
        });
        if let Some(status) = refusal {
            stream.refused = true;
            if status >= 400 {
                effects.push(Effect::Count(&REFUSED, 1));
            }
        }
    }

    fn refuse(&self, stream: &mut Stream, event_type: &'static str, refusal: Refusal, effects: &mut Effects) {
        stream.refused = true;
        let decision = Decision {
            policy: "identity",
            verdict: Verdict::Deny,
            event_type,
            reason: refusal.reason,
            details: Vec::new(),
        };
        stream.decisions.push(decision.clone());
        effects.push(Effect::Decide(decision));
        effects.push(Effect::Count(&UNIDENTIFIED, 1));
        effects.push(Effect::Count(&REFUSED, 1));
        effects.push(Effect::Refuse(refusal));
    }

    /// Fills in the stream's request and its policies; answers why it cannot go on.
    fn resolve(
        &self,
        stream: &mut Stream,
        ports: &mut Ports<'_>,
        moment: Moment,
        headers: &Headers<'_>,
        effects: &mut Effects,
    ) -> Option<(&'static str, Refusal)> {
        let raw_path = headers.first(":path").unwrap_or(b"/");
        let host = headers.first(":authority").or_else(|| headers.first("host")).unwrap_or_default();
        let path_end = raw_path.iter().position(|b| *b == b'?').unwrap_or(raw_path.len());
        let path = normalize(raw_path.get(..path_end).unwrap_or(raw_path));
        let loose = loosen(&path);
        let target = Target {
            path: &path,
            loose: &loose,
            host,
            method: headers.first(":method").unwrap_or_default(),
            content_type: headers.first("content-type").unwrap_or_default(),
        };
        let actions = self.actions.of(&target, ports.facts);
        let (set, route) = self.route(&target, ports.facts, effects);
        let asker = Asker { headers, host, path: &path };
        let resolved = self.identity.resolve(&asker, ports.facts, set.reads_address(), effects);
        let sent_id = headers.first("x-request-id").and_then(CorrelationId::accept);
        let correlation_id = sent_id.unwrap_or_else(|| {
            let made = CorrelationId::make(moment.random);
            effects.push(Effect::SetRequestHeader("x-request-id".into(), made.as_str().as_bytes().into()));
            made
        });
        let oversize = headers.len() > limits::HEADERS || headers.bytes() > limits::HEADER_BYTES;
        stream.request = Some(Request {
            tenant: resolved.tenant.clone().unwrap_or_else(|_| self.identity.fallback_tenant()),
            user: resolved.user,
            client_ip: resolved.client_ip,
            actions,
            action: self.actions.name(actions).to_owned(),
            route,
            correlation_id,
            method: head(target.method, 32),
            path: head(raw_path, limits::HEADER_BYTES),
            host: head(host, 256),
            scheme: head(headers.first(":scheme").unwrap_or_default(), 16),
            user_agent: head(headers.first("user-agent").unwrap_or_default(), 500),
            started: moment.now,
            started_wall_ns: moment.wall_ns,
        });
        stream.set = Some(set);
        if oversize {
            return Some(("REQUEST", too_large()));
        }
        resolved.tenant.err().map(|why| ("UNAUTHORIZED_ACCESS", unidentified(why)))
    }

    /// The policies that apply, and the name of their route.
    fn route(&self, target: &Target<'_>, facts: &mut dyn Facts, effects: &mut Effects) -> (Rc<Set>, String) {
        let base =
            self.routes.iter().find(|route| route.matches.holds(target, facts)).unwrap_or(&self.defaults);
        let own = self.metadata_set(base, facts, effects);
        (own.unwrap_or_else(|| base.set.clone()), base.name.clone())
    }

    /// The policies as the host's metadata of the route would have them, if it says something that can be used.
    #[cfg(feature = "route-metadata")]
    fn metadata_set(&self, base: &Route, facts: &mut dyn Facts, effects: &mut Effects) -> Option<Rc<Set>> {
        let text = self.overrides.text(facts)?;
        self.overridden(base, &text)
            .inspect_err(|problem| {
                effects.push(Effect::Count(&crate::METADATA_INVALID, 1));
                effects.push(Effect::Log(
                    portcullis_policy::LogLevel::Error,
                    format!("route metadata is ignored: {problem}"),
                ));
            })
            .ok()
    }

    /// This build compiles nothing while it serves.
    #[cfg(not(feature = "route-metadata"))]
    fn metadata_set(&self, _: &Route, facts: &mut dyn Facts, effects: &mut Effects) -> Option<Rc<Set>> {
        if facts.fact(portcullis_policy::Fact::RouteMetadata).is_some_and(|text| !text.is_empty()) {
            effects.push(Effect::Count(&crate::METADATA_INVALID, 1));
            let text = "route metadata is ignored: this build reads none".to_owned();
            effects.push(Effect::Log(portcullis_policy::LogLevel::Error, text));
        }
        None
    }

    /// The request of a stream of which nothing was seen.
    fn unseen(&self, moment: Moment) -> Request {
        Request {
            tenant: self.identity.fallback_tenant(),
            user: None,
            client_ip: None,
            actions: portcullis_policy::Actions::default(),
            action: String::new(),
            route: String::new(),
            correlation_id: CorrelationId::make(moment.random),
            method: Vec::new(),
            path: Vec::new(),
            host: Vec::new(),
            scheme: Vec::new(),
            user_agent: Vec::new(),
            started: moment.now,
            started_wall_ns: moment.wall_ns,
        }
    }
}

fn head(bytes: &[u8], most: usize) -> Vec<u8> {
    bytes.get(..most).unwrap_or(bytes).to_vec()
}

fn too_large() -> Refusal {
    Refusal {
        status: 431,
        problem: "urn:portcullis:problem:headers-too-large",
        title: "Request header fields too large",
        reason: "headers-too-large",
        headers: Vec::new(),
    }
}

fn unidentified(why: Unidentified) -> Refusal {
    let (status, problem, title, reason) = match why {
        Unidentified::TenantUnknown => {
            (403, "urn:portcullis:problem:tenant-unknown", "Unknown tenant", "tenant-unknown")
        }
        Unidentified::TenantMissing => {
            (401, "urn:portcullis:problem:identity-missing", "Tenant required", "tenant-missing")
        }
        Unidentified::UserMissing => {
            (401, "urn:portcullis:problem:identity-missing", "User required", "user-missing")
        }
    };
    Refusal { status, problem, title, reason, headers: Vec::new() }
}
