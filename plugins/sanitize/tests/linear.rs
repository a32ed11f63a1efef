//! Ten times the bytes cost at most twelve times the time, whatever the bytes are.
#![expect(clippy::disallowed_methods, reason = "a test may look at the clock")]

use std::time::{Duration, Instant};

use portcullis_sanitize::{Scope, inspect_value};

/// What makes a reader look far ahead or back, over and over.
const HOSTILE: &[&str] = &[
    "'",
    "\"",
    "`",
    "(",
    ")",
    "1 or ",
    "/*",
    "/*!",
    "*/",
    "--\n",
    "union ",
    "union select ",
    ";drop ",
    "';drop '",
    "a.",
    "@",
    "[",
    "$$",
    "$a$",
    "1e",
    "\\",
    "\\N",
    "<",
    "< ",
    "<:",
    "<a ",
    "<a b='",
    "<a b=\"",
    "<a b=x",
    "<a style='",
    "<!DOCTYPE ",
    "<f o r m",
    " on=",
    " onload=",
    " style=x",
    "script:",
    "javascript:",
    "url(",
    "alert(",
    "(alert)",
    "document.",
    "document/**/",
    "self[",
    ".call",
    "![]",
    "+[]",
    "data:,",
    "data:;base64,",
    ";",
    "; ",
    ";ls ",
    "|ls",
    "|id|",
    "`ls ",
    "$(",
    "${",
    "${PATH:",
    "${::-",
    "c''",
    "c$@",
    "[ ",
    "\n",
    "\nls ",
    "system(",
    "; a=",
    "&&cat ",
    "; time ",
    "; get-",
    "/bin/",
    "/",
    "/.",
    "./",
    "../",
    "..\\",
    "....",
    "0x2e",
    "%2e",
    "&#0",
    "&#",
    "&lt",
    "\\u003c",
    "\\74",
    "\\3c",
    "+ADw-",
    "+A",
    "\u{ff1c}",
    "\u{bc}",
    "AAAA",
    "Li4v",
    "2e2e2f",
    " ",
    "a ",
    "a b ",
    "\0",
    "order by ",
    "case when ",
    "select(",
    "(select ",
    "' '",
    "x/**/y",
    "set-cookie:\r\n",
];

fn cost(value: &[u8]) -> Duration {
    let time = || {
        let start = Instant::now();
        std::hint::black_box(inspect_value(std::hint::black_box(value), Scope::EVERY));
        start.elapsed()
    };
    (0..5).map(|_| time()).min().unwrap()
}

#[test]
fn hostile_values_cost_in_proportion_to_their_length() {
    for part in HOSTILE {
        for tail in ["", "x", "'", "("] {
            let value = |length: usize| part.repeat(length / part.len()) + tail;
            let (small, large) = (value(6_000), value(60_000));
            // The clock of a busy machine jumps; a cost that grows faster than the length does so every time.
            let linear = (0..12).any(|_| {
                cost(large.as_bytes()) <= 12 * cost(small.as_bytes()).max(Duration::from_micros(20))
            });
            assert!(
                linear,
                "{part:?}{tail:?}: {:?} for {:?}",
                cost(large.as_bytes()),
                cost(small.as_bytes())
            );
        }
    }
}
