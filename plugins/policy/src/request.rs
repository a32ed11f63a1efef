//! Who asks for what: resolved by the chain once per stream, read by every policy.

use std::{fmt, net::IpAddr, time::Duration};

use crate::limits;

/// Whose traffic it is: 1 to [`limits::TENANT_BYTES`] visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(String);

impl Tenant {
    /// Takes bytes from the wire; `None` when they cannot name a tenant.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        Self::names(bytes).then(|| Self(text.to_owned()))
    }

    /// Whether `bytes` can name a tenant.
    pub fn names(bytes: &[u8]) -> bool {
        let fits = !bytes.is_empty() && bytes.len() <= limits::TENANT_BYTES;
        fits && bytes.iter().all(u8::is_ascii_graphic)
    }

    /// The tenant of requests that name none: `public`.
    pub fn public() -> Self {
        Self("public".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who within the tenant: at most [`limits::USER_BYTES`] bytes, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User(String);

impl User {
    /// Takes bytes from the wire; `None` when nothing is left that can name a user. Bytes that are not UTF-8 become
    /// replacement characters, a name that is too long keeps its start and a hash of the whole.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        // What is plain stays as it is: almost every name.
        if (1..=limits::USER_BYTES).contains(&bytes.len())
            && bytes.iter().all(u8::is_ascii_graphic)
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return Some(Self(text.to_owned()));
        }
        let clean: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect::<String>();
        let clean = clean.trim();
        if clean.is_empty() {
            return None;
        }
        let intact = clean.as_bytes() == bytes;
        if intact && clean.len() <= limits::USER_BYTES {
            return Some(Self(clean.to_owned()));
        }
        // What was changed or cut keeps its identity by a hash of the original bytes.
        let mut end = limits::USER_BYTES.saturating_sub(17).min(clean.len());
        while !clean.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        Some(Self(format!("{}~{:016x}", clean.get(..end).unwrap_or_default(), fnv1a(bytes))))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// FNV-1a, 64 bits: for names in records, never for a table that an attacker could aim at.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A set of actions, by their number in [`crate::Vocabulary::actions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u32);

impl Actions {
    /// Adds an action. Numbers beyond [`limits::ACTIONS`] are refused by the configuration and ignored here.
    pub fn insert(&mut self, number: usize) {
        if number < limits::ACTIONS {
            self.0 |= 1 << number;
        }
    }

    /// Whether the action belongs to the request.
    pub fn contains(self, number: usize) -> bool {
        number < limits::ACTIONS && self.0 & (1 << number) != 0
    }

    /// The number of the first action in configured order, which names the request in records.
    pub fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }
}

/// What ties a request, its records and its answers together: 8 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// Accepts one from the wire; `None` when it is too short, too long or holds other characters.
    pub fn accept(bytes: &[u8]) -> Option<Self> {
        let fits = (8..=limits::CORRELATION_ID_BYTES).contains(&bytes.len());
        let plain = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        let text = std::str::from_utf8(bytes).ok()?;
        (fits && plain).then(|| Self(text.to_owned()))
    }

    /// Makes one: a UUID version 4 (RFC 9562) of the given random bits.
    pub fn make(random: [u64; 2]) -> Self {
        let [high, low] = random;
        let high = (high & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        let mut text = String::with_capacity(36);
        let digit = |number: u8| char::from_digit(u32::from(number), 16).unwrap_or('0');
        for (place, byte) in [high.to_be_bytes(), low.to_be_bytes()].concat().into_iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.extend([digit(byte >> 4), digit(byte & 0xf)]);
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request as the chain resolved it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose traffic it is.
    pub tenant: Tenant,
    /// Who within the tenant, if anything names them.
    pub user: Option<User>,
    /// The client's address, as far as the configured number of trusted hops vouches for it.
    pub client_ip: Option<IpAddr>,
    /// What kind of request it is.
    pub actions: Actions,
    /// The first of `actions` by name, `""` for none.
    pub action: String,
    /// The configured route that applies: its name, `""` for the defaults.
    pub route: String,
    /// Accepted from the client or made here.
    pub correlation_id: CorrelationId,
    /// As received, at most 32 bytes.
    pub method: Vec<u8>,
    /// `:path` as received: path and query. Bounded by [`limits::HEADER_BYTES`].
    pub path: Vec<u8>,
    /// `:authority` or `host`, as received.
    pub host: Vec<u8>,
    /// `http` or `https`, as the host says.
    pub scheme: Vec<u8>,
    /// `user-agent`, at most 500 bytes.
    pub user_agent: Vec<u8>,
    /// When the request's headers arrived, on the monotonic clock.
    pub started: Duration,
    /// The same on the wall clock, nanoseconds since 1970.
    pub started_wall_ns: u64,
}

impl Request {
    /// A request of which nothing is known but whose it is.
    pub fn of(tenant: Tenant) -> Self {
        Self {
            tenant,
            user: None,
            client_ip: None,
            actions: Actions::default(),
            action: String::new(),
            route: String::new(),
            correlation_id: CorrelationId::make([0, 0]),
            method: Vec::new(),
            path: Vec::new(),
            host: Vec::new(),
            scheme: Vec::new(),
            user_agent: Vec::new(),
            started: Duration::ZERO,
            started_wall_ns: 0,
        }
    }

    /// The path without query.
    pub fn path_only(&self) -> &[u8] {
        self.split_path().0
    }

    /// The query without `?`, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        self.split_path().1
    }

    fn split_path(&self) -> (&[u8], Option<&[u8]>) {
        let mut parts = self.path.splitn(2, |b| *b == b'?');
        (parts.next().unwrap_or_default(), parts.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_short_visible_ascii() {
        assert_eq!(Tenant::new(b"acme").unwrap().as_str(), "acme");
        for wrong in [&b""[..], b"a b", b"a\n", b"\xff", &[b'a'; 51]] {
            assert!(Tenant::new(wrong).is_none());
        }
    }

    #[test]
    fn users_that_differ_keep_differing() {
        let long_a = User::new(&[b'a'; 200]).unwrap();
        let long_b = User::new(&[b'a'; 201]).unwrap();
        assert_ne!(long_a, long_b);
        assert!(long_a.as_str().len() <= limits::USER_BYTES);
        assert_ne!(User::new(b"bob\x01"), User::new(b"bob"));
        assert_ne!(User::new(b"\xffbob"), User::new(b"\xfebob"));
        assert_eq!(User::new(b" \x00"), None);
        assert!(User::new("é".repeat(60).as_bytes()).unwrap().as_str().len() <= limits::USER_BYTES);
    }

    #[test]
    fn correlation_ids_are_accepted_or_made() {
        assert!(CorrelationId::accept(b"0f3b-1").is_none());
        assert!(CorrelationId::accept(b"abc\r\nx: y12").is_none());
        assert!(CorrelationId::accept(&[b'a'; 65]).is_none());
        let made = CorrelationId::make([u64::MAX, u64::MAX]);
        assert_eq!(made.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(CorrelationId::accept(made.as_str().as_bytes()), Some(made));
    }

    #[test]
    fn actions_are_a_set() {
        let mut actions = Actions::default();
        assert_eq!(actions.first(), None);
        actions.insert(3);
        actions.insert(1);
        actions.insert(99);
        assert!(actions.contains(1) && actions.contains(3) && !actions.contains(2) && !actions.contains(99));
        assert_eq!(actions.first(), Some(1));
    }
}
