//! Texts and attributes of an XML document, and the declarations that reach outside of it.
//!
//! An element's name is no markup here: `<link>` and `<title>` are ordinary in feeds and SOAP.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::window::{Next, Window};
use crate::bytes::{at, between, find, from, is_space, skip_space, starts};
use crate::inspector::{Flow, Inspector, Part};
use crate::place::Place;

/// A document that is being read. What is not well-formed is read as far as it goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Xml {
    /// The element that a text stands in.
    element: Vec<u8>,
    /// The window begins in a CDATA section.
    cdata: bool,
}

impl Xml {
    pub(crate) fn read(&mut self, window: Window<'_>, inspector: &mut Inspector<'_>) -> Next {
        let text = window.text;
        let mut element: Cow<'_, [u8]> = Cow::Owned(std::mem::take(&mut self.element));
        let mut index = 0;
        let mut no_close = false;
        let next = loop {
            if index >= text.len() {
                break text.len();
            }
            let rest = from(text, index);
            let cdata = self.cdata || starts(rest, b"<![cdata[");
            // What it is, where it ends, and whether it does.
            let (start, length, closed) = if cdata {
                let start = if self.cdata { 0 } else { CDATA };
                let end = if no_close { None } else { find(rest, b"]]>", start) };
                no_close |= end.is_none();
                (start, end.map_or(rest.len(), |end| end + 3), end.is_some())
            } else if at(rest, 0) == b'<' {
                let end = tag_end(rest);
                (0, end.unwrap_or(rest.len()), end.is_some())
            } else {
                let end = rest.iter().position(|b| *b == b'<');
                (0, end.unwrap_or(rest.len()), end.is_some())
            };
            if !closed && window.leaves(index) {
                break index;
            }
            let part = between(rest, start, length);
            if cdata {
                let content = part.strip_suffix(b"]]>").unwrap_or(part);
                inspector.look(Place::Xml, Part::Value, &element, content)?;
                self.cdata = !closed && !window.last;
            } else if at(part, 0) != b'<' {
                let content = part.trim_ascii();
                if !content.is_empty() {
                    inspector.look(Place::Xml, Part::Value, &element, content)?;
                }
            } else if matches!(at(part, 1), b'!' | b'?') || !closed && !window.last {
                inspector.look(Place::Xml, Part::Value, &element, part)?;
            } else {
                let end = name_end(part, 1);
                element = Cow::Borrowed(between(part, 1, end));
                attributes(part, end, inspector)?;
            }
            if !closed && !window.last {
                break window.cut();
            }
            index += length;
        };
        if !window.last {
            self.element = element.into_owned();
        }
        ControlFlow::Continue(next)
    }
}

/// Bytes of what opens a CDATA section.
const CDATA: usize = 9;

/// The length of a tag or declaration; quotes hide what ends a tag. `None` when it goes on.
fn tag_end(rest: &[u8]) -> Option<usize> {
    if matches!(at(rest, 1), b'!' | b'?') {
        let end = rest.iter().skip(1).position(|b| matches!(b, b'<' | b'>'));
        return end.map(|end| if at(rest, end + 1) == b'<' { end + 1 } else { end + 2 });
    }
    let mut index = 1;
    while index < rest.len() {
        match at(rest, index) {
            b'>' => return Some(index + 1),
            b'<' => return Some(index),
            b'=' => {
                index = skip_space(rest, index + 1);
                let quote = at(rest, index);
                if matches!(quote, b'"' | b'\'') {
                    index += 1 + from(rest, index + 1).iter().position(|b| *b == quote)? + 1;
                }
            }
            _ => index += 1,
        }
    }
    None
}

fn name_end(text: &[u8], start: usize) -> usize {
    let length =
        from(text, start).iter().position(|b| is_space(*b) || matches!(b, b'>' | b'/' | b'=' | b'<'));
    length.map_or(text.len(), |length| start + length)
}

/// Inspects a tag's attributes.
fn attributes(tag: &[u8], start: usize, inspector: &mut Inspector<'_>) -> Flow {
    let mut index = start;
    while index < tag.len() {
        match at(tag, index) {
            b'>' | b'<' => return Flow::Continue(()),
            byte if is_space(byte) || matches!(byte, b'/' | b'=') => index += 1,
            _ => {
                let end = name_end(tag, index);
                let name = between(tag, index, end);
                let equals = skip_space(tag, end);
                index = end.max(index + 1);
                if at(tag, equals) != b'=' {
                    continue;
                }
                let start = skip_space(tag, equals + 1);
                let quote = at(tag, start);
                if matches!(quote, b'"' | b'\'') {
                    let inside = from(tag, start + 1);
                    let length = inside.iter().position(|b| *b == quote).unwrap_or(inside.len());
                    inspector.look(Place::Xml, Part::Value, name, between(inside, 0, length))?;
                    index = start + length + 2;
                }
            }
        }
    }
    Flow::Continue(())
}
