//! Requests through the chain, as a proxy would hand them on.

use portcullis_chain::{BUILT_IN, Chain, Ports, Stream};
use portcullis_policy::{
    ConfigErrors, Decision, Effect, Effects, Event, Fact, Facts, Headers, LocalSlots, Moment, Refusal,
    Verdict as Judged,
};
use serde_json::Value;

use crate::{Header, Request};

/// A configuration that judges requests, one by one. Rates are not limited, and nothing is recorded.
pub struct Guard {
    chain: Chain,
    slots: LocalSlots,
    known: Known,
}

/// What a proxy would know beside the request itself.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Claims of a token that a filter has verified.
    pub claims: Vec<(String, String)>,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Status and reason of the refusal, if it was refused.
    pub refusal: Option<Refusal>,
    /// What the policies decided, in order.
    pub decisions: Vec<Decision>,
    /// Whose traffic it was.
    pub tenant: String,
    /// The configured route that applied, `""` for the defaults.
    pub route: String,
    /// Headers that the application sees otherwise than they came, and `body`; the correlation ID apart.
    pub changed: Vec<(String, Vec<u8>)>,
}

impl Verdict {
    /// The decision that refused the request, or in mode `monitor` would have.
    pub fn decisive(&self) -> Option<&Decision> {
        let of = |verdict| self.decisions.iter().find(|decision| decision.verdict == verdict);
        of(Judged::Deny).or_else(|| of(Judged::Monitor))
    }

    /// Whether the request was refused, or in mode `monitor` would have been.
    pub fn is_against(&self) -> bool {
        self.refusal.is_some() || self.decisive().is_some()
    }
}

/// What judges nothing that a recording could show.
const LEFT_OUT: [&str; 2] = ["rate_limit", "audit"];
/// Bytes of a body that are shown at once.
const PIECE: usize = 64 * 1024;

impl Guard {
    /// Compiles a configuration; the warnings come along.
    ///
    /// # Errors
    /// Every problem of the configuration.
    pub fn new(configuration: &[u8], known: Known) -> Result<(Self, ConfigErrors), ConfigErrors> {
        // As it is, so that problems are told as the module tells them.
        let (_, warnings) = Chain::from_json(configuration)?;
        let judging = without(configuration, &LEFT_OUT);
        let (chain, _) = Chain::from_json(&judging)?;
        Ok((Self { chain, slots: LocalSlots::new(0), known }, warnings))
    }

    /// Judges one request.
    pub fn judge(&mut self, request: &Request) -> Verdict {
        let headers = edge(request);
        let pairs = headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let headers = Headers::new(pairs);
        let mut one = Judging {
            chain: &self.chain,
            slots: &mut self.slots,
            facts: Told { known: &self.known, source: source(request), holds: true },
            stream: Stream::default(),
            inspecting: false,
            verdict: Verdict {
                refusal: None,
                decisions: Vec::new(),
                tenant: String::new(),
                route: String::new(),
                changed: Vec::new(),
            },
        };
        one.on(&Event::RequestHeaders { headers: &headers, end_of_stream: request.body.is_empty() });
        let mut pieces = request.body.chunks(PIECE).peekable();
        while let Some(chunk) = pieces.next() {
            if one.verdict.refusal.is_some() || !one.inspecting {
                break;
            }
            one.on(&Event::RequestBody { chunk, end_of_stream: pieces.peek().is_none() });
        }
        if let Some(resolved) = one.stream.request() {
            one.verdict.tenant = resolved.tenant.as_str().to_owned();
            one.verdict.route.clone_from(&resolved.route);
        }
        one.verdict
    }
}

/// The configuration without the policies of these names. What is no JSON object stays as it is.
pub fn without(configuration: &[u8], left_out: &[&str]) -> Vec<u8> {
    let Ok(Value::Object(mut document)) = serde_json::from_slice(configuration) else {
        return configuration.to_vec();
    };
    let mut policies = match document.remove("policies") {
        Some(Value::Array(policies)) => policies,
        _ => BUILT_IN.iter().map(|name| Value::from(*name)).collect(),
    };
    policies.retain(|name| !left_out.iter().any(|left| name.as_str() == Some(*left)));
    document.insert("policies".to_owned(), Value::Array(policies));
    Value::Object(document).to_string().into_bytes()
}

