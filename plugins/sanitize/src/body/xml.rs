//! Texts and attributes of an XML document, and the declarations that reach outside of it.
//!
//! An element's name is no markup here: `<link>` and `<title>` are ordinary in feeds and SOAP.

use std::ops::ControlFlow;

use crate::bytes::{at, between, find, from, is_space, skip_space, starts};
use crate::inspector::{Flow, Inspector, Part};
use crate::place::Place;

/// Inspects a document. What is not well-formed is read as far as it goes.
pub(crate) fn inspect(text: &[u8], inspector: &mut Inspector<'_>) -> Flow {
    let mut element: &[u8] = b"";
    let mut index = 0;
    let mut no_close = false;
    while index < text.len() {
        let rest = from(text, index);
        if at(rest, 0) != b'<' {
            let length = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
            let content = between(rest, 0, length).trim_ascii();
            if !content.is_empty() {
                inspector.look(Place::Xml, Part::Value, element, content)?;
            }
            index += length;
        } else if starts(rest, b"<![cdata[") {
            let end = if no_close { None } else { find(rest, b"]]>", 9) };
            no_close |= end.is_none();
            inspector.look(Place::Xml, Part::Value, element, between(rest, 9, end.unwrap_or(rest.len())))?;
            index += end.map_or(rest.len(), |end| end + 3);
        } else if matches!(at(rest, 1), b'!' | b'?') {
            let length =
                rest.iter().skip(1).position(|b| matches!(b, b'<' | b'>')).map_or(rest.len(), |end| end + 1);
            inspector.look(Place::Xml, Part::Value, element, between(rest, 0, length))?;
            index += length;
        } else {
            let end = name_end(rest, 1);
            element = between(rest, 1, end);
            index += attributes(rest, end, inspector)?;
        }
    }
    ControlFlow::Continue(())
}

fn name_end(text: &[u8], start: usize) -> usize {
    let length =
        from(text, start).iter().position(|b| is_space(*b) || matches!(b, b'>' | b'/' | b'=' | b'<'));
    length.map_or(text.len(), |length| start + length)
}

/// Inspects a tag's attributes; yields the tag's length.
fn attributes(tag: &[u8], start: usize, inspector: &mut Inspector<'_>) -> ControlFlow<(), usize> {
    let mut index = start;
    while index < tag.len() {
        match at(tag, index) {
            b'>' => return ControlFlow::Continue(index + 1),
            b'<' => return ControlFlow::Continue(index),
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
    ControlFlow::Continue(tag.len().max(1))
}
