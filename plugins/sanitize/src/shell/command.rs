//! A command as a shell would read it: its name, whatever hides it, and what follows.

use super::{PLAIN, WORDY};
use crate::bytes::{at, between, find, from, is_space, is_word, listed, skip_space, starts, word_end};
use crate::lexicon::Lexicon;
use crate::marks::may_name_command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/bin/id`, `C:\Windows\System32\cmd.exe`.
    Absolute,
    /// A name of [`PLAIN`].
    Plain,
    /// A name of [`WORDY`].
    Wordy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// Nothing follows, or another command does.
    None,
    /// A word follows.
    Weak,
    /// An option, a path, a variable, a redirection, an address or a number follows.
    Strong,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub kind: Kind,
    pub argument: Argument,
    /// Ordinary text has such arguments too: a number, `/word`.
    pub soft: bool,
    /// The word's end.
    pub end: usize,
    /// Nothing that belongs to a word follows.
    pub ends: bool,
}

impl Command {
    /// Reads a command's name at that place; quotes and backslashes inside of it do not count, as in `c'a't`.
    pub fn read(value: &[u8], start: usize) -> Option<Self> {
        if at(value, start) == b'.' && at(value, start + 1) == b' ' && at(value, start + 2) == b'/' {
            // `. /etc/profile`: the shell's own name for `source`.
            let ends = between(value, start + 3, start + 67).contains(&b'/');
            let command = Self {
                kind: Kind::Plain,
                argument: Argument::Strong,
                soft: false,
                end: start + 1,
                ends: true,
            };
            return ends.then_some(command);
        }
        let mut name = [0_u8; 48];
        let mut length = 0;
        let mut end = start;
        let mut noise = 0_u32;
        let mut quotes = 0_u32;
        let absolute = matches!(at(value, start), b'/' | b'.')
            || at(value, start + 1) == b':' && at(value, start + 2) == b'\\';
        let drive = absolute && at(value, start + 1) == b':';
        // Quotes around the whole name hide nothing.
        if matches!(at(value, end), b'\'' | b'"') && is_word(at(value, end + 1)) {
            quotes += 1;
            end += 1;
        }
        while length < name.len() {
            let byte = at(value, end);
            let part = is_word(byte)
                || absolute && matches!(byte, b'/' | b'.' | b'-' | b'?' | b'*' | b':')
                || drive && byte == b'\\'
                || byte == b'.';
            if part {
                if let Some(slot) = name.get_mut(length) {
                    *slot = byte;
                }
                length += 1;
                end += 1;
                continue;
            }
            let skipped = hidden(value, end, quotes % 2 == 1);
            if skipped == 0 || length == 0 {
                break;
            }
            noise += u32::from(is_word(at(value, end + skipped)));
            quotes += u32::from(matches!(byte, b'\'' | b'"') && skipped == 1);
            end += skipped;
        }
        // A shell wants quotes in pairs: `I'd` is a contraction.
        if quotes % 2 == 1 {
            return None;
        }
        let word = between(&name, 0, length);
        let cmdlet = cmdlet(value, word, end);
        let kind = if cmdlet > 0 { Kind::Plain } else { kind_of(word, absolute)? };
        end += cmdlet;
        let braced = at(value, start.wrapping_sub(1)) == b'{';
        let mut argument = argument(value, end, braced);
        let after = skip_space(between(value, 0, end + 16), end);
        // `top 10`, `PS 5`, `test<5`: ordinary, unless it is an address, or a wait behind a separator.
        let number = argument == Argument::Strong && is_count(value, after);
        let soft = number || kind == Kind::Wordy && is_option(value, after);
        if number && !word.eq_ignore_ascii_case(b"sleep")
            || kind == Kind::Wordy
                && after == end
                && matches!(at(value, end), b'<' | b'>')
                && !leads(at(value, end + 1))
        {
            argument = Argument::Weak;
        }
        // `set -e` does nothing to anybody; `sort -count` is no option of `sort`, but a field of a query.
        let letters = from(value, after + 1).iter().take(8).take_while(|b| b.is_ascii_lowercase()).count();
        if argument == Argument::Strong
            && at(value, after) == b'-'
            && (word.eq_ignore_ascii_case(b"set") || word.eq_ignore_ascii_case(b"sort") && letters > 3)
        {
            argument = Argument::Weak;
        }
        let more = match word {
            _ if word.eq_ignore_ascii_case(b"net") => administers(value, after),
            _ if listed(&["echo", "expr"], word) => calculates(from(value, after)),
            _ if listed(&["nc", "ncat", "netcat", "telnet"], word) => names_port(from(value, after)),
            _ if listed(&["cat", "ls", "rm"], word) => {
                at(value, after) == b'*' && matches!(at(value, after + 1), 0 | b';' | b'|' | b'&' | b'#')
            }
            _ if listed(&["head", "kill", "nice", "tail"], word) => {
                at(value, after) == b'-' && at(value, after + 1).is_ascii_digit()
            }
            _ if word.eq_ignore_ascii_case(b"for") => starts(from(value, after), b"/f %"),
            _ if listed(&["icm", "iex"], word) => at(value, after) == b'(',
            _ => false,
        };
        // A word of every sentence; as a command it has its own option.
        if word.eq_ignore_ascii_case(b"for") && !more {
            return None;
        }
        if more || argument == Argument::Weak && reaches(value, end, kind) {
            argument = Argument::Strong;
        }
        let ends = !matches!(at(value, end), b'=' | b'-' | b':' | b'@' | b'+' | b'%' | b'(');
        let soft = soft && !more;
        let argument = if noise > 0 && kind != Kind::Wordy { Argument::Strong } else { argument };
        Some(Self { kind, argument, soft, end, ends })
    }

    /// Whether this is a command that runs another, and the other stands behind it: `time id`, `sudo -u x ls`.
    pub fn runs(&self, value: &[u8], start: usize) -> bool {
        if !CARRIERS.has(between(value, start, self.end)) {
            return false;
        }
        let mut index = skip_space(between(value, 0, self.end + 16), self.end);
        for _ in 0..3 {
            if at(value, index) != b'-' && !at(value, index).is_ascii_digit() {
                break;
            }
            let word = between(value, index, index + 32);
            let length = word.iter().position(|b| is_space(*b)).unwrap_or(word.len());
            index = skip_space(between(value, 0, index + length + 16), index + length);
        }
        Self::read(value, index).is_some_and(|inner| inner.kind != Kind::Wordy && inner.ends)
    }
}

