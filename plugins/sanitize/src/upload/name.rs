//! A file's name: what it would be run as.
//!
//! The last ending decides what a server does with a file, and some servers look at every ending. Endings of programs
//! that only a visitor would run (`.exe`, `.sh`, `.py`) are ordinary where programs are exchanged: they count from
//! sensitivity 3 on.

use crate::bytes::{at, between, find, from, is_space, starts};
use crate::finding::{Family, Finding};
use crate::lexicon::Lexicon;

/// Endings that web servers run. Sorted.
static RUN: Lexicon = Lexicon::new(&[
    "asa", "ashx", "asmx", "asp", "aspx", "cdx", "cer", "cfc", "cfm", "cgi", "fcgi", "htaccess", "inc",
    "jhtml", "jsp", "jspf", "jspx", "jsv", "jsw", "pgif", "phar", "php", "php3", "php4", "php5", "php6",
    "php7", "php8", "phps", "phpt", "pht", "phtml", "shtm", "shtml", "soap", "stm", "svc", "war",
]);

/// Endings that a person's system runs. Sorted.
static PROGRAMS: Lexicon = Lexicon::new(&[
    "bat", "cmd", "com", "cpl", "dll", "exe", "hta", "jar", "lnk", "msi", "pif", "pl", "ps1", "py", "rb",
    "scr", "sh", "vbe", "vbs", "wsf",
]);

/// Endings of documents and pictures, behind which a program may hide. Sorted.
static HARMLESS: Lexicon = Lexicon::new(&[
    "bmp", "csv", "doc", "docx", "gif", "htm", "html", "jpeg", "jpg", "mp3", "mp4", "pdf", "png", "ppt",
    "pptx", "rtf", "svg", "tif", "tiff", "txt", "webp", "xls", "xlsx", "zip",
]);

/// Files that configure the server that finds them. Sorted.
static SETTINGS: Lexicon = Lexicon::new(&[
    ".htaccess",
    ".htpasswd",
    ".user.ini",
    "clientaccesspolicy.xml",
    "crossdomain.xml",
    "php.ini",
    "web.config",
]);

fn finding(confidence: u8, why: &'static str) -> Option<Finding> {
    Some(Finding::new(Family::Upload, confidence, why, 0))
}

/// Whether a name ends so, ASCII case ignored.
pub(crate) fn ends(file: &[u8], lower: &[u8]) -> bool {
    file.len().checked_sub(lower.len()).is_some_and(|cut| starts(from(file, cut), lower))
}

/// Whether it is the name of a picture.
pub(crate) fn is_picture(file: &[u8]) -> bool {
    [&b".png"[..], b".jpg", b".jpeg", b".gif", b".webp", b".bmp", b".ico"].iter().any(|end| ends(file, end))
}

/// Looks at a file's name, percent escapes undone.
pub(crate) fn detect(file: &[u8]) -> Option<Finding> {
    if file.contains(&0) || find(file, b"%00", 0).is_some() {
        return finding(86, "null-in-name");
    }
    let name = file.rsplit(|b| matches!(b, b'/' | b'\\')).next().unwrap_or(file);
    // Windows drops dots, spaces and the name of a stream at the end; PHP's rules may ignore them.
    let stream = find(name, b"::$", 0).filter(|at| *at > 0);
    let name = between(name, 0, stream.unwrap_or(name.len()));
    let end =
        name.iter().rposition(|b| !is_space(*b) && !matches!(b, b'.' | b';')).map_or(0, |last| last + 1);
    let name = between(name, 0, end);
    if SETTINGS.has(name.trim_ascii()) {
        return finding(86, "server-settings");
    }
    if starts(name, b"sess_")
        && name.len() >= 25
        && from(name, 5).iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b','))
    {
        return finding(78, "session-file");
    }
    let mut endings = name.split(|b| matches!(b, b'.' | b';' | b':')).skip(1).map(<[u8]>::trim_ascii);
    let mut last: &[u8] = b"";
    let (mut runs, mut harmless) = (false, false);
    for ending in &mut endings {
        runs |= RUN.has(last);
        harmless |= HARMLESS.has(last);
        last = ending;
    }
    let versioned = starts(last, b"php") && last.len() <= 6 && from(last, 3).iter().all(u8::is_ascii_digit);
    if (RUN.has(last) || versioned) && !last.eq_ignore_ascii_case(b"inc") {
        return finding(if harmless || stream.is_some() { 86 } else { 76 }, "server-script");
    }
    if runs && HARMLESS.has(last) {
        return finding(76, "double-extension");
    }
    if PROGRAMS.has(last) {
        return finding(
            if harmless { 76 } else { 56 },
            if harmless { "double-extension" } else { "program" },
        );
    }
    // Whole paths: old browsers send `C:\..`, others send names alone.
    if at(file, 0) == b'/' && file.len() > name.len() + 1 {
        return finding(74, "path-in-name");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [&RUN, &PROGRAMS, &HARMLESS, &SETTINGS] {
            assert!(list.words().is_sorted());
        }
    }

    #[test]
    fn names_of_what_a_server_runs() {
        for attack in [
            "a.php",
            "A.PHP5",
            "a.php.",
            "a.php...  ",
            "a.php.jpg",
            "a.jpg.php",
            "a.phtml",
            "a.jsp",
            "a. jspx",
            "a.asp;.jpg",
            "a.aspx::$DATA",
            "a.php\0.png",
            ".htaccess",
            "web.config",
            "dir/shell.jsp",
            "a.php907..",
            "invoice.pdf.exe",
            "sess_0123456789abcdefghij",
        ] {
            assert!(detect(attack.as_bytes()).is_some_and(|f| f.confidence >= 70), "{attack}");
        }
        for fine in [
            "photo.jpg",
            "Report (final) v1.2.pdf",
            "jquery.min.js",
            "a.tar.gz",
            "phpinfo",
            "safe.phpinfo",
            "x.phtml987...",
            "index.html",
            "sess_short",
            "my_sess_data.txt",
            "setup.exe",
            "deploy.sh",
            "notes.v2.txt",
            "archive.zip",
            "C:\\fakepath\\me.png",
            "php",
        ] {
            assert!(detect(fine.as_bytes()).is_none_or(|f| f.confidence < 70), "{fine}");
        }
    }
}
