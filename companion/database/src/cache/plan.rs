//! What an answer of PostgreSQL depends on, as the catalog tells it.
//!
//! Every relation that has the name of a word of the statement is taken for one that it reads, in whichever schema. Below those stand what
//! views read, what policies of row-level security read, and partitions. Above all of these stands what changes them when it is changed:
//! tables whose keys cascade to them, parents of partitions, views through which one can write, and every table with a trigger or a
//! rule, because nobody knows what those write. The bodies of views and the policies are judged like the statement; only that policies may
//! ask who and in which settings they run: that is part of the key.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::Refusal;
use super::words::{Grammar, Words, is_among, is_read, judge, pieces};
use crate::Error;

/// Tables that an answer may depend on.
const MOST: i64 = 2000;

/// What is known of a statement whose answers may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Names of the tables that an answer depends on.
    pub tables: Vec<String>,
}

impl Plan {
    /// Bytes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|name| name.len() + 32).sum()
    }
}

/// Names, whether each is read, its kind, and the bodies of views and policies.
const RELATIONS: &str = "
WITH RECURSIVE below(oid) AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname = ANY($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  UNION
  SELECT x.oid FROM below b CROSS JOIN LATERAL (
    SELECT d.refobjid AS oid FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_class = b.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> b.oid
    UNION ALL
    SELECT d.refobjid FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
    WHERE p.polrelid = b.oid AND d.refclassid = 'pg_class'::regclass
    UNION ALL
    SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = b.oid
  ) x
), above(oid) AS (
  (SELECT oid FROM below
   UNION
   SELECT t.tgrelid FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal AND p.proname <> 'portcullis_changed'
   UNION
   SELECT r.ev_class FROM pg_rewrite r WHERE r.rulename <> '_RETURN' AND r.oid >= 16384)
  UNION
  SELECT x.oid FROM above a CROSS JOIN LATERAL (
    SELECT r.ev_class AS oid FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.oid
    UNION ALL
    SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = a.oid
    UNION ALL
    SELECT k.confrelid FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = a.oid
      AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
  ) x
)
SELECT c.relname::text, b.oid IS NOT NULL, c.relkind::text,
       CASE WHEN b.oid IS NOT NULL AND c.relkind = 'v' THEN pg_get_viewdef(c.oid) END,
       ARRAY(SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
             WHERE b.oid IS NOT NULL AND p.polrelid = c.oid AND p.polqual IS NOT NULL)
FROM above JOIN pg_class c ON c.oid = above.oid LEFT JOIN below b ON b.oid = c.oid
LIMIT $2";

/// Of each name that a function has: whether it is PostgreSQL's own, and the least that any of that name promises.
const FUNCTIONS: &str = "
SELECT p.proname::text, n.nspname = 'pg_catalog',
       bool_or(p.provolatile = 'v'), bool_or(p.provolatile = 's'),
       bool_or(p.prokind IN ('a', 'w') AND n.nspname <> 'pg_catalog')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = ANY($1) GROUP BY 1, 2";

/// Whether there is an operator or a cast whose function may do anything: those are called without a name.
const HIDDEN: &str = "
SELECT EXISTS (SELECT FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode WHERE o.oid >= 16384 AND p.provolatile = 'v')
    OR EXISTS (SELECT FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc WHERE c.oid >= 16384 AND p.provolatile = 'v')";

/// Functions of PostgreSQL that are not immutable because they depend on settings: the context has those, or a new session.
const FIXED: &str = "\
    array_to_json array_to_string concat concat_ws date date_add date_part date_subtract date_trunc extract format generate_series \
    json_agg json_build_array json_build_object json_object_agg jsonb_agg jsonb_build_array jsonb_build_object jsonb_object_agg \
    length make_timestamptz overlaps phraseto_tsquery plainto_tsquery quote_literal quote_nullable row_to_json timestamp \
    timestamptz timezone to_char to_date to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector ts_headline \
    websearch_to_tsquery";
/// What policies may ask besides.
const OF_SESSION: &[&str] = &["current_setting"];

/// Whether and how the answers of a statement may be kept.
///
/// # Errors
/// The server does not answer.
pub async fn plan(client: &Client, sql: &str) -> Result<Result<Plan, Refusal>, Error> {
    let words = match judged(sql, false) {
        Ok(words) => words,
        Err(why) => return Ok(Err(why)),
    };
    let named: Vec<&str> = words.all.iter().map(String::as_str).collect();
    let rows = client.query(RELATIONS, &[&named, &MOST.saturating_add(1)]).await?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST {
        return Ok(Err(Refusal::Large));
    }
    let (mut statement, mut policies, mut tables) = (words, Words::default(), BTreeSet::new());
    for row in rows {
        let (read, kind): (bool, String) = (row.try_get(1)?, row.try_get(2)?);
        if read && matches!(kind.as_str(), "f" | "S") {
            return Ok(Err(Refusal::Foreign));
        }
        let (view, conditions): (Option<String>, Vec<String>) = (row.try_get(3)?, row.try_get(4)?);
        let bodies = view.into_iter().map(|body| (body, false));
        // An expression is judged as what it would be in a statement.
        let conditions = conditions.into_iter().map(|condition| (format!("SELECT {condition}"), true));
        for (body, of_policy) in bodies.chain(conditions) {
            match judged(&body, of_policy) {
                Ok(found) if of_policy => policies.join(found),
                Ok(found) => statement.join(found),
                Err(why) => return Ok(Err(why)),
            }
        }
        tables.insert(row.try_get::<_, String>(0)?);
    }
    policies.calls.retain(|name| !OF_SESSION.contains(&name.as_str()));
    statement.join(policies);
    if let Some(why) = functions(client, &statement).await? {
        return Ok(Err(why));
    }
    Ok(Ok(Plan { tables: tables.into_iter().collect() }))
}

fn judged(sql: &str, session: bool) -> Result<Words, Refusal> {
    let pieces = pieces(sql, Grammar::Postgres)?;
    is_read(&pieces)?;
    judge(&pieces, Grammar::Postgres, session)?;
    Ok(Words::of(&pieces))
}

/// Why functions among these words forbid it.
async fn functions(client: &Client, words: &Words) -> Result<Option<Refusal>, Error> {
    if client.query_one(HIDDEN, &[]).await?.try_get(0)? {
        return Ok(Some(Refusal::Volatile));
    }
    let named: Vec<&str> = words.all.iter().map(String::as_str).collect();
    let mut unknown: BTreeSet<&str> = words.calls.iter().map(String::as_str).collect();
    for row in client.query(FUNCTIONS, &[&named]).await? {
        let (name, native): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        let (volatile, stable, aggregate): (bool, bool, bool) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        unknown.remove(name.as_str());
        // A function of one row may be called like a column of it, so somebody's own counts wherever it is named; PostgreSQL's own names are
        // those of many columns, and only calls count.
        let why = match (native, volatile, stable) {
            (true, ..) if !words.calls.contains(&name) => None,
            (_, true, _) => Some(Refusal::Volatile),
            (true, _, true) if !is_among(&name, FIXED) => Some(Refusal::Session),
            (false, _, true) => Some(Refusal::Session),
            (false, ..) if aggregate => Some(Refusal::Unknown),
            _ => None,
        };
        if why.is_some() {
            return Ok(why);
        }
    }
    Ok((!unknown.is_empty()).then_some(Refusal::Unknown))
}
