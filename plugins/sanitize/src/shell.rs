//! Command injection: text that a Unix shell, `cmd` or PowerShell would run.
//!
//! The value is read as shells read it: where a separator or a substitution lets a command begin, the next word is
//! looked up; a command that is also an English word counts only with an argument that prose would not have (an option,
//! a path, a number, a variable).
//!
//! Not found on purpose: lists with semicolons (`mammal;cat;ears`), `&` between names, code spans of Markdown.

mod command;
mod hidden;

use crate::bytes::{at, between, find, from, is_space, is_word, listed, skip_space, starts, word_end};
use crate::finding::{Family, Finding, surer};
use crate::lexicon::Lexicon;
use command::{Argument, Command, Kind};
use hidden::{behind_keyword, cmdlet, environment, hidden_command, process};

/// Commands whose name is no word of ordinary text. Sorted.
#[rustfmt::skip]
pub(crate) static PLAIN: Lexicon = Lexicon::new(&[
    "apk", "arp", "attrib", "awk", "bash", "bcdedit", "bitsadmin", "busybox", "bzcat", "bzip2", "cacls",
    "certutil", "chattr", "chmod", "chown", "chpasswd", "chroot", "cmd", "cmstp", "crontab", "cscript", "csh",
    "csvde", "curl", "dash", "dd", "df", "dig", "dmesg", "docker", "dpkg", "driverquery", "egrep", "esentutl",
    "fgrep", "findstr", "finger", "fsutil", "ftp", "gcc", "getent", "getfacl", "getmac", "gpg", "gpresult",
    "grep", "groupadd", "gunzip", "gzip", "hexdump", "hostname", "hping3", "icacls", "icm", "id", "iex",
    "ifconfig", "installutil", "ipconfig", "iptables", "irm", "iwr", "journalctl", "ksh", "kubectl",
    "launchctl", "lp", "ls", "lsb_release", "lsblk", "lsof", "ltrace", "lua", "lynx", "masscan", "mkdir",
    "mkfifo", "mknod", "modprobe", "msbuild", "mshta", "msiexec", "mtr", "mv", "nbtstat", "nc", "ncat", "net1",
    "netcat", "netsh", "netstat", "nltest", "nmap", "nohup", "npm", "nslookup", "openssl", "osascript",
    "passwd", "pathping", "perl", "pgrep", "php", "pidof", "ping", "pip", "pip3", "pkill", "powershell",
    "printenv", "printf", "ps", "pwd", "python", "python2", "python3", "qwinsta", "rbash", "reg", "regsvr32",
    "rlogin", "rm", "rmdir", "robocopy", "rsh", "rsync", "ruby", "rundll32", "schtasks", "scp", "sed",
    "setsid", "sh", "shuf", "socat", "ssh", "sshpass", "strace", "sudo", "sysctl", "systemctl", "systeminfo",
    "tac", "tar", "taskkill", "tasklist", "tcpdump", "tcsh", "telnet", "tftp", "tmux", "traceroute",
    "tracert", "tshark", "umount", "uname", "unzip", "useradd", "userdel", "usermod", "vi", "vim", "visudo",
    "vssadmin", "wevtutil", "wget", "whoami", "whois", "wmic", "wscript", "xargs", "xxd", "xzcat", "zcat",
    "zsh",
]);

/// Of these, what ordinary text names, or spells by chance: languages, tools, abbreviations. Sorted.
#[rustfmt::skip]
static NAMED: Lexicon = Lexicon::new(&[
    "arp", "awk", "bash", "curl", "dash", "dig", "docker", "finger", "ftp", "gcc", "gpg", "gzip", "id", "kubectl",
    "lp", "ls", "lua", "lynx", "mtr", "mv", "nc", "npm", "openssl", "perl", "php", "ping", "pip", "powershell", "ps",
    "python", "python2", "python3", "reg", "rm", "rsync", "ruby", "sed", "sh", "ssh", "tar", "telnet", "tmux", "vi",
    "vim", "wget",
]);

