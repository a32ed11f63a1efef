use super::*;
use crate::place::Place;

fn family(name: &str, value: &str) -> Option<Family> {
    let scope = Scope { name: name.as_bytes(), place: Place::Query, ..Scope::EVERY };
    detect(value.as_bytes(), scope).filter(|finding| finding.confidence >= 70).map(|finding| finding.family)
}

#[test]
fn where_a_server_should_not_go() {
    for attack in [
        "http://127.0.0.1/admin",
        "http://2130706433/",
        "https://0x7f.1/",
        "http://[::ffff:169.254.169.254]/latest/",
        "http://169.254.169.254/latest/meta-data/",
        "169.254.169.254/latest/meta-data",
        "http://user@localhost:8080/",
        "gopher://x.example:6379/_INFO",
        "dict://a.example:11211/stat",
        "//10.0.0.7/x",
        "http://x.127.0.0.1.nip.io/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http:\\\\127.0.0.1\\admin",
        "unix:/var/run/docker.sock",
        "http://unix:/var/run/docker.sock:/info",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    ] {
        assert_eq!(family("q", attack), Some(Family::Ssrf), "{attack}");
    }
    for fine in ["https://shop.example/a", "see http://shop.example", "a://b", "http://", "12:30//", "//"] {
        assert_eq!(family("q", fine), None, "{fine}");
    }
}

#[test]
fn what_a_native_application_is_sent_back_to_passes() {
    assert_eq!(family("webhook_url", "http://10.0.0.7/hook"), Some(Family::Ssrf));
    assert_eq!(family("return_url", "http://10.0.0.7/start"), None);
    assert_eq!(family("redirect_uri", "http://127.0.0.1:51004/callback"), None);
    assert_eq!(family("redirect_uri", "http://localhost:3000/auth/callback"), None);
}

#[test]
fn files_from_elsewhere() {
    for (name, attack) in [
        ("page", "http://evil.example/shell.txt"),
        ("q", "http://evil.example/shell?"),
        ("file", "ftp://evil.example/x.php"),
        ("q", "http://203.0.113.7/x.php"),
        ("x", "compress.zlib://http://evil.example/a"),
        ("x", "data://text/plain;base64,SGVsbG8="),
    ] {
        assert_eq!(family(name, attack), Some(Family::Include), "{name} {attack}");
    }
    for (name, fine) in [
        ("page", "https://shop.example/about"),
        ("q", "https://shop.example/x.php?id=1"),
        ("file", "report.txt"),
        ("link", "https://shop.example/search?q=why?"),
    ] {
        assert_eq!(family(name, fine), None, "{name} {fine}");
    }
}

#[test]
fn targets_in_disguise() {
    for (name, attack) in [
        ("next", "//evil.example"),
        ("next", "/\\evil.example"),
        ("return_to", "\\\\evil.example"),
        ("url", "///evil.example/a"),
        ("url", "https:evil.example"),
        ("url", "https:/evil.example"),
        ("goto", "\t//evil.example"),
        ("url", "https://shop.example@evil.example/"),
        ("next", "//shop.example@evil.example"),
        ("next", "https://evil.example\\.shop.example"),
        ("next", "//evil\u{3002}example"),
    ] {
        assert_eq!(family(name, attack), Some(Family::Redirect), "{name} {attack}");
    }
    for (name, fine) in [
        ("next", "/account"),
        ("next", "https://shop.example/account"),
        ("image", "//cdn.example/a.png"),
        ("next", "//"),
        ("repository", "https://me:token@git.example/a.git"),
    ] {
        assert_eq!(family(name, fine), None, "{name} {fine}");
    }
}
