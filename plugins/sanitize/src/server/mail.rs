//! Line-based protocols: a value that goes on with a mail header, an SMTP command, or a request of its own.
//!
//! A text of several lines may quote a mail or a request, so what counts is a break in what was meant to be one line: an
//! address, a token, a value without white space.

use crate::bytes::{at, between, from, is_space, starts};
use crate::detect::Scope;
use crate::finding::{Family, Finding};

/// Headers that change to whom a mail goes and what it is.
const HEADERS: [&[u8]; 9] = [
    b"bcc:",
    b"cc:",
    b"to:",
    b"from:",
    b"subject:",
    b"reply-to:",
    b"content-type:",
    b"mime-version:",
    b"x-mailer:",
];
/// Commands of SMTP, POP3 and IMAP.
const COMMANDS: [&[u8]; 10] = [
    b"rcpt to:",
    b"mail from:",
    b"data\r\n",
    b"data\n",
    b"ehlo ",
    b"helo ",
    b"quit\r",
    b"rset\r",
    b"vrfy ",
    b"expn ",
];
/// Methods of HTTP; what follows is a path and a version.
const METHODS: [&[u8]; 8] =
    [b"get ", b"post ", b"head ", b"put ", b"delete ", b"options ", b"connect ", b"trace "];

/// Looks behind the line breaks of a value. Linear in its length.
pub(super) fn detect(value: &[u8], scope: Scope<'_>) -> Option<Finding> {
    let first = value.iter().position(|b| matches!(b, b'\r' | b'\n'))?;
    let head = between(value, 0, first);
    let one_line = !head.iter().any(|b| is_space(*b)) || scope.is_name;
    let mail = one_line && !head.is_empty() && head.contains(&b'@') || is_line(scope.name);
    let mut index = first;
    loop {
        while matches!(at(value, index), b'\r' | b'\n') {
            index += 1;
        }
        let line = from(value, index);
        if (one_line || mail) && is_request(line) {
            return Some(Finding::new(Family::Protocol, 84, "request-line", index));
        }
        if mail && HEADERS.iter().any(|name| starts(line, name)) {
            return Some(Finding::new(Family::Mail, 84, "mail-header", index));
        }
        if (one_line || mail) && (COMMANDS.iter().any(|name| starts(line, name)) || is_imap(line)) {
            return Some(Finding::new(Family::Mail, 82, "mail-command", index));
        }
        if one_line && (starts(line, b"set-cookie:") || starts(line, b"http/1.") || is_target(line)) {
            return Some(Finding::new(Family::Protocol, 80, "header-break", index));
        }
        match line.iter().position(|b| matches!(b, b'\r' | b'\n')) {
            Some(length) => index += length,
            None => return None,
        }
    }
}

/// `Location: http://..`, and no place where somebody lives.
fn is_target(line: &[u8]) -> bool {
    starts(line, b"location:")
        && [&b"http:"[..], b"https:", b"//", b"javascript:"]
            .iter()
            .any(|scheme| starts(from(line, 9).trim_ascii_start(), scheme))
}

/// `V100 FETCH 1`: a tag of one letter and digits, and a command of IMAP (RFC 9051, 6).
fn is_imap(line: &[u8]) -> bool {
    const VERBS: [&[u8]; 10] = [
        b"capability",
        b"copy",
        b"create",
        b"delete",
        b"fetch",
        b"list",
        b"login",
        b"logout",
        b"select",
        b"store",
    ];
    let digits = from(line, 1).iter().take(8).take_while(|b| b.is_ascii_digit()).count();
    let verb = from(line, digits + 2);
    at(line, 0).is_ascii_alphabetic()
        && digits > 0
        && at(line, digits + 1) == b' '
        && VERBS.iter().any(|known| starts(verb, known) && !at(verb, known.len()).is_ascii_alphanumeric())
}

/// Parameters that hold one line of a mail.
fn is_line(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [b"email", b"mail", b"subject", b"from", b"to", b"cc", b"reply"];
    NAMES.iter().any(|known| {
        starts(name, known)
            && (name.len() == known.len() || matches!(at(name, known.len()), b'_' | b'-' | b'['))
    })
}

/// `GET /x HTTP/1.1`.
fn is_request(line: &[u8]) -> bool {
    let Some(method) = METHODS.iter().find(|method| starts(line, method)) else { return false };
    let target = from(line, method.len());
    let end = target.iter().take(2048).position(|b| is_space(*b)).unwrap_or(0);
    end > 0 && starts(from(target, end).trim_ascii_start(), b"http/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(value: &str, name: &str) -> Option<Family> {
        detect(value.as_bytes(), Scope { name: name.as_bytes(), ..Scope::EVERY }).map(|f| f.family)
    }

    #[test]
    fn a_line_that_goes_on() {
        assert_eq!(family("me@shop.example\r\nBcc: all@shop.example", "x"), Some(Family::Mail));
        assert_eq!(family("hello there\nTo: all@shop.example", "subject"), Some(Family::Mail));
        assert_eq!(family("x\r\nRCPT TO: <a@b.test>", "q"), Some(Family::Mail));
        assert_eq!(family("x\r\nGET /admin HTTP/1.1\r\nHost: y", "q"), Some(Family::Protocol));
        assert_eq!(family("x\"\r\nV100 CAPABILITY\r\nV101 FETCH 4791", "q"), Some(Family::Mail));
        assert_eq!(family("x\r\nLocation: https://shop.example", "q"), Some(Family::Protocol));
        for fine in [
            "Berlin\nLocation: Mitte",
            "A1\nB2 selected",
            "Hello Bob,\nTo: be or not to be",
            "Here is what I sent:\nGET /x HTTP/1.1\nHost: a",
            "one\ntwo\nthree",
            "a\nget well soon",
        ] {
            assert_eq!(family(fine, "comment"), None, "{fine}");
        }
    }
}