/// What developers write about: alone in backticks they are quoted. Sorted.
#[rustfmt::skip]
static TOOLS: Lexicon = Lexicon::new(&[
    "apk", "apt", "apt-get", "brew", "bundle", "cargo", "composer", "docker", "dotnet", "gcc", "gem", "git", "go", "gradle",
    "helm", "kubectl", "make", "mvn", "npm", "npx", "pip", "pip3", "pnpm", "systemctl", "terraform", "yarn", "yum",
]);

/// Commands that are words of ordinary text too. Sorted.
#[rustfmt::skip]
pub(crate) static WORDY: Lexicon = Lexicon::new(&[
    "apt", "at", "base64", "cat", "cmp", "column", "command", "copy", "cp", "cut", "date", "del", "diff",
    "dir", "du", "echo", "env", "eval", "exec", "expect", "export", "expr", "file", "find", "fish", "fold", "for",
    "gem", "groups", "head", "history", "host", "ip", "java", "join", "kill", "last", "less", "ln", "locate",
    "mail", "make", "man", "more", "mount", "move", "net", "nice", "nl", "node", "od", "open", "paste",
    "printf", "rev", "route", "rpm", "screen", "script", "seq", "service", "set", "shutdown", "sleep", "sort",
    "source", "split", "ss", "start", "stat", "strings", "su", "tail", "tee", "test", "time", "timeout",
    "top", "touch", "type", "users", "ver", "w", "watch", "wc", "which", "who", "yes", "yum", "zip",
]);

/// Functions of programming languages that run a command. Sorted.
#[rustfmt::skip]
pub(crate) static RUNNERS: Lexicon = Lexicon::new(&[
    "check_output", "exec", "execsync", "fsockopen", "passthru", "pcntl_exec", "popen", "proc_open",
    "shell_exec", "spawn", "system",
]);

fn finding(confidence: u8, why: &'static str, at: usize) -> Option<Finding> {
    Some(Finding::new(Family::Command, confidence, why, at))
}

/// Bytes at which a command may begin, or be hidden.
static TURNS: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] = b";|&\n\r$`/(<>%'\"";
    while let [byte, more @ ..] = rest {
        #[expect(clippy::indexing_slicing, reason = "a constant table of all bytes, built at compile time")]
        {
            table[*byte as usize] = true;
        }
        rest = more;
    }
    table
};

/// Looks for commands that a shell would run. Linear in the value's length.
pub fn detect(value: &[u8]) -> Option<Finding> {
    let lead = skip_space(value, 0);
    let mut found = opening(value, lead);
    // Backticks, and words that begin behind a space, up to where the last of them stood.
    let (mut ticks, mut counted, mut words) = (0_u32, 0, 0_u32);
    let mut next = turn(value, 0);
    while let Some(index) = next {
        let here = match at(value, index) {
            b';' | b'|' | b'&' | b'\n' | b'\r' => separated(value, index, lead),
            b'$' => dollar(value, index),
            b'`' => {
                ticks += 1;
                words = words.saturating_add(words_behind_spaces(between(value, counted, index)));
                counted = index;
                // The next one ends what this one begins.
                if ticks % 2 == 1 { backticks(value, index, words) } else { None }
            }
            b'/' if starts(from(value, index), b"/dev/tcp/") || starts(from(value, index), b"/dev/udp/") => {
                finding(90, "shell-socket", index)
            }
            b'(' => surer(runner(value, index), cmdlet(value, index)),
            b'<' | b'>' if at(value, index + 1) == b'(' => process(value, index),
            b'%' => environment(value, index),
            b'\'' | b'"' if index < 2 => broken_quote(value, index),
            _ => None,
        };
        found = surer(found, here);
        if found.is_some_and(|f: Finding| f.confidence >= 85) {
            break;
        }
        next = turn(value, index + 1);
    }
    found
}

/// The next of [`TURNS`]. On its own: the compiler keeps so short a loop in registers.
#[inline(never)]
fn turn(value: &[u8], start: usize) -> Option<usize> {
    let place = from(value, start).iter().position(|byte| TURNS.get(usize::from(*byte)) == Some(&true))?;
    Some(start + place)
}

