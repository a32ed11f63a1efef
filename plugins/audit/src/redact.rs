//! Takes secrets out of what a record tells of a request's target.
//!
//! Query parameters whose name says that their value is a secret keep the name and lose the value: `token=***`. A name
//! is judged as an application would read it, percent-decoded (also when encoded again and again), `+` and case
//! ignored. So is a value: one that holds a further URL with such a parameter, or with a password in it, goes as a
//! whole, and so does one that looks like a JSON Web Token. In the path the same holds for `;name=value` parameters, and for
//! the segment after one that the configuration names (`/reset/***`).
//!
//! It deliberately does not guess secrets from how random a value looks; name your parameters in `redact`.
//! Limits: four rounds of decoding; a name that is still encoded then is taken for a secret's.

use crate::text::Text;

/// Anywhere in a name, once everything but letters and digits is left out.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "session",
    "apikey",
    "credential",
    "privatekey",
    "accesskey",
    "signature",
    "authorization",
    "bearer",
];
const SHORTEST_WORD: usize = 5;
/// As a word of its own within a name: parts of `a_b`, `a-b`, `a.b`, `a[b]`, `aB`.
const PARTS: &[&str] = &[
    "key",
    "code",
    "pass",
    "pwd",
    "pw",
    "pin",
    "otp",
    "totp",
    "sig",
    "sid",
    "jwt",
    "auth",
    "sess",
    "cvv",
    "cvc",
    "nonce",
    "saml",
    "assertion",
    "ticket",
    "verifier",
    "samlresponse",
    "samlrequest",
    "jsessionid",
    "phpsessid",
];
/// Written in a secret's place.
const MASK: &[u8] = b"***";
const ROUNDS: usize = 4;

/// What is a secret, beside the names that are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    /// Whole names, lower case.
    names: Vec<String>,
    /// Path segments, lower case, after which a secret follows.
    segments: Vec<String>,
}

impl Redactor {
    pub fn new(names: Vec<String>, segments: Vec<String>) -> Self {
        Self { names, segments }
    }

