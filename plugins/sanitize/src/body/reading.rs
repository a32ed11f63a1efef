//! The ways in which one body is read.

use super::form::Form;
use super::graphql;
use super::json::Scan;
use super::kind::Kind;
use super::multipart::Multipart;
use super::window::{Next, Window};
use super::xml::Xml;
use crate::inspector::{Inspector, Part};
use crate::place::Place;
use crate::upload::File;
use std::ops::ControlFlow;

/// One way, and how far it has come.
#[derive(Debug)]
pub(crate) struct Reading {
    pub reader: Reader,
    /// Where its next window begins, in the bytes that the body holds.
    pub place: usize,
}

/// Reads what a body is declared to be, or looks like.
#[derive(Debug, Clone)]
pub(crate) enum Reader {
    File(Box<File>),
    Form(Form),
    Json(Scan),
    Xml(Xml),
    Multipart(Multipart),
    Graphql,
    Text,
}

/// The ways to read a body of that kind that begins with this text: as a file, as what it is declared to be, and as what
/// it looks like where that is something else.
pub(crate) fn all(kind: &Kind, declared: &[u8], text: &[u8]) -> Vec<Reading> {
    let looks = Kind::sniffed(text);
    let as_file = (!declared.is_empty()).then(|| Reader::File(Box::new(File::new(declared, b""))));
    let trusted = !matches!(kind, Kind::Undeclared | Kind::Opaque);
    let also = match (&looks, kind) {
        (looks, kind) if looks == kind => None,
        // Text of its own kind says nothing against the declaration; a boundary was declared elsewhere.
        (Kind::Text, Kind::Opaque) => None,
        (Kind::Text, _) if trusted && *kind != Kind::Xml => None,
        (Kind::Multipart(_), Kind::Multipart(_)) => None,
        (looks, _) => reader(looks),
    };
    let readers = as_file.into_iter().chain(reader(kind)).chain(also);
    readers.map(|reader| Reading { reader, place: 0 }).collect()
}

fn reader(kind: &Kind) -> Option<Reader> {
    Some(match kind {
        Kind::Form => Reader::Form(Form::default()),
        Kind::Json => Reader::Json(Scan::default()),
        Kind::Xml => Reader::Xml(Xml::default()),
        Kind::Multipart(boundary) => Reader::Multipart(Multipart::new(boundary)),
        Kind::Graphql => Reader::Graphql,
        Kind::Text => Reader::Text,
        Kind::Undeclared | Kind::Opaque => return None,
    })
}

impl Reader {
    pub(crate) fn read(&mut self, window: Window<'_>, inspector: &mut Inspector<'_>) -> Next {
        let text = window.text;
        match self {
            Self::File(file) => {
                let finding = file.look(text, window.cut());
                inspector.report(Place::Text, Part::Value, b"", finding)?;
                ControlFlow::Continue(window.cut())
            }
            Self::Form(form) => form.read(window, inspector),
            Self::Json(scan) => {
                let next = scan.read(window, &mut |part, name, text| match part {
                    Part::Value if graphql::is_document(text) => {
                        inspector.graphql(Place::Graphql, name, text)
                    }
                    Part::Value => inspector.value(Place::Json, name, text),
                    Part::Name => inspector.look(Place::Json, part, name, text),
                })?;
                // Not JSON after all: what stands between the strings counts as well.
                if !scan.is_json() {
                    inspector.look(Place::Text, Part::Value, b"", text)?;
                }
                ControlFlow::Continue(next)
            }
            Self::Xml(xml) => xml.read(window, inspector),
            Self::Multipart(multipart) => multipart.read(window, inspector),
            Self::Graphql if window.last && graphql::is_document(text) => {
                inspector.graphql(Place::Graphql, b"", text)?;
                ControlFlow::Continue(text.len())
            }
            Self::Text | Self::Graphql => {
                inspector.look(Place::Text, Part::Value, b"", text)?;
                ControlFlow::Continue(window.cut())
            }
        }
    }
}
