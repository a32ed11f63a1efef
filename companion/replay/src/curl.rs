//! `curl` commands: as arguments, or pasted from a browser's "Copy as cURL".
//!
//! Understands what shapes the request; options that shape the transfer (`-s`, `--compressed`, `-o file`) are passed
//! over. An option that is not known is an error, because it could have changed the request. Nothing is sent.
//!
//! It deliberately does not read `.curlrc`, and takes one URL of a command. The form for Windows' command interpreter
//! (`^"`) is not read: copy as bash.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Header, Request, Unreadable, place::encode, shell};

/// Reads a file that the command names: `-d @file`.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> std::io::Result<Vec<u8>>;

/// Reads a command as it was pasted.
///
/// # Errors
/// When a quote is left open, or as [`words`].
pub fn command(text: &[u8], read: ReadFile<'_>) -> Result<Request, Unreadable> {
    let split = shell::words(text).map_err(|open| Unreadable::Curl(open.to_owned()))?;
    words(&split, read)
}

/// Reads a command's words; the first may be `curl` itself.
///
/// # Errors
/// When there is no URL, an option is not known or lacks its value, or a file cannot be read.
pub fn words(words: &[Vec<u8>], read: ReadFile<'_>) -> Result<Request, Unreadable> {
    let mut words = words.iter().map(Vec::as_slice).peekable();
    words.next_if(|first| *first == b"curl" || first.ends_with(b"/curl") || *first == b"curl.exe");
    let mut asked = Asked::new(read);
    while let Some(word) = words.next() {
        match word {
            [b'-', b'-', long @ ..] if !long.is_empty() => {
                let (name, joined) = match long.iter().position(|byte| *byte == b'=') {
                    Some(at) => (long.get(..at).unwrap_or_default(), long.get(at.saturating_add(1)..)),
                    None => (long, None),
                };
                let option = long_option(name).ok_or_else(|| unknown(word))?;
                let value = match (takes_value(option), joined) {
                    (true, Some(joined)) => joined,
                    (true, None) => words.next().ok_or_else(|| lacks(word))?,
                    (false, _) => b"",
                };
                asked.option(option, value)?;
            }
            [b'-', short @ ..] if !short.is_empty() => {
                let mut rest = short;
                while let Some((letter, behind)) = rest.split_first() {
                    let option = short_option(*letter).ok_or_else(|| unknown(word))?;
                    rest = behind;
                    if takes_value(option) {
                        let value =
                            if rest.is_empty() { words.next().ok_or_else(|| lacks(word))? } else { rest };
                        asked.option(option, value)?;
                        break;
                    }
                    asked.option(option, b"")?;
                }
            }
            url => asked.option("url", url)?,
        }
    }
    asked.request()
}

fn unknown(word: &[u8]) -> Unreadable {
    Unreadable::Curl(format!("`{}` is not an option that is known here", String::from_utf8_lossy(word)))
}

fn lacks(word: &[u8]) -> Unreadable {
    Unreadable::Curl(format!("`{}` lacks its value", String::from_utf8_lossy(word)))
}

/// Options that shape the request, and take a value.
const SHAPING: &[&str] = &[
    "request",
    "header",
    "data",
    "data-ascii",
    "data-raw",
    "data-binary",
    "data-urlencode",
    "json",
    "form",
    "form-string",
    "cookie",
    "user-agent",
    "referer",
    "user",
    "url",
    "url-query",
    "oauth2-bearer",
    "request-target",
];
/// Options that shape the request by being there.
const SHAPING_FLAGS: &[&str] = &["get", "head"];
/// Options of the transfer that take a value.
const PASSED_OVER: &[&str] = &[
    "output",
    "max-time",
    "connect-timeout",
    "proxy",
    "resolve",
    "connect-to",
    "cacert",
    "cert",
    "key",
    "write-out",
    "cookie-jar",
    "dump-header",
    "retry",
    "retry-delay",
    "interface",
    "ciphers",
    "tls-max",
    "limit-rate",
];
/// Options of the transfer without one.
const PASSED_OVER_FLAGS: &[&str] = &[
    "insecure",
    "silent",
    "show-error",
    "location",
    "include",
    "verbose",
    "compressed",
    "fail",
    "globoff",
    "http1.1",
    "http2",
    "http3",
    "ipv4",
    "ipv6",
    "no-buffer",
    "remote-name",
    "path-as-is",
    "fail-with-body",
    "no-progress-meter",
    "tlsv1.2",
    "tlsv1.3",
    "progress-bar",
    "parallel",
];

fn takes_value(option: &str) -> bool {
    SHAPING.contains(&option) || PASSED_OVER.contains(&option)
}

fn long_option(name: &[u8]) -> Option<&'static str> {
    let all = [SHAPING, SHAPING_FLAGS, PASSED_OVER, PASSED_OVER_FLAGS];
    all.into_iter().flatten().find(|known| known.as_bytes() == name).copied()
}

