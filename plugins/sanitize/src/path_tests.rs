use super::*;

fn confidence(value: &str, is_path: bool) -> u8 {
    detect(value.as_bytes(), Marks::of(value.as_bytes()), is_path).map_or(0, |finding| finding.confidence)
}

/// Each structure beside the ordinary value that comes nearest to it.
const PAIRS: &[(&str, &str)] = &[
    ("../../etc/passwd", "../img/logo.png"),
    ("..\\..\\windows\\win.ini", "C:\\users\\ann"),
    ("/etc/passwd", "/etc/motd-archive/2024"),
    ("..../..../boot.ini", "..."),
    ("....//....//etc/hosts", "a....b"),
    ("../../../../x", "./a/./b"),
    ("..;/..;/manager", "a;b/c;d"),
    ("php://filter/convert.base64-encode/resource=x", "http://example.test/filter"),
    ("file:///etc/hosts", "file: see /etc"),
    ("images/../../../secret", "images/../icons/a.png"),
    ("/var/www/../../etc/shadow", "/var/www/html"),
    ("..%c0%af../etc/passwd", "100%"),
    ("/../x", "../x"),
    ("/a/../../x", "a/../x"),
    ("/......x", "......x"),
    ("/.../x", "x/.../y"),
    ("/./././././x", "/./x"),
    ("/0x2e0x2e0x2ex", "/0x2ex"),
    ("////x.test", "//x.test/a"),
    ("web-inf/web.xml", "docs/web.xml"),
    ("file:/boot.ini", "file: boot.ini"),
    ("  /etc/passwd", "  /etc"),
    ("/dev/random", "/dev/sda1"),
    ("/run/secrets/db_password", "/run/media/ann"),
];

#[test]
fn attacks_are_found_and_their_neighbours_are_not() {
    for (bad, fine) in PAIRS {
        assert!(confidence(bad, false) >= 70, "missed: {bad} {}", confidence(bad, false));
        assert!(confidence(fine, false) < 70, "taken for an attack: {fine}");
    }
}

#[test]
fn prose_may_speak_of_paths() {
    for fine in [
        "Put it one level up, with ../ in front, and it works",
        "I moved ../../assets to the other folder and now the page is broken",
        "See https://example.test/a/../b for more",
        "and/or, he/she, 1/2",
        "wait... what?",
        "edit the hosts file",
    ] {
        assert!(confidence(fine, false) < 70, "{fine} {}", confidence(fine, false));
    }
}

#[test]
fn a_request_never_climbs_above_its_root() {
    assert!(confidence("/../secret", true) >= 70);
    assert!(confidence("/a/../b", true) < 70);
    assert!(confidence("/..hidden/x..y", true) < 70);
}

#[test]
fn the_marks_know_every_file() {
    for (name, _) in FILES {
        assert!(Marks::of(name.as_bytes()).any(marks::FILE_WORD), "{name}");
    }
}
