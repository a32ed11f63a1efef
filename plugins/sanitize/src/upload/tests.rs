use super::*;

fn sure(declared: &str, file: &str, bytes: &[u8]) -> bool {
    let found = |size: usize| {
        let mut looked = File::new(declared.as_bytes(), file.as_bytes());
        let mut start = 0;
        loop {
            // Pieces have something in common, as windows have.
            let end = (start + size).min(bytes.len());
            let next = if end == bytes.len() { end - start } else { size - 2048 };
            let finding = looked.look(&bytes[start..end], next);
            if finding.is_some_and(|finding| finding.confidence >= 70) {
                return true;
            }
            start += next;
            if end == bytes.len() {
                return false;
            }
        }
    };
    let whole = found(usize::MAX / 2);
    assert_eq!(whole, found(4096));
    whole
}

#[test]
fn what_is_not_what_it_claims_to_be() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR<?x \x01<% \xff";
    assert!(!sure("image/png", "a.png", png));
    assert!(sure("image/png", "a.png", b"\x7fELF\x02\x01"));
    assert!(sure("image/gif", "a.gif", b"GIF89a<?php system($_GET['c']); ?>"));
    assert!(sure("image/jpeg", "", b"#!/bin/sh\nid"));
    assert!(sure("", "a.jpg", b"<!DOCTYPE html><p>hello"));
    assert!(!sure("application/pdf", "a.pdf", b"%PDF-1.7 <</Type /Page>> stream <% x"));
    assert!(!sure("text/html", "a.html", b"<html><script>go()</script>"));
    assert!(!sure("application/octet-stream", "setup.bin", b"MZ\x90\0"));
}

#[test]
fn drawings_that_run() {
    assert!(SHELL_CALLS.words().is_sorted());
    for attack in [
        "<svg><script>go()</script></svg>",
        "<svg onload=\"go()\"/>",
        "<svg><a xlink:href=\"javascript:go()\"/></svg>",
        "<?xml version=\"1.0\"?><!DOCTYPE svg [<!ENTITY x SYSTEM \"file:///x\">]><svg>&x;</svg>",
    ] {
        assert!(sure("image/svg+xml", "a.svg", attack.as_bytes()), "{attack}");
    }
    let fine =
        "<svg viewBox=\"0 0 9 9\"><title>One on one = two</title><path d=\"M0 0\" fill=\"none\"/></svg>";
    assert!(!sure("image/svg+xml", "a.svg", fine.as_bytes()));
}

#[test]
fn web_shells() {
    for attack in [
        "<?php eval(base64_decode($_POST['x'])); ?>",
        "<?= system($_GET[0]) ?>",
        "<%@ page import=\"java.io.*\" %><% Runtime.getRuntime().exec(request.getParameter(\"c\")); %>",
        "<% Execute(Request(\"c\")) %>",
        "<?php echo `$_GET[c]`;",
    ] {
        assert!(sure("text/plain", "a.txt", attack.as_bytes()), "{attack}");
    }
    for fine in [
        "<?php echo 'hello'; ?>",
        "a <% b %> c",
        "<?xml version=\"1.0\"?><a/>",
        "x < y, system (the old one)",
    ] {
        assert!(!sure("text/plain", "a.txt", fine.as_bytes()), "{fine}");
    }
}

/// A ZIP local header with that name.
fn zipped(name: &str) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.extend([0; 22]);
    bytes.extend([name.len() as u8, 0, 0, 0]);
    bytes.extend(name.as_bytes());
    bytes
}

#[test]
fn archives_that_climb() {
    let both = [zipped("a/b.txt"), zipped("../../etc/cron.d/x")].concat();
    assert!(sure("application/zip", "a.zip", &both));
    assert!(!sure("application/zip", "a.zip", &zipped("a/..b/c.txt")));
    let mut tar = vec![0; 1024];
    tar[..9].copy_from_slice(b"../x/y.sh");
    tar[257..262].copy_from_slice(b"ustar");
    assert!(sure("application/x-tar", "a.tar", &tar));
    tar[..9].copy_from_slice(b"a/x/y.txt");
    assert!(!sure("application/x-tar", "a.tar", &tar));
}

#[test]
fn what_is_bad_is_found_however_far_in() {
    let far = |bytes: &[u8]| [&b"\x89PNG\r\n\x1a\n"[..], &b"<% <?= ".repeat(3000), bytes].concat();
    assert!(sure("image/png", "a.png", &far(b"<?php echo 1;")));
    assert!(sure("text/plain", "", &far(b"<?= system($_GET[0]) ?>")));
    assert!(!sure("text/plain", "", &far(b"the old system")));
    let names: Vec<u8> = (0..2000).flat_map(|number| zipped(&format!("a/{number}.txt"))).collect();
    assert!(!sure("application/zip", "a.zip", &names));
    assert!(sure("application/zip", "a.zip", &[names, zipped("../x")].concat()));
    let member = |name: &str, size: usize| {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[257..262].copy_from_slice(b"ustar");
        header.resize(512 + size.next_multiple_of(512), b'x');
        header
    };
    let long = member("a/long.bin", 50_000);
    assert!(sure("application/x-tar", "", &[long.clone(), member("../../x", 1), vec![0; 9000]].concat()));
    assert!(!sure("application/x-tar", "", &[long, member("a/x", 1), vec![0; 9000]].concat()));
}
