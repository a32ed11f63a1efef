use super::*;

fn found(value: &str) -> Option<Finding> {
    detect(value.as_bytes(), Marks::of(value.as_bytes()))
}

/// At the default sensitivity.
fn attack(value: &str) -> bool {
    found(value).is_some_and(|finding| finding.confidence >= 70)
}

/// Each structure beside the ordinary text that comes nearest to it.
const PAIRS: &[(&str, &str)] = &[
    ("' or '1'='1", "'twas the night or so"),
    ("x' OR 1=1 -- ", "x's OR y's -- both"),
    ("1 or 1=1", "1 or 2 pieces"),
    ("1) or (2=2", "(1) or (2)"),
    ("\" or \"\"=\"", "a \"or\" b"),
    ("1 union select name, pass from members", "the union selected a name"),
    ("1 UNION/**/ALL/**/SELECT NULL,NULL--", "union all: select one"),
    ("-1 union select 1,2,3#", "union, select 1, 2 or 3"),
    ("1; drop table orders", "drop the table; order"),
    ("1; delete from orders where id=1", "delete from; where"),
    ("x'; insert into staff values (1)--", "insert into the slot"),
    ("1; update staff set pay=0", "update: set a date"),
    ("1 and sleep(5)", "1 hour and sleep (5 h)"),
    ("1 and (select count(*) from staff) > 0", "1 and select (a few)"),
    ("1' and substring(version(),1,1)='5", "version 1, and 5"),
    ("1 order by 4--", "order by 4 pm"),
    ("1' group by id having 1=1--", "group by age, having fun"),
    ("1; waitfor delay '0:0:9'--", "wait for delay"),
    ("1; exec xp_cmdshell 'dir'", "exec summary"),
    ("1 into outfile '/tmp/x'", "1 into 2"),
    ("admin'--", "admin's -- mine"),
    ("admin' #", "O'Brien #2"),
    ("1 and extractvalue(1,concat(0x7e,version()))", "extract value (1)"),
    ("1'||(select 1 from dual)||'", "'a' || b"),
    ("7 (select user from staff)", "7 (selected from the staff)"),
    ("7); select like('a', upper(hex(randomblob(9))))", "I like (a lot); select one"),
    ("3 union", "3 Union Street"),
    ("1 union values row(1, 2)", "the union values a row (or two)"),
    ("8*1--", "8,--"),
    ("9 /*", "src/**/*.c"),
    ("2) from staff where name = 'x'", "2) from Rome"),
    ("x' or match name against ('+a' in boolean mode)#", "1 or 2 against 3"),
    ("1; if exists (select 1) drop table staff", "if only; then"),
    ("1; delete quick from staff", "delete quick; from here"),
    ("'is \\N - 'x", "path\\Name"),
    ("1\x01union\x02select\x033", "a\x01b"),
    ("9 + ascii(substring(secret,1,1))", "ascii (a code)"),
    ("case when 'a' then 'b' end", "in any case, when? then"),
    ("1 or [information_schema].tables is null", "Postgres or MySQL"),
    ("a '<>' b", "trick 'or' treat"),
    ("@@version", "@version"),
    ("1; delete from staff", "Delete from cart"),
    ("1; drop table a, b", "Drop table lamp, union square, order by phone"),
    ("1; copy (select 1) to program 'id'", "1; copy (2)"),
    ("1 rlike 1", "5 like 5 others"),
    ("1 or 1.e(1)=1", "1 or 1.e (a misprint)"),
    ("1 union table members", "the union table is set"),
    ("1 and 1::int=1", "ratio 1::2"),
    ("' or 1 isnull--", "it's 1 isnull"),
    ("1 or _binary'a'=0x61", "1 or _binary files"),
    ("1; merge into a using b on (1=1)", "merge into one file"),
    ("where 1=1", "where 1=1 is always true"),
    ("x` union select 1,2#", "Why does `select * from staff where id = 1` give two rows?"),
    ("1 and if(1=1,2,3)", "if (x <= 10 || y >= 20) return;"),
    ("a = 'b' and sleep(5)", "status = 'open' and owner = currentUser() order by created desc"),
    (
        "1 and (select count(*) from staff) > 1",
        "select name, count(*) from staff group by name having count(*) > 1 gives two",
    ),
];

#[test]
fn attacks_are_found_and_their_neighbours_are_not() {
    for (bad, fine) in PAIRS {
        assert!(attack(bad), "missed: {bad}");
        assert!(!attack(fine), "taken for an attack: {fine} {:?}", found(fine));
    }
}

#[test]
fn ordinary_text_passes() {
    for fine in [
        "O'Brien",
        "d'Artagnan's",
        "1 < 2",
        "select a seat from the list",
        "Drop the table at the exhibition; we need it and the chairs.",
        "It's \"fine\" -- really, isn't it?",
        "Rock 'n' roll",
        "5' 11\" tall",
        "union of select committees",
        "and/or",
        "insert coin",
        "price >= 10 and stock < 5",
        "a=1",
        "don't",
        "what's the order by date, or by name?",
        "SELECT",
        "x = y or z",
        "100% -- or nothing",
        "that's all; -- Ann",
        "it is said that \"or 1=1\" is always true",
    ] {
        assert!(!attack(fine), "{fine} {:?}", found(fine));
    }
}

#[test]
fn white_space_case_and_comments_do_not_hide() {
    for bad in [
        "1\tUnIoN\nsElEcT\r1,2",
        "1/*x*/union/*y*/select/**/1,2",
        "1 /*!50000union*/ /*!select*/ 1,2",
        "1%0aor%0a1=1".replace("%0a", "\n").as_str(),
        "'\u{a0}or\u{a0}1=1#",
        "1 or 0x31=0x31",
        "1 || 1=1",
        "1 or not 1=2",
        "x';--",
        "a friend of mine 'or 1=1 or '",
        "1 or 1 is not null",
    ] {
        assert!(attack(bad), "{bad}");
    }
}