struct Judging<'a> {
    chain: &'a Chain,
    slots: &'a mut LocalSlots,
    facts: Told<'a>,
    stream: Stream,
    inspecting: bool,
    verdict: Verdict,
}

impl Judging<'_> {
    fn on(&mut self, event: &Event<'_>) {
        let mut effects = Effects::new();
        let mut ports = Ports { facts: &mut self.facts, shared: &mut *self.slots };
        self.chain.on(&mut self.stream, &mut ports, Moment::default(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::InspectRequestBody => self.inspecting = true,
                Effect::PassRequestBody => self.facts.holds = false,
                Effect::ReleaseRequestBody => self.inspecting = false,
                Effect::SetRequestHeader(name, value) | Effect::AddRequestHeader(name, value)
                    if &*name != "x-request-id" =>
                {
                    self.verdict.changed.push((name.to_string(), value.to_vec()));
                }
                Effect::ReplaceRequestBody(body) => self.verdict.changed.push(("body".to_owned(), body)),
                Effect::Refuse(refusal) => {
                    self.verdict.refusal.get_or_insert(refusal);
                }
                Effect::Decide(decision) => self.verdict.decisions.push(decision),
                _ => {}
            }
        }
    }
}

/// The other end of the connection, `ip:port`.
fn source(request: &Request) -> String {
    let client = request.client.as_deref().unwrap_or("127.0.0.1");
    match client.parse::<std::net::IpAddr>() {
        Ok(address) => std::net::SocketAddr::new(address, 40_000).to_string(),
        Err(_) => client.to_owned(),
    }
}

/// What the proxy knows of a recorded request.
struct Told<'a> {
    known: &'a Known,
    source: String,
    /// Nothing of the request has left: the bootstrap has requests held.
    holds: bool,
}

impl Facts for Told<'_> {
    fn fact(&mut self, fact: Fact<'_>) -> Option<Vec<u8>> {
        match fact {
            Fact::SourceAddress => Some(self.source.clone().into_bytes()),
            Fact::JwtClaim(claim) => {
                let found = self.known.claims.iter().find(|(name, _)| name == claim);
                found.map(|(_, value)| value.clone().into_bytes())
            }
            // A recording holds headers as the application got them: the filters that set them have run.
            Fact::FilterMark(_) => Some(b"ran".to_vec()),
            Fact::RouteName
            | Fact::VirtualHost
            | Fact::RouteMetadata
            | Fact::PeerSubject
            | Fact::Environment(_) => None,
        }
    }

    fn entropy(&mut self) -> Option<[u8; 32]> {
        // Nothing is sent: what is sealed here nobody is to open.
        Some([0; 32])
    }

    fn holds_request(&self) -> bool {
        self.holds
    }
}

