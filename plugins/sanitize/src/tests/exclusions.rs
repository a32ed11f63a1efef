//! An exclusion takes away what is looked for, and so can only let more pass.

use super::*;

/// Plain and doubtful values of many families, some of two at once, and ordinary ones.
const VALUES: &[&str] = &[
    BAD,
    "1 union select a,b from c--",
    "<img src=x onerror=alert(1)>",
    "'><script>alert('1' or 1=1)</script>",
    "../../../../etc/passwd",
    "; cat /etc/passwd",
    "$(id)",
    "{{7*7}}",
    "${f(a)}",
    "${jndi:ldap://a.test/b}",
    "http://169.254.169.254/latest/meta-data/",
    "java.io.File in a text",
    "<?php system($_GET['c']); ?>",
    "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "it's ordinary & <b>bold</b>",
    "plain",
];
const NAMES: [&str; 4] = ["a", "b", "x-c", "*"];
const PLACES: [Option<&str>; 5] = [None, Some("query"), Some("form"), Some("header"), Some("cookie")];
const FAMILIES: [&[&str]; 5] =
    [&[], &["sql-injection"], &["xss"], &["command-injection", "path-traversal"], &["code-injection"]];

const MODES: [&str; 3] = ["enforce", "monitor", "off"];

fn exclusion((place, name, families): (usize, usize, usize)) -> serde_json::Value {
    let mut wire = json!({"name": NAMES[name], "families": FAMILIES[families]});
    if let Some(place) = PLACES[place] {
        wire["place"] = json!(place);
    }
    wire
}

/// `name=value` pairs with every byte of the values escaped.
fn pairs(parameters: &[(usize, usize)]) -> String {
    let pair = |(name, value): &(usize, usize)| {
        let value: String = VALUES[*value].bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("{}={value}", NAMES[*name])
    };
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn an_exclusion_never_refuses_more(
        query in proptest::collection::vec((0..2_usize, 0..VALUES.len()), 0..4),
        form in proptest::collection::vec((0..2_usize, 0..VALUES.len()), 0..3),
        header in 0..VALUES.len(),
        cookie in proptest::collection::vec((0..2_usize, 0..VALUES.len()), 0..2),
        earlier in proptest::collection::vec((0..PLACES.len(), 0..NAMES.len(), 0..FAMILIES.len()), 0..3),
        added in (0..PLACES.len(), 0..NAMES.len(), 0..FAMILIES.len()),
        sensitivity in 1..5_u8,
        modes in (0..MODES.len(), 0..MODES.len()),
    ) {
        let (path, form, cookie) = (format!("/?{}", pairs(&query)), pairs(&form), pairs(&cookie));
        let headers: &[Header<'_>] = &[
            (b":method", b"POST"),
            (b":path", path.as_bytes()),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"x-c", VALUES[header].as_bytes()),
            (b"cookie", cookie.as_bytes()),
        ];
        let judge = |exclusions: Vec<serde_json::Value>| {
            let policy = policy(json!({"sensitivity": sensitivity, "exclusions": exclusions,
                "families": {"sql-injection": MODES[modes.0], "xss": MODES[modes.1]}}));
            status(&play(&policy, headers, &[form.as_bytes()]))
        };
        let mut exclusions: Vec<_> = earlier.into_iter().map(exclusion).collect();
        let before = judge(exclusions.clone());
        exclusions.push(exclusion(added));
        let after = judge(exclusions);
        prop_assert!(before != 200 || after == 200, "{before} became {after}");
    }
}
