//! PHP: calls of functions that run, read or reveal; superglobals; and names that are put together to be called.

use super::Chain;
use crate::bytes::{at, between, from, is_space, is_word, skip_space, starts};
use crate::finding::{Family, Finding};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// Functions with names of their own. Sorted.
#[rustfmt::skip]
pub(super) static FUNCTIONS: Lexicon = Lexicon::new(&[
    "array_diff_uassoc", "array_diff_ukey", "array_filter", "array_map", "array_reduce", "array_udiff",
    "array_walk", "array_walk_recursive", "assert_options", "base64_decode", "base64_encode", "bin2hex",
    "bzdecompress", "call_user_func", "call_user_func_array", "call_user_method", "convert_uudecode",
    "create_function", "curl_exec", "curl_init", "curl_multi_exec", "curl_setopt", "debug_backtrace",
    "escapeshellarg", "escapeshellcmd", "fgets", "file_exists", "file_get_contents", "file_put_contents",
    "filegroup", "fileinode", "fileowner", "fileperms", "fopen", "fpassthru", "fputs", "fread", "fscanf",
    "fsockopen", "ftp_connect", "ftp_get", "ftp_put", "func_get_args", "function_exists", "fwrite",
    "get_cfg_var", "get_class_methods", "get_current_user", "get_defined_constants", "get_defined_functions",
    "get_defined_vars", "getallheaders", "getenv", "getlastmod", "getmyinode", "getmypid", "getmyuid",
    "gzcompress", "gzdecode", "gzencode", "gzfile", "gzinflate", "gzopen", "gzread", "gzuncompress",
    "hex2bin", "hexdec", "highlight_file", "highlight_string", "html_entity_decode",
    "htmlspecialchars_decode", "include_once", "ini_alter", "ini_get", "ini_get_all", "ini_restore",
    "ini_set", "intval", "is_array", "is_callable", "is_dir", "is_executable", "is_file", "is_numeric",
    "is_readable", "is_string", "is_writable", "iterator_apply", "libxml_disable_entity_loader",
    "mb_ereg_replace", "mb_send_mail", "move_uploaded_file", "mysql_connect", "mysql_query", "mysqli_connect",
    "mysqli_query", "ob_get_clean", "ob_get_contents", "ob_start", "opendir", "parse_ini_file", "parse_str",
    "passthru", "pcntl_exec", "pcntl_fork", "pfsockopen", "pg_connect", "pg_query", "php_eval",
    "php_ini_loaded_file", "php_sapi_name", "php_strip_whitespace", "php_uname", "phpinfo", "phpversion",
    "popen", "posix_getegid", "posix_geteuid", "posix_getgid", "posix_getlogin", "posix_getpwnam",
    "posix_getpwuid", "posix_getuid", "posix_kill", "posix_mkfifo", "posix_setuid", "posix_ttyname",
    "posix_uname", "preg_filter", "preg_match", "preg_replace", "preg_replace_callback", "print_r",
    "proc_close", "proc_get_status", "proc_nice", "proc_open", "proc_terminate", "putenv", "rawurldecode",
    "readdir", "readfile", "readgzfile", "readlink", "register_shutdown_function", "register_tick_function",
    "require_once", "runkit_function_rename", "scandir", "session_start", "set_error_handler",
    "set_include_path", "set_magic_quotes_runtime", "set_time_limit", "setcookie", "shell_exec",
    "show_source", "simplexml_load_file", "simplexml_load_string", "spl_autoload_register", "sqlite_query",
    "str_ireplace", "str_replace", "str_rot13", "str_split", "stream_context_create", "stream_get_contents",
    "stream_socket_client", "strip_tags", "stripslashes", "strrev", "strtr", "substr_replace",
    "sys_get_temp_dir", "syslog", "tempnam", "tmpfile", "uasort", "ucwords", "uksort", "unpack",
    "unserialize", "urldecode", "usort", "var_dump", "var_export", "vfprintf", "vprintf", "vsprintf",
    "xmlrpc_decode", "zlib_decode", "zlib_encode",
]);

