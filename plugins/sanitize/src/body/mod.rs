//! A request's body: what it is, how it is encoded, and what stands in it.
//!
//! The declared type decides how a body is read; if what it begins with looks like something else, it is read that way
//! too, because applications differ in which of the two they believe. A body is decoded as it streams by and collected up
//! to the window. One that fits is inspected as a whole; of a longer one, window after window ([`window`]), so that any
//! length takes the same memory. Where it was cut into chunks makes no difference to what is decided.
//!
//! A host lets all of what it holds flow, or nothing: with a window that was inspected flows what has come of the next. That
//! is looked at before, as far as it goes. What is cut off anywhere cannot be judged as it stands (half a sentence may be
//! half a statement), so a finding there refuses nothing: nothing flows until the next window is full and tells.
//!
//! Limits: a window is held; [`window::OVERLAP`]; content that inflates to more than [`EXPANSION`] times its length counts
//! as too long to be inspected.

pub(crate) mod charset;
mod form;
pub(crate) mod graphql;
mod inflate;
pub(crate) mod json;
mod kind;
mod multipart;
mod reading;
pub(crate) mod window;
mod xml;

use std::ops::ControlFlow;

use portcullis_policy::Headers;

use crate::bytes::{between, from, starts};
use crate::config::{Config, Oversize};
use crate::inspector::Inspector;
use crate::place::Place;
use charset::{Charset, Wide};
use inflate::Inflate;
use kind::Kind;
use reading::Reading;
use window::Window;

/// How a body is encoded.
enum Encoding {
    Identity,
    Inflate(Box<Inflate>),
    /// Unknown here, or several in a row.
    Unknown,
}

/// A body that is being read.
pub(crate) struct Body {
    kind: Kind,
    encoding: Encoding,
    charset: Charset,
    /// The declared type, for what is looked at as a file; else empty.
    declared: Vec<u8>,
    /// What came so far of the first bytes, which may be a mark of the charset.
    mark: Option<Vec<u8>>,
    wide: Option<Wide>,
    /// Decoded text that is not done with.
    text: Vec<u8>,
    window: usize,
    on_oversize: Oversize,
    /// How it is read; nothing before the first window is full or the body ends.
    readings: Vec<Reading>,
    begun: bool,
    /// A window was inspected, and the host was not told yet that it may flow.
    passed: bool,
    /// What has come of the next window looks like an attack so far.
    doubtful: bool,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Body")
            .field("kind", &self.kind)
            .field("held", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// What the inspection of a body says besides what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// There is more than was inspected.
    pub oversize: bool,
    /// It could not be decoded, or not to its end.
    pub undecodable: bool,
}

/// How far the inspection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More is needed.
    More,
    /// Windows were inspected: the host need not hold what came so far.
    Passed,
    /// Something was found that is refused.
    Found,
    /// Nothing that follows will be looked at.
    Done(Report),
}

/// Why nothing that follows is looked at.
#[derive(Debug, Clone, Copy)]
enum Stop {
    Found,
    Done(Report),
}

/// By how much content may grow when it is inflated, beyond the first window. What grows more is all but empty: a bomb.
pub(crate) const EXPANSION: u64 = 100;
/// Bytes of a declared type that matter for files.
const TYPE: usize = 64;
/// Bytes of the longest mark of a charset.
const MARK: usize = 4;

/// How XML begins in charsets that hide its markup: EBCDIC and UTF-32 (XML 1.0, appendix F). Parsers find them out without being told.
const HIDDEN: [&[u8]; 3] = [b"\x4c\x6f\xa7\x94", b"\0\0\0<", b"<\0\0\0"];

const OVERSIZE: Stop = Stop::Done(Report { oversize: true, undecodable: false });

impl Body {
    /// A body to be read, if its type is one to look at and it is a body at all.
    pub(crate) fn expected(headers: &Headers<'_>, config: &Config) -> Option<Self> {
        let content_type = headers.first("content-type").unwrap_or_default().trim_ascii();
        if headers.is_tunnel()
            || is_grpc(headers, content_type)
            || headers.first("content-length") == Some(b"0")
        {
            return None;
        }
        let kind = Kind::declared(content_type);
        let as_file = kind == Kind::Opaque || starts(content_type, b"image/");
        Some(Self {
            declared: if as_file { between(content_type, 0, TYPE).to_vec() } else { Vec::new() },
            encoding: match encoding(headers) {
                // What is no text is looked at as it came: whoever ignores the encoding reads that.
                Encoding::Unknown if kind == Kind::Opaque => Encoding::Identity,
                encoding => encoding,
            },
            // Of what is no text, the charset says nothing.
            charset: if kind == Kind::Opaque { Charset::Ascii } else { charset::declared(content_type) },
            kind,
            mark: Some(Vec::new()),
            wide: None,
            text: Vec::new(),
            window: config.window,
            on_oversize: config.on_oversize,
            readings: Vec::new(),
            begun: false,
            passed: false,
            doubtful: false,
        })
    }

