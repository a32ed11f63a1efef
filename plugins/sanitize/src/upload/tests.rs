use super::*;

fn sure(declared: &str, file: &str, bytes: &[u8]) -> bool {
    content(declared.as_bytes(), file.as_bytes(), bytes).is_some_and(|finding| finding.confidence >= 70)
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
