//! What to take out of a text so that nothing in it runs in a page: for the action `clean`.
//!
//! Elements that run script or load documents, with their content where that is not markup; event handlers, script URLs
//! and styles that run script, as attributes alone, so that the element stays; comments; attributes of a value that breaks
//! out of a quote; URLs whose scheme runs script. All else stays as it is: the answer is a list of ranges to remove, never
//! other text. What counts is what [`super::markup`] and [`super::script`] say of an element, an attribute or a URL.
//!
//! It deliberately leaves script that stands where a script was broken out of (`'-alert(1)-'`): nothing tells which part
//! of that is data. It need not be trusted: whoever removes inspects what is left.
//!
//! Limits: quoted values that never end are read again for each tag in them, up to eight times the text's length; beyond
//! that nothing more is removed.

use std::ops::Range;

use super::declaration::declaration;
use super::{markup, script};
use crate::bytes::{at, between, find, from, is_space, listed, skip_space, starts, word_end};
use crate::finding::{Family, Finding};
use crate::marks::Marks;

/// The confidence from which a part is removed, if what is needed to act is not less.
const WEAKEST: u8 = 50;
/// The confidence of an element that does nothing alone.
const ODD: u8 = 55;

/// The ranges to remove, in order and apart; empty when there is nothing, or nothing more, to remove. Removing may bring
/// together what was apart: ask again with what is left. `threshold`: the confidence that is needed to act. Linear.
pub(crate) fn dangerous(value: &[u8], threshold: u8) -> Vec<Range<usize>> {
    let mut cuts = Tags::new(value, threshold).cuts();
    if cuts.is_empty() {
        cuts = attributes_outside(value, threshold.min(WEAKEST));
    }
    if cuts.is_empty() {
        cuts = script_url(value, threshold.min(WEAKEST)).into_iter().collect();
    }
    cuts
}

struct Tags<'v> {
    value: &'v [u8],
    threshold: u8,
    budget: usize,
    cuts: Vec<Range<usize>>,
    /// End tags: they go when no element is left that they could end.
    closings: Vec<Range<usize>>,
}

impl<'v> Tags<'v> {
    fn new(value: &'v [u8], threshold: u8) -> Self {
        let budget = value.len().saturating_mul(8).saturating_add(8192);
        Self { value, threshold, budget, cuts: Vec::new(), closings: Vec::new() }
    }

    fn cuts(mut self) -> Vec<Range<usize>> {
        let mut index = 0;
        while self.budget > 0
            && let Some(offset) = from(self.value, index).iter().position(|b| *b == b'<')
        {
            index = self.token(index + offset);
        }
        joined(if self.cuts.is_empty() { self.closings } else { self.cuts })
    }

    /// Reads what a `<` begins; where to go on.
    fn token(&mut self, start: usize) -> usize {
        let value = self.value;
        let dangerous = match at(value, start + 1) {
            b'!' if starts(from(value, start), b"<!--") => return self.cut(start, comment_end(value, start)),
            b'!' | b'?' | b'%' => is_xss(declaration(value, start, &mut self.budget)),
            b'/' => {
                if self.is_closing(start) {
                    let end = self.tag_end(start + 1);
                    self.closings.push(start..end);
                }
                return start + 1;
            }
            first if first.is_ascii_alphabetic() => return self.element(start),
            _ => {
                if markup::loose(value, start, &mut self.budget).is_none() {
                    return start + 1;
                }
                let end = self.tag_end(start + 1);
                return self.cut(start, content_end(value, end, b"script"));
            }
        };
        if !dangerous {
            return start + 1;
        }
        let end = self.tag_end(start + 1);
        self.cut(start, end)
    }

    fn cut(&mut self, start: usize, end: usize) -> usize {
        self.cuts.push(start..end);
        end
    }

    /// The end of a tag that is removed as a whole.
    fn tag_end(&mut self, start: usize) -> usize {
        let length = from(self.value, start).iter().position(|b| *b == b'>');
        let end = length.map_or(self.value.len(), |length| start + length + 1);
        self.budget = self.budget.saturating_sub(end - start);
        end
    }

    /// Whether an element's end tag goes, because its start tag would, or because it ends what the page began.
    fn is_closing(&mut self, start: usize) -> bool {
        let name = between(self.value, start + 2, markup::name_end(self.value, start + 2));
        self.is_active(name) || is_xss(markup::closing(self.value, start, &mut self.budget))
    }

    fn is_active(&self, name: &[u8]) -> bool {
        let local = name.rsplit(|b| *b == b':').next().unwrap_or(name);
        markup::ACTIVE.has(local)
            || starts(name, b"svg:")
            || starts(name, b"xi:include")
            || self.threshold <= ODD && markup::ODD.has(local)
    }