    /// Whether a configured name, of a parameter or a header, is this one.
    pub fn lists(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// Whether a parameter of that name holds a secret.
    pub fn is_secret(&self, name: &[u8]) -> bool {
        let decoded;
        let name = if name.contains(&b'%') {
            decoded = decode(name);
            if decoded.contains(&b'%') && holds_escape(&decoded) {
                return true;
            }
            &decoded
        } else {
            name
        };
        let trimmed = name.trim_ascii();
        has_word(name) || has_part(trimmed) || self.lists(trimmed)
    }

    /// Writes a query (without `?`) as the inside of a JSON string that ends before `end`.
    pub fn query(&self, query: &[u8], out: &mut Text, end: usize) {
        let mut rest = query;
        loop {
            let length = rest.iter().position(|b| is_separator(*b)).unwrap_or(rest.len());
            let (parameter, after) = rest.split_at(length);
            if !self.parameter(parameter, out, end) {
                return;
            }
            let Some((separator, after)) = after.split_first() else { return };
            if !out.escaped(&[*separator], end) {
                return;
            }
            rest = after;
        }
    }

    /// One `name=value`; false when there is no more room.
    fn parameter(&self, parameter: &[u8], out: &mut Text, end: usize) -> bool {
        let Some(at) = parameter.iter().position(|b| *b == b'=') else {
            return if self.hides(parameter) { out.escaped(MASK, end) } else { out.escaped(parameter, end) };
        };
        let (name, value) = parameter.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        if self.hides(name) {
            return out.escaped(MASK, end);
        }
        let secret = !value.is_empty() && (self.is_secret(name) || self.hides(value));
        out.escaped(name, end)
            && out.escaped(b"=", end)
            && out.escaped(if secret { MASK } else { value }, end)
    }

    /// Writes a path in the same way.
    pub fn path(&self, path: &[u8], out: &mut Text, end: usize) {
        let mut follows = false;
        for (number, segment) in path.split(|b| *b == b'/').enumerate() {
            if number > 0 && !out.escaped(b"/", end) {
                return;
            }
            let whole = if follows && !segment.is_empty() {
                out.escaped(MASK, end)
            } else if segment.contains(&b';') || segment.contains(&b'=') || segment.contains(&b'%') {
                self.segment(segment, out, end)
            } else if has_userinfo_or_token(segment) {
                out.escaped(MASK, end)
            } else {
                out.escaped(segment, end)
            };
            if !whole {
                return;
            }
            follows = if segment.is_empty() { follows } else { self.announces(segment) };
        }
    }

    /// A segment with parameters of its own.
    fn segment(&self, segment: &[u8], out: &mut Text, end: usize) -> bool {
        for (number, part) in segment.split(|b| *b == b';').enumerate() {
            if number > 0 && !out.escaped(b";", end) {
                return false;
            }
            if !self.parameter(part, out, end) {
                return false;
            }
        }
        true
    }

    fn announces(&self, segment: &[u8]) -> bool {
        if self.segments.is_empty() {
            return false;
        }
        let decoded = decode(segment);
        self.segments.iter().any(|known| decoded.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// Whether a value holds a secret, whatever its name: a token, a URL with a password, or a further query.
    pub fn hides(&self, value: &[u8]) -> bool {
        let decoded;
        let value = if value.contains(&b'%') {
            decoded = decode(value);
            &decoded
        } else {
            value
        };
        if has_userinfo_or_token(value) {
            return true;
        }
        value.contains(&b'=')
            && value.split(|b| is_separator(*b) || *b == b'?').any(|part| {
                let at = part.iter().position(|b| *b == b'=');
                at.is_some_and(|at| self.is_secret(part.get(..at).unwrap_or_default()))
            })
    }
}

/// A host as it may stand in a record: without a user's name and password before it.
pub(crate) fn host_only(authority: &[u8]) -> &[u8] {
    authority
        .iter()
        .rposition(|b| *b == b'@')
        .map_or(authority, |at| authority.get(at.saturating_add(1)..).unwrap_or_default())
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';' | b'#')
}

/// `scheme://user:password@host`, or a segment `user:password@host`, or three parts of which the first is base64url of
/// `{"` (a JSON Web Token, RFC 7519).
fn has_userinfo_or_token(value: &[u8]) -> bool {
    if let Some(at) = value.iter().position(|b| *b == b'@')
        && value.get(..at).unwrap_or_default().contains(&b':')
    {
        return true;
    }
    value.len() > 20
        && value.windows(3).position(|three| three == b"eyJ").is_some_and(|at| {
            let rest = value.get(at..).unwrap_or_default();
            rest.len() > 20 && rest.contains(&b'.')
        })
}

/// Decodes percent escapes until nothing changes, at most [`ROUNDS`] times; `+` is a blank.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut now: Vec<u8> = bytes.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    for _ in 0..ROUNDS {
        if !holds_escape(&now) {
            break;
        }
        let mut next = Vec::with_capacity(now.len());
        let mut rest = now.as_slice();
        while let Some((first, after)) = rest.split_first() {
            match escape_at(rest) {
                Some(byte) => {
                    next.push(byte);
                    rest = rest.get(3..).unwrap_or_default();
                }
                None => {
                    next.push(*first);
                    rest = after;
                }
            }
        }
        now = next;
    }
    now
}

fn escape_at(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

fn holds_escape(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|three| escape_at(three).is_some())
}

/// Whether one of [`WORDS`] stands anywhere in the name's letters and digits.
fn has_word(name: &[u8]) -> bool {
    if name.len() < SHORTEST_WORD {
        return false;
    }
    let letters: Vec<u8> =
        name.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    WORDS.iter().any(|word| letters.windows(word.len()).any(|window| window == word.as_bytes()))
}