/// `7*7`, `$((1+1))`, `7 \\* 7`, and then the end: what shows that a command ran.
fn calculates(rest: &[u8]) -> bool {
    let sum = between(rest, 0, 64);
    let end = sum.iter().position(|b| matches!(b, b';' | b'|' | b'&' | b'#' | b'`')).unwrap_or(sum.len());
    let sum = between(sum, 0, end).trim_ascii();
    at(sum, 0).is_ascii_digit()
        && sum.iter().all(|b| b.is_ascii_digit() || b"+-*/\\ ".contains(b))
        && sum.iter().any(|b| b"+-*/".contains(b))
}

/// `x.test 4444`: a host and a port.
fn names_port(rest: &[u8]) -> bool {
    let mut words =
        between(rest, 0, 80).split(|b| is_space(*b) || matches!(b, b';' | b'|' | b'&' | b'`' | b'\''));
    let host = words.next().unwrap_or_default();
    let port = words.next().unwrap_or_default();
    host.contains(&b'.') && (2..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit)
}

/// Commands that run what stands behind them. Sorted.
#[rustfmt::skip]
static CARRIERS: Lexicon = Lexicon::new(&[
    "busybox", "command", "env", "eval", "exec", "nice", "nohup", "setsid", "sudo", "time", "timeout", "watch",
    "xargs",
]);

/// `net user`, `net localgroup`: what an administrator's command is given.
fn administers(value: &[u8], after: usize) -> bool {
    let word = between(value, after, word_end(between(value, 0, after + 16), after));
    listed(&["group", "localgroup", "share", "user", "view"], word)
}

/// Whether a later argument, or a redirection, reaches for a file: `grep root /etc/passwd`, `echo x > /tmp/y`.
fn reaches(value: &[u8], end: usize, kind: Kind) -> bool {
    let rest = between(value, end, end + 96);
    let stop =
        rest.iter().position(|b| matches!(b, b';' | b'|' | b'&' | b'\r' | b'\n')).unwrap_or(rest.len());
    let rest = between(rest, 0, stop);
    rest.iter().enumerate().any(|(index, byte)| match byte {
        b'>' => at(rest, skip_space(rest, index + 1)) == b'/',
        b'/' if is_space(at(rest, index.wrapping_sub(1))) => {
            let path = from(rest, index);
            // Behind a word of ordinary text, one word and a path of the system's own: `head x /etc/passwd`.
            let system = [&b"/etc/"[..], b"/proc/", b"/root/"].iter().any(|folder| starts(path, folder));
            let near = between(rest, 0, index).trim_ascii().iter().all(|b| !is_space(*b));
            (kind == Kind::Plain || system && near)
                && from(path, 1).iter().take_while(|b| !is_space(**b)).any(|b| *b == b'/')
        }
        b'-' if kind == Kind::Plain && is_space(at(rest, index.wrapping_sub(1))) => {
            at(rest, index + 1).is_ascii_alphabetic() && !at(rest, index + 2).is_ascii_alphabetic()
        }
        _ => false,
    })
}

