//! What a statement of PostgreSQL may change, seen from its words.
//!
//! Of `INSERT`, `UPDATE`, `DELETE` and `MERGE` it is the table that they name. Of all that is not known, of definitions, and of calls that are not
//! among the [`HARMLESS`], it is everything. What else changes with a table (cascades, triggers, partitions, views) is the affair of
//! who reads ([`super::plan`]).
//!
//! Not seen: a call that hides in a view, an operator, or behind a column's notation, and writes. Such a change is seen when the entry's time is up.

use super::words::{Grammar, Piece, is_among, is_call, pieces};

/// What is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A table of this name, in whichever schema.
    Table(String),
    /// Nobody knows what.
    Everything,
}

/// What a statement does to what others read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// A transaction begins.
    Begin,
    /// A transaction ends, and another one begins at once if it is a chain.
    End {
        /// `AND CHAIN`
        chain: bool,
    },
    /// Something is changed.
    Write(Target),
}

/// Functions of PostgreSQL's own that change no table.
const HARMLESS: &str = "\
    abs age array_agg array_length avg bool_and bool_or btrim ceil char_length clock_timestamp concat concat_ws count \
    current_setting date_part date_trunc decode dense_rank encode extract first_value floor format gen_random_uuid generate_series \
    json_agg json_build_object jsonb_agg jsonb_build_object lag last_value lead left length lower ltrim max md5 min mod nextval \
    now ntile octet_length pg_backend_pid pg_sleep position power random rank regexp_replace repeat replace right round row_number \
    row_to_json rtrim set_config setseed sign split_part sqrt statement_timestamp string_agg strpos substr substring sum to_char \
    to_date to_json to_jsonb to_number to_timestamp transaction_timestamp trunc unnest upper version";

/// The effect of a statement.
#[must_use]
pub fn of(sql: &str) -> Effect {
    const EVERYTHING: Effect = Effect::Write(Target::Everything);
    let Ok(pieces) = pieces(sql, Grammar::Postgres) else { return EVERYTHING };
    let word = |at: usize| match pieces.get(at) {
        Some(Piece::Word { name, quoted: false }) => Some(name.as_str()),
        _ => None,
    };
    let has =
        |wanted: &[&str]| (1..pieces.len()).any(|at| word(at).is_some_and(|word| wanted.contains(&word)));
    match (word(0).unwrap_or_default(), word(1).unwrap_or_default()) {
        ("select" | "values" | "table" | "with", _) => {
            // `FOR UPDATE` locks.
            let writes = (1..pieces.len()).any(|at| match word(at) {
                Some("insert" | "delete" | "merge" | "into") => true,
                Some("update") => !matches!(word(at - 1), Some("for" | "key")),
                _ => false,
            });
            if writes || !only_harmless_calls(&pieces, None) { EVERYTHING } else { Effect::Nothing }
        }
        ("insert", "into") | ("update", _) | ("delete", "from") | ("merge", "into") => written(&pieces),
        ("begin" | "start", _) => Effect::Begin,
        ("commit" | "rollback", "prepared") => EVERYTHING,
        ("rollback", "to") => Effect::Nothing,
        ("rollback", _) if word(2) == Some("to") => Effect::Nothing,
        ("commit" | "end" | "rollback" | "abort", _) => {
            Effect::End { chain: has(&["chain"]) && !has(&["no"]) }
        }
        ("prepare", "transaction") => Effect::End { chain: false },
        ("explain", _) if !has(&["analyze", "analyse"]) => Effect::Nothing,
        (
            "set" | "show" | "reset" | "savepoint" | "release" | "discard" | "deallocate" | "listen"
            | "unlisten" | "notify" | "lock" | "vacuum" | "analyze" | "checkpoint" | "close",
            _,
        ) => Effect::Nothing,
        _ => EVERYTHING,
    }
}