fn words_behind_spaces(text: &[u8]) -> u32 {
    let begins =
        |pair: &&[u8]| matches!(pair, [space, letter] if is_space(*space) && letter.is_ascii_alphabetic());
    u32::try_from(text.windows(2).filter(begins).count()).unwrap_or(u32::MAX)
}

/// The value as a whole begins with a command.
fn opening(value: &[u8], lead: usize) -> Option<Finding> {
    let rest = from(value, lead);
    // Arguments that make a harmless command run another.
    const OPTIONS: [&[u8]; 6] = [
        b"--use-compress-program=",
        b"--checkpoint-action=",
        b"--to-command=",
        b"-oproxycommand=",
        b"--upload-pack=",
        b"-exec ",
    ];
    if OPTIONS.iter().any(|option| starts(rest, option)) {
        return finding(80, "command-option", lead);
    }
    // `:(){ :|:& };:`: a function that calls itself for ever.
    if starts(rest, b":(") && shell_function(from(rest, 1)) {
        return finding(85, "shell-function", lead);
    }
    // `>/tmp/x`, `</etc/passwd`, and nothing else.
    if matches!(at(rest, 0), b'<' | b'>')
        && at(rest, 1) == b'/'
        && rest.iter().filter(|b| **b == b'/').count() > 1
        && from(rest, 1).iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_'))
    {
        return finding(74, "redirection", lead);
    }
    // CVE-2014-6271: a function definition in an environment variable.
    if rest.first() == Some(&b'(') && shell_function(rest) {
        return finding(95, "shellshock", lead);
    }
    let rest_start = lead + usize::from(matches!(at(value, lead), b'\'' | b'"' | b'{' | b'+'));
    let command = Command::read(value, rest_start)?;
    match (command.kind, command.argument) {
        (Kind::Absolute, _) => finding(if command.ends { 72 } else { 78 }, "command", lead),
        // The prompt of PowerShell; and what is written large is a language's name: `PHP Fatal error: ..`.
        _ if starts(rest, b"ps ") && at(rest, 4) == b':' => None,
        (Kind::Plain, _) if at(rest, 0).is_ascii_uppercase() && starts(rest, b"php ") => None,
        // `Type \`exit\``: a word of a sentence, and what it quotes.
        (_, Argument::Strong)
            if !command.soft
                && (command.kind != Kind::Wordy || at(value, command.end + 1) != b'`')
                && !ends_in_words(from(value, command.end))
                && (lead == rest_start || at(value, lead) == b'{' || command.kind == Kind::Plain) =>
        {
            finding(74, "command", lead)
        }
        _ => None,
    }
}

/// `ls -la shows files`: a sentence that begins with a command. What is run ends in a path, an option or an address.
fn ends_in_words(rest: &[u8]) -> bool {
    let mut words = rest.trim_ascii_end().rsplit(|b| is_space(*b));
    let is_word = |word: &[u8]| {
        let word = word.strip_suffix(b".").or_else(|| word.strip_suffix(b"?")).unwrap_or(word);
        word.len() > 1
            && (word.iter().all(u8::is_ascii_lowercase)
                || word.len() == 3 && word.iter().all(u8::is_ascii_digit))
    };
    words.by_ref().take(2).filter(|word| is_word(word)).count() == 2 && words.next().is_some()
}

fn shell_function(rest: &[u8]) -> bool {
    let close = skip_space(rest, 1);
    at(rest, close) == b')' && at(rest, skip_space(rest, close + 1)) == b'{'
}

