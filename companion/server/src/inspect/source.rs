//! Where recorded requests come from: a file or standard input, of whatever kind it is.
//!
//! JSON lines are read one by one, so that a log may be of any size. Anything else is read as a whole.

use std::io::{self, BufRead, Read};

use clap::ValueEnum;
use portcullis_replay::{Place, Request, Unreadable, curl, har, http, line};
use serde_json::Value;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What it looks like.
    Auto,
    /// One raw HTTP request.
    Http,
    /// One curl command.
    Curl,
    /// A browser's network log.
    Har,
    /// A JSON object a line: requests, access logs, audit records.
    Jsonl,
}

/// A recorded request, or why it could not be read.
pub struct Item {
    /// A file's name, with a line or an entry's number.
    pub origin: String,
    /// The place into which a recorded value was put.
    pub place: Option<String>,
    /// It stands among others, in a log.
    pub among_others: bool,
    /// The request.
    pub request: Result<Request, String>,
}

/// The largest file that is read as a whole, and the longest line. Longer: an error.
const WHOLE_BYTES: u64 = 256 * 1024 * 1024;

/// Reads everything, and hands on one request after the other; `each` answers whether to go on.
///
/// # Errors
/// When the file cannot be read.
pub fn each(
    name: &str,
    mut from: impl BufRead,
    format: Format,
    each: &mut dyn FnMut(Item) -> bool,
) -> io::Result<()> {
    if format == Format::Jsonl {
        return lines(name, Vec::new(), from, each);
    }
    let mut head = Vec::new();
    if format == Format::Auto {
        // The first line that says something tells what the file is.
        while head.trim_ascii().is_empty() && (&mut from).take(WHOLE_BYTES).read_until(b'\n', &mut head)? > 0
        {
        }
        if is_json_line(&head) {
            return lines(name, head, from, each);
        }
    }
    (&mut from).take(WHOLE_BYTES).read_to_end(&mut head)?;
    if !from.fill_buf()?.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "is larger than 256 MiB; convert it to JSON lines",
        ));
    }
    whole(name, &head, format, each);
    Ok(())
}

/// A JSON object on a line of its own, and not a HAR file.
fn is_json_line(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|value| value.is_object() && !har::is(&value))
}

fn lines(
    name: &str,
    first: Vec<u8>,
    mut from: impl BufRead,
    each: &mut dyn FnMut(Item) -> bool,
) -> io::Result<()> {
    let mut number = first.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
    let mut text = first;
    loop {
        if text.is_empty() && (&mut from).take(WHOLE_BYTES).read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        number = number.saturating_add(1);
        if !text.trim_ascii().is_empty() && !of_line(&format!("{name}:{number}"), true, &text, each) {
            return Ok(());
        }
        text.clear();
    }
}

/// The requests of one JSON text; whether to go on.
fn of_line(origin: &str, among_others: bool, text: &[u8], each: &mut dyn FnMut(Item) -> bool) -> bool {
    let item = |place: Option<&Place>, request| Item {
        origin: origin.to_owned(),
        place: place.map(Place::name),
        among_others,
        request,
    };
    match line::read(text) {
        Err(error) => each(item(None, Err(error.to_string()))),
        Ok(entry) => entry.cases.into_iter().all(|case| {
            let request = case.request.map_err(|_| "the value cannot stand there".to_owned());
            each(item(case.place.as_ref(), request))
        }),
    }
}

fn whole(name: &str, bytes: &[u8], format: Format, each: &mut dyn FnMut(Item) -> bool) {
    let text = bytes.trim_ascii_start();
    let format = match format {
        Format::Auto if text.starts_with(b"{") || text.starts_with(b"[") => Format::Har,
        Format::Auto if text.starts_with(b"curl ") || text.starts_with(b"curl\t") => Format::Curl,
        Format::Auto => Format::Http,
        given => given,
    };
    let one = |request: Result<Request, Unreadable>| Item {
        origin: name.to_owned(),
        place: None,
        among_others: false,
        request: request.map_err(|error| error.to_string()),
    };
    match format {
        Format::Curl => drop(each(one(command(bytes)))),
        Format::Har => match serde_json::from_slice::<Value>(bytes) {
            Ok(document) if har::is(&document) => {
                let entries = har::read(&document).unwrap_or_default();
                for (number, request) in entries.into_iter().enumerate() {
                    let number = number.saturating_add(1);
                    if !each(Item {
                        origin: format!("{name}, entry {number}"),
                        among_others: true,
                        ..one(request)
                    }) {
                        return;
                    }
                }
            }
            // One request as a JSON object over several lines.
            Ok(_) => drop(of_line(name, false, bytes, each)),
            Err(error) => drop(each(one(Err(error.into())))),
        },
        _ => drop(each(one(http::read(bytes)))),
    }
}

/// Reads a curl command as it was pasted.
///
/// # Errors
/// As [`curl::command`].
pub fn command(text: &[u8]) -> Result<Request, Unreadable> {
    curl::command(text, &|path| std::fs::read(path))
}

/// Reads a curl command's arguments.
///
/// # Errors
/// As [`curl::words`].
pub fn arguments(words: &[Vec<u8>]) -> Result<Request, Unreadable> {
    curl::words(words, &|path| std::fs::read(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: Format) -> Vec<String> {
        let mut found = Vec::new();
        let mut take = |item: Item| {
            let said = item
                .request
                .map_or_else(|why| why, |request| String::from_utf8_lossy(&request.target).into_owned());
            found.push(format!("{} {said}", item.origin));
            true
        };
        each("f", text.as_bytes(), format, &mut take).unwrap();
        found
    }

    #[test]
    fn each_kind_is_known_by_its_look() {
        assert_eq!(read("GET /a HTTP/1.1\r\nhost: h\r\n\r\n", Format::Auto), ["f /a"]);
        assert_eq!(read("\ncurl 'http://h/b'", Format::Auto), ["f /b"]);
        let lines = read("\n{\"uri\": \"/c\"}\n\n{\"uri\": \"/d\"}\n{\"no", Format::Auto);
        assert_eq!((lines.len(), &lines[..2]), (3, &["f:2 /c".to_owned(), "f:4 /d".to_owned()][..]));
        assert!(lines[2].starts_with("f:5 is not JSON"), "{}", lines[2]);
        assert_eq!(read("{\n\"uri\":\n\"/e\"}", Format::Auto), ["f /e"]);
        let har = r#"{"log": {"entries": [{"request": {"url": "http://h/f"}}, {"request": {"url": "http://h/g"}}]}}"#;
        assert_eq!(read(har, Format::Auto), ["f, entry 1 /f", "f, entry 2 /g"]);
        assert_eq!(read(&har.replace(' ', "\n"), Format::Auto).len(), 2);
    }

    #[test]
    fn what_a_file_is_can_be_said() {
        assert!(read("{\"no\n{\"uri\": \"/a\"}", Format::Jsonl)[1].ends_with("f:2 /a"));
        assert!(read("{\"uri\": \"/a\"}", Format::Http)[0].contains("is not an HTTP request"));
        assert!(read("", Format::Auto)[0].contains("is not an HTTP request"));
        assert!(read("[1", Format::Auto)[0].contains("is not JSON"));
    }

    #[test]
    fn reading_stops_when_nobody_listens() {
        let mut count = 0;
        let text = "{\"payload\": \"a\"}\n{\"uri\": \"/\"}";
        each("f", text.as_bytes(), Format::Auto, &mut |_| {
            count += 1;
            count < 2
        })
        .unwrap();
        assert_eq!(count, 2);
    }
}
