//! What begins with `<!`, `<?` or `<%`: declarations, processing instructions, comments.

use super::markup::{attributes, finding, name_end};
use crate::bytes::{at, between, find, from, is_space, skip_space, starts, trim, word_end};
use crate::finding::{Family, Finding};

pub(super) fn declaration(value: &[u8], start: usize, budget: &mut usize) -> Option<Finding> {
    let rest = from(value, start);
    if starts(rest, b"<!entity") || starts(rest, b"<!doctype") && doctype_declares(rest) {
        return Some(Finding::new(Family::Entity, 92, "entity-declaration", start));
    }
    let short = starts(rest, b"<? ") && matches!(at(rest, word_end(rest, 3)), b'(' | b'$' | b'=');
    if short || starts(rest, b"<?php") && is_space(at(rest, 5)) || echoes(rest) {
        return Some(Finding::new(Family::Code, 90, "php-tag", start));
    }
    if starts(rest, b"<?import") || starts(rest, b"<?xml:namespace") {
        return finding(85, "processing-instruction", start);
    }
    if starts(rest, b"<?xml-stylesheet") {
        // A style sheet beside the document is its own; one with a scheme or a host comes with the attack.
        let head = between(rest, 0, 256);
        let elsewhere = head.contains(&b':') || find(head, b"//", 0).is_some();
        return finding(if elsewhere { 85 } else { 55 }, "processing-instruction", start);
    }
    if starts(rest, b"<![cdata[") && starts(trim(from(rest, 9)), b"<") {
        return finding(72, "cdata", start);
    }
    // Internet Explorer's conditional comments hold markup; so does a comment that ends early.
    if starts(rest, b"<!--[if") || starts(rest, b"<!-->") || starts(rest, b"<!--#") {
        return finding(80, "comment", start);
    }
    // `<%div` and `<!x` are tags to some parsers.
    let name = skip_space(value, start + 2);
    at(value, name).is_ascii_alphabetic().then(|| attributes(value, name_end(value, name), budget)).flatten()
}

/// `<?=` and what an expression of PHP begins with.
fn echoes(rest: &[u8]) -> bool {
    let mut inside = from(rest, 3).iter().filter(|b| !is_space(**b) && !b"!@-~\\".contains(b));
    let begins = |byte: &u8| byte.is_ascii_alphanumeric() || b"$_\"'`([/".contains(byte);
    starts(rest, b"<?=") && inside.next().is_none_or(begins)
}

fn doctype_declares(rest: &[u8]) -> bool {
    let head = between(rest, 0, 512);
    let end = head.iter().position(|b| matches!(b, b'>' | b'[')).unwrap_or(head.len());
    let head = between(head, 0, end);
    find(head, b"system", 0).is_some_and(|index| !starts(from(head, index + 6), b"\" \"about:"))
        || find(head, b"public", 0).is_some_and(|index| fetches(from(head, index)))
}

/// Whether a public identifier comes with the address of a file that nobody is known to publish.
fn fetches(identifier: &[u8]) -> bool {
    const PUBLISHERS: [&[u8]; 8] = [
        b"//www.w3.org/",
        b"//www.apple.com/",
        b"//java.sun.com/",
        b"//hibernate.",
        b"//www.hibernate.org/",
        b"//mybatis.org/",
        b"//struts.apache.org/",
        b"//www.oasis-open.org/",
    ];
    [&b"http:"[..], b"https:", b"ftp:", b"file:", b"gopher:", b"jar:"].iter().any(|scheme| {
        find(identifier, scheme, 0).is_some_and(|start| {
            let place = from(identifier, start + scheme.len());
            !PUBLISHERS.iter().any(|known| starts(place, known))
        })
    })
}