fn short_option(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'X' => "request",
        b'H' => "header",
        b'd' => "data",
        b'F' => "form",
        b'b' => "cookie",
        b'A' => "user-agent",
        b'e' => "referer",
        b'u' => "user",
        b'G' => "get",
        b'I' => "head",
        b'o' => "output",
        b'm' => "max-time",
        b'x' => "proxy",
        b'E' => "cert",
        b'w' => "write-out",
        b'c' => "cookie-jar",
        b'D' => "dump-header",
        b'k' => "insecure",
        b's' => "silent",
        b'S' => "show-error",
        b'L' => "location",
        b'i' => "include",
        b'v' => "verbose",
        b'f' => "fail",
        b'g' => "globoff",
        b'4' => "ipv4",
        b'6' => "ipv6",
        b'N' => "no-buffer",
        b'O' => "remote-name",
        b'#' => "progress-bar",
        b'Z' => "parallel",
        _ => return None,
    })
}

/// What a command asks for.
struct Asked<'a> {
    read: ReadFile<'a>,
    method: Option<Vec<u8>>,
    url: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    headers: Vec<Header>,
    /// Further headers, unless one of that name is given.
    fallbacks: Vec<(&'static str, Vec<u8>)>,
    data: Option<Vec<u8>>,
    query: Vec<Vec<u8>>,
    parts: Vec<u8>,
    get: bool,
}

/// Between the parts of a form: any text that no part holds; curl's own is random.
const BOUNDARY: &str = "------------------------0123456789abcdef";

impl<'a> Asked<'a> {
    fn new(read: ReadFile<'a>) -> Self {
        Self {
            read,
            method: None,
            url: None,
            target: None,
            headers: Vec::new(),
            fallbacks: Vec::new(),
            data: None,
            query: Vec::new(),
            parts: Vec::new(),
            get: false,
        }
    }

    fn option(&mut self, option: &'static str, value: &[u8]) -> Result<(), Unreadable> {
        match option {
            "url" if self.url.is_some() => {
                return Err(Unreadable::Curl("it has more than one URL".to_owned()));
            }
            "url" => self.url = Some(value.to_vec()),
            "request" => self.method = Some(value.to_vec()),
            "request-target" => self.target = Some(value.to_vec()),
            "header" => {
                for line in self.lines(value)? {
                    self.header(&line);
                }
            }
            // Without `=` it names a file of cookies, of which curl sends those that fit the host.
            "cookie" if !value.contains(&b'=') => {
                let path = String::from_utf8_lossy(value);
                return Err(Unreadable::Curl(format!("-b {path}: a file of cookies; write -b 'name=value'")));
            }
            "cookie" => self.fallbacks.push(("cookie", value.to_vec())),
            "user-agent" => self.fallbacks.push(("user-agent", value.to_vec())),
            "referer" => self.fallbacks.push(("referer", value.to_vec())),
            "user" => {
                self.fallbacks
                    .push(("authorization", format!("Basic {}", STANDARD.encode(value)).into_bytes()));
            }
            "oauth2-bearer" => self.fallbacks.push(("authorization", [b"Bearer ", value].concat())),
            "data" | "data-ascii" => {
                let text = self.or_file(value)?;
                self.add(text.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect(), b"&");
            }
            "data-raw" => self.add(value.to_vec(), b"&"),
            "data-binary" => {
                let text = self.or_file(value)?;
                self.add(text, b"&");
            }
            "data-urlencode" => {
                let text = self.encoded(value)?;
                self.add(text, b"&");
            }
            "json" => {
                let text = self.or_file(value)?;
                self.add(text, b"");
                self.fallbacks.push(("content-type", b"application/json".to_vec()));
                self.fallbacks.push(("accept", b"application/json".to_vec()));
            }
            "form" | "form-string" => self.part(value, option == "form")?,
            "url-query" => {
                let text = self.encoded(value)?;
                self.query.push(text);
            }
            "get" => self.get = true,
            "head" => self.method = Some(self.method.take().unwrap_or_else(|| b"HEAD".to_vec())),
            _ => {}
        }
        Ok(())
    }

    /// `name: value`, `name:` to leave one out, `name;` for one without value.
    fn header(&mut self, line: &[u8]) {
        let at = line.iter().position(|byte| matches!(byte, b':' | b';')).unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let left_out = name.is_empty() || value.is_empty() && line.ends_with(b":");
        if !left_out {
            self.headers.push((name.trim_ascii().to_vec(), value.to_vec()));
        }
    }

    fn or_file(&self, value: &[u8]) -> Result<Vec<u8>, Unreadable> {
        match value {
            [b'@', path @ ..] => self.file(path),
            text => Ok(text.to_vec()),
        }
    }

