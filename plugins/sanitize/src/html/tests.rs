use super::*;

fn attack(value: &str) -> bool {
    detect(value.as_bytes(), value.as_bytes(), Marks::of(value.as_bytes()))
        .is_some_and(|finding| finding.confidence >= 70)
}

/// Each structure beside the ordinary text that comes nearest to it.
const PAIRS: &[(&str, &str)] = &[
    ("<script>go()</script>", "the <b>script</b> of the play"),
    ("<SCRIPT SRC=//x.test></SCRIPT>", "a < scripts > b"),
    ("<img src=x onerror=go(1)>", "<img src=\"cat.png\" alt=\"one error\">"),
    ("<svg/onload=go(1)>", "svg/onload"),
    ("<iframe src=//x.test>", "an iframe, src and all"),
    ("<a href=\"javascript:go()\">x</a>", "<a href=\"https://x.test/javascript\">x</a>"),
    ("<a href=\" java\tscript:go()\">x</a>", "<a href=\"/a\">java script</a>"),
    ("javascript:alert(1)", "JavaScript: The Good Parts"),
    ("data:text/html,<script>go()</script>", "data: text and html"),
    ("\" onmouseover=\"go(1)", "\" on mouse over"),
    ("' onfocus=go(1) autofocus '", "one = 1, once = 2"),
    ("\" style=\"width:expression(go())", "style=\"width: 10px\""),
    ("<p style=\"behavior:url(x)\">", "<p style=\"color: red\">"),
    ("'-alert(1)-'", "an alert (1 new)"),
    ("\";alert(1)//", "an alert; one"),
    ("{{constructor.constructor('go()')()}}", "{{ user.name }}"),
    ("document.cookie=1", "the document. cookie jars"),
    ("</textarea><b onclick=go()>", "</p>"),
    ("<meta http-equiv=refresh content=0>", "<em>meta</em>"),
    ("<!--[if IE]><b><![endif]-->", "<!-- a comment -->"),
    ("<f o r m action=//x.test>", "a < b o r c"),
    ("< x: script>", "< x: y"),
    ("<a xsi:schemaLocation=\"u http://x.test/a.xsd\">", "<a lang=\"en\">"),
    ("<p style=\"color:\\72 ed\">", "<p style=\"color:red\">"),
    ("\" onpointerrawupdate=", "https://x.test/?a=1&online="),
    ("x=k:url(javascript", "k: url(image.png)"),
    ("-moz-binding:url(//x.test/a)", "background: url(a.png)"),
    ("java\tscript: ", "JavaScript: next"),
    ("[][(![]+[])[+[]]]", "[![](a.png)](b.html) and ![](c.png)"),
    ("document /* x */ . cookie", "the document. Cookie"),
    ("self[\"al\"+\"ert\"](1)", "self [sic]"),
    ("(document)['cookie']", "(document)"),
    ("[].sort.call`${alert}1`", "call `me`"),
    ("[1].map(alert)", "a map (alert)"),
    ("alert?.(1)", "alert? (1)"),
    ("new Function()", "a new function ()"),
    ("';import('//x.test/a')//", "to import ('a')"),
    ("window.location", "window.title"),
];

#[test]
fn attacks_are_found_and_their_neighbours_are_not() {
    for (bad, fine) in PAIRS {
        assert!(attack(bad), "missed: {bad}");
        assert!(!attack(fine), "taken for an attack: {fine}");
    }
}

#[test]
fn ordinary_text_passes() {
    for fine in [
        "1 < 2 and 3 > 2",
        "a <- b",
        "I <3 you",
        "<john@example.test>",
        "<b>bold</b> and <i>italic</i>, <br/>",
        "x => y",
        "if (a < b) { return c; }",
        "https://example.test/?a=1&b=2#top",
        "Re: on=5",
        "let total = price * count; // sum",
        "onboarding = done",
        "see the function print() in chapter 3",
    ] {
        assert!(!attack(fine), "{fine}");
    }
}

#[test]
fn declarations_name_their_own_family() {
    let family = |value: &str| {
        detect(value.as_bytes(), value.as_bytes(), Marks::of(value.as_bytes())).map(|finding| finding.family)
    };
    assert_eq!(family("<!ENTITY x SYSTEM \"file:///etc/passwd\">"), Some(crate::Family::Entity));
    assert_eq!(family("<!DOCTYPE a SYSTEM \"http://x.test/a.dtd\">"), Some(crate::Family::Entity));
    assert_eq!(family("<!DOCTYPE html>"), None);
    assert_eq!(family("<?php echo 1;"), Some(crate::Family::Code));
    assert_eq!(family("<?xml version=\"1.0\"?>"), None);
}