    /// The place of its values, if they can be changed: those of a form or of JSON as such, in one of ASCII's supersets.
    pub(crate) fn cleanable(&self) -> Option<Place> {
        let plain = matches!(self.encoding, Encoding::Identity) && self.charset == Charset::Ascii;
        match self.kind {
            Kind::Form if plain => Some(Place::Form),
            Kind::Json if plain => Some(Place::Json),
            _ => None,
        }
    }

    /// Adds a chunk, and inspects what is then complete.
    pub(crate) fn add(&mut self, chunk: &[u8], last: bool, inspector: &mut Inspector<'_>) -> Progress {
        let flow = self.decode(chunk, inspector);
        let flow = if last && flow.is_continue() { self.end(inspector) } else { flow };
        match flow {
            ControlFlow::Break(Stop::Found) => Progress::Found,
            ControlFlow::Break(Stop::Done(report)) => Progress::Done(report),
            ControlFlow::Continue(()) if last => Progress::Done(Report::default()),
            ControlFlow::Continue(()) if self.may_flow(inspector) => Progress::Passed,
            ControlFlow::Continue(()) => Progress::More,
        }
    }

    /// Whether a window was inspected, and nothing that would flow with it looks like an attack as it stands. Asked once for
    /// each window: what is doubtful stays so until the next one is full.
    fn may_flow(&mut self, inspector: &Inspector<'_>) -> bool {
        if !self.passed || self.doubtful {
            return false;
        }
        let mut aside = inspector.aside();
        self.doubtful = self.readings.iter().any(|reading| {
            let window = Window { text: from(&self.text, reading.place), last: false, early: true };
            !window.text.is_empty() && reading.reader.clone().read(window, &mut aside).is_break()
        });
        self.passed = self.doubtful;
        !self.doubtful
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.text.len()
    }

    /// Takes the content encoding from a chunk.
    fn decode(&mut self, chunk: &[u8], inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        match std::mem::replace(&mut self.encoding, Encoding::Identity) {
            Encoding::Identity => self.recode(chunk, inspector),
            Encoding::Unknown => {
                self.encoding = Encoding::Unknown;
                // An empty body has no encoding.
                if chunk.is_empty() { ControlFlow::Continue(()) } else { self.undecodable() }
            }
            Encoding::Inflate(mut inflate) => {
                inflate.push(chunk, &mut |count, text| self.inflated(count, text, inspector))?;
                if inflate.is_broken() {
                    self.rest(inspector)?;
                    return self.undecodable();
                }
                self.encoding = Encoding::Inflate(inflate);
                ControlFlow::Continue(())
            }
        }
    }

    fn inflated(
        &mut self,
        count: inflate::Count,
        text: &[u8],
        inspector: &mut Inspector<'_>,
    ) -> ControlFlow<Stop> {
        let most = (self.window as u64).saturating_add(count.taken.saturating_mul(EXPANSION));
        let bomb = count.inflated > most;
        self.recode(text, inspector)?;
        if bomb {
            self.rest(inspector)?;
            return ControlFlow::Break(OVERSIZE);
        }
        ControlFlow::Continue(())
    }

