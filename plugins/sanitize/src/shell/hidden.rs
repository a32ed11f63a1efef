//! Commands that are not written as such: quoted letter by letter, kept in variables, or handed on by a shell's syntax.

use super::command::{Argument, Command, Kind};
use super::finding;
use crate::bytes::{at, between, from, is_space, is_word, listed, skip_space, starts, word_end};
use crate::finding::Finding;

/// Shells' keywords that a command stands behind: `;do id`, `;then id`.
pub(super) fn behind_keyword(value: &[u8], start: usize) -> usize {
    let end = word_end(between(value, 0, start + 8), start);
    let keyword = listed(&["do", "else", "if", "then", "until", "while"], between(value, start, end));
    if keyword && is_space(at(value, end)) { skip_space(between(value, 0, end + 16), end) } else { start }
}

/// A command that is not written as one: `$'cat' /x`, `$a$b /x`, `$0<<<id`, `$SHELL -c`, `%COMSPEC% /c`, `</etc/passwd cat`.
pub(super) fn hidden_command(value: &[u8], start: usize) -> bool {
    let rest = from(value, start);
    if starts(rest, b"$'") {
        let length = between(rest, 2, 66).iter().position(|b| *b == b'\'');
        return length.is_some_and(|length| {
            between(rest, 2, length + 2).iter().any(u8::is_ascii_alphabetic) && is_space(at(rest, length + 3))
        });
    }
    if starts(rest, b"</") {
        return [&b"</etc/"[..], b"</proc/", b"</root/", b"</var/"].iter().any(|folder| starts(rest, folder));
    }
    let mut end = 0;
    while at(rest, end) == b'$' && is_word(at(rest, end + 1)) && end < 64 {
        end = word_end(between(rest, 0, 80), end + 1);
    }
    if at(rest, 0) == b'%' && at(rest, 1).is_ascii_uppercase() {
        let name = word_end(between(rest, 0, 34), 1);
        end = if at(rest, name) == b'%' { name + 1 } else { 0 };
    }
    let argument = from(rest, skip_space(between(rest, 0, end + 8), end));
    let option = matches!(at(argument, 0), b'-' | b'/') && at(argument, 1).is_ascii_alphabetic();
    end > 0 && (starts(argument, b"<<<") || option && is_space(at(rest, end)))
}

/// `<(id)`: a command whose output another reads as a file.
pub(super) fn process(value: &[u8], index: usize) -> Option<Finding> {
    let command = Command::read(value, skip_space(between(value, 0, index + 10), index + 2))?;
    let runs =
        command.argument == Argument::Strong || at(value, command.end) == b')' && command.kind != Kind::Wordy;
    if runs { finding(80, "substitution", index) } else { None }
}

/// `%COMSPEC:~0,1%`: a letter of a variable, as `cmd` spells what filters must not see.
pub(super) fn environment(value: &[u8], index: usize) -> Option<Finding> {
    let end = word_end(between(value, 0, index + 34), index + 1);
    let cut = starts(from(value, end), b":~")
        && (at(value, end + 2).is_ascii_digit() || at(value, end + 2) == b'-');
    let closed = between(value, end, end + 16).contains(&b'%');
    if end > index + 1 && cut && closed { finding(85, "shell-variable", index) } else { None }
}

/// `(New-Object Net.WebClient)`, `(iwr 'http://..')`: PowerShell in parentheses.
pub(super) fn cmdlet(value: &[u8], open: usize) -> Option<Finding> {
    let start = skip_space(between(value, 0, open + 8), open + 1);
    let command = Command::read(value, start)?;
    let own = between(value, start, command.end).contains(&b'-');
    let fetches =
        listed(&["irm", "iwr"], between(value, start, command.end)) && command.argument != Argument::None;
    if own || fetches { finding(78, "command", open) } else { None }
}
