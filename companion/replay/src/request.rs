//! A request, in bytes.

/// A header's name and value.
pub type Header = (Vec<u8>, Vec<u8>);

/// A request, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Vec<u8>,
    /// What stands behind the method: path and query, or a whole URL.
    pub target: Vec<u8>,
    /// `HTTP/1.1`, or what was recorded in its place.
    pub version: Vec<u8>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Headers in order, duplicates kept.
    pub headers: Vec<Header>,
    /// The body, without the chunks' sizes.
    pub body: Vec<u8>,
    /// The whole as it was sent, where that is known.
    pub wire: Option<Vec<u8>>,
    /// The client's address, where it was recorded.
    pub client: Option<String>,
}

/// The host of requests that name none.
pub(crate) const HOST: &str = "app.test";

impl Request {
    /// Without headers and body.
    pub fn new(method: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            version: b"HTTP/1.1".to_vec(),
            scheme: "http",
            headers: Vec::new(),
            body: Vec::new(),
            wire: None,
            client: None,
        }
    }

    /// With a further header.
    #[must_use]
    pub fn with(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a body of a type, and with the length that it has.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.headers.push((b"content-type".to_vec(), content_type.into()));
        self.body = body.into();
        self.framed()
    }

    /// The first value under a name in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }

    /// With a header, unless there is one of that name.
    #[must_use]
    pub(crate) fn or(self, name: &str, value: &str) -> Self {
        if self.header(name).is_some() { self } else { self.with(name, value) }
    }

    /// With the length that the body has, whatever was recorded: a browser's log holds what was sent before it was
    /// cut into frames.
    #[must_use]
    pub(crate) fn framed(mut self) -> Self {
        self.headers.retain(|(name, _)| {
            !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"transfer-encoding")
        });
        if self.body.is_empty() && !matches!(&self.method[..], b"POST" | b"PUT" | b"PATCH") {
            return self;
        }
        let length = self.body.len().to_string();
        self.with("content-length", length)
    }

    /// The request as it goes over the wire (HTTP/1.1).
    pub fn to_wire(&self) -> Vec<u8> {
        if let Some(wire) = &self.wire {
            return wire.clone();
        }
        let mut out = [&self.method, &b" "[..], &self.target, b" ", &self.version, b"\r\n"].concat();
        for (name, value) in &self.headers {
            out.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }

    /// Whether a server would read exactly these bytes as one request: nothing recorded as raw bytes, an ordinary first
    /// line, the body's length said once and right.
    pub fn is_plainly_framed(&self) -> bool {
        let all = |wanted: &'static str| {
            let named = move |(name, _): &&Header| name.eq_ignore_ascii_case(wanted.as_bytes());
            self.headers.iter().filter(named).map(|(_, value)| value.as_slice())
        };
        let visible = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
        let lengths: Vec<&[u8]> = all("content-length").collect();
        let length = match lengths.as_slice() {
            [] => self.body.is_empty(),
            [one] => *one == self.body.len().to_string().as_bytes(),
            _ => false,
        };
        let breaks = |part: &[u8]| part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        self.wire.is_none()
            && length
            && visible(&self.method)
            && visible(&self.target)
            && self.method != b"CONNECT"
            && self.version == b"HTTP/1.1"
            && all("host").count() == 1
            && all("transfer-encoding").next().is_none()
            && all("expect").next().is_none()
            && all("upgrade").next().is_none()
            && !self.headers.iter().any(|(name, value)| breaks(name) || breaks(value) || name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_out_as_it_was_put_together() {
        let request = Request::new("POST", "/a?b").with("host", "x").with_body("text/plain", "hello");
        assert_eq!(
            request.to_wire(),
            b"POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
        );
        assert!(request.is_plainly_framed());
        let raw = Request { wire: Some(b"raw".to_vec()), ..request };
        assert_eq!(raw.to_wire(), b"raw");
        assert!(!raw.is_plainly_framed());
    }

    #[test]
    fn what_two_readers_could_cut_differently_is_told() {
        let plain = || Request::new("GET", "/").with("host", "x");
        assert!(plain().is_plainly_framed());
        for odd in [
            plain().with("Content-Length", "3"),
            plain().with("content-length", "0").with("content-length", "0"),
            plain().with("transfer-encoding", "chunked"),
            plain().with("host", "y"),
            plain().with("a", "b\nc"),
            Request { body: b"x".to_vec(), ..plain() },
            Request { target: b"/a b".to_vec(), ..plain() },
            Request { method: b"CONNECT".to_vec(), ..plain() },
            Request { version: b"HTTP/0.9".to_vec(), ..plain() },
            Request::new("GET", "/"),
        ] {
            assert!(!odd.is_plainly_framed(), "{odd:?}");
        }
    }
}
