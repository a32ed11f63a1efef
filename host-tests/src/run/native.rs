//! The chain itself, without a module: what `plugins/proxy-wasm` does with callbacks, done with events.

use std::{collections::BTreeMap, time::Duration};

use portcullis_chain::{Chain, Ports, Stream};
use portcullis_policy::{
    Effect, Effects, Event, Fact, Facts, Fate, Headers, Journal, LocalSlots, Metric, Moment, Outcome,
    Refusal, SharedState, SlotValue, StateError, StoreResult, Substitution, Ticket,
};
use serde_json::Value;

use super::{CaseHost, edge_request, upstream_answer};
use crate::{
    case::{self, RequestWire, UpstreamWire},
    expect::Observed,
    host::{HeaderMap, Options, Process, local_reply},
};

/// A chain that serves.
pub struct Native {
    chain: Chain,
    slots: Slots,
    process: Process,
    facts: case::Facts,
    body_bytes: usize,
}

impl Native {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// Every problem of the configuration.
    pub fn start(configuration: &[u8], facts: &case::Facts) -> Result<Self, String> {
        let (chain, _) = Chain::from_json(configuration).map_err(|errors| errors.to_string())?;
        let process = Process::new(1);
        let reached = chain.companion().cluster == COMPANION;
        Ok(Self {
            chain,
            slots: Slots {
                local: LocalSlots::new(process.random()),
                journal: reached.then(Intents::default),
            },
            process,
            facts: facts.clone(),
            body_bytes: Options::default().body_bytes,
        })
    }
}

/// The cluster behind which a case's companion is; behind any other name is nobody.
const COMPANION: &str = "portcullis_ingest";

/// Slots, and a companion that stores every intent at once.
struct Slots {
    local: LocalSlots,
    journal: Option<Intents>,
}

#[derive(Default)]
struct Intents(Vec<Vec<u8>>);

impl SharedState for Slots {
    fn load(&mut self, slot: u32) -> Result<SlotValue, StateError> {
        self.local.load(slot)
    }

    fn store(&mut self, slot: u32, bytes: &[u8], version: u32) -> Result<StoreResult, StateError> {
        self.local.store(slot, bytes, version)
    }

    fn seed(&mut self) -> u64 {
        self.local.seed()
    }

    fn journal(&mut self) -> Option<&mut dyn Journal> {
        self.journal.as_mut().map(|journal| journal as &mut dyn Journal)
    }
}

impl Journal for Intents {
    fn write(&mut self, line: &[u8]) -> Option<Ticket> {
        self.0.push(line.to_vec());
        Some(Ticket(0))
    }

    fn fate(&mut self, _: Ticket) -> Fate {
        Fate::Durable
    }

    fn withdraw(&mut self, _: Ticket) {}
}

impl CaseHost for Native {
    fn at(&mut self, since_start: Duration) -> Result<(), String> {
        self.process.set_time(since_start);
        Ok(())
    }

    fn exchange(&mut self, request: &RequestWire, upstream: &UpstreamWire) -> Result<Observed, String> {
        let (headers, pieces) = edge_request(request, self.facts.source());
        let mut exchange = Exchange {
            host: self,
            stream: Stream::default(),
            request: headers.clone(),
            response: HeaderMap::new(),
            body: Vec::new(),
            inspecting: false,
            held: 0,
            released: false,
            refused: None,
            announced: length(&headers),
            sent: pieces.concat(),
            seen: Observed::default(),
            problem: None,
            substitution: None,
        };
        exchange.request(&pieces);
        exchange.answer(upstream);
        exchange.done();
        let Exchange { response, body, mut seen, mut problem, .. } = exchange;
        let intents = self.slots.journal.as_mut().map(|journal| std::mem::take(&mut journal.0));
        for text in intents.into_iter().flatten() {
            match serde_json::from_slice(&text) {
                Ok(intent) => seen.intents.push(intent),
                Err(error) => problem = Some(format!("an intent is not JSON: {error}")),
            }
        }
        seen.status = response.status();
        seen.headers = response;
        seen.body = body;
        problem.map_or(Ok(seen), Err)
    }
}

