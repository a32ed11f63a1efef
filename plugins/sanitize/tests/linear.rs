//! Cost grows with the length and no faster, whatever the bytes are: on a quiet machine ten times the bytes cost ten to
//! twelve times the time.
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
    let start = Instant::now();
    std::hint::black_box(inspect_value(std::hint::black_box(value), Scope::EVERY));
    start.elapsed()
}

#[test]
fn hostile_values_cost_in_proportion_to_their_length() {
    for part in HOSTILE {
        for tail in ["", "x", "'", "("] {
            let value = |length: usize| part.repeat(length / part.len()) + tail;
            let (short, long) = (value(2_000), value(20_000));
            // A busy machine only adds to a measurement, and more so to a long one: the least of many counts, and the
            // bound leaves room. What grows with the square would cost a hundred times as much.
            let (mut small, mut large) = (Duration::MAX, Duration::MAX);
            let linear = (0..60).any(|_| {
                small = small.min(cost(short.as_bytes()));
                large = large.min(cost(long.as_bytes()));
                large <= 25 * small.max(Duration::from_micros(10))
            });
            assert!(linear, "{part:?}, {tail:?} at its end: {large:?} for {small:?}");
        }
    }
}
