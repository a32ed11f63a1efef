//! A statement without its literals, and its fingerprint: what may be written down of it.
//!
//! Literals, comments and surplus blanks go; names and structure stay. A text that no PostgreSQL tokenizer reads is not
//! written down at all, because nobody can say where its literals are.

use sha2::{Digest, Sha256};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::tokenizer::{Token, Tokenizer};

/// The longest text that is looked at and kept, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;
const UNREADABLE: &str = "(a statement that could not be read)";

/// A statement without its literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal {
    /// The text; literals are `?`.
    pub text: String,
    /// SHA-256 of the text, 64 hexadecimal digits: the same for all statements that differ in literals alone.
    pub fingerprint: String,
}

/// Takes the literals out of a statement of PostgreSQL.
#[must_use]
pub fn postgres(sql: &str) -> Normal {
    normal(sql, &PostgreSqlDialect {})
}

/// Takes the literals out of a statement of SQLite.
#[must_use]
pub fn sqlite(sql: &str) -> Normal {
    normal(sql, &SQLiteDialect {})
}

fn normal(sql: &str, dialect: &dyn Dialect) -> Normal {
    let text = match sql.len() > MAX_BYTES {
        true => UNREADABLE.to_owned(),
        false => Tokenizer::new(dialect, sql)
            .tokenize()
            .map_or_else(|_| UNREADABLE.to_owned(), |tokens| without_literals(&tokens)),
    };
    let digest = Sha256::digest(text.as_bytes());
    let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Normal { text, fingerprint }
}

fn without_literals(tokens: &[Token]) -> String {
    let mut text = String::new();
    let mut blank = false;
    for token in tokens {
        let shown = match token {
            // Comments are among them.
            Token::Whitespace(_) => {
                blank = !text.is_empty();
                continue;
            }
            Token::EOF => break,
            token if is_literal(token) => "?".to_owned(),
            token => token.to_string(),
        };
        if blank {
            text.push(' ');
            blank = false;
        }
        text.push_str(&shown);
    }
    text.trim_end_matches([';', ' ']).to_owned()
}

/// What is a name or a sign is listed; all else holds what somebody typed.
fn is_literal(token: &Token) -> bool {
    match token {
        // In SQLite a name in double quotes may be a text.
        Token::Word(_) => false,
        Token::Number(..) | Token::Char(_) => true,
        Token::Placeholder(_) => false,
        token => {
            let shown = token.to_string();
            shown.contains('\'') || shown.starts_with('$') && shown.len() > 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_go_and_the_rest_stays() {
        for (sql, wanted) in [
            ("SELECT *  FROM t\n WHERE a = 'it''s' AND b > 1.5e3;", "SELECT * FROM t WHERE a = ? AND b > ?"),
            ("SELECT $1, $$hunter2$$, E'a\\'b', B'1', X'ff', U&'d'", "SELECT $1, ?, ?, ?, ?, ?"),
            ("SELECT 1 -- the password is hunter2\n, /* x */ \"a b\".c", "SELECT ? , \"a b\".c"),
            ("INSERT INTO t VALUES (-7, null, true)", "INSERT INTO t VALUES (-?, null, true)"),
            ("SELECT 'not closed", UNREADABLE),
        ] {
            assert_eq!(postgres(sql).text, wanted);
        }
        assert_eq!(sqlite("select ?1 from t where x='y'").text, "select ?1 from t where x=?");
    }

    #[test]
    fn a_fingerprint_tells_shapes_apart_and_no_values() {
        let of = |sql| postgres(sql).fingerprint;
        assert_eq!(of("select 1 from t"), of("select   2 from t"));
        assert_ne!(of("select 1 from t"), of("select 1 from u"));
        assert_eq!(of("x").len(), 64);
        assert_eq!(postgres(&"a".repeat(MAX_BYTES + 1)).text, UNREADABLE);
    }
}