struct Exchange<'a> {
    host: &'a mut Native,
    stream: Stream,
    request: HeaderMap,
    response: HeaderMap,
    body: Vec<u8>,
    inspecting: bool,
    /// Bytes of the request's body that are held back.
    held: usize,
    /// Something of it has left.
    released: bool,
    refused: Option<Refusal>,
    /// The length of the request's body, as its client announced it.
    announced: Option<u64>,
    /// The request's body, as it will leave.
    sent: Vec<u8>,
    seen: Observed,
    problem: Option<String>,
    /// What is replaced in the response's body.
    substitution: Option<Substitution>,
}

/// What the adapter counts by itself.
const UNSAFE_VALUES: &str = "portcullis_unsafe_header_values_total";

impl Exchange<'_> {
    fn on(&mut self, event: &Event<'_>) {
        let mut effects = Effects::new();
        let process = &self.host.process;
        let moment = Moment {
            now: Duration::from_nanos(process.monotonic_ns()),
            wall_ns: process.wall_ns(),
            random: [process.random(), process.random()],
        };
        let holds = self.host.facts.holds_headers && !self.released;
        let mut known = Known { facts: &self.host.facts, holds };
        let mut ports = Ports { facts: &mut known, shared: &mut self.host.slots };
        self.host.chain.on(&mut self.stream, &mut ports, moment, event, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SetRequestHeader(name, value) => {
                if self.is_safe(&value) {
                    self.request.replace(name.as_bytes(), &value);
                }
            }
            Effect::AddRequestHeader(name, value) => {
                if self.is_safe(&value) {
                    self.request.add(name.as_bytes(), &value);
                }
            }
            Effect::RemoveRequestHeader(name) => self.request.remove(name.as_bytes()),
            Effect::SetResponseHeader(name, value) => {
                if self.is_safe(&value) {
                    self.response.replace(name.as_bytes(), &value);
                }
            }
            Effect::AddResponseHeader(name, value) => {
                if self.is_safe(&value) {
                    self.response.add(name.as_bytes(), &value);
                }
            }
            Effect::RemoveResponseHeader(name) => self.response.remove(name.as_bytes()),
            Effect::InspectRequestBody => self.inspecting = true,
            Effect::PassRequestBody => {
                self.held = 0;
                self.released = true;
            }
            Effect::ReleaseRequestBody => self.inspecting = false,
            Effect::ReplaceRequestBody(body) => {
                if self.request.first("content-length").is_some() {
                    self.request.replace(b"content-length", body.len().to_string().as_bytes());
                }
                self.sent = body;
            }
            Effect::Refuse(refusal) => {
                self.inspecting = false;
                self.refused.get_or_insert(refusal);
            }
            Effect::SubstituteInResponseBody(substitution) => self.substitution = Some(substitution),
            Effect::Wait => self.problem = Some("a case waits, and nobody would ever answer".to_owned()),
            Effect::Decide(_) | Effect::Log(..) => {}
            Effect::Count(Metric { name, .. }, by) => self.count(name, by),
            Effect::CountNamed(name, by) => self.count(&name, by),
            Effect::Record(text) => match serde_json::from_slice::<Value>(&text) {
                Ok(record) => self.seen.records.push(record),
                Err(error) => self.problem = Some(format!("a record is not JSON: {error}")),
            },
        }
    }

    fn count(&mut self, name: &str, by: u64) {
        let counters: &mut BTreeMap<String, u64> = &mut self.seen.metrics;
        let counter = counters.entry(name.to_owned()).or_default();
        *counter = counter.saturating_add(by);
    }

    fn is_safe(&mut self, value: &[u8]) -> bool {
        let safe = !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if !safe {
            self.count(UNSAFE_VALUES, 1);
        }
        safe
    }

    /// The request, until it has arrived or is answered in the application's place.
    fn request(&mut self, pieces: &[Vec<u8>]) {
        let map = self.request.clone();
        let headers = Headers::new(map.iter().collect());
        self.on(&Event::RequestHeaders { headers: &headers, end_of_stream: pieces.is_empty() });
        if !self.host.facts.holds_headers && self.refused.is_none() {
            self.seen.upstream = Some(self.request.clone());
        }
        for (number, piece) in pieces.iter().enumerate() {
            if self.refused.is_some() || !self.inspecting {
                break;
            }
            let waiting = self.held > 0;
            self.held = self.held.saturating_add(piece.len());
            // A proxy looks before it shows what it has kept together with what is new.
            if waiting && self.held > self.host.body_bytes {
                return self.too_large();
            }
            let end_of_stream = number.saturating_add(1) == pieces.len();
            self.on(&Event::RequestBody { chunk: piece, end_of_stream });
            if self.refused.is_none() && self.inspecting && !end_of_stream && self.held > self.host.body_bytes
            {
                return self.too_large();
            }
        }
        if let Some(refusal) = self.refused.clone() {
            let reply = self.stream.reply(&refusal);
            let headers: HeaderMap = reply.headers.iter().map(|(name, value)| (*name, value)).collect();
            self.local(reply.status, &headers, reply.body);
        }
    }

    fn too_large(&mut self) {
        self.local(413, &HeaderMap::new(), b"Payload Too Large".to_vec());
    }

    /// A reply of the proxy's or of our own passes the response policies too.
    fn local(&mut self, status: u16, headers: &HeaderMap, body: Vec<u8>) {
        self.response = local_reply(u32::from(status), headers, &body);
        self.body = body;
        self.respond();
    }

    fn respond(&mut self) {
        let map = self.response.clone();
        let headers = Headers::new(map.iter().collect());
        self.on(&Event::ResponseHeaders { headers: &headers });
        if let Some(substitution) = &self.substitution {
            substitution.apply(&mut self.body);
        }
    }

    fn answer(&mut self, upstream: &UpstreamWire) {
        if self.response.is_empty() {
            self.seen.upstream = Some(self.request.clone());
            self.seen.upstream_body = std::mem::take(&mut self.sent);
            self.response = upstream_answer(upstream);
            self.body.clone_from(&upstream.body.0);
            self.respond();
        }
    }

    fn done(&mut self) {
        let status = self.response.status();
        // As the adapter has it from Envoy: who failed, if somebody other than we did.
        let failed = self.refused.is_none() && status.is_some_and(|status| status >= 500);
        let outcome = Outcome {
            status,
            details: if failed { b"via_upstream".to_vec() } else { Vec::new() },
            request_bytes: self.announced,
            response_bytes: length(&self.response),
            ..Outcome::default()
        };
        self.on(&Event::Done { outcome: &outcome });
    }
}

