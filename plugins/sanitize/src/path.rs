//! Path traversal: a file name that climbs out of its folder, or names a file that no client should.
//!
//! The value is split where file systems and careless decoders split it: at `/` and `\`, and at escapes and overlong
//! bytes that are broken but that some decoder reads as one of them. What is between decides: dots that climb, and names
//! of files that attackers want.
//!
//! Not found on purpose: a single `../` before an ordinary name, as relative links have it, and `../` within prose.

use crate::bytes::{at, between, find, from, is_space, listed, skip_space, starts};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// Files by their last two parts, as far as attackers read them: the folder and the name. An empty folder stands for
/// any. Sorted by name.
#[rustfmt::skip]
const FILES: &[(&str, &str)] = &[
    (".bash_history", ""), (".bashrc", ""), (".env", ""), (".git-credentials", ""), (".htaccess", ""),
    (".htpasswd", ""), (".my.cnf", ""), (".mysql_history", ""), (".netrc", ""), (".npmrc", ""),
    (".pgpass", ""), ("access.log", "apache2"), ("access.log", "nginx"), ("access_log", "logs"),
    ("applicationhost.config", ""), ("auth.log", "log"), ("authorized_keys", ""), ("autoexec.bat", ""),
    ("boot.ini", ""), ("cmdline", "proc"), ("cmdline", "self"), ("config", ".aws"), ("config", ".git"),
    ("config", ".ssh"), ("credentials", ".aws"), ("crontab", "etc"), ("desktop.ini", ""),
    ("docker.sock", "run"), ("environ", "self"), ("error.log", "apache2"), ("error.log", "nginx"),
    ("error_log", "logs"), ("fstab", "etc"), ("global.asa", ""), ("global.asax", ""), ("group", "etc"),
    ("gshadow", "etc"), ("hostname", "etc"), ("hosts", "etc"), ("httpd.conf", ""), ("id_dsa", ""),
    ("id_ecdsa", ""), ("id_ed25519", ""), ("id_rsa", ""), ("inetd.conf", "etc"), ("issue", "etc"),
    ("known_hosts", ".ssh"), ("master.passwd", "etc"), ("motd", "etc"), ("my.cnf", "etc"), ("my.cnf", "mysql"), ("nginx.conf", ""),
    ("ntuser.dat", ""), ("passwd", "etc"), ("php.ini", ""), ("resolv.conf", "etc"), ("sam", "config"),
    ("services", "etc"), ("shadow", "etc"), ("sshd_config", "ssh"), ("sudoers", "etc"), ("system.ini", ""),
    ("token", "serviceaccount"), ("tomcat-users.xml", ""), ("unattend.xml", ""), ("version", "proc"), ("web.config", ""),
    ("web.xml", "web-inf"), ("win.ini", ""), ("wp-config.php", ""),
];

/// Folders at the root of a Unix system; a climb that reaches one of them meant to. Sorted.
#[rustfmt::skip]
static ROOTS: Lexicon = Lexicon::new(&[
    "apache", "apache2", "bin", "boot", "dev", "etc", "home", "inetpub", "lib", "opt", "private",
    "proc", "program files", "root", "sbin", "sys", "usr", "var", "volumes", "web-inf", "windows",
    "winnt", "xampp",
]);

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Path, confidence, why, at))
}

/// What a walk over the parts of a value sees.
#[derive(Default)]
struct Walk<'a> {
    /// Parts that climb, in a row and at most.
    climbs: u32,
    longest: u32,
    /// How far the path ever got above its start.
    depth: i32,
    lowest: i32,
    /// Separators that no client writes: broken escapes, overlong bytes, `0x2f`.
    odd: u32,
    folder: &'a [u8],
    first_climb: Option<usize>,
    sensitive: Option<&'static str>,
    root: bool,
    parts: u32,
    /// Parts that stay where they are: `.`, and empty ones.
    still: u32,
    /// Dots alone, three and more: old Windows climbs by them.
    dotted: bool,
    /// A part of prose: white space inside, or more than a name would have.
    prose: bool,
}

/// Looks for a path that should not be asked for. `is_path` says that the value is a segment of the request's own path.
/// Linear in the value's length.
pub fn detect(value: &[u8], marks: Marks, is_path: bool) -> Option<Finding> {
    let value = value.trim_ascii_start();
    let scheme = if marks.any(marks::COLON) { schemes(value) } else { None };
    surer(
        scheme,
        if marks.may_be_path() || is_padded(value) || !is_path && is_system(value) {
            walk(value, is_path)
        } else {
            None
        },
    )
}

/// Whether the value starts with a path that nobody writes: `/./`, `////`. The marks do not tell.
pub fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b'/', b'.' | b'/', ..]) && matches!(at(value, 2), b'/' | b'.')
}

/// Whether the value is a path below `/etc` or `/proc` from its start. The marks do not tell.
pub fn is_system(value: &[u8]) -> bool {
    matches!(value, [b'/', b'e' | b'p', ..]) && (value.starts_with(b"/etc/") || value.starts_with(b"/proc/"))
        || value.starts_with(b"/dev/")
        || value.starts_with(b"/run/secrets/")
}