/// What follows `;`, `|`, `&` or a line break; white space ends at `lead`.
fn separated(value: &[u8], index: usize, lead: usize) -> Option<Finding> {
    let separator = at(value, index);
    let mut start = index + 1;
    while matches!(at(value, start), b';' | b'|' | b'&' | b'\r' | b'\n' | b'(' | b'{' | b'!' | b'+')
        || is_space(at(value, start))
    {
        start += 1;
        if start > index + 32 {
            return None;
        }
    }
    let run = between(value, index, start);
    let doubled = starts(run, b"&&") || starts(run, b"||");
    if at(value, start) == b'['
        && is_space(at(value, start + 1))
        && find(between(value, start, start + 80), b" ]", 0).is_some()
    {
        return finding(72, "shell-test", index);
    }
    if assignment_of_substitution(value, start) {
        return finding(85, "substitution", index);
    }
    if hidden_command(value, start) {
        return finding(80, "hidden-command", index);
    }
    let start = behind_keyword(value, start);
    let command = Command::read(value, start)?;
    // A value that begins with a line break goes on with a line of its own.
    let line = matches!(separator, b'\r' | b'\n') && run.iter().all(|b| is_space(*b)) && lead < index;
    let first = !line && index <= skip_space(between(value, 0, NEAR), 0);
    // One word before, or none: a value that goes on where it should have ended.
    let short = !line && index <= NEAR && !between(value, 0, index).trim_ascii().iter().any(|b| is_space(*b));
    let ends = command.ends && command.end >= value.len();
    // A comment hides what the application has behind the value.
    let behind = skip_space(value, command.end);
    let comment = at(value, behind) == b'#' && from(value, behind + 1).iter().all(|b| is_space(*b));
    let followed = comment || matches!(at(value, command.end), b';' | b'|' | b'&' | b'#');
    let word = between(value, start, command.end);
    let named = NAMED.has(word);
    // Names of commands are written small; `Bash` is a language.
    let capital = named && at(word, 0).is_ascii_uppercase() && at(word, 1).is_ascii_lowercase();
    if capital && matches!(command.argument, Argument::None)
        || is_tool_chain(value, index, start, command.end)
    {
        return finding(55, "separated-command", index);
    }
    // A row of a table, and a list of languages, countries, tags.
    let table = separator == b'|' && between(value, 0, 256).iter().filter(|b| **b == b'|').count() > 2;
    let in_list = named && (is_list(value, separator) || table && is_row(value));
    let confidence = match (command.kind, command.argument) {
        (Kind::Absolute, _) => 88,
        (Kind::Wordy, Argument::Strong)
            if line && index <= NEAR && is_lone(value, index) && !command.soft =>
        {
            74
        }
        (_, Argument::Strong) if line && (command.kind == Kind::Wordy || is_letter(value, index)) => 60,
        (_, Argument::Strong) => 82,
        (_, Argument::Weak) if short && command.runs(value, start) => 80,
        // `a|id`, `;ls`; but `ls` in a list of three words is one of them.
        (Kind::Plain, Argument::None) if command.ends && !line && !in_list => {
            let alone = doubled || first || ends || followed;
            if alone { 76 } else { 55 }
        }
        (Kind::Plain, Argument::Weak) if first && !table || short && !named => 74,
        (Kind::Plain, Argument::Weak) if !line && separator != b'&' => 55,
        (Kind::Wordy, Argument::None) if first && ends && separator != b'&' => 72,
        (Kind::Wordy, Argument::None) if first && ends && listed(&["dir", "env", "ver"], word) => 72,
        (Kind::Wordy, Argument::None) if first && ends => 60,
        _ => 0,
    };
    (confidence > 0).then(|| Finding::new(Family::Command, confidence, "separated-command", index))
}