    /// Removes an element's tag, or its dangerous attributes.
    fn element(&mut self, start: usize) -> usize {
        let value = self.value;
        let name_end = markup::name_end(value, start + 1);
        let name = between(value, start + 1, name_end);
        let spelled =
            !at(value, start + 2).is_ascii_alphanumeric() && markup::spelled(value, start).is_some();
        let before = self.cuts.len();
        let end = self.attributes(name_end);
        if !spelled && !self.is_active(name) {
            // A quoted value may hold what another parser takes for a tag.
            return start + 1;
        }
        self.cuts.truncate(before);
        self.cut(start, content_end(value, end, name))
    }

    /// Removes a tag's dangerous attributes; where the tag ends.
    fn attributes(&mut self, start: usize) -> usize {
        let value = self.value;
        let mut index = start;
        while index < value.len() && self.budget > 0 {
            let before = index;
            while is_junk(at(value, index)) && index < value.len() {
                index += 1;
            }
            match at(value, index) {
                b'>' => return index + 1,
                b'<' => return index,
                _ => {}
            }
            let (name, content, end) = attribute(value, index);
            self.budget = self.budget.saturating_sub(end.max(index + 1) - before);
            if is_dangerous(name, content, index) {
                self.cuts.push(before..end);
            }
            index = end.max(index + 1);
        }
        index.min(value.len())
    }
}

fn is_xss(found: Option<Finding>) -> bool {
    found.is_some_and(|found| found.family == Family::Xss)
}

fn is_dangerous(name: &[u8], content: Option<&[u8]>, index: usize) -> bool {
    content.is_some_and(|content| markup::attribute(name, content, index).is_some())
}

/// What stands between attributes.
fn is_junk(byte: u8) -> bool {
    is_space(byte) || byte < 0x20 || matches!(byte, b'/' | b'"' | b'\'' | b'`' | b'=')
}

/// An attribute's name, its value if it has one, and its end, as HTML has it (HTML, section 13.2.5.33 and on).
fn attribute(value: &[u8], start: usize) -> (&[u8], Option<&[u8]>, usize) {
    let (name, after) = markup::attribute_name(value, start);
    let equals = markup::skip_junk(value, after);
    if at(value, equals) != b'=' {
        return (name, None, after);
    }
    let (content, end) = content(value, skip_space(value, equals + 1));
    (name, Some(content), end)
}

/// An attribute's value, quoted or not, and its end.
fn content(value: &[u8], start: usize) -> (&[u8], usize) {
    let rest = from(value, start);
    let quote = at(value, start);
    if matches!(quote, b'"' | b'\'') {
        let inside = from(rest, 1);
        return match inside.iter().position(|b| *b == quote) {
            Some(length) => (between(inside, 0, length), start + length + 2),
            None => (inside, value.len()),
        };
    }
    let length = rest.iter().position(|b| is_space(*b) || *b == b'>').unwrap_or(rest.len());
    (between(rest, 0, length), start + length)
}

/// The end of a comment that starts there (HTML, section 13.2.5.43 and on).
fn comment_end(value: &[u8], start: usize) -> usize {
    let rest = from(value, start);
    if starts(rest, b"<!-->") || starts(rest, b"<!--->") {
        return start + 4 + usize::from(at(rest, 4) == b'-') + 1;
    }
    let mut index = start + 4;
    while let Some(dashes) = find(value, b"--", index) {
        match (at(value, dashes + 2), at(value, dashes + 3)) {
            (b'>', _) => return dashes + 3,
            (b'!', b'>') => return dashes + 4,
            _ => index = dashes + 1,
        }
    }
    value.len()
}

/// Elements whose content is no markup, and goes with them. Sorted.
const RAW: [&str; 7] = ["iframe", "noembed", "noframes", "noscript", "script", "style", "xmp"];

/// The end of an element whose start tag ends there: of its end tag, if its content goes too.
fn content_end(value: &[u8], tag_end: usize, name: &[u8]) -> usize {
    let local = name.rsplit(|b| *b == b':').next().unwrap_or(name);
    if !listed(&RAW, local) {
        return tag_end;
    }
    let mut index = tag_end;
    while let Some(start) = find(value, b"</", index) {
        let end = word_end(value, start + 2);
        if between(value, start + 2, end).eq_ignore_ascii_case(local) {
            let length = from(value, end).iter().position(|b| *b == b'>');
            return length.map_or(value.len(), |length| end + length + 1);
        }
        index = start + 2;
    }
    value.len()
}

