//! Bytes, cuts and callbacks by chance: from a fixed seed, so a failure comes again.

use std::time::Duration;

use portcullis_host_tests::{
    host::{CallAnswer, HeaderMap, Process, Properties, Stream, Vm},
    run,
};
use serde_json::{Value, json};

use super::support::{log, worker};

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most.max(1) as u64).unwrap()
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Pieces of languages that attacks are written in, and bytes of no language.
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.below(most) {
            match self.below(6) {
                0 => (0..self.below(12)).for_each(|_| bytes.push((self.next() & 0xff) as u8)),
                1 => bytes.extend(format!("%{:02x}", self.next() & 0xff).bytes()),
                2 => bytes.extend(self.pick(&SHORT).bytes()),
                _ => bytes.extend(self.pick(&WORDS).bytes()),
            }
        }
        if self.one_in(40) {
            let many = 1 << self.below(17);
            bytes.extend(std::iter::repeat_n((self.next() & 0xff) as u8, many));
        }
        bytes
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, usual) in [
            (":authority", &["app.test", "", "[::1]:80"][..]),
            (":path", &["/", "/login", "/a?b=c", ""]),
            (":method", &["GET", "POST", "CONNECT", ""]),
            (":scheme", &["http", "https"]),
            (
                "content-type",
                &[
                    "application/json",
                    "application/x-www-form-urlencoded",
                    "multipart/form-data; boundary=x",
                    "text/xml",
                ],
            ),
            ("content-encoding", &["gzip", "deflate", "identity", "br"]),
        ] {
            match self.below(8) {
                0 => {}
                1 => headers.add(name, self.bytes(12)),
                _ if name == "content-encoding" && !self.one_in(4) => {}
                _ => headers.add(name, self.pick(usual)),
            }
        }
        let most = if self.one_in(100) { 700 } else { 12 };
        for _ in 0..self.below(most) {
            let name = if self.one_in(8) { self.bytes(3) } else { self.pick(&NAMES).as_bytes().to_vec() };
            headers.add(name, self.bytes(8));
        }
        headers
    }
}

const SHORT: [&str; 24] = [
    "'", "\"", "<", ">", "&", ";", "--", "/*", "*/", "../", "\\u003c", "\\", "{", "}", "[", "]", "=",
    "&#x3c;", "%25", "\0", "\r\n", "--x\r\n", "$(", "`",
];
const WORDS: [&str; 24] = [
    "union select ",
    "or 1=1",
    "script",
    "onerror=",
    "javascript:",
    "/etc/passwd",
    "; cat ",
    "sleep(5)",
    "drop table ",
    "name=value&",
    "{\"a\":",
    "\"text\"",
    "1.5e300",
    "null",
    "%3Cscript%3E",
    "%252e%252e%252f",
    "\\ud83d\\ude00",
    "svg",
    "exec(",
    "char(39)",
    "base64,",
    "PHNjcmlwdD4=",
    "content-disposition: form-data; name=\"a\"\r\n\r\n",
    "<![CDATA[",
];
const NAMES: [&str; 16] = [
    "cookie",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
    "referer",
    "authorization",
    "x-tenant-id",
    "x-user-id",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "accept",
    "x-a",
    "range",
    "origin",
    "traceparent",
];

fn configurations() -> [Value; 4] {
    [
        json!({}),
        json!({"rate_limit": {"mode": "off"}, "sanitize": {"sensitivity": 4, "body_max_bytes": 8192}}),
        json!({
            "rate_limit": {"mode": "monitor"}, "sanitize": {"mode": "monitor"}, "headers": {"existing": "append"},
            "audit": {"headers": ["x-a", "referer"], "queue_max_bytes": 65536, "batch_max_bytes": 16384},
        }),
        json!({
            "tenant": {"from": [{"header": "x-tenant-id", "set_by": "client", "allow": "[a-z]+"}, {"path_segment": 0}]},
            "user": {"from": [{"jwt_claim": "sub"}, {"host_label": 1}, {"mtls_subject": "CN"}]},
            "client_ip": {"from": "x-forwarded-for", "trusted_hops": 1},
            "routes": [{"match": {"path_prefix": "/a"}, "sanitize": {"mode": "off"}}],
        }),
    ]
}

/// One callback, whichever.
fn callback(
    chance: &mut Chance,
    vm: &mut Vm,
    stream: Stream,
) -> Result<(), portcullis_host_tests::host::HostError> {
    let end = chance.one_in(3);
    match chance.below(10) {
        0..=2 => drop(stream.request_headers(vm, chance.headers(), end)?),
        3..=5 => {
            let piece = chance.bytes(20);
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(1 + chance.below(rest.len()));
                stream.request_body(vm, head, end && tail.is_empty())?;
                rest = tail;
            }
            stream.request_body(vm, b"", end)?;
        }
        6 => drop(stream.request_trailers(vm, chance.headers())?),
        7 => drop(stream.response_headers(vm, chance.headers().with(":status", "200"), end)?),
        8 => drop(stream.response_body(vm, &chance.bytes(10), end)?),
        _ => stream.proxy_reply(vm, 503, "by_chance")?,
    }
    Ok(())
}

#[test]
fn no_bytes_no_cut_and_no_order_of_callbacks_traps() {
    for (number, configuration) in configurations().iter().enumerate() {
        let process = Process::new(number as u64);
        let mut vm = worker(&process, configuration);
        let mut chance = Chance(number as u64 + 77);
        let mut open: Vec<Stream> = Vec::new();
        let failed = |step: usize, error: &dyn std::fmt::Display| -> ! {
            panic!("configuration {number}, step {step}: {error}\n{}", log(&process))
        };
        for step in 0..6000 {
            if open.len() < 3 {
                let claims = Properties::new()
                    .with(&["source", "address"], chance.bytes(3))
                    .with(&["connection", "subject_peer_certificate"], chance.bytes(4));
                open.push(vm.open(claims));
            }
            let at = chance.below(open.len());
            let stream = open[at];
            if let Err(error) = callback(&mut chance, &mut vm, stream) {
                failed(step, &error);
            }
            if chance.one_in(4) {
                open.swap_remove(at);
                match stream.end(&mut vm) {
                    Ok(outcome) if !outcome.local || outcome.details == "by_chance" => {}
                    Ok(outcome) => {
                        let status = outcome.downstream.headers.and_then(|headers| headers.status());
                        assert!(status.is_some_and(|status| (400..500).contains(&status)), "{status:?}");
                    }
                    Err(error) => failed(step, &error),
                }
            }
            if chance.one_in(50) {
                process.advance(Duration::from_millis(chance.next() % 2000));
                process.step_wall_clock(chance.next() as i64 % 1_000_000_000_000);
                vm.tick().unwrap_or_else(|error| failed(step, &error));
                for call in vm.take_calls() {
                    run::records_of(&call.body).unwrap_or_else(|error| failed(step, &error));
                    let answer = match chance.below(3) {
                        0 => CallAnswer::Failed,
                        1 => CallAnswer::status((chance.next() % 700) as u16),
                        _ => run::receipt(chance.below(100)),
                    };
                    vm.answer(call.token, answer).unwrap_or_else(|error| failed(step, &error));
                }
            }
        }
        assert!(vm.memory_bytes() < 64 * 1024 * 1024, "{}", vm.memory_bytes());
        let warned = process.log().iter().filter(|line| line.text.contains("panicked")).count();
        assert_eq!(warned, 0);
    }
}
