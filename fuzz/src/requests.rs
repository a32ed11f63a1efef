//! Whole requests through the chain: the same is decided wherever the body is cut.

use std::cell::RefCell;

use portcullis_chain::{Chain, Ports, Stream};
use portcullis_policy::{
    Decision, Effect, Effects, Event, Headers, LocalSlots, Moment, NoFacts, Outcome, Refusal,
};

use crate::Choices;

thread_local! {
    static CHAINS: [Chain; 2] = [chain("{}"), chain(
        r#"{"sanitize": {"mode": "monitor", "sensitivity": 4, "body_max_bytes": 8192, "on_oversize": "deny"}}"#,
    )];
    static EFFECTS: RefCell<Effects> = const { RefCell::new(Vec::new()) };
}

fn chain(text: &str) -> Chain {
    let mut document: serde_json::Value = serde_json::from_str(text).expect("JSON");
    document["policies"] = serde_json::json!(["headers", "sanitize"]);
    match Chain::from_json(document.to_string().as_bytes()) {
        Ok((chain, _)) => chain,
        Err(errors) => panic!("{errors}"),
    }
}

type Verdict = (Vec<Decision>, Vec<Refusal>);

/// The first byte chooses the configuration, the second how the body is cut. Then, each on a line: method and target,
/// headers; after an empty line, the body.
pub fn hold(data: &[u8]) {
    let mut choices = Choices(data);
    let (configuration, cut) = (choices.next(), choices.next());
    let first = choices.until(b'\n');
    let (method, target) = first.split_at(first.iter().position(|byte| *byte == b' ').unwrap_or(first.len()));
    let target = target.get(1..).unwrap_or_default();
    let mut pairs: Vec<(&[u8], &[u8])> =
        vec![(b":method", method), (b":path", target), (b":authority", b"app.test"), (b":scheme", b"http")];
    loop {
        let line = choices.until(b'\n');
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        pairs.push((name, value.get(1..).unwrap_or_default()));
    }
    let body = choices.0;
    let headers = Headers::new(pairs);
    CHAINS.with(|chains| {
        let chain = &chains[usize::from(configuration) % chains.len()];
        let whole = verdict(chain, &headers, &[body]);
        let size = usize::from(cut % 61).max(1);
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(whole, verdict(chain, &headers, &pieces), "pieces of {size}");
        let (head, tail) = body.split_at((usize::from(cut) * 7).min(body.len()));
        assert_eq!(whole, verdict(chain, &headers, &[head, b"", tail]), "cut at {}", head.len());
    });
}

fn verdict(chain: &Chain, headers: &Headers<'_>, pieces: &[&[u8]]) -> Verdict {
    let (mut decisions, mut refusals) = (Vec::new(), Vec::new());
    let mut stream = Stream::default();
    let (mut facts, mut slots) = (NoFacts, LocalSlots::new(7));
    let mut inspecting = false;
    let mut on = |event: &Event<'_>, inspecting: &mut bool| {
        EFFECTS.with_borrow_mut(|effects| {
            let mut ports = Ports { facts: &mut facts, shared: &mut slots };
            chain.on(&mut stream, &mut ports, Moment::default(), event, effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::InspectRequestBody => *inspecting = true,
                    Effect::ReleaseRequestBody => *inspecting = false,
                    Effect::Refuse(refusal) => {
                        *inspecting = false;
                        refusals.push(refusal);
                    }
                    Effect::Decide(decision) => decisions.push(decision),
                    _ => {}
                }
            }
        });
    };
    let empty = pieces.iter().all(|piece| piece.is_empty());
    on(&Event::RequestHeaders { headers, end_of_stream: empty }, &mut inspecting);
    for (number, chunk) in pieces.iter().enumerate() {
        if inspecting && !empty {
            on(&Event::RequestBody { chunk, end_of_stream: number + 1 == pieces.len() }, &mut inspecting);
        }
    }
    let response = Headers::new(vec![(b":status", b"200")]);
    on(&Event::ResponseHeaders { headers: &response }, &mut inspecting);
    on(&Event::Done { outcome: &Outcome::default() }, &mut inspecting);
    assert!(refusals.len() <= 1, "refused twice");
    (decisions, refusals)
}