/// How many bytes a shell takes out of a name at that place: quotes, escapes, and variables that are empty (`c'a't`,
/// `c\at`, `c^at`, `c$@at`, `cat$u`). 0: none.
fn hidden(value: &[u8], index: usize, quoted: bool) -> usize {
    let next = at(value, index + 1);
    match at(value, index) {
        quote @ (b'\'' | b'"') if next == quote => 2,
        b'\'' | b'"' => usize::from(quoted || is_word(next)),
        // What was a line break before it was escaped ends a name.
        b'\\' if matches!(next, b'n' | b'r' | b't') && index + 2 >= value.len() => 0,
        b'\\' | b'^' => usize::from(is_word(next)),
        b'`' if next == b'`' => 2,
        // `w`u`hoami`: a command that there is not.
        b'`' if is_word(next) && at(value, index + 2) == b'`' => 3,
        b'$' if next == b'(' && at(value, index + 2) == b')' => 3,
        b'$' if matches!(next, b'@' | b'*' | b'!') || next.is_ascii_digit() => 2,
        b'$' if next == b'{' => {
            let name = between(value, index + 2, index + 18);
            name.iter().position(|b| *b == b'}').map_or(0, |length| length + 3)
        }
        b'$' if next.is_ascii_lowercase() => word_end(between(value, 0, index + 17), index + 1) - index,
        _ => 0,
    }
}

/// Nouns of PowerShell's cmdlets. Sorted.
#[rustfmt::skip]
static NOUNS: Lexicon = Lexicon::new(&[
    "acl", "childitem", "ciminstance", "command", "content", "eventlog", "executionpolicy", "expression", "item",
    "itemproperty", "localuser", "location", "netipconfiguration", "object", "process", "restmethod", "service",
    "webrequest", "wmiobject",
]);

/// `Get-Content`, `Invoke-Expression`: how long the rest of a cmdlet's name is behind its verb. 0: it is none.
fn cmdlet(value: &[u8], verb: &[u8], end: usize) -> usize {
    let verbs = ["add", "get", "invoke", "new", "out", "remove", "set", "start", "stop"];
    if at(value, end) != b'-' || !listed(&verbs, verb) {
        return 0;
    }
    let noun_end = word_end(between(value, 0, end + 24), end + 1);
    if NOUNS.has(between(value, end + 1, noun_end)) { noun_end - end } else { 0 }
}

fn kind_of(word: &[u8], absolute: bool) -> Option<Kind> {
    if absolute {
        let folders = [&b"/bin/"[..], b"/usr/", b"/sbin/", b"/???/", b"/etc/", b"/tmp/", b"/opt/"];
        let unix = folders.iter().take(4).any(|folder| starts(word, folder));
        let last = word.rsplit(|b| matches!(b, b'/' | b'\\')).next().unwrap_or(word);
        let last = strip_exe(last);
        let known = PLAIN.has(last) || WORDY.has(last) || last.contains(&b'?');
        return (known && (unix || word.contains(&b'\\'))).then_some(Kind::Absolute);
    }
    let word = strip_exe(word);
    if !may_name_command(word) {
        return None;
    }
    // `usr/bin/id` is cut at the slash: not a command by itself.
    if PLAIN.has(word) {
        Some(Kind::Plain)
    } else if WORDY.has(word) {
        Some(Kind::Wordy)
    } else {
        None
    }
}

fn strip_exe(word: &[u8]) -> &[u8] {
    match word.len().checked_sub(4).map(|cut| word.split_at(cut)) {
        Some((name, ending)) if ending.eq_ignore_ascii_case(b".exe") => name,
        _ => word,
    }
}