/// `docker compose down && docker compose up -d`: lines of which each tool is one that builds and installs software, and that
/// reach for nothing of the system's own. Developers send them to each other.
fn is_tool_chain(value: &[u8], separator: usize, start: usize, end: usize) -> bool {
    let word = between(value, start, end);
    let rest = from(value, skip_space(between(value, 0, end + 8), end));
    let own = if word.eq_ignore_ascii_case(b"sudo") { between(rest, 0, word_end(rest, 0)) } else { word };
    if !TOOLS.has(own) && !listed(&["cd", "make"], own) {
        return false;
    }
    let before = between(value, separator.saturating_sub(NEAR * 2), separator);
    let line = before.rsplit(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or(before).trim_ascii();
    // A command alone, and another behind it, is what is tried out: `npm;pip install x`.
    if !line.iter().any(|b| is_space(*b)) {
        return false;
    }
    let tool = line.split(|b| !is_word(*b) && *b != b'-').any(|word| TOOLS.has(word) || word == b"cd");
    let reaches = [
        &b"/etc/"[..],
        b"/dev/",
        b"/proc/",
        b"/root",
        b"/bin/",
        b"/:/",
        b"://",
        b"$(",
        b"~/",
        b" exec",
        b"secret",
        b"privileged",
        b" -c ",
        b"--eval",
        b" -v ",
    ];
    tool && !reaches.iter().any(|part| find(between(rest, 0, 256), part, 0).is_some())
}

/// The longest first line of a table, in bytes.
const ROW: usize = 512;

/// Bytes at a value's start that are looked at to tell what a separator stands behind.
const NEAR: usize = 48;

/// `| id | name |`: the first line of a table. Longer than [`ROW`] is none.
fn is_row(value: &[u8]) -> bool {
    let line = between(value, 0, ROW)
        .trim_ascii_start()
        .split(|b| matches!(b, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let line = line.trim_ascii_end();
    starts(line, b"| ") && line.ends_with(b" |") && find(line, b"||", 0).is_none()
}

/// What is one word, without white space.
fn is_lone(value: &[u8], end: usize) -> bool {
    !between(value, 0, end).trim_ascii().iter().any(|b| is_space(*b))
}

/// Words and nothing else between three separators or more, or two languages (`perl & python`). Longer than that is no
/// list.
fn is_list(value: &[u8], separator: u8) -> bool {
    if value.len() > 256 {
        return false;
    }
    let items = value.split(|b| *b == separator);
    let spoken = |item: &[u8]| item.len() > 3 && NAMED.has(item.trim_ascii()) && item.trim_ascii().len() > 2;
    (items.clone().count() > 2 || items.clone().all(spoken))
        && items.clone().all(|item| {
            !item.trim_ascii().is_empty()
                && item.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b','))
        })
}

fn assignment_of_substitution(value: &[u8], start: usize) -> bool {
    let end = word_end(between(value, start, start + 40), 0) + start;
    end > start
        && at(value, end) == b'='
        && (starts(from(value, end + 1), b"$(") || at(value, end + 1) == b'`')
}

/// `$(...)`, `${IFS}`, `$((1+1))`.
fn dollar(value: &[u8], index: usize) -> Option<Finding> {
    let rest = from(value, index);
    if starts(rest, b"$ifs") || starts(rest, b"${ifs") {
        return finding(88, "shell-variable", index);
    }
    if starts(rest, b"$((") {
        let inside = between(rest, 3, 40);
        let end = inside.iter().position(|b| *b == b')')?;
        let sum = between(inside, 0, end);
        let arithmetic = !sum.is_empty() && sum.iter().all(|b| b.is_ascii_digit() || b"+-*/% ".contains(b));
        return arithmetic.then(|| Finding::new(Family::Command, 78, "shell-arithmetic", index));
    }
    // `${PATH:0:1}` is a slash, in capitals as variables of the environment are.
    let inside = between(rest, 2, 34);
    let upper = inside.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'_').count();
    let cut = from(inside, upper + 1);
    let digits = cut.iter().take_while(|b| b.is_ascii_digit()).count();
    // With one colon it is a default of a configuration: `${PORT:8080}`.
    if starts(rest, b"${") && upper > 1 && at(inside, upper) == b':' && digits > 0 && at(cut, digits) == b':'
    {
        return finding(85, "shell-variable", index);
    }
    if starts(rest, b"$(<") && from(rest, 3).trim_ascii_start().starts_with(b"/") {
        return finding(88, "substitution", index);
    }
    if starts(rest, b"$(") || starts(rest, b"${") {
        let command = Command::read(value, skip_space(value, index + 2))?;
        let braces = at(rest, 1) == b'{';
        return match (command.kind, command.argument, braces) {
            (Kind::Absolute, _, false) | (_, Argument::Strong, false) => finding(88, "substitution", index),
            (Kind::Plain, _, false) => finding(80, "substitution", index),
            (Kind::Wordy, Argument::Weak | Argument::None, false) => finding(72, "substitution", index),
            _ => None,
        };
    }
    None
}