    /// Takes the charset from decoded bytes, which may be any number of them.
    fn recode(&mut self, bytes: &[u8], inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        let Some(mark) = &mut self.mark else { return self.write(bytes, false, inspector) };
        let room = MARK - mark.len();
        mark.extend_from_slice(between(bytes, 0, room));
        if mark.len() == MARK {
            self.marked(inspector)?;
        }
        if bytes.len() > room {
            self.write(from(bytes, room), false, inspector)
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The first bytes are known: they may tell the charset.
    fn marked(&mut self, inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        let Some(mark) = self.mark.take() else { return ControlFlow::Continue(()) };
        if self.kind == Kind::Xml && HIDDEN.contains(&&*mark) {
            return self.undecodable();
        }
        let wide = matches!(mark.get(..2), Some(b"\xff\xfe" | b"\xfe\xff")) && self.kind != Kind::Opaque;
        match self.charset {
            Charset::Utf16(order) => self.wide = Some(Wide::new(order)),
            Charset::Ascii if wide => self.wide = Some(Wide::new(None)),
            Charset::Unknown if !mark.is_empty() => return self.undecodable(),
            Charset::Ascii | Charset::Unknown => {}
        }
        // Without the mark that some editors put in front of UTF-8.
        self.write(mark.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&mark), false, inspector)
    }

    /// Takes UTF-16 from bytes behind the mark.
    fn write(&mut self, bytes: &[u8], last: bool, inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        let Some(mut wide) = self.wide.take() else { return self.fill(bytes, inspector) };
        let mut text = Vec::new();
        let sound = wide.push(bytes, last, &mut text);
        self.fill(&text, inspector)?;
        if sound.is_err() {
            self.rest(inspector)?;
            return self.undecodable();
        }
        self.wide = Some(wide);
        ControlFlow::Continue(())
    }

    /// Adds text; whenever a window is full and more is to come, it is inspected.
    fn fill(&mut self, mut text: &[u8], inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        while !text.is_empty() {
            if self.text.len() >= self.window {
                self.step(inspector)?;
            }
            let room = self.window - self.text.len();
            self.text.extend_from_slice(between(text, 0, room));
            text = from(text, room);
        }
        ControlFlow::Continue(())
    }

    /// Inspects a full window.
    fn step(&mut self, inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        self.begin();
        if self.on_oversize != Oversize::Inspect && !self.is_upload() {
            self.rest(inspector)?;
            return ControlFlow::Break(OVERSIZE);
        }
        self.read(false, inspector)?;
        let done = self.readings.iter().map(|reading| reading.place).min().unwrap_or(self.text.len());
        self.text.drain(..done.min(self.text.len()));
        for reading in &mut self.readings {
            reading.place -= done;
        }
        (self.passed, self.doubtful) = (true, false);
        ControlFlow::Continue(())
    }

    /// Whether it is files, of which no length is too much.
    fn is_upload(&self) -> bool {
        match self.kind {
            Kind::Multipart(_) => true,
            Kind::Opaque => self.readings.len() == 1,
            _ => false,
        }
    }

    /// The body's end.
    fn end(&mut self, inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        let mut whole = inflate::End::Whole;
        if let Encoding::Inflate(mut inflate) = std::mem::replace(&mut self.encoding, Encoding::Identity) {
            whole = match inflate.finish(&mut |count, text| self.inflated(count, text, inspector)) {
                ControlFlow::Continue(end) => end,
                ControlFlow::Break(stop) => return ControlFlow::Break(stop),
            };
            // No body at all has no encoding.
            if inflate.is_empty() {
                whole = inflate::End::Whole;
            }
        }
        self.marked(inspector)?;
        self.write(b"", true, inspector)?;
        self.rest(inspector)?;
        if whole == inflate::End::Whole { ControlFlow::Continue(()) } else { self.undecodable() }
    }

    /// Inspects what is held, as the last there is.
    fn rest(&mut self, inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        self.begin();
        self.read(true, inspector)
    }

    fn read(&mut self, last: bool, inspector: &mut Inspector<'_>) -> ControlFlow<Stop> {
        for reading in &mut self.readings {
            let window = Window { text: from(&self.text, reading.place), last, early: false };
            match reading.reader.read(window, inspector) {
                ControlFlow::Continue(next) => reading.place += next,
                ControlFlow::Break(()) => return ControlFlow::Break(Stop::Found),
            }
        }
        ControlFlow::Continue(())
    }

    /// Decides how it is read, as soon as something is there to tell.
    fn begin(&mut self) {
        // White space tells nothing, and no parser minds it.
        if !self.begun && !self.text.trim_ascii().is_empty() {
            self.readings = reading::all(&self.kind, &self.declared, &self.text);
            self.begun = true;
        }
    }

    fn undecodable(&self) -> ControlFlow<Stop> {
        ControlFlow::Break(Stop::Done(Report { oversize: false, undecodable: true }))
    }
}

/// Messages of gRPC, in a binary form of their own, which may come one by one while answers go back: they are not looked at.
/// Servers take them over HTTP/2 alone, and with `te: trailers`.
fn is_grpc(headers: &Headers<'_>, content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    starts(content_type, TYPE)
        && matches!(content_type.get(TYPE.len()), None | Some(b'+' | b';'))
        && headers.first("te").is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"))
}

fn encoding(headers: &Headers<'_>) -> Encoding {
    let mut found = Encoding::Identity;
    for name in headers.all("content-encoding").flat_map(|value| value.split(|b| *b == b',')) {
        let name = name.trim_ascii();
        let own = if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
            continue;
        } else if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            Encoding::Inflate(Box::new(Inflate::gzip()))
        } else if name.eq_ignore_ascii_case(b"deflate") {
            Encoding::Inflate(Box::new(Inflate::deflate()))
        } else {
            Encoding::Unknown
        };
        found = if matches!(found, Encoding::Identity) { own } else { Encoding::Unknown };
    }
    found
}

#[cfg(test)]
mod tests;
