mod ahead;
mod bans;
mod commit;
mod config;
mod counting;
mod flood;
mod gcra;
mod policy;
mod set;

use std::time::Duration;

use portcullis_policy::{
    Actions, ConfigErrors, Context, Decision, Effect, Effects, Event, Headers, Metric, Moment, NoFacts,
    Outcome, Policy, Refusal, Request, SharedState, Site, Tenant, User, Verdict, Vocabulary,
    config as reading,
};

use crate::{RateLimit, Stream, Wire};

/// The actions of the default configuration, in its order.
fn vocabulary() -> Vocabulary {
    Vocabulary {
        actions: ["login", "file_upload", "report_generation", "api_call"].map(str::to_owned).to_vec(),
    }
}

fn compile(wire: serde_json::Value) -> Result<(RateLimit, ConfigErrors), String> {
    let mut errors = ConfigErrors::default();
    let site = Site::root().key("rate_limit");
    let policy = reading::read::<Wire>(wire, &site, &mut errors)
        .and_then(|wire| RateLimit::compile(wire, &site, &vocabulary(), &mut errors));
    assert_eq!(policy.is_none(), errors.has_errors());
    policy.map(|policy| (policy, errors.clone())).ok_or_else(|| errors.to_string())
}

fn policy(wire: serde_json::Value) -> RateLimit {
    compile(wire).unwrap().0
}

fn request(tenant: &str, user: &str, actions: &[usize]) -> Request {
    let mut set = Actions::default();
    actions.iter().for_each(|action| set.insert(*action));
    Request {
        user: User::new(user.as_bytes()),
        client_ip: Some("203.0.113.7".parse().unwrap()),
        actions: set,
        ..Request::of(Tenant::new(tenant.as_bytes()).unwrap())
    }
}

/// What a policy made of a request and its response.
#[derive(Debug, Default)]
struct Answer {
    refusal: Option<Refusal>,
    decisions: Vec<portcullis_policy::Decision>,
    counts: Vec<(String, u64)>,
    logs: Vec<String>,
    headers: Vec<(String, String)>,
}

impl Answer {
    fn passed(&self) -> bool {
        self.refusal.is_none()
    }

    fn count(&self, metric: &Metric) -> u64 {
        self.counted(metric.name)
    }

    fn counted(&self, name: &str) -> u64 {
        self.counts.iter().filter(|(known, _)| known == name).map(|(_, by)| by).sum()
    }

    /// A header of the response, be it the application's or ours.
    fn header(&self, name: &str) -> Option<&str> {
        let ours = self.refusal.iter().flat_map(|refusal| &refusal.headers);
        ours.map(|(key, value)| (*key, value.as_str()))
            .chain(self.headers.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.decisions.iter().map(|decision| decision.verdict).collect()
    }
}

/// One request at that time, through to its response.
fn ask(policy: &RateLimit, shared: &mut dyn SharedState, now: Duration, request: &Request) -> Answer {
    let mut under_way = begin(policy, shared, now, request, &[]);
    under_way.respond(policy, shared, now, request, None, &[]);
    under_way.answer
}

/// A request that is under way.
#[derive(Debug, Default)]
struct UnderWay {
    stream: Stream,
    answer: Answer,
}

/// Its headers arrive.
fn begin(
    policy: &RateLimit,
    shared: &mut dyn SharedState,
    now: Duration,
    request: &Request,
    headers: &[(&str, &str)],
) -> UnderWay {
    let mut under_way = UnderWay::default();
    let headers =
        Headers::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
    let event = Event::RequestHeaders { headers: &headers, end_of_stream: true };
    under_way.on(policy, shared, now, request, &event, &[]);
    under_way
}

impl UnderWay {
    fn on(
        &mut self,
        policy: &RateLimit,
        shared: &mut dyn SharedState,
        now: Duration,
        request: &Request,
        event: &Event<'_>,
        decisions: &[Decision],
    ) {
        let mut effects = Effects::new();
        let moment = Moment { now, ..Moment::default() };
        let mut context = Context { moment, request, decisions, shared, facts: &mut NoFacts };
        policy.on(&mut context, &mut self.stream, event, &mut effects);
        for effect in effects {
            self.answer.take(effect);
        }
    }

    /// Its response, the application's or our own.
    fn respond(
        &mut self,
        policy: &RateLimit,
        shared: &mut dyn SharedState,
        now: Duration,
        request: &Request,
        status: Option<u16>,
        headers: &[(&str, &str)],
    ) {
        let status = self.answer.refusal.as_ref().map(|refusal| refusal.status).or(status);
        let status = status.map(|status| status.to_string());
        let mut pairs: Vec<(&[u8], &[u8])> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        pairs.extend(status.iter().map(|status| (&b":status"[..], status.as_bytes())));
        self.on(policy, shared, now, request, &Event::ResponseHeaders { headers: &Headers::new(pairs) }, &[]);
    }

    /// Its end.
    fn end(
        &mut self,
        policy: &RateLimit,
        shared: &mut dyn SharedState,
        now: Duration,
        request: &Request,
        status: Option<u16>,
        decisions: &[Decision],
    ) {
        let status = self.answer.refusal.as_ref().map(|refusal| refusal.status).or(status);
        let outcome = Outcome { status, ..Outcome::default() };
        self.on(policy, shared, now, request, &Event::Done { outcome: &outcome }, decisions);
    }
}

/// One request at that time, from its headers to its end, answered with that status if it passes.
fn exchange(
    policy: &RateLimit,
    shared: &mut dyn SharedState,
    now: Duration,
    request: &Request,
    status: u16,
    headers: &[(&str, &str)],
) -> Answer {
    let mut under_way = begin(policy, shared, now, request, headers);
    under_way.respond(policy, shared, now, request, Some(status), headers);
    under_way.end(policy, shared, now, request, Some(status), &[]);
    under_way.answer
}

impl Answer {
    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Refuse(refusal) => assert!(self.refusal.replace(refusal).is_none()),
            Effect::Decide(decision) => self.decisions.push(decision),
            Effect::Count(metric, by) => self.counts.push((metric.name.to_owned(), by)),
            Effect::CountNamed(name, by) => self.counts.push((name.to_string(), by)),
            Effect::Log(_, text) => self.logs.push(text),
            Effect::SetResponseHeader(name, value) => {
                self.headers.push((name.to_string(), String::from_utf8(value.to_vec()).unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// B + ⌈L·t/W⌉.
fn promise(limit: u32, window: Duration, burst: u32, span_ns: u64) -> u128 {
    u128::from(burst) + (u128::from(limit) * u128::from(span_ns)).div_ceil(window.as_nanos())
}

/// Whether the times of admission, in order, keep the promise in every span.
fn keeps_promise(times: &[u64], limit: u32, window: Duration, burst: u32) -> bool {
    times.iter().enumerate().all(|(from, start)| {
        times.iter().enumerate().skip(from).all(|(to, end)| {
            (to - from + 1) as u128 <= promise(limit, window, burst, end.saturating_sub(*start))
        })
    })
}
