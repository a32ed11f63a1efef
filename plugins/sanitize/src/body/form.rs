//! The pairs of a form.

use std::ops::ControlFlow;

use super::window::{Next, Window};
use crate::bytes::{between, from};
use crate::decode::percent;
use crate::head;
use crate::inspector::{Inspector, Part};
use crate::place::Place;

/// A form that is being read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    /// The name of the value in which the window begins.
    inside: Option<Vec<u8>>,
}

impl Form {
    pub(crate) fn read(&mut self, window: Window<'_>, inspector: &mut Inspector<'_>) -> Next {
        let text = window.text;
        let mut start = 0;
        while start < text.len() {
            let rest = from(text, start);
            let end = rest.iter().position(|b| *b == b'&');
            if end.is_none() && window.leaves(start) {
                return ControlFlow::Continue(start);
            }
            let part = between(rest, 0, end.unwrap_or(rest.len()));
            let long = end.is_none() && !window.last;
            match &self.inside {
                Some(name) => inspector.look(Place::Form, Part::Value, name, &percent(part, true))?,
                None => head::one(part, Place::Form, inspector)?,
            }
            if long {
                self.inside.get_or_insert_with(|| head::name(part).into_owned());
                return ControlFlow::Continue(before_escape(text, window.cut()));
            }
            self.inside = None;
            start += part.len() + 1;
        }
        ControlFlow::Continue(text.len())
    }
}

/// That place, or the start of the percent escape that it is in.
fn before_escape(text: &[u8], place: usize) -> usize {
    let start = place.saturating_sub(2);
    between(text, start, place).iter().position(|b| *b == b'%').map_or(place, |offset| start + offset)
}