/// Attributes outside of any tag, with the white space before them.
fn attributes_outside(value: &[u8], weakest: u8) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut index, mut fresh, mut broke) = (0, true, false);
    while let Some(byte) = value.get(index) {
        let found = fresh.then(|| markup::lone_attribute(value, index, broke)).flatten();
        if found.is_some_and(|found| found.confidence >= weakest) {
            let (.., end) = attribute(value, index);
            let spaces = between(value, 0, index).iter().rev().take_while(|b| is_space(**b)).count();
            cuts.push(index - spaces..end.max(index + 1));
            index = end.max(index + 1);
            continue;
        }
        broke |= matches!(byte, b'"' | b'\'' | b'`');
        fresh = is_space(*byte)
            || matches!(byte, b'"' | b'\'' | b'`' | b'/' | b';' | b'?' | b'&')
            || *byte < 0x20;
        index += 1;
    }
    joined(cuts)
}

/// The first URL whose scheme runs script.
fn script_url(value: &[u8], weakest: u8) -> Option<Range<usize>> {
    let found = script::schemes(value, Marks::of(value))?;
    if found.why != "script-url" || found.confidence < weakest {
        return None;
    }
    if markup::script_url(from(value, found.at)) {
        return Some(found.at..value.len());
    }
    let colon = between(value, 0, found.at.saturating_add(1)).iter().rposition(|b| *b == b':')?;
    let scheme = between(value, 0, colon).iter().rev().take_while(|b| b.is_ascii_alphabetic()).count();
    let rest = from(value, colon);
    let ends = |b: &u8| is_space(*b) || matches!(b, b'"' | b'\'' | b'<' | b'>');
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    Some(colon - scheme..colon + length)
}

/// In order, and what touches or overlaps as one.
fn joined(mut cuts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    cuts.sort_by_key(|cut| cut.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for cut in cuts {
        match apart.last_mut() {
            Some(last) if cut.start <= last.end => last.end = last.end.max(cut.end),
            _ => apart.push(cut),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left when nothing more is to be removed.
    fn cleaned(text: &[u8], threshold: u8) -> Vec<u8> {
        let mut left = text.to_vec();
        loop {
            let cuts = dangerous(&left, threshold);
            if cuts.is_empty() {
                return left;
            }
            for cut in cuts.into_iter().rev() {
                left.drain(cut);
            }
        }
    }

    #[test]
    fn what_runs_goes_and_the_rest_stays() {
        for (text, left) in [
            ("a <b>bold</b> word", "a <b>bold</b> word"),
            ("x<script>go()</script>y", "xy"),
            ("x<SCRIPT src=//x.test></sCript >y", "xy"),
            ("x<script>go()", "x"),
            ("<b onclick=go(1) class=a>hi</b>", "<b class=a>hi</b>"),
            ("<img/onerror='go(\">\")' src=x>", "<img src=x>"),
            ("<a href=\"javascript:go()\" title=\"t\">x</a>", "<a title=\"t\">x</a>"),
            ("<a href=\"https://x.test/a\">x</a>", "<a href=\"https://x.test/a\">x</a>"),
            ("<svg onload=go()><circle r=1></svg>!", "<circle r=1>!"),
            ("<p style=\"color:red\">", "<p style=\"color:red\">"),
            ("<p style=\"width:expression(go())\">x", "<p>x"),
            ("a<!-- <script> -->b", "ab"),
            ("a<!-->b", "ab"),
            ("a<!-- b", "a"),
            ("1 < 2 & 3 > 2", "1 < 2 & 3 > 2"),
            ("<scr<script></script>ipt>go()</script>", ""),
            ("\" onfocus=\"go(1)\" autofocus=\"", "\" autofocus=\""),
            ("javascript:alert(1)", ""),
            ("https://x.test/?u=javascript:alert(1) b", "https://x.test/?u= b"),
            ("JavaScript: The Good Parts", "JavaScript: The Good Parts"),
            ("<b title=\"<script>x</script>\">y", "<b title=\"\">y"),
            ("< script>go()</script>z", "z"),
            ("'-alert(1)-'", "'-alert(1)-'"),
            ("<f o r m action=//x.test>a", "a"),
        ] {
            assert_eq!(String::from_utf8_lossy(&cleaned(text.as_bytes(), 70)), left, "{text}");
        }
        assert_eq!(cleaned(b"<img src=cat.png>a", 70), b"<img src=cat.png>a");
        assert_eq!(cleaned(b"<img src=cat.png>a", 55), b"a");
    }

    proptest! {
        #[test]
        fn removing_ends_and_finds_nothing_more(text in "([a-c<>/=!\"' -]|script|onload=|javascript:|x\\(|<!--|-->|style=){0,60}") {
            let once = cleaned(text.as_bytes(), 70);
            prop_assert!(once.len() <= text.len());
            prop_assert_eq!(cleaned(&once, 70), once);
        }
    }
}
