//! What a plan's file asks for: indexes to build, and the schema that it was made for.

use sha2::{Digest, Sha256};

use super::ApplyError;
use crate::catalog::quoted;
use crate::workload::token;

/// What `plan.sql` asks for.
#[derive(Debug, Clone)]
pub struct Script {
    /// The schema that the plan was made for.
    pub schema: String,
    /// Indexes to build, in order.
    pub builds: Vec<Build>,
}

/// An index to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The schema of table and index.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The index.
    pub name: String,
    /// The statement.
    pub statement: String,
    /// Bytes that it is foreseen to take; 0 where the plan does not say.
    pub bytes: u64,
}

impl Build {
    /// The index as SQL has it.
    #[must_use]
    pub fn index(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// The table as SQL has it.
    #[must_use]
    pub fn on(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

impl Script {
    /// Reads a plan as `advise` wrote it. Statements may have been taken out; others than `CREATE INDEX CONCURRENTLY` are refused.
    ///
    /// # Errors
    /// [`ApplyError::Plan`].
    pub fn read(text: &str) -> Result<Self, ApplyError> {
        let mut script = Self { schema: String::new(), builds: Vec::new() };
        let (mut statement, mut bytes) = (String::new(), 0);
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at_checked(token(rest)).unwrap_or((rest, ""));
            rest = after;
            if let Some(comment) = piece.strip_prefix("-- ") {
                if let Some(schema) = comment.strip_prefix("schema: ") {
                    schema.trim().clone_into(&mut script.schema);
                } else if let Some(number) = comment.strip_prefix("bytes: ") {
                    bytes = number.trim().parse().unwrap_or(0);
                }
            } else if piece == ";" {
                script.builds.push(build(statement.trim(), bytes)?);
                (statement, bytes) = (String::new(), 0);
            } else if !piece.starts_with("--") {
                statement.push_str(piece);
            }
        }
        if !statement.trim().is_empty() {
            script.builds.push(build(statement.trim(), bytes)?);
        }
        if script.schema.is_empty() {
            return Err(ApplyError::Plan(
                "it does not say which schema it is for; write it with `database advise --out`".into(),
            ));
        }
        let mut names: Vec<String> = script.builds.iter().map(Build::index).collect();
        names.sort();
        match names.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => {
                Err(ApplyError::Plan(format!("{} stands in it twice; take one out", pair.concat())))
            }
            None => Ok(script),
        }
    }

    /// What an approval is for: a digest of the schema and of every statement. Another statement, another approval.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.schema.as_bytes());
        for build in &self.builds {
            hash.update(b"\0");
            hash.update(build.statement.as_bytes());
        }
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bytes that all of it is foreseen to take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.builds.iter().map(|build| build.bytes).sum()
    }
}

fn build(statement: &str, bytes: u64) -> Result<Build, ApplyError> {
    let refused = || {
        let start: String = statement.chars().take(60).collect();
        ApplyError::Plan(format!(
            "`{start}`: only CREATE INDEX CONCURRENTLY name ON schema.table ... is applied; run anything else by hand"
        ))
    };
    let rest = words(statement, &["create", "index", "concurrently"]).ok_or_else(refused)?;
    let (name, rest) = identifier(rest).ok_or_else(refused)?;
    let rest = words(rest, &["on"]).ok_or_else(refused)?;
    let (schema, rest) = identifier(rest).ok_or_else(refused)?;
    let rest = rest.trim_start().strip_prefix('.').ok_or_else(refused)?;
    let (table, rest) = identifier(rest).ok_or_else(refused)?;
    if rest.trim().is_empty() || name.eq_ignore_ascii_case("if") {
        return Err(refused());
    }
    Ok(Build { schema, table, name, statement: statement.to_owned(), bytes })
}

/// What stands behind these words.
fn words<'t>(text: &'t str, expected: &[&str]) -> Option<&'t str> {
    let mut rest = text;
    for word in expected {
        rest = rest.trim_start();
        let (first, after) = rest.split_at_checked(word.len())?;
        if !first.eq_ignore_ascii_case(word) || !after.starts_with(char::is_whitespace) {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// An identifier as PostgreSQL keeps it, and what stands behind.
fn identifier(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        return (!name.is_empty()).then(|| (name.to_lowercase(), rest));
    };
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(_) => name.push('"'),
            None => return Some((name, after)),
        }
        rest = after.strip_prefix('"')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "-- Index plan.\n-- schema: abc\n\n-- bytes: 8192\nCREATE INDEX CONCURRENTLY pc_a ON public.\"Odd \"\"t\" (a) WHERE b = ';--';\n\
                        -- bytes: 5\ncreate index concurrently \"I\" on public.t USING brin (c);\n-- DROP INDEX CONCURRENTLY x;\n";

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let script = Script::read(PLAN).unwrap();
        assert_eq!((script.schema.as_str(), script.bytes(), script.builds.len()), ("abc", 8197, 2));
        assert_eq!(script.builds[0].on(), "public.\"Odd \"\"t\"");
        assert!(script.builds[0].statement.ends_with("WHERE b = ';--'"));
        assert_eq!(script.builds[1].index(), "public.\"I\"");
    }

    #[test]
    fn an_approval_is_for_these_statements() {
        let digest = |text: &str| Script::read(text).unwrap().digest();
        assert_eq!(digest(PLAN), digest(&PLAN.replace("-- Index plan.", "-- Reviewed.")));
        assert_ne!(digest(PLAN), digest(&PLAN.replace("(c)", "(d)")));
        assert_ne!(digest(PLAN), digest(&PLAN.replace("abc", "abd")));
    }

    #[test]
    fn anything_else_is_refused() {
        for other in [
            "DROP TABLE t;",
            "CREATE INDEX a ON public.t (a);",
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON public.t (a);",
            "CREATE INDEX CONCURRENTLY a ON t (a);",
            "CREATE INDEX CONCURRENTLY ON public.t (a);",
            "CREATE INDEX CONCURRENTLY a ON public.t",
            "CREATE INDEX CONCURRENTLY \"a ON public.t (a);",
        ] {
            let error = Script::read(&format!("-- schema: x\n{other}")).unwrap_err().to_string();
            assert!(error.contains("only CREATE INDEX CONCURRENTLY"), "{other}: {error}");
        }
        assert!(Script::read("").unwrap_err().to_string().contains("which schema"));
        let twice = "-- schema: x\nCREATE INDEX CONCURRENTLY a ON public.t (a);".repeat(2);
        assert!(Script::read(&twice).is_err());
    }
}
