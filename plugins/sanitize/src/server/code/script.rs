//! Node, Python, Ruby and Perl: what starts processes, loads modules, reads files, or climbs from an object to either.

use super::Chain;
use crate::bytes::at;
use crate::finding::Finding;
use crate::lexicon::Lexicon;

/// Words that chains worth a look hold. Sorted.
#[rustfmt::skip]
pub(super) static WORDS: Lexicon = Lexicon::new(&[
    "__base__", "__bases__", "__builtins__", "__class__", "__getattribute__", "__globals__", "__import__",
    "__init__", "__mro__", "__reduce__", "__subclasses__", "binding", "builtins", "child_process",
    "class_eval", "compile", "const_get", "constructor", "createobject", "dir", "environ", "eval", "exec", "execfile",
    "execfilesync", "execsync", "execv", "file", "fs", "function", "getattr", "global", "globalthis",
    "importlib", "instance_eval", "io", "kernel", "mainmodule", "marshal", "module", "module_eval", "open",
    "open3", "os", "pickle", "popen", "process", "pty", "readfile", "readfilesync", "require", "shutil",
    "spawn", "spawnsync", "subprocess", "system", "writefile", "writefilesync", "wscript", "yaml",
]);

/// Attributes by which Python reaches all classes from any object. Sorted.
#[rustfmt::skip]
static DUNDERS: Lexicon = Lexicon::new(&[
    "__base__", "__bases__", "__builtins__", "__class__", "__getattribute__", "__globals__", "__import__",
    "__mro__", "__reduce__", "__subclasses__",
]);

/// Modules and classes with the members that run or read; members are sorted.
#[rustfmt::skip]
const MEMBERS: &[(&str, &[&str])] = &[
    ("child_process", &["exec", "execfile", "execfilesync", "execsync", "fork", "spawn", "spawnsync"]),
    ("dir", &["entries", "glob", "mktmpdir", "rmdir"]),
    ("file", &["delete", "open", "read", "readlines", "write"]),
    ("fs", &[
        "appendfile", "createreadstream", "createwritestream", "readdir", "readdirsync", "readfile", "readfilesync", "unlink",
        "unlinksync", "writefile", "writefilesync",
    ]),
    ("global", &["constructor", "process", "require"]),
    ("globalthis", &["constructor", "process", "require"]),
    ("importlib", &["import_module", "reload"]),
    ("io", &["binread", "open", "popen", "read", "readlines", "sysopen", "write"]),
    ("kernel", &["eval", "exec", "fork", "load", "open", "require", "spawn", "system", "syscall"]),
    ("marshal", &["load", "loads"]),
    ("module", &["_load", "constructor", "createrequire", "exports", "require"]),
    ("open3", &["capture2", "capture2e", "capture3", "pipeline", "popen2", "popen3"]),
    ("os", &[
        "environ", "execl", "execv", "execve", "fork", "getenv", "kill", "listdir", "popen", "remove", "rename", "spawnl",
        "startfile", "system", "unlink", "walk",
    ]),
    ("pickle", &["load", "loads"]),
    ("process", &[
        "_linkedbinding", "abort", "argv", "binding", "chdir", "constructor", "dlopen", "env", "exec", "exit", "fork", "global", "kill", "mainmodule",
        "reallyexit", "require", "setuid", "spawn",
    ]),
    ("pty", &["spawn"]),
    ("shutil", &["copy", "move", "rmtree"]),
    ("subprocess", &["call", "check_call", "check_output", "getoutput", "popen", "run"]),
    ("wscript", &["createobject", "shell"]),
    ("yaml", &["load", "unsafe_load"]),
];

/// Called as they are, they run or load. Sorted.
#[rustfmt::skip]
static CALLED: Lexicon = Lexicon::new(&[
    "class_eval", "createobject", "execfile", "execfilesync", "execsync", "instance_eval", "module_eval", "readfilesync",
    "spawnsync", "writefilesync",
]);

pub(super) fn judge(chain: &Chain<'_>) -> Option<Finding> {
    let prose = |sure: u8| if chain.prose { 60 } else { sure };
    if DUNDERS.has(chain.last) || DUNDERS.has(chain.first) && chain.text.len() > chain.first.len() {
        let reached = chain.text.len() > chain.last.len()
            || matches!(chain.next(), b'(' | b'[' | b'.' | b'\'' | b'"' | b']' | b'|' | b')')
            || chain.before == b'.';
        return chain.found(if reached { prose(85) } else { 50 }, "python-object");
    }
    // `node:child_process:422`: a line of a stack trace.
    if chain.last.eq_ignore_ascii_case(b"child_process")
        && chain.next() != b':'
        && matches!(chain.before, b'"' | b'\'' | b'`' | b':')
    {
        return chain.found(prose(82), "node-module");
    }
    if chain.first.eq_ignore_ascii_case(b"constructor")
        && chain.text.len() > 11 + 2
        && chain.last.eq_ignore_ascii_case(b"constructor")
        || chain.text.len() > 12
            && chain.first.eq_ignore_ascii_case(b"this")
            && chain.last.eq_ignore_ascii_case(b"constructor")
    {
        return chain.found(prose(84), "constructor");
    }
    if chain.last.eq_ignore_ascii_case(b"require")
        && chain.is_called()
        && matches!(at(chain.argument(), 0), b'"' | b'\'' | b'`')
    {
        return chain.found(prose(76), "node-module");
    }
    if chain.last.eq_ignore_ascii_case(b"open")
        && chain.is_called_tight()
        && matches!(at(chain.argument(), 0), b'"' | b'\'')
        && crate::bytes::find(chain.argument(), b").read", 0).is_some()
    {
        return chain.found(prose(78), "python-file");
    }
    if chain.is_called() && CALLED.has(chain.last) {
        return chain.found(prose(78), "code-call");
    }
    if chain.last.eq_ignore_ascii_case(b"function") && chain.is_called() && is_new(chain) {
        return chain.found(prose(76), "node-function");
    }
    member(chain)
}

fn is_new(chain: &Chain<'_>) -> bool {
    crate::bytes::between(chain.value, 0, chain.start).trim_ascii_end().ends_with(b"new")
}

fn member(chain: &Chain<'_>) -> Option<Finding> {
    let (first, rest) = if chain.text.len() > chain.first.len() {
        (chain.first, chain.text.get(chain.first.len()..)?)
    } else if chain.next() == b'[' {
        (chain.first, crate::bytes::from(chain.value, chain.after))
    } else {
        return None;
    };
    let entry = MEMBERS.binary_search_by(|(name, _)| crate::bytes::compare(name.as_bytes(), first)).ok()?;
    let (_, members) = MEMBERS.get(entry)?;
    let start = rest.iter().take(4).position(|b| crate::bytes::is_word(*b))?;
    let name = crate::bytes::between(rest, start, crate::bytes::word_end(rest, start));
    if !crate::bytes::listed(members, name) {
        return None;
    }
    let deep = chain.text.len() > first.len() + name.len() + 2;
    let used = chain.is_called() || matches!(chain.next(), b'[' | b'.' | b'=' | b'`' | b'"' | b'\'') || deep;
    match (used, chain.prose) {
        (true, false) => chain.found(80, "code-member"),
        (false, false) if chain.is_alone() && first.len() > 4 => chain.found(72, "code-member"),
        _ => chain.found(50, "code-member"),
    }
}