/// What `content-length` says.
fn length(headers: &HeaderMap) -> Option<u64> {
    std::str::from_utf8(headers.first("content-length")?).ok()?.parse().ok()
}

/// A case's facts.
struct Known<'a> {
    facts: &'a case::Facts,
    holds: bool,
}

impl Facts for Known<'_> {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        let text = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        match fact {
            Fact::SourceAddress => Some(self.facts.source().as_bytes().to_vec()),
            Fact::RouteName => text(&self.facts.route_name),
            Fact::VirtualHost => text(&self.facts.virtual_host),
            Fact::RouteMetadata => text(&self.facts.route_metadata),
            Fact::JwtClaim(claim) => self.facts.jwt_claims.get(claim).map(|value| value.clone().into_bytes()),
            Fact::PeerSubject => text(&self.facts.peer_subject),
            Fact::Environment(name) => {
                self.facts.environment.get(name).map(|value| value.clone().into_bytes())
            }
            Fact::FilterMark(filter) => self.facts.marks().contains(&filter).then(|| b"ran".to_vec()),
        }
    }

    fn entropy(&mut self) -> Option<[u8; 32]> {
        // What a hash table is seeded with is random enough for a test.
        use std::hash::{BuildHasher, RandomState};
        let mut bytes = [0; 32];
        for (number, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&RandomState::new().hash_one(number).to_le_bytes());
        }
        Some(bytes)
    }

    fn holds_request(&self) -> bool {
        self.holds
    }

    fn rewrites_responses(&self) -> bool {
        true
    }
}
