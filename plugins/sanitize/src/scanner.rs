//! Attack tools by the name that they give themselves, and probes for what no visitor asks for.
//!
//! The list of tools is short on purpose: who hides is found by what is sent. Each name on it is a tool that does nothing
//! but look for weaknesses; crawlers, monitors, archives and libraries are not there. Probes are paths that a deployment
//! leaves behind by mistake and that only a search for such mistakes asks for.

use crate::bytes::{at, between, from, is_word, starts};
use crate::finding::{Family, Finding};
use crate::lexicon::Lexicon;
use crate::marks::{self, Marks};

/// Tools that look for weaknesses or exploit them, as they appear in `user-agent`. Sorted.
#[rustfmt::skip]
pub(crate) static TOOLS: Lexicon = Lexicon::new(&[
    "acunetix", "appscan", "arachni", "brutus", "cmsmap", "commix", "dalfox", "detectify", "dirbuster",
    "dirsearch", "evilscanner", "feroxbuster", "fimap", "gobuster", "grabber", "grendel", "havij", "hydra",
    "jaeles", "joomscan", "jorgee", "l9explore", "l9tcpid", "masscan", "metasploit", "morfeus", "nessus",
    "netsparker", "nikto", "nmap", "nsauditor", "nuclei", "openvas", "pangolin", "paros", "qualys",
    "skipfish", "sqlmap", "sqlninja", "tplmap", "vega", "w3af", "webinspect", "webshag", "wfuzz", "whatweb",
    "wpscan", "xsser", "xsstrike", "zgrab", "zmeu",
]);

/// Names on the list that are words or products as well: they count where a version or a bracket follows, or alone.
static ORDINARY: Lexicon =
    Lexicon::new(&["brutus", "grabber", "grendel", "hydra", "pangolin", "paros", "vega"]);

/// Looks at a `user-agent`. Linear in its length.
pub(crate) fn agent(value: &[u8], marks: Marks) -> Option<Finding> {
    if !marks.any(marks::TOOL_WORD) {
        return None;
    }
    let mut index = 0;
    while index < value.len() {
        let end = crate::bytes::word_end(value, index);
        let word = between(value, index, end);
        if TOOLS.has(word) {
            let lead = if index == 0 { 0 } else { at(value, index - 1) };
            let ordinary =
                ORDINARY.has(word) && !(index == 0 && (end == value.len() || at(value, end) == b'/'));
            if !ordinary && lead != b'-' {
                return Some(Finding::new(Family::Scanner, 88, "attack-tool", index));
            }
        }
        index = end.max(index + 1);
    }
    None
}

/// Folders and files that version control, editors and deployments leave behind. A part of the path is one, or begins
/// with it where it ends in `*`.
const LEFTOVERS: [&[u8]; 22] = [
    b".git",
    b".svn",
    b".hg",
    b".bzr",
    b".env",
    b".env.*",
    b".aws",
    b".ssh",
    b".htpasswd",
    b".htaccess",
    b".ds_store",
    b".npmrc",
    b".pgpass",
    b".bash_history",
    b".mysql_history",
    b".git-credentials",
    b".gitconfig",
    b".idea",
    b".vscode",
    b"wp-config.php*",
    b"id_rsa",
    b"web.config",
];

/// Ends of names under which editors and administrators keep copies, dumps and keys.
const COPIES: [&[u8]; 16] = [
    b".bak",
    b".backup",
    b".old",
    b".orig",
    b".save",
    b".swp",
    b".swo",
    b"~",
    b".sql",
    b".rdb",
    b".sqlite",
    b".mdb",
    b".pfx",
    b".kdbx",
    b".db",
    b"privkey.pem",
];

/// Paths that known exploits begin with. Lower case.
const EXPLOITS: [&[u8]; 10] = [
    b"/vendor/phpunit/",
    b"/eval-stdin.php",
    b"/_ignition/execute-solution",
    b"/boaform/",
    b"/hnap1",
    b"/gponform/",
    b"/wls-wsat/",
    b"/cgi-bin/luci",
    b"/invoker/jmxinvokerservlet",
    b"/_vti_bin/_vti_aut",
];

/// Looks at a decoded path. Linear in its length.
pub(crate) fn probe(path: &[u8]) -> Option<Finding> {
    let found = |confidence, why| Some(Finding::new(Family::Scanner, confidence, why, 0));
    let mut last: &[u8] = b"";
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        last = part;
        // What all of them begin with.
        let hit = matches!(at(part, 0), b'.' | b'w' | b'W' | b'i' | b'I')
            && LEFTOVERS.iter().any(|name| match name.strip_suffix(b"*") {
                Some(start) => starts(part, start) && part.len() > start.len(),
                None => part.eq_ignore_ascii_case(name),
            });
        if hit {
            return found(80, "leftover");
        }
        if part.len() > 4 && part.ends_with(b"~") && part.contains(&b'.') {
            return found(74, "copy");
        }
    }
    // A folder of that name is somebody's own.
    let last = if path.ends_with(b"/") { b"" } else { last };
    let end = |name: &[u8]| {
        last.len().checked_sub(name.len()).is_some_and(|cut| cut > 0 && starts(from(last, cut), name))
    };
    let named = last.iter().any(|b| matches!(b, b'.' | b'~'));
    if named && (COPIES.iter().any(|name| end(name)) || last.eq_ignore_ascii_case(b"privkey.pem")) {
        return found(72, "copy");
    }
    let exploit = |start: usize| {
        let rest = from(path, start);
        EXPLOITS
            .iter()
            .any(|name| starts(rest, name) && (name.ends_with(b"/") || !is_word(at(rest, name.len()))))
    };
    let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    if slashes.any(|(start, _)| exploit(start)) { found(82, "exploit-path") } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_name_themselves() {
        assert!(TOOLS.words().is_sorted() && ORDINARY.words().is_sorted());
        let found =
            |agent_name: &str| agent(agent_name.as_bytes(), Marks::of(agent_name.as_bytes())).is_some();
        for tool in [
            "sqlmap/1.8 (https://sqlmap.org)",
            "Mozilla/5.0 zgrab/0.x",
            "Mozilla/5.0 (Nikto/2.5)",
            "Nuclei",
            "hydra/9",
        ] {
            assert!(found(tool), "{tool}");
        }
        for fine in [
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "curl/8.5",
            "Hydra House Radio 2",
            "ecairn-grabber/1.0",
            "Mozilla/5.0 (compatible; Vega Player)",
        ] {
            assert!(!found(fine), "{fine}");
        }
    }

    #[test]
    fn probes_ask_for_what_is_left_behind() {
        for path in [
            "/.git/config",
            "/app/.env",
            "/.env.production",
            "/a/index.php~",
            "/dump.sql",
            "/site.bak",
            "/wp-config.php.old",
            "/vendor/phpunit/src/x",
        ] {
            assert!(probe(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            "/",
            "/.well-known/acme-challenge/x",
            "/~anna/",
            "/environment",
            "/git/",
            "/old",
            "/a.sqlx",
            "/wp-config",
            "/db/",
            "/image.thumbs",
            "/x.backup/",
        ] {
            assert!(probe(path.as_bytes()).is_none(), "{path}");
        }
    }
}