/// A file that a server keeps for itself, whatever its name: `/etc/apache2/apache2.conf`, `/proc/self/maps`.
fn system_file(value: &[u8]) -> Option<Finding> {
    let path =
        value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b'*'));
    let last = value.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let process =
        [&b"/proc/self/"[..], b"/proc/net/", b"/run/secrets/"].iter().any(|folder| value.starts_with(folder))
            || matches!(value, b"/dev/random" | b"/dev/urandom" | b"/dev/zero")
            || at(value, 6).is_ascii_digit();
    let file = process || value.starts_with(b"/etc/") && last.contains(&b'.');
    if !path || last.is_empty() || !is_system(value) {
        return None;
    }
    finding(if file { 76 } else { 60 }, "system-file", 0)
}

/// Wrappers that read files or run them where a file name is expected: `php://`, `file://` and their like.
fn schemes(value: &[u8]) -> Option<Finding> {
    let start = skip_space(value, 0);
    let rest = from(value, start);
    let colon = between(rest, 0, 20).iter().position(|b| *b == b':')?;
    let scheme = between(rest, 0, colon);
    let wrappers =
        ["expect", "file", "glob", "jar", "netdoc", "ogg", "phar", "php", "rar", "ssh2", "zip", "zlib"];
    if starts(rest, b"jar:") && find(between(rest, 0, 512), b"!/", 0).is_some() {
        return finding(80, "file-scheme", start);
    }
    let slashes = starts(from(rest, colon), b"://") || starts(from(rest, colon), b":/");
    if slashes && listed(&wrappers, scheme) && scheme.len() > 2 {
        return finding(if starts(from(rest, colon), b"://") { 85 } else { 60 }, "file-scheme", start);
    }
    None
}

fn walk(value: &[u8], is_path: bool) -> Option<Finding> {
    let mut walk = Walk::default();
    let mut index = 0;
    let mut start = 0;
    while index <= value.len() {
        let (length, odd) = if index == value.len() { (1, false) } else { separator(value, index) };
        if length == 0 {
            index += 1;
            continue;
        }
        walk.odd += u32::from(odd);
        walk.part(between(value, start, index), start);
        index += length;
        start = index;
    }
    walk.judge(value, is_path)
}

/// The length of what some decoder takes for a separator here, 0 for none; and whether it is an odd one.
fn separator(value: &[u8], index: usize) -> (usize, bool) {
    match at(value, index) {
        b'/' | b'\\' => (1, false),
        b'%' if !at(value, index + 1).is_ascii_alphanumeric() => (0, false),
        // What is left of an escape after decoding is broken: `%qf`.
        b'%' if at(value, index + 2).is_ascii_alphanumeric() => (3, true),
        b'0' if at(value, index + 1) | 32 == b'x' && starts(from(value, index + 2), b"2f") => (4, true),
        b'0' if at(value, index + 1) | 32 == b'x' && starts(from(value, index + 2), b"5c") => (4, true),
        0xc0 | 0xc1 => {
            let extra = if at(value, index + 1) == b'%' { 3 } else { 1 };
            let dot = matches!(at(value, index + 1), b'.' | 0x5e | 0xae | 0xee | 0xfe);
            if dot { (0, false) } else { (1 + extra, true) }
        }
        // Private characters that old servers mapped to a separator (U+F025, U+EFC8).
        0xee | 0xef if is_private(value, index) => (3, true),
        _ => (0, false),
    }
}

fn is_private(value: &[u8], index: usize) -> bool {
    matches!((at(value, index), at(value, index + 1)), (0xef, 0x80) | (0xee, 0xbf))
}

impl<'a> Walk<'a> {
    fn part(&mut self, part: &'a [u8], start: usize) {
        self.parts += 1;
        if part.is_empty() || part == b"." {
            self.still += u32::from(part == b"." || start > 0);
            return;
        }
        self.dotted |= part.len() > 2 && part.iter().all(|b| *b == b'.');
        // Java's servers take a parameter from a part before they look for dots; nobody else writes one there.
        self.odd += u32::from(part.starts_with(b"..;"));
        if climbs(part) {
            self.first_climb = self.first_climb.or(Some(start));
            self.climbs += 1;
            self.longest = self.longest.max(self.climbs);
            self.depth -= 1;
            self.lowest = self.lowest.min(self.depth);
            self.folder = b"";
            return;
        }
        if self.longest > 0 || self.parts <= 2 {
            self.root |= ROOTS.has(part);
        }
        if self.sensitive.is_none() {
            self.sensitive = sensitive(self.folder, part);
        }
        self.prose |= part.iter().filter(|b| is_space(**b)).count() > 1 && part.len() > 16;
        self.depth += 1;
        self.climbs = 0;
        self.folder = part;
    }