/// `braced`: it is the first of a list that a shell expands, as in `{cat,/etc/passwd}`.
fn argument(value: &[u8], end: usize, braced: bool) -> Argument {
    let next = at(value, end);
    if matches!(next, b'<' | b'>') || starts(from(value, end), b"$ifs") || starts(from(value, end), b"${ifs")
    {
        return Argument::Strong;
    }
    // `cmd/c`, `{cat,/etc/passwd}`.
    if braced && next == b',' && matches!(at(value, end + 1), b'/' | b'-')
        || next == b'/' && is_space(at(value, end + 2))
    {
        return Argument::Strong;
    }
    if !is_space(next) && next != b'+' {
        return Argument::None;
    }
    let start = skip_space(between(value, 0, end + 16), end);
    let start = if next == b'+' { end + 1 } else { start };
    let (first, second) = (at(value, start), at(value, start + 1));
    let strong = match first {
        b'-' => second.is_ascii_alphabetic() || second == b'-' && at(value, start + 2).is_ascii_alphabetic(),
        b'/' => {
            second.is_ascii_alphanumeric()
                || second == b'?'
                || is_space(second) && at(value, start + 2) == b'-'
        }
        b'.' => {
            second == b'/'
                || second == b'.' && at(value, start + 2) == b'/'
                || second == b'\\'
                || is_space(second)
                    && at(value, start + 2) == b'-'
                    && at(value, start + 3).is_ascii_alphabetic()
        }
        // `%SYSTEMROOT%\\win.ini`, `%i in (..)`.
        b'%' => {
            let end = word_end(between(value, 0, start + 34), start + 1);
            second.is_ascii_uppercase() && at(value, end) == b'%'
        }
        b'$' => is_word(second) || matches!(second, b'(' | b'{'),
        b'~' => second == b'/',
        b'>' | b'<' => leads(at(value, skip_space(between(value, 0, start + 8), start + 1))),
        b'0'..=b'9' => number_ends(value, start),
        b'\\' => second == b'\\',
        b'`' => true,
        b'\'' | b'"' => at(value, start + 2) == b'/',
        first if first.is_ascii_alphabetic() => {
            second == b':' && matches!(at(value, start + 2), 0 | b'\\' | b'/' | b'+' | b'"' | b'|' | b' ')
                || address(value, start)
        }
        _ => false,
    };
    match (strong, is_word(first) || matches!(first, b'\'' | b'"' | b'*' | b'%' | b'.')) {
        (true, _) => Argument::Strong,
        (false, true) => Argument::Weak,
        _ => Argument::None,
    }
}

/// Digits that are no address.
fn is_count(value: &[u8], start: usize) -> bool {
    let digits = between(value, start, start + 20);
    let digits = digits.iter().take_while(|b| b.is_ascii_digit() || **b == b'.');
    let dots = digits.clone().filter(|b| **b == b'.').count();
    digits.count() > dots && dots < 3
}

/// `/word` without a further slash: an option of `cmd`, or one of two alternatives.
fn is_option(value: &[u8], start: usize) -> bool {
    let word = between(value, start, start + 64);
    let end = word.iter().position(|b| is_space(*b)).unwrap_or(word.len());
    at(word, 0) == b'/' && !between(word, 1, end).contains(&b'/')
}

/// What a redirection leads to.
const fn leads(byte: u8) -> bool {
    matches!(byte, b'/' | b'.' | b'$' | b'(' | b'&' | b'<' | b'>' | b'\\')
}

/// A number or an address that ends a command: `sleep 5`, `ping 127.0.0.1`.
fn number_ends(value: &[u8], start: usize) -> bool {
    let mut end = start;
    while matches!(at(value, end), b'0'..=b'9' | b'.' | b's') && end < start + 20 {
        end += 1;
    }
    let after = skip_space(between(value, 0, end + 16), end);
    after >= value.len()
        || matches!(at(value, after), b';' | b'|' | b'&' | b'#' | b'`' | b')' | b'>' | b'\'' | b'"')
}

/// A URL, or a file with a path or an ending that names a secret.
fn address(value: &[u8], start: usize) -> bool {
    let word = between(value, start, start + 64);
    let length =
        word.iter().position(|b| is_space(*b) || matches!(b, b';' | b'|' | b'&')).unwrap_or(word.len());
    let word = between(word, 0, length);
    find(word, b"://", 0).is_some()
        || starts(word, b"etc/")
        || [&b"view"[..], b"user", b"localgroup"]
            .iter()
            .any(|w| word.eq_ignore_ascii_case(w) && length + start >= value.len())
}