/// A command in backticks; in prose it is a code span.
fn backticks(value: &[u8], index: usize, prose: u32) -> Option<Finding> {
    let command = Command::read(value, skip_space(value, index + 1))?;
    let inside = between(value, index + 1, index + 257);
    let close = inside.iter().position(|b| *b == b'`')?;
    if inside.first().is_some_and(|b| is_space(*b)) && prose > 2 {
        return None;
    }
    let before = at(value, index.wrapping_sub(1));
    // A comment hides what the application has behind it.
    let after = if from(inside, close + 1).trim_ascii() == b"#" { 0 } else { at(inside, close + 1) };
    let commented = at(inside, close + 1) != after;
    let joined = index > 0 && !is_space(before) && !(matches!(before, b'(' | b'[') && prose > 0)
        || after == b'.' && !is_space(at(inside, close + 2)) && at(inside, close + 2) != 0;
    let whole = index == skip_space(value, 0) && (commented || index + close + 2 >= value.len());
    let tool = TOOLS.has(between(value, index + 1, command.end));
    if tool && !joined {
        return finding(45, "backticks", index);
    }
    let firm = command.kind != Kind::Wordy || command.argument != Argument::None;
    // Behind one word and at the end; elsewhere it stands in a sentence.
    let abbreviated = between(value, 0, index).trim_ascii_end().ends_with(b".");
    let last = prose == 0
        && !abbreviated
        && index + close + 2 >= value.len()
        && command.argument == Argument::Strong;
    let confidence = match (joined || whole, firm) {
        (true, true) => 80,
        (true, false) => 60,
        (false, true) if last => 72,
        _ => 45,
    };
    finding(confidence, "backticks", index)
}

/// `system('id')`, `exec("ls")`, `os.popen(...)`.
fn runner(value: &[u8], open: usize) -> Option<Finding> {
    let mut start = open;
    while start > 0 && open - start < 16 && is_word(at(value, start - 1)) {
        start -= 1;
    }
    let name = between(value, start, open);
    // `%x(id)` of Ruby, `open("|id")` of Perl.
    if name == b"x" && at(value, start.wrapping_sub(1)) == b'%' && Command::read(value, open + 1).is_some() {
        return finding(78, "command-function", start);
    }
    if name == b"open" && matches!(at(value, open + 1), b'\'' | b'"') && at(value, open + 2) == b'|' {
        return finding(80, "command-function", start);
    }
    if !RUNNERS.has(name) {
        return None;
    }
    let argument = skip_space(value, open + 1);
    let quoted = matches!(at(value, argument), b'\'' | b'"' | b'`');
    let command = Command::read(value, argument + usize::from(quoted));
    match (quoted, command) {
        (true, Some(_)) => finding(88, "command-function", start),
        (true, None) => finding(72, "command-function", start),
        _ if at(value, argument) == b'$' || starts(from(value, argument), b"print(") => {
            finding(75, "command-function", start)
        }
        _ => None,
    }
}

/// `'echo$IFS...`, `" ping -n 31 127.0.0.1`: the quote closes the application's own.
fn broken_quote(value: &[u8], index: usize) -> Option<Finding> {
    let command = Command::read(value, skip_space(value, index + 1))?;
    let strong = command.argument == Argument::Strong && command.kind != Kind::Wordy;
    strong.then(|| Finding::new(Family::Command, 74, "command", index))
}

/// Whether sentences stand before a line: in a letter or in Markdown a command has a line of its own.
fn is_letter(value: &[u8], index: usize) -> bool {
    let before = between(value, index.saturating_sub(256), index);
    before.windows(2).filter(|pair| matches!(pair, [b' ', next] if next.is_ascii_alphabetic())).count() > 3
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