/// Functions and constructs that are words of their own elsewhere: only where code may begin. Sorted.
#[rustfmt::skip]
pub(super) static SHORT: Lexicon = Lexicon::new(&[
    "assert", "basename", "chdir", "chgrp", "chmod", "chown", "chr", "copy", "die", "dirname", "dl", "eval",
    "exec", "extract", "fclose", "feof", "fgetc", "file", "filesize", "glob", "implode", "include", "is_int",
    "ord", "pos", "print", "printf", "putenv", "realpath", "rename", "require", "rmdir", "sprintf", "strlen",
    "substr", "symlink", "system", "touch", "unlink",
]);

/// Of those, what runs or reads whatever it is given. Sorted.
static STRONG: Lexicon = Lexicon::new(&["assert", "eval", "exec", "include", "require", "system", "unlink"]);

/// Variables that hold the request or the server. Sorted.
#[rustfmt::skip]
pub(super) static VARIABLES: Lexicon = Lexicon::new(&[
    "_cookie", "_env", "_files", "_get", "_post", "_request", "_server", "_session", "argc", "argv",
    "globals", "http_cookie_vars", "http_get_vars", "http_post_files", "http_post_vars", "http_raw_post_data",
    "http_request_vars", "http_server_vars",
]);

/// Settings that turn protections off, as they are handed to `php -d`. Sorted.
pub(super) static SETTINGS: Lexicon = Lexicon::new(&[
    "allow_url_fopen",
    "allow_url_include",
    "auto_append_file",
    "auto_prepend_file",
    "disable_classes",
    "disable_functions",
    "extension_dir",
    "mbstring",
    "memory_limit",
    "opcache",
    "open_basedir",
    "safe_mode",
    "suhosin.simulation",
    "unserialize_max_depth",
    "xdebug",
]);

pub(super) fn judge(chain: &Chain<'_>) -> Option<Finding> {
    if chain.before == b'$' && VARIABLES.has(chain.first) {
        let reached =
            matches!(chain.next(), b'[' | b'{' | b'(' | b';' | b'=' | b')') || chain.is_alone_variable();
        return chain.found(if reached { 80 } else { 50 }, "php-variable");
    }
    if chain.next() == b'='
        && (SETTINGS.has(chain.text) || chain.text.len() > chain.first.len() && SETTINGS.has(chain.first))
    {
        return chain.found(75, "php-setting");
    }
    // `f=(x)` as well: the equals sign of a form, where the call is a name.
    let assigned = chain.next() == b'=' && at(chain.value, chain.after + 1) == b'(';
    if !chain.is_called() && !assigned {
        return None;
    }
    if chain.has(&FUNCTIONS) {
        return chain.found(
            if chain.prose && !chain.has_plain_argument() {
                50
            } else if chain.prose {
                60
            } else {
                78
            },
            "php-call",
        );
    }
    if !chain.has(&SHORT) || !chain.begins_code() || chain.text.len() != chain.last.len() {
        return None;
    }
    // `include (see below)` is prose: with a space, only a string or a variable will do.
    let plain = chain.has_plain_argument()
        && (chain.is_called_tight() || matches!(at(chain.argument(), 0), b'"' | b'\'' | b'$' | b'`'));
    let empty = at(chain.argument(), 0) == b')';
    // What probes print to be recognized: `print(md5(1))`.
    let probe = starts(chain.argument(), b"md5(") || starts(chain.argument(), b"sha1(");
    match (STRONG.has(chain.last) && !empty, plain, chain.prose) {
        (true, true, false) => chain.found(76, "php-call"),
        (false, true, false) if chain.is_called_tight() && chain.is_whole() => {
            let doubtful = chain.has_word_argument() && !probe || chain.says_hello();
            chain.found(if doubtful { 60 } else { 72 }, "php-call")
        }
        (_, true, _) => chain.found(50, "php-call"),
        _ => None,
    }
}

impl Chain<'_> {
    /// `$_GET` and nothing else.
    fn is_alone_variable(&self) -> bool {
        self.start == 1 && self.value.len() == self.start + self.text.len()
    }

    /// `print("hello, world")` of any language: a string with white space and nothing computed.
    fn says_hello(&self) -> bool {
        let inside = self.argument();
        let quote = at(inside, 0);
        let Some(length) = from(inside, 1).iter().position(|b| *b == quote) else { return false };
        let text = between(inside, 1, 1 + length);
        starts(self.last, b"print")
            && matches!(quote, b'"' | b'\'')
            && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b',' | b'!' | b'.' | b'?'))
            && text.contains(&b' ')
    }

    /// The parenthesis holds a bare name.
    fn has_word_argument(&self) -> bool {
        at(self.argument(), 0).is_ascii_alphabetic()
    }

    /// The call begins the value, or stands behind what ends an expression, and ends at a parenthesis or semicolon.
    fn is_whole(&self) -> bool {
        let start = self.start == 0 || matches!(self.before, b';' | b'=' | b'@' | b'{' | b'.' | b',' | b'(');
        start && matches!(self.value.trim_ascii_end().last(), Some(b')' | b';' | b'}'))
    }
}

