//! What the policy costs, natively: nanoseconds per small GET and per JSON body of 2 KB.
//!
//! `cargo run --release -p portcullis-sanitize --example cost`
#![expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

use std::time::{Duration, Instant};

use portcullis_policy::{
    ConfigErrors, Context, Effects, Event, Header, Headers, LocalSlots, Moment, NoFacts, Policy, Request,
    Site, Tenant, Vocabulary, json,
};
use portcullis_sanitize::{Sanitize, Stream, Wire};

fn request() -> Request {
    Request::of(Tenant::public())
}

/// The best of several rounds, per request: what disturbs a round only adds to it.
fn measure(name: &str, policy: &Sanitize, pairs: &[Header<'_>], body: Option<&[u8]>) {
    const ROUNDS: u32 = 40;
    const REQUESTS: u32 = 500;
    let (request, headers) = (request(), Headers::new(pairs.to_vec()));
    let mut shared = LocalSlots::new(0);
    let mut context = Context {
        moment: Moment::default(),
        request: &request,
        decisions: &[],
        shared: &mut shared,
        facts: &mut NoFacts,
    };
    let mut effects = Effects::new();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..REQUESTS {
            effects.clear();
            let mut stream = Stream::default();
            let event = Event::RequestHeaders { headers: &headers, end_of_stream: body.is_none() };
            policy.on(&mut context, &mut stream, &event, &mut effects);
            if let Some(chunk) = body {
                let event = Event::RequestBody { chunk, end_of_stream: true };
                policy.on(&mut context, &mut stream, &event, &mut effects);
            }
            std::hint::black_box(&effects);
        }
        rounds.push(start.elapsed() / REQUESTS);
    }
    let best = rounds.iter().min().map_or(0, Duration::as_nanos);
    println!("{name}: {best} ns, {} effects", effects.len());
}

fn main() {
    let mut errors = ConfigErrors::default();
    let compiled = Sanitize::compile(Wire::default(), &Site::root(), &Vocabulary::default(), &mut errors);
    let Some(policy) = compiled else { return println!("{errors}") };
    let browser: &[Header<'_>] = &[
        (b":method", b"GET"),
        (b":path", b"/products/list?category=garden&page=3&sort=price_asc"),
        (b":authority", b"shop.example"),
        (b":scheme", b"https"),
        (
            b"user-agent",
            b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
        ),
        (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        (b"accept-language", b"en-GB,en;q=0.9,de;q=0.7"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
        (b"referer", b"https://shop.example/products/list?category=garden&page=2"),
        (b"cookie", b"session=6f1f3c0a9d5b4a7e8c21; lang=en; _ga=GA1.2.1132440718.1719321450; theme=dark"),
        (b"sec-fetch-mode", b"navigate"),
        (b"x-forwarded-for", b"203.0.113.9"),
    ];
    measure("small GET", &policy, browser, None);
    let post: &[Header<'_>] =
        &[(b":method", b"POST"), (b":path", b"/api/orders"), (b"content-type", b"application/json")];
    let items: Vec<json::Value> = (0..12)
        .map(|n| {
            json::json!({
                "id": n, "sku": format!("GRD-{n:04}-XL"), "title": "Garden chair, foldable (set of 2)",
                "note": "Please don't ring before 9; leave it with O'Brien & sons.", "price": 49.95
            })
        })
        .collect();
    let body = json::json!({"customer": "550e8400-e29b-41d4-a716-446655440000", "items": items}).to_string();
    measure(&format!("JSON of {} bytes", body.len()), &policy, post, Some(body.as_bytes()));
}
