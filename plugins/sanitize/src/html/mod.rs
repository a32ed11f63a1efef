//! Cross-site scripting, by reading the value as a browser would.
//!
//! [`markup`] walks the tags of a value and looks at names, event handlers, URLs and styles; a value that closes an
//! attribute's quote is read as the rest of a tag. [`script`] knows what a script that is put behind a broken string, a
//! URL scheme or a template's braces looks like. [`mention`] knows tags and names that a sentence is about;
//! [`remove`] takes out of a text what the two recognize.
//!
//! Not found on purpose: markup that only formats (`<b>`, `<p>`, a link to a page), comparisons like `1 < 2`, and words
//! like `script` or `alert` in prose.

mod declaration;
mod markup;
mod mention;
mod remove;
pub(crate) mod script;

pub(crate) use remove::dangerous;

use crate::finding::{Finding, surer};
use crate::marks::{self, Marks};

/// Looks for markup and script that would run in a page: for script without markup in `code`, which is the value without
/// what only talks about code. Linear in the value's length.
pub fn detect(value: &[u8], code: &[u8], marks: Marks) -> Option<Finding> {
    let tags = if marks.any(marks::ANGLE) { markup::tags(value) } else { None };
    if tags.is_some_and(|f: Finding| f.confidence >= 90) {
        return tags;
    }
    let attributes = if marks.any(marks::EQUALS) { markup::attributes_outside(value) } else { None };
    surer(surer(tags, attributes), script::detect(code, marks))
}

#[cfg(test)]
mod tests;