/// What follows a short tag. Sorted.
static OPENING: Lexicon = Lexicon::new(&[
    "die",
    "echo",
    "eval",
    "exec",
    "exit",
    "for",
    "foreach",
    "function",
    "if",
    "include",
    "passthru",
    "php",
    "phpinfo",
    "print",
    "printf",
    "readfile",
    "require",
    "return",
    "shell_exec",
    "system",
    "while",
]);

/// Looks for PHP's tags, short ones and those of template engines: `<? echo`, `<?xml :`, `{/php}`, `[php]`.
pub(super) fn tags(value: &[u8]) -> Option<Finding> {
    let found = |confidence, at| Some(Finding::new(Family::Code, confidence, "php-tag", at));
    let mut index = 0;
    while let Some(offset) = from(value, index).iter().position(|b| matches!(b, b'<' | b'{' | b'[')) {
        let start = index + offset;
        let rest = from(value, start);
        index = start + 1;
        let closing = rest.get(1..).is_some_and(|rest| starts(rest, b"/php}") || starts(rest, b"/php]"));
        if at(rest, 0) == b'{' && (closing || starts(rest, b"{php}")) {
            return found(74, start);
        }
        // Forums write code so.
        if at(rest, 0) == b'[' && (closing || starts(rest, b"[php]")) {
            return found(60, start);
        }
        if !starts(rest, b"<?") {
            continue;
        }
        let inside = from(rest, 2);
        if inside.is_empty() && start > 0 {
            return found(72, start);
        }
        // `<?xml version=..`, `<?xml-stylesheet ..`; elsewhere a word directly behind is an instruction of its own.
        let xml = starts(inside, b"xml");
        let text = if xml { from(inside, 3) } else { inside };
        let word = text.trim_ascii_start();
        let spaced = word.len() < text.len();
        if xml && matches!(at(word, 0), b':' | b'(' | b';' | b'$') {
            return found(78, start);
        }
        let name = between(word, 0, crate::bytes::word_end(between(word, 0, 16), 0));
        if !xml && spaced && (OPENING.has(name) || matches!(at(word, 0), b'$' | b'@' | b'(' | b'`')) {
            return found(76, start);
        }
    }
    None
}

/// Looks for what is called without being named: `$f(1)`, `$a['b'](2)`, `('sys'.'tem')('id')`, `[f][0](3)`, `${'a'}`.
pub(super) fn computed(value: &[u8], marks: Marks) -> Option<Finding> {
    let mut index = 0;
    let calls = |b: &u8| matches!(b, b'$' | b')' | b']' | b'}' | b'\'' | b'"');
    while let Some(offset) = from(value, index).iter().position(calls) {
        index += offset;
        match at(value, index) {
            b'$' if marks.any(marks::PAREN | marks::BRACE) => {
                if let Some(confidence) = variable(from(value, index + 1)) {
                    return Some(Finding::new(Family::Code, confidence, "php-variable-call", index));
                }
            }
            b'$' => {}
            _ => {
                let open = super::skip_blank(value, index + 1);
                if at(value, open) == b'('
                    && is_computed(between(value, 0, index + 1))
                    && is_argument(from(value, open + 1))
                {
                    return Some(Finding::new(Family::Code, 74, "php-computed-call", index));
                }
            }
        }
        index += 1;
    }
    None
}