    /// The lines of a file behind `@`, or the one that is given.
    fn lines(&self, value: &[u8]) -> Result<Vec<Vec<u8>>, Unreadable> {
        let text = self.or_file(value)?;
        let lines = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec());
        Ok(lines.filter(|line| !line.is_empty()).collect())
    }

    fn file(&self, path: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let path = String::from_utf8_lossy(path);
        (self.read)(&path).map_err(|error| Unreadable::Curl(format!("{path}: {error}")))
    }

    /// `content`, `=content`, `name=content`, `@file`, `name@file`.
    fn encoded(&self, value: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let at = value.iter().position(|byte| matches!(byte, b'=' | b'@'));
        let Some((name, rest)) = at.map(|at| value.split_at(at)) else { return Ok(encode(value)) };
        let content = rest.get(1..).unwrap_or_default();
        let content = if rest.starts_with(b"@") { self.file(content)? } else { content.to_vec() };
        let equals = if name.is_empty() { &b""[..] } else { b"=" };
        Ok([name, equals, &encode(&content)].concat())
    }

    fn add(&mut self, text: Vec<u8>, between: &[u8]) {
        match &mut self.data {
            Some(data) => data.extend_from_slice(&[between, &text].concat()),
            none => *none = Some(text),
        }
    }

    /// `name=content`, `name=@file;type=..;filename=..`, `name=<file`.
    fn part(&mut self, value: &[u8], special: bool) -> Result<(), Unreadable> {
        let at = value.iter().position(|byte| *byte == b'=');
        let at = at.ok_or_else(|| Unreadable::Curl("a form's part is not name=content".to_owned()))?;
        let (name, content) = value.split_at(at);
        let content = content.get(1..).unwrap_or_default();
        let mut kind: Option<&[u8]> = None;
        let mut filename: Option<Vec<u8>> = None;
        let content = match content {
            [sign @ (b'@' | b'<'), rest @ ..] if special => {
                let mut pieces = rest.split(|byte| *byte == b';');
                let path = pieces.next().unwrap_or_default();
                for piece in pieces {
                    if let Some(given) = piece.strip_prefix(b"type=") {
                        kind = Some(given);
                    } else if let Some(given) = piece.strip_prefix(b"filename=") {
                        filename = Some(given.to_vec());
                    }
                }
                if *sign == b'@' {
                    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
                    filename.get_or_insert(last);
                    kind = kind.or(Some(b"application/octet-stream"));
                }
                self.file(path)?
            }
            text => text.to_vec(),
        };
        let mut head = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"").into_bytes();
        head.extend_from_slice(&[name, b"\""].concat());
        if let Some(filename) = filename {
            head.extend_from_slice(&[b"; filename=\"", &filename[..], b"\""].concat());
        }
        if let Some(kind) = kind {
            head.extend_from_slice(&[b"\r\ncontent-type: ", kind].concat());
        }
        self.parts.extend_from_slice(&[&head[..], b"\r\n\r\n", &content, b"\r\n"].concat());
        Ok(())
    }

    fn request(mut self) -> Result<Request, Unreadable> {
        let url = self.url.take().ok_or_else(|| Unreadable::Curl("it has no URL".to_owned()))?;
        let (scheme, host, mut target) = parts_of(&url);
        if self.get {
            self.query.extend(self.data.take());
        }
        if !self.query.is_empty() {
            let between = if target.contains(&b'?') { &b"&"[..] } else { b"?" };
            target.extend_from_slice(&[between, &self.query.join(&b"&"[..])].concat());
        }
        let has_body = self.data.is_some() || !self.parts.is_empty();
        let usual = if has_body { &b"POST"[..] } else { b"GET" };
        let method = self.method.unwrap_or_else(|| usual.to_vec());
        let mut request = Request::new(method, self.target.unwrap_or(target));
        request.scheme = scheme;
        request.headers = self.headers;
        if request.header("host").is_none() {
            request.headers.insert(0, (b"host".to_vec(), host));
        }
        for (name, value) in self.fallbacks {
            if request.header(name).is_none() {
                request = request.with(name, value);
            }
        }
        request = request.or("user-agent", "curl/8").or("accept", "*/*");
        if !self.parts.is_empty() {
            request.body = [&self.parts[..], format!("--{BOUNDARY}--\r\n").as_bytes()].concat();
            request = request.or("content-type", &format!("multipart/form-data; boundary={BOUNDARY}"));
        } else if let Some(data) = self.data {
            request.body = data;
            request = request.or("content-type", "application/x-www-form-urlencoded");
        }
        Ok(if has_body { request.framed() } else { request })
    }
}

/// Scheme, host and target of a URL; what has no scheme is `http`, as for curl.
pub(crate) fn parts_of(url: &[u8]) -> (&'static str, Vec<u8>, Vec<u8>) {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let (scheme, rest) = if lower.starts_with(b"https://") {
        ("https", url.get(8..))
    } else if lower.starts_with(b"http://") {
        ("http", url.get(7..))
    } else {
        ("http", Some(url))
    };
    let rest = rest.unwrap_or_default();
    // What stands behind `#` is not sent.
    let rest = rest.split(|byte| *byte == b'#').next().unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    // Neither is a name before `@`.
    let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default().to_vec();
    let slash = if target.starts_with(b"/") { &b""[..] } else { b"/" };
    (scheme, host, [slash, target].concat())
}

#[cfg(test)]
#[path = "curl_tests.rs"]
mod tests;
