use super::*;

fn read(sql: &str) -> Result<Words, Refusal> {
    let pieces = pieces(sql, Grammar::Postgres)?;
    is_read(&pieces)?;
    judge(&pieces, Grammar::Postgres, false)?;
    Ok(Words::of(&pieces))
}

#[test]
fn every_name_is_found_wherever_it_stands() {
    let words = read(
        "WITH x AS (SELECT count(*) FILTER (WHERE a IN (1, 2)) FROM \"Big Table\" AS t (a, b)) /* why */ \
         SELECT public.lower (x.name), 'it''s' FROM x JOIN s.y USING (id) WHERE t = $1; -- done",
    )
    .unwrap();
    for name in ["Big Table", "y", "x", "t", "a", "s", "name"] {
        assert!(words.all.contains(name), "{name}: {words:?}");
    }
    assert_eq!(words.calls.iter().collect::<Vec<_>>(), ["count", "lower"]);
}

#[test]
fn what_moves_locks_or_writes_is_refused() {
    for (sql, why) in [
        ("SELECT * FROM t FOR UPDATE", Refusal::Locks),
        ("SELECT * FROM t FOR NO KEY UPDATE", Refusal::Locks),
        ("SELECT * INTO u FROM t", Refusal::NotARead),
        ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", Refusal::NotARead),
        ("INSERT INTO t VALUES (1)", Refusal::NotARead),
        ("SELECT 1; SELECT 2", Refusal::NotARead),
        ("", Refusal::NotARead),
        ("SELECT current_timestamp", Refusal::Time),
        ("SELECT * FROM t WHERE at < ' Today 10:00'", Refusal::Time),
        ("SELECT current_user", Refusal::Session),
        ("SELECT user", Refusal::Session),
        ("SELECT * FROM pg_class", Refusal::Catalog),
        ("SELECT 't'::regclass", Refusal::Catalog),
        ("SELECT ctid FROM t", Refusal::Catalog),
        ("SELECT * FROM t TABLESAMPLE system (1)", Refusal::Volatile),
    ] {
        assert_eq!(read(sql).unwrap_err(), why, "{sql}");
    }
    for near in ["SELECT \"user\" FROM t", "SELECT 'nowhere', 'knows'", "SELECT substring(a FOR 3) FROM t"] {
        assert!(read(near).is_ok(), "{near}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_not_judged() {
    for sql in [
        "SELECT 1 /* /* */ , random() -- */",
        "SELECT 1 -- \r, random()",
        "SELECT E'\\'' || random() || ''",
        "SELECT 'a\\' || random() || '\\b'",
        "SELECT $$a$$",
        "SELECT $a$ random() $a$",
        "SELECT U&\"\\0072andom\"()",
        "SELECT 'no'\n'w'::timestamp",
        "SELECT\u{a0}1",
        "SELECT é FROM t",
        "SELECT $1abc",
        "SELECT 'open",
    ] {
        assert_eq!(read(sql).unwrap_err(), Refusal::Unreadable, "{sql:?}");
    }
    assert_eq!(read(&format!("SELECT {}", "a".repeat(64))).unwrap_err(), Refusal::Unreadable);
    assert_eq!(read(&"x".repeat(MAX_BYTES + 1)).unwrap_err(), Refusal::Large);
}