/// The table that a statement names right behind its verb.
fn written(pieces: &[Piece]) -> Effect {
    let name_at = |at: usize| match pieces.get(at) {
        Some(Piece::Word { name, quoted }) => Some((name.as_str(), *quoted)),
        _ => None,
    };
    let verb = name_at(0).map_or("", |(verb, _)| verb);
    let mut at = if verb == "update" { 1 } else { 2 };
    if name_at(at) == Some(("only", false)) {
        at += 1;
    }
    while pieces.get(at + 1) == Some(&Piece::Period) {
        at += 2;
    }
    let Some((table, _)) = name_at(at) else { return Effect::Write(Target::Everything) };
    // Another verb within changes another table; those of `DO UPDATE` and of a merge's actions do not.
    let others = (at + 1..pieces.len()).any(|place| match name_at(place) {
        Some(("insert" | "delete" | "update", false)) if verb == "merge" => false,
        Some(("update", false)) => !matches!(name_at(place - 1), Some(("do" | "for" | "key", false))),
        Some(("insert" | "delete" | "merge", false)) => true,
        _ => false,
    });
    if others || !only_harmless_calls(pieces, Some(at)) {
        return Effect::Write(Target::Everything);
    }
    Effect::Write(Target::Table(table.to_owned()))
}

/// Whether nothing is called but what is known; `besides` is a place where a list of columns follows a name.
fn only_harmless_calls(pieces: &[Piece], besides: Option<usize>) -> bool {
    pieces.iter().enumerate().all(|(at, piece)| {
        let Piece::Word { name, quoted } = piece else { return true };
        if Some(at) == besides || !is_call(pieces, at, name, *quoted) {
            return true;
        }
        let of_somebody = at.checked_sub(1).and_then(|before| pieces.get(before)) == Some(&Piece::Period);
        !of_somebody && is_among(name, HARMLESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_named() {
        for (sql, table) in [
            (
                "INSERT INTO shop.\"Orders\" (a, b) VALUES (now(), $1) ON CONFLICT (a) DO UPDATE SET b = lower($1)",
                "Orders",
            ),
            ("update only Orders o set a = 1 from clients", "orders"),
            ("DELETE FROM orders WHERE id IN (SELECT id FROM x FOR UPDATE)", "orders"),
            (
                "MERGE INTO orders USING x ON (a = b) WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
                "orders",
            ),
        ] {
            assert_eq!(of(sql), Effect::Write(Target::Table(table.to_owned())), "{sql}");
        }
    }

    #[test]
    fn what_is_not_known_is_everything() {
        for sql in [
            "CREATE TABLE t (a int)",
            "TRUNCATE t",
            "CALL f()",
            "DO $$ BEGIN END $$",
            "COPY t FROM STDIN",
            "EXECUTE x",
            "SELECT f(1)",
            "SELECT 1 INTO t",
            "WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x",
            "INSERT INTO t SELECT mine.lower('a')",
            "INSERT INTO t WITH x AS (DELETE FROM u RETURNING *) SELECT * FROM x",
            "EXPLAIN ANALYZE DELETE FROM t",
            "COMMIT PREPARED 'x'",
            "insert into t values (E'\\n')",
            "REFRESH MATERIALIZED VIEW v",
            "",
            "gibberish",
        ] {
            assert_eq!(of(sql), Effect::Write(Target::Everything), "{sql}");
        }
    }

    #[test]
    fn transactions_begin_and_end() {
        for sql in ["BEGIN", "start transaction isolation level serializable"] {
            assert_eq!(of(sql), Effect::Begin);
        }
        for sql in ["COMMIT", "end", "ROLLBACK AND NO CHAIN", "abort", "PREPARE TRANSACTION 'x'"] {
            assert_eq!(of(sql), Effect::End { chain: false }, "{sql}");
        }
        assert_eq!(of("COMMIT AND CHAIN"), Effect::End { chain: true });
        for sql in [
            "ROLLBACK TO a",
            "ROLLBACK WORK TO a",
            "SELECT a FROM t FOR NO KEY UPDATE",
            "SET x = 1",
            "EXPLAIN DELETE FROM t",
            "SAVEPOINT a",
        ] {
            assert_eq!(of(sql), Effect::Nothing, "{sql}");
        }
    }
}