/// The request's headers as a proxy shows them to its filters: pseudo headers first, names in lower case.
fn edge(request: &Request) -> Vec<Header> {
    let mut host = request.header("host").unwrap_or_default().to_vec();
    let mut target = request.target.clone();
    let (lower, mut scheme) = (target.to_ascii_lowercase(), request.scheme);
    // RFC 9112, section 3.2.2: in absolute form, the host in the target counts.
    if lower.starts_with(b"http://") || lower.starts_with(b"https://") {
        (scheme, host, target) = crate::curl::parts_of(&request.target);
    }
    let pseudo = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let mut headers = vec![
        pseudo(":authority", &host),
        pseudo(":path", &target),
        pseudo(":method", &request.method),
        pseudo(":scheme", scheme.as_bytes()),
    ];
    let mut hosts = 0_usize;
    for (name, value) in &request.headers {
        let name = name.to_ascii_lowercase();
        if name == b"host" {
            hosts = hosts.saturating_add(1);
            if hosts == 1 {
                continue;
            }
        }
        headers.push((name, value.trim_ascii().to_vec()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(configuration: &str, request: &Request) -> Verdict {
        let Ok((mut guard, _)) = Guard::new(configuration.as_bytes(), Known::default()) else {
            panic!("{configuration}")
        };
        guard.judge(request)
    }

    fn plain(target: &str) -> Request {
        Request::new("GET", target).with("host", "h")
    }

    fn attack() -> Request {
        Request::new("GET", "/search?q=1%27%20or%201=1%20--%20").with("host", "h")
    }

    #[test]
    fn an_attack_is_refused_and_a_near_miss_is_not() {
        let verdict = judge("{}", &attack());
        let decision = verdict.decisive().unwrap();
        assert_eq!((decision.policy, decision.reason), ("sanitize", "sql-injection"));
        assert_eq!(verdict.refusal.as_ref().unwrap().status, 403);
        let fine = judge("{}", &Request::new("GET", "/search?q=1%20or%202").with("host", "h"));
        assert!(!fine.is_against() && fine.refusal.is_none());
        assert_eq!(fine.tenant, "public");
    }

    #[test]
    fn bodies_are_judged_too() {
        let post = |text: &str| {
            Request::new("POST", "/").with("host", "h").with_body("application/x-www-form-urlencoded", text)
        };
        assert!(judge("{}", &post("a=1&b=%3Cscript%3Ealert(1)%3C/script%3E")).is_against());
        assert!(!judge("{}", &post("a=1&b=scripts+are+fine")).is_against());
    }

    #[test]
    fn monitoring_is_told_and_lets_pass() {
        let verdict = judge(r#"{"sanitize": {"mode": "monitor"}}"#, &attack());
        assert!(verdict.refusal.is_none() && verdict.is_against());
        assert!(!judge(r#"{"sanitize": {"mode": "off"}}"#, &attack()).is_against());
    }

    #[test]
    fn what_a_request_becomes_is_told() {
        let target = "/s?q=%3Cscript%3Ego()%3C/script%3Etea";
        let cleaned = judge(r#"{"sanitize": {"action": "clean"}}"#, &plain(target));
        assert!(cleaned.refusal.is_none());
        assert_eq!(cleaned.changed, [(":path".to_owned(), b"/s?q=tea".to_vec())]);
        let tagged = judge(r#"{"sanitize": {"action": "tag"}}"#, &plain(target));
        assert_eq!(
            tagged.changed,
            [("x-portcullis-findings".to_owned(), b"score=92, families=(xss)".to_vec())]
        );
        assert!(judge(r#"{"sanitize": {"action": "clean"}}"#, &plain("/s?q=tea")).changed.is_empty());
    }

    #[test]
    fn rates_are_not_limited() {
        let limited = r#"{"rate_limit": {"rules": [{"name": "one", "per": ["tenant"], "limit": 1, "window": "1h"}]},
            "routes": [{"name": "r", "match": {"path_prefix": "/r"}, "sanitize": {"mode": "off"}}]}"#;
        let Ok((mut guard, _)) = Guard::new(limited.as_bytes(), Known::default()) else { panic!("compiles") };
        for _ in 0..3 {
            assert!(!guard.judge(&plain("/")).is_against());
        }
        assert_eq!(guard.judge(&plain("/r")).route, "r");
        assert!(Guard::new(br#"{"rate_limit": {"rule": 1}}"#, Known::default()).is_err());
    }

    #[test]
    fn identity_comes_from_headers_and_given_claims() {
        let configuration = r#"{"tenant": {"from": [{"jwt_claim": "org"}, {"header": "x-org", "set_by": "ext_authz"}], "default": null}}"#;
        let known = Known { claims: vec![("org".to_owned(), "acme".to_owned())] };
        let Ok((mut guard, _)) = Guard::new(configuration.as_bytes(), known) else { panic!("compiles") };
        assert_eq!(guard.judge(&plain("/")).tenant, "acme");
        assert_eq!(judge(configuration, &plain("/").with("x-org", "b")).tenant, "b");
        let nobody = judge(configuration, &plain("/"));
        assert_eq!(nobody.refusal.unwrap().status, 401);
    }

    #[test]
    fn a_target_in_absolute_form_is_taken_apart() {
        let headers = edge(&Request::new("GET", "HTTPS://Shop.test/a?b").with("Host", "x").with("Host", "y"));
        let shown: Vec<String> = headers
            .iter()
            .map(|(name, value)| {
                format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            })
            .collect();
        assert_eq!(shown, [":authority=Shop.test", ":path=/a?b", ":method=GET", ":scheme=https", "host=y"]);
    }
}
