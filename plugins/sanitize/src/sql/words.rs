//! Words of SQL in the dialects of MySQL, PostgreSQL, SQLite, SQL Server and Oracle, by the role they play.

use crate::bytes::at;

/// The role of a word in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `AND`, `OR`, `XOR`.
    Logic,
    /// `DIV`, `MOD`.
    Arith,
    /// `NOT`.
    Not,
    /// `LIKE`, `RLIKE`, `IN`, `BETWEEN`, `IS`, ...
    Compare,
    /// Stands before an operand and changes nothing: `BINARY`, `DISTINCT`, `ALL`, `EXISTS`, `ANY`.
    Prefix,
    /// `NULL`, `TRUE`, `FALSE`, `CURRENT_USER`, ...
    Constant,
    /// `UNION`, `INTERSECT`, `EXCEPT`, `MINUS`.
    Union,
    /// `SELECT`.
    Select,
    /// `FROM`, `JOIN`.
    From,
    /// `WHERE`, `ON`.
    Where,
    /// `ORDER`, `GROUP`.
    Order,
    /// `BY`.
    By,
    /// `HAVING`.
    Having,
    /// `LIMIT`, `OFFSET`, `FETCH`.
    Limit,
    /// `INTO`.
    Into,
    /// `OUTFILE`, `DUMPFILE`.
    Outfile,
    /// `AS`.
    As,
    /// `CASE`.
    Case,
    /// `WHEN`, `THEN`, `ELSE`.
    When,
    /// `END`.
    End,
    /// Starts a statement: `INSERT`, `DROP`, ...
    Verb,
    /// `EXEC`, `EXECUTE`, `CALL`.
    Exec,
    /// `WAITFOR`.
    Waitfor,
    /// `PROCEDURE` (MySQL's `PROCEDURE ANALYSE`).
    Procedure,
    /// `IF`, `IIF`: a function or a statement.
    If,
    /// What a statement is about: `TABLE`, `DATABASE`, `DELAY`, ...
    Thing,
    /// Between operands: `USING`, `SEPARATOR`, `ESCAPE`, `FOR`, `COLLATE`, `SET`, `VALUES`.
    Glue,
    /// After an operand: `ASC`, `DESC`.
    Suffix,
    /// A function that waits, reads files, reports through errors or reaches out: only attackers call it here.
    Weapon,
    /// An ordinary function.
    Function,
    /// A function that tells about the server.
    Reveal,
    /// A catalogue of the server.
    Catalogue,
}

use Word::{
    Arith, As, By, Case, Catalogue, Compare, Constant, End, Exec, From, Function, Glue, Having, If, Into,
    Limit, Logic, Not, Order, Outfile, Prefix, Procedure, Reveal, Select, Suffix, Thing, Union, Verb,
    Waitfor, Weapon, When, Where,
};