    fn judge(&self, value: &[u8], is_path: bool) -> Option<Finding> {
        let place = self.first_climb.unwrap_or(0);
        if self.longest > 0 {
            if self.sensitive.is_some() || self.root {
                return finding(if self.prose { 60 } else { 92 }, "climb-to-system", place);
            }
            if self.longest >= 2 && self.lowest <= -2 {
                return finding(if self.prose { 55 } else { 85 }, "climb", place);
            }
            if self.odd > 0 {
                return finding(85, "climb-encoded", place);
            }
            let from_root = matches!(at(value, 0), b'/' | b'\\') && !self.prose;
            if (is_path || from_root || self.dotted && self.parts > 1) && self.lowest < 0 {
                return finding(75, "climb", place);
            }
            if self.longest >= 2 && from_root {
                return finding(72, "climb", place);
            }
            return finding(40, "climb", place);
        }
        if let Some(found) = self.judge_dots(value, is_path) {
            return Some(found);
        }
        let Some(name) = self.sensitive else { return if is_path { None } else { system_file(value) } };
        let alone = !self.prose && !value.iter().any(|b| is_space(*b));
        let rooted = matches!(at(value, 0), b'/' | b'\\')
            || at(value, 1) == b':'
            || starts(value, b"file:")
            || self.odd > 0
            || matches!(at(value, 0), b'.' | b'~');
        if self.odd > 1 {
            return finding(85, "system-file", 0);
        }
        match (alone, rooted) {
            (true, true) if self.parts > 1 => {
                finding(if name.is_empty() { 75 } else { 88 }, "system-file", 0)
            }
            (true, false) if self.parts == 2 && !name.is_empty() => finding(72, "system-file", 0),
            (true, _) if self.parts > 1 => finding(60, "system-file", 0),
            _ => finding(45, "system-file", 0),
        }
    }
}

impl Walk<'_> {
    /// What shows a path that is written to get past a filter: separators were taken from it, or dots and slashes were
    /// put in.
    fn judge_dots(&self, value: &[u8], is_path: bool) -> Option<Finding> {
        let rooted = matches!(at(value, 0), b'/' | b'\\');
        if self.prose || !rooted || value.iter().any(|b| is_space(*b)) {
            return None;
        }
        if longest_run(value, b"0x2e") > 1 || longest_run(value, b".") > 3 || self.dotted {
            return finding(75, "climb-encoded", 0);
        }
        // `/./././x`, `/.//./x`; `////x` is another host to browsers.
        let padded = self.still > 3 && at(value, 1) == b'.' || starts(value, b"////") && !is_path;
        if padded { finding(72, "padded-path", 0) } else { None }
    }
}

/// How often a text stands in a row, at most.
fn longest_run(value: &[u8], text: &[u8]) -> usize {
    let (mut longest, mut run, mut end) = (0, 0, 0);
    let mut index = 0;
    while let Some(found) = find(value, text, index) {
        run = if found == end { run + 1 } else { 1 };
        index = found + text.len();
        end = index;
        longest = longest.max(run);
    }
    longest
}

/// Whether a part climbs: `..`, with what filters remove or servers ignore around it.
fn climbs(part: &[u8]) -> bool {
    let part = part.split(|b| *b == b';').next().unwrap_or(part);
    let part = match find(part, b"=", 0) {
        // `file=..` in front of the first separator.
        Some(equals) => from(part, equals + 1),
        None => part,
    };
    let mut dots = 0;
    let mut index = 0;
    while index < part.len() {
        let (step, dot) = match at(part, index) {
            b'.' => (1, true),
            b'?' | b' ' | b'"' | b'\'' | 1..=0x1f if dots > 0 || part.len() <= 4 => {
                (1, at(part, index) == b'?')
            }
            0xc0 | 0xc1 if matches!(at(part, index + 1), b'.' | 0x5e | 0xae | 0xee | 0xfe) => (2, true),
            b'0' if starts(from(part, index), b"0x2e") => (4, true),
            b'x' if starts(from(part, index), b"x2e") => (3, true),
            _ => return false,
        };
        dots += u32::from(dot);
        index += step;
    }
    dots >= 2 && part.iter().any(|b| *b != b'?' && *b != b' ') || dots == 2 && part == b"??"
}

fn sensitive(folder: &[u8], part: &[u8]) -> Option<&'static str> {
    let name_end = part
        .iter()
        .position(|b| matches!(b, 0 | b'?' | b'#' | b'%' | b';' | b'"' | b'\'' | b' '))
        .unwrap_or(part.len());
    let name = between(part, 0, name_end);
    // `c:boot.ini`, `file=boot.ini`.
    let name = name.rsplit(|b| matches!(b, b':' | b'=')).next().unwrap_or(name);
    let mut at_index =
        FILES.partition_point(|(entry, _)| crate::bytes::compare(entry.as_bytes(), name).is_lt());
    while let Some((entry, wanted)) = FILES.get(at_index) {
        if !entry.as_bytes().eq_ignore_ascii_case(name) {
            return None;
        }
        let folder =
            folder.rsplit(|b| matches!(b, b':' | b'=' | b' ' | b'"' | b'\'')).next().unwrap_or(folder);
        // Any process will do.
        let process = *wanted == "self" && !folder.is_empty() && folder.iter().all(u8::is_ascii_digit);
        if wanted.is_empty() || process || folder.eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(wanted);
        }
        at_index += 1;
    }
    None
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
