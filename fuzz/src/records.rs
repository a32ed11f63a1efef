//! Audit records: whatever stands around it, a secret is not in the record; the record is one line of JSON within its
//! bound, and the companion reads it.

use portcullis_audit::LINE_BYTES;
use portcullis_chain::{Chain, Ports, Stream};
use portcullis_policy::{Effect, Effects, Event, Headers, LocalSlots, Moment, NoFacts, Outcome};
use portcullis_server::{clock::Timestamp, ingest::record};

use crate::Choices;

const SECRET: &[u8] = b"Zq7secret9fXw1";
/// Parameters whose value is a secret.
const NAMES: [&[u8]; 12] = [
    b"token",
    b"password",
    b"api_key",
    b"apiKey",
    b"client_secret",
    b"sessionId",
    b"user[pass]",
    b"to%6ben",
    b"%2574oken",
    b"Access-Token",
    b"%70%77%64",
    b"x.sig",
];
/// Headers whose value is a secret, though the configuration asks for them.
const HEADERS: [&[u8]; 6] =
    [b"authorization", b"cookie", b"proxy-authorization", b"x-api-key", b"x-auth-token", b"set-cookie"];

thread_local! {
    static CHAIN: Chain = {
        let configuration = serde_json::json!({
            "policies": ["sanitize", "audit"],
            "sanitize": {"mode": "monitor", "sensitivity": 4},
            "audit": {"headers": ["referer", "accept", "x-api-key", "x-auth-token", "x-other"], "redact": ["plain"], "redact_after": ["reset"]},
        });
        match Chain::from_json(configuration.to_string().as_bytes()) {
            Ok((chain, _)) => chain,
            Err(errors) => panic!("{errors}"),
        }
    };
}

/// Two bytes choose names; then a line each: the path before, the query before, the query behind, the user agent,
/// another header.
pub fn hold(data: &[u8]) {
    let mut choices = Choices(data);
    let name = choices.one_of(&NAMES);
    let header = choices.one_of(&HEADERS);
    let after = choices.flag();
    let [path, before, behind, agent, other] = std::array::from_fn(|_| choices.until(b'\n'));
    // What is tried must not hold what is looked for.
    if data.windows(SECRET.len()).any(|window| window == SECRET) {
        return;
    }
    let reset = if after { [b"/reset/", SECRET].concat() } else { Vec::new() };
    let path: Vec<u8> = path.iter().copied().filter(|byte| *byte != b'?').collect();
    let parts: [&[u8]; 10] = [b"/", &path, &reset, b"?", before, b"&", name, b"=", SECRET, b"&"];
    let target = [&parts.concat()[..], behind].concat();
    let headers = Headers::new(vec![
        (b":method", b"GET"),
        (b":path", &target),
        (b":authority", b"app.test"),
        (b"user-agent", agent),
        (b"referer", other),
        (b"x-other", other),
        (header, SECRET),
    ]);
    let mut text = None;
    CHAIN.with(|chain| {
        let (mut stream, mut facts, mut slots) = (Stream::default(), NoFacts, LocalSlots::new(7));
        let mut on = |event: &Event<'_>| {
            let mut effects = Effects::new();
            let mut ports = Ports { facts: &mut facts, shared: &mut slots };
            let moment = Moment { wall_ns: 1_700_000_000_000_000_000, ..Moment::default() };
            chain.on(&mut stream, &mut ports, moment, event, &mut effects);
            for effect in effects {
                if let Effect::Record(record) = effect {
                    assert!(text.replace(record).is_none(), "two records");
                }
            }
        };
        on(&Event::RequestHeaders { headers: &headers, end_of_stream: true });
        on(&Event::Done { outcome: &Outcome { status: Some(200), ..Outcome::default() } });
    });
    let text = text.expect("a record");
    let shown = String::from_utf8(text).expect("UTF-8");
    assert!(shown.len() <= LINE_BYTES && !shown.contains('\n'), "{} bytes", shown.len());
    assert!(
        !shown.as_bytes().windows(SECRET.len()).any(|window| window == SECRET),
        "a secret is told: {shown}"
    );
    let body = shown.strip_suffix("}}}").expect("three braces");
    let line = format!("{body},\"epoch\":\"0123456789abcdef\",\"sequence\":1}}}}}}");
    record::read(line.as_bytes(), Timestamp::UNIX_EPOCH).unwrap_or_else(|error| panic!("{error}: {line}"));
}