/// Whether one of the name's words is one of [`PARTS`]: between punctuation, or as the humps of `camelCase`.
fn has_part(name: &[u8]) -> bool {
    let is_part = |word: &[u8]| PARTS.iter().any(|part| word.eq_ignore_ascii_case(part.as_bytes()));
    name.split(|byte| !byte.is_ascii_alphanumeric()).any(|word| {
        is_part(word)
            || word.chunk_by(|a, b| !(a.is_ascii_lowercase() && b.is_ascii_uppercase())).any(is_part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(vec!["licence".into()], vec!["reset".into()])
    }

    fn query(text: &[u8]) -> String {
        let mut out = Text::default();
        redactor().query(text, &mut out, 4000);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    fn path(text: &str) -> String {
        let mut out = Text::default();
        redactor().path(text.as_bytes(), &mut out, 4000);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn the_shortest_word_is_known() {
        assert_eq!(WORDS.iter().map(|word| word.len()).min(), Some(SHORTEST_WORD));
    }

    #[test]
    fn secrets_lose_their_value() {
        for (sent, kept) in [
            ("a=1&password=x&b=2", "a=1&password=***&b=2"),
            ("PassWord=x", "PassWord=***"),
            ("user%5Bpass%77ord%5D=x", "user%5Bpass%77ord%5D=***"),
            ("%2570assword=x;z=1", "%2570assword=***;z=1"),
            ("access_token=a=b", "access_token=***"),
            ("api-key=x&apiKey=y&key=z", "api-key=***&apiKey=***&key=***"),
            ("+code+=x", "+code+=***"),
            ("licence=x", "licence=***"),
            ("next=%2Fcb%3Fcode%3Dabc", "next=***"),
            ("u=https://bob:pw@host/", "u=***"),
            ("x=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "x=***"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "***"),
            ("token=", "token="),
        ] {
            assert_eq!(query(sent.as_bytes()), kept);
        }
    }

    #[test]
    fn ordinary_parameters_stay() {
        for text in [
            "q=monkey&keyword=a&encode=1",
            "barcode=4&zipcode=3&passenger=2",
            "mail=a@b.c",
            "next=/a?b=c",
            "",
            "&&",
            "=",
            "a=%zz",
            "author=x&authority=y",
            "q=100%25",
        ] {
            assert_eq!(query(text.as_bytes()), text);
        }
    }

    #[test]
    fn paths_too() {
        assert_eq!(path("/a;jsessionid=1/b"), "/a;jsessionid=***/b");
        assert_eq!(path("/reset/abc/def"), "/reset/***/def");
        assert_eq!(path("/%72eset//abc"), "/%72eset//***");
        assert_eq!(path("/resets/abc"), "/resets/abc");
        assert_eq!(path("/proxy/http://bob:pw@host/x"), "/proxy/http://***/x");
        assert_eq!(path("/~bob/@me"), "/~bob/@me");
        assert_eq!(host_only(b"bob:pw@host:80"), b"host:80");
    }

    /// Each byte as it is, escaped, or escaped again, as the digits say.
    fn encoded(name: &str, how: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (byte, how) in name.bytes().zip(how.iter().cycle()) {
            match how % 5 {
                0 => out.push(byte),
                1 => out.extend(format!("%{byte:02x}").bytes()),
                2 => out.extend(format!("%{byte:02X}").bytes()),
                3 => out.extend(format!("%25{byte:02x}").bytes()),
                _ => out.push(byte.to_ascii_uppercase()),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn no_encoding_of_a_name_gives_its_value_away(
            word in proptest::sample::select([WORDS, PARTS].concat()),
            how in proptest::collection::vec(any::<u8>(), 1..12),
            before in "[a-z]{0,5}=[a-z0-9]{0,5}[&;]",
            noise in proptest::collection::vec(any::<u8>(), 0..30),
        ) {
            let mut text = before.into_bytes();
            text.extend(encoded(word, &how));
            text.extend(b"=Zq7Zq7&");
            text.extend(noise);
            prop_assert!(!query(&text).contains("Zq7"));
        }

        #[test]
        fn any_bytes_stay_in_their_room(bytes: Vec<u8>, end in 0_usize..80) {
            for path in [false, true] {
                let mut out = Text::default();
                if path { redactor().path(&bytes, &mut out, end) } else { redactor().query(&bytes, &mut out, end) }
                prop_assert!(out.len() <= end + "…".len());
                let text = format!("\"{}\"", String::from_utf8(out.into_bytes()).unwrap());
                prop_assert!(serde_json::from_str::<String>(&text).is_ok());
            }
        }
    }
}