/// Sorted, lower case.
const WORDS: &[(&str, Word)] = &[
    ("abs", Function),
    ("aes_decrypt", Function),
    ("aes_encrypt", Function),
    ("all", Prefix),
    ("all_tables", Catalogue),
    ("all_users", Catalogue),
    ("alter", Verb),
    ("analyse", Weapon),
    ("and", Logic),
    ("any", Prefix),
    ("as", As),
    ("asc", Suffix),
    ("ascii", Function),
    ("attach", Verb),
    ("avg", Function),
    ("begin", Verb),
    ("benchmark", Weapon),
    ("between", Compare),
    ("bin", Function),
    ("binary", Prefix),
    ("by", By),
    ("call", Exec),
    ("case", Case),
    ("cast", Function),
    ("ceil", Function),
    ("char", Function),
    ("char_length", Function),
    ("chr", Function),
    ("coalesce", Function),
    ("collate", Glue),
    ("compress", Function),
    ("concat", Function),
    ("concat_ws", Function),
    ("convert", Function),
    ("copy", Verb),
    ("cos", Function),
    ("count", Function),
    ("create", Verb),
    ("ctxsys", Catalogue),
    ("current_database", Reveal),
    ("current_setting", Reveal),
    ("current_user", Reveal),
    ("database", Reveal),
    ("datadir", Reveal),
    ("db_name", Reveal),
    ("dbms_lock", Weapon),
    ("dbms_pipe", Weapon),
    ("dbms_utility", Weapon),
    ("dbms_xmlgen", Weapon),
    ("declare", Verb),
    ("decode", Function),
    ("delay", Thing),
    ("delete", Verb),
    ("desc", Suffix),
    ("describe", Verb),
    ("distinct", Prefix),
    ("distinctrow", Prefix),
    ("div", Arith),
    ("do", Verb),
    ("drop", Verb),
    ("dumpfile", Outfile),
    ("else", When),
    ("elt", Function),
    ("encode", Function),
    ("end", End),
    ("escape", Glue),
    ("except", Union),
    ("exec", Exec),
    ("execute", Exec),
    ("exists", Prefix),
    ("exp", Function),
    ("extractvalue", Weapon),
    ("false", Constant),
    ("fetch", Limit),
    ("floor", Function),
    ("for", Glue),
    ("format", Function),
    ("from", From),
    ("full", Glue),
    ("generate_series", Function),
    ("glob", Compare),
    ("grant", Verb),
    ("group", Order),
    ("group_concat", Function),
    ("gtid_subset", Weapon),
    ("handler", Verb),
    ("having", Having),
    ("hex", Function),
    ("if", If),
    ("ifnull", Function),
    ("iif", If),
    ("in", Compare),
    ("information_schema", Catalogue),
    ("inner", Glue),
    ("insert", Verb),
    ("instr", Function),
    ("intersect", Union),
    ("interval", Prefix),
    ("into", Into),
    ("is", Compare),
    ("isnull", Function),
    ("join", From),
    ("json_keys", Function),
    ("kill", Verb),
    ("lcase", Function),
    ("left", Function),
    ("length", Function),
    ("like", Compare),
    ("limit", Limit),
    ("ln", Function),
    ("load", Verb),
    ("load_file", Weapon),
    ("lower", Function),
    ("lpad", Function),
    ("ltrim", Function),
    ("make_set", Function),
    ("master", Catalogue),
    ("match", Function),
    ("max", Function),
    ("md5", Function),
    ("merge", Verb),
    ("mid", Function),
    ("min", Function),
    ("minus", Union),
    ("mod", Arith),
    ("msysaccessobjects", Catalogue),
    ("mysql", Catalogue),
    ("name_const", Weapon),
    ("natural", Glue),
    ("not", Not),
    ("null", Constant),
    ("nullif", Function),
    ("nvl", Function),
    ("offset", Limit),
    ("on", Where),
    ("openquery", Weapon),
    ("openrowset", Weapon),
    ("or", Logic),
    ("ord", Function),
    ("order", Order),
    ("outfile", Outfile),
    ("pg_catalog", Catalogue),
    ("pg_database", Catalogue),
    ("pg_ls_dir", Weapon),
    ("pg_read_file", Weapon),
    ("pg_shadow", Catalogue),
    ("pg_sleep", Weapon),
    ("pg_user", Catalogue),
    ("pi", Function),
    ("position", Function),
    ("pow", Function),
    ("procedure", Procedure),
    ("quote", Function),
    ("rand", Function),
    ("randomblob", Weapon),
    ("rdb$fields", Catalogue),
    ("rdb$functions", Catalogue),
    ("rdb$types", Catalogue),
    ("regexp", Compare),
    ("regexp_substring", Weapon),
    ("rename", Verb),
    ("repeat", Function),
    ("replace", Function),
    ("reverse", Function),
    ("revoke", Verb),
    ("right", Function),
    ("rlike", Compare),
    ("round", Function),
    ("row", Prefix),
    ("row_count", Function),
    ("rownum", Constant),
    ("rpad", Function),
    ("rtrim", Function),
    ("schema", Reveal),
    ("select", Select),
    ("separator", Glue),
    ("session_user", Reveal),
    ("set", Glue),
    ("sha1", Function),
    ("show", Verb),
    ("shutdown", Verb),
    ("sign", Function),
    ("similar", Compare),
    ("sin", Function),
    ("sleep", Weapon),
    ("some", Prefix),
    ("sounds", Compare),
    ("space", Function),
    ("sqlite_master", Catalogue),
    ("sqlite_version", Reveal),
    ("sqrt", Function),
    ("strcmp", Function),
    ("string_agg", Function),
    ("substr", Function),
    ("substring", Function),
    ("substring_index", Function),
    ("sum", Function),
    ("sys", Catalogue),
    ("sys_context", Reveal),
    ("sys_eval", Weapon),
    ("sys_exec", Weapon),
    ("sysadm", Catalogue),
    ("syscolumns", Catalogue),
    ("sysdatabases", Catalogue),
    ("sysibm", Catalogue),
    ("sysmaster", Catalogue),
    ("sysobjects", Catalogue),
    ("system_user", Reveal),
    ("sysusers", Catalogue),
    ("table", Thing),
    ("then", When),
    ("to_char", Function),
    ("top", Prefix),
    ("trim", Function),
    ("true", Constant),
    ("truncate", Verb),
    ("ucase", Function),
    ("uncompress", Function),
    ("unhex", Function),
    ("unicode", Function),
    ("union", Union),
    ("update", Verb),
    ("updatexml", Weapon),
    ("upper", Function),
    ("use", Verb),
    ("user", Reveal),
    ("user_lock", Weapon),
    ("user_name", Reveal),
    ("user_tables", Catalogue),
    ("using", Glue),
    ("utc_time", Function),
    ("utl_http", Weapon),
    ("utl_inaddr", Weapon),
    ("values", Glue),
    ("version", Reveal),
    ("waitfor", Waitfor),
    ("when", When),
    ("where", Where),
    ("xmltype", Weapon),
    ("xor", Logic),
    ("xp_cmdshell", Weapon),
    ("xp_dirtree", Weapon),
    ("xp_regread", Weapon),
];

/// For each first letter, where its words begin and end.
static RANGES: [(u16, u16); 32] = ranges();

const fn ranges() -> [(u16, u16); 32] {
    let mut ranges = [(0, 0); 32];
    let mut index = 0;
    while index < WORDS.len() {
        #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
        {
            let range = &mut ranges[(WORDS[index].0.as_bytes()[0] & 31) as usize];
            if range.1 == 0 {
                range.0 = index as u16;
            }
            range.1 = index as u16 + 1;
        }
        index += 1;
    }
    ranges
}

/// The role of a word; `None` for a name.
pub fn lookup(word: &[u8]) -> Option<Word> {
    let (start, end) = RANGES.get(usize::from(at(word, 0) & 31))?;
    let range = WORDS.get(usize::from(*start)..usize::from(*end))?;
    let known = range
        .iter()
        .find(|(known, _)| known.len() == word.len() && known.as_bytes().eq_ignore_ascii_case(word));
    known.map(|(_, role)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_and_found() {
        assert!(WORDS.iter().map(|(word, _)| word).is_sorted());
        assert!(WORDS.iter().all(|(word, _)| word.len() <= 24));
        assert_eq!(lookup(b"SeLeCt"), Some(Word::Select));
        assert_eq!(lookup(b"seat"), None);
        assert_eq!(lookup(b"rdb$types"), Some(Word::Catalogue));
    }
}