/// What stands behind a `$`: whether it is a variable that is called, or one whose name is computed.
fn variable(rest: &[u8]) -> Option<u8> {
    let mut index = 0;
    while at(rest, index) == b'$' && index < 8 {
        index += 1;
    }
    let name = index;
    while is_word(at(rest, index)) && index < name + 64 {
        index += 1;
    }
    let mut reached = index > name;
    if !reached {
        let open = skip_space(between(rest, 0, index + 40), index);
        if at(rest, open) != b'{' {
            return None;
        }
        let inside = skip_space(between(rest, 0, open + 40), open + 1);
        let close = open + from(rest, open).iter().take(200).position(|b| *b == b'}')?;
        let text = between(rest, inside, close).trim_ascii();
        if text.is_empty() {
            return None;
        }
        // `${'a'}`, `$ {$a}`, `${@a}`: no template has these; `${a}` is one.
        if matches!(at(text, 0), b'\'' | b'"' | b'$' | b'@') || open > index {
            return Some(74);
        }
        index = close + 1;
        reached = true;
    }
    // `[...]` and `{...}` behind it.
    for _ in 0..4 {
        let open = super::skip_blank(rest, index);
        let close = match at(rest, open) {
            b'[' => b']',
            b'{' => b'}',
            _ => break,
        };
        let length = from(rest, open).iter().take(200).position(|b| *b == close)?;
        // The brackets inside of the brackets.
        let nested = between(rest, open + 1, open + length).iter().filter(|b| **b == at(rest, open)).count();
        index = open + length + 1 + nested.min(3);
        if length <= 1 {
            return None;
        }
    }
    let open = super::skip_blank(rest, index);
    (reached && at(rest, open) == b'(' && is_called_with(from(rest, open + 1)) && name_is_no_price(rest))
        .then_some(74)
}

fn name_is_no_price(rest: &[u8]) -> bool {
    !at(rest, 0).is_ascii_digit()
}

/// What is before a call puts a name together: a string, or brackets with quotes, dots or brackets inside.
fn is_computed(before: &[u8]) -> bool {
    let window = from(before, before.len().saturating_sub(96));
    let close = window.last().copied().unwrap_or(0);
    match close {
        b'\'' | b'"' => {
            let inside = between(window, 0, window.len() - 1);
            let Some(open) = inside.iter().rposition(|b| *b == close) else { return false };
            let name = from(inside, open + 1);
            let lead = at(inside, open.wrapping_sub(1));
            !name.is_empty()
                && name.iter().all(|b| is_word(*b))
                && !(open > 0 && is_space(lead) && !between(inside, 0, open).trim_ascii_end().ends_with(b")"))
        }
        b']' | b'}' => {
            let open = if close == b']' { b'[' } else { b'{' };
            let Some(place) = window.iter().rposition(|b| *b == open) else { return false };
            let inside = between(window, place + 1, window.len() - 1).trim_ascii();
            // `x[0](`, `[f](`: an index behind something in brackets.
            let front = between(window, 0, place).trim_ascii_end();
            inside.iter().all(u8::is_ascii_digit)
                && !inside.is_empty()
                && matches!(front.last(), Some(b']' | b')' | b'}'))
                || inside.ends_with(b"]")
                || inside.ends_with(b"0") && matches!(front.last(), Some(b']' | b')'))
        }
        _ => {
            // `('a'.'b')(`, `(sy.(st).em)(`, `(system)('id')`.
            let inside = between(window, 0, window.len() - 1);
            let mut depth = 1;
            let mut open = None;
            for (index, byte) in inside.iter().enumerate().rev() {
                match byte {
                    b')' => depth += 1,
                    b'(' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    open = Some(index);
                    break;
                }
            }
            let Some(open) = open else { return false };
            // A name before the parenthesis: `f(a)(b)` is a call of its own.
            let lead = at(inside, open.wrapping_sub(1));
            if open > 0 && (is_word(lead) || is_space(lead)) {
                return false;
            }
            let name = from(inside, open + 1).trim_ascii();
            !name.is_empty()
                && name.iter().all(|b| {
                    is_word(*b)
                        || matches!(
                            b,
                            b'\'' | b'"' | b'.' | b'(' | b')' | b'[' | b']' | b'$' | b'/' | b'*' | b' '
                        )
                })
                && name.iter().filter(|b| is_space(**b)).count() <= 6
        }
    }
}

/// Nothing, or an argument.
fn is_called_with(rest: &[u8]) -> bool {
    at(rest.trim_ascii_start(), 0) == b')' || is_argument(rest)
}

/// What an argument of such a call is: a string, a number, a name, a variable; then a parenthesis.
fn is_argument(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    match at(rest, 0) {
        b'"' | b'\'' | b'$' | b'@' => true,
        byte if is_word(byte) => {
            let end = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
            let after = super::skip_blank(rest, end);
            matches!(at(rest, after), b')')
        }
        _ => false,
    }
}
