//! Words of SQL in the dialects of MySQL, PostgreSQL, SQLite, SQL Server and Oracle, by the role they play.

use crate::bytes::at;
use crate::lexicon::Filter;

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
#[rustfmt::skip]
const WORDS: &[(&str, Word)] = &[
    ("abs", Function), ("acos", Function), ("addtime", Function), ("aes_decrypt", Function),
    ("aes_encrypt", Function), ("against", Compare), ("all", Prefix), ("all_objects", Catalogue),
    ("all_source", Catalogue), ("all_tab_columns", Catalogue), ("all_tab_tables", Catalogue),
    ("all_tables", Catalogue), ("all_users", Catalogue), ("all_views", Catalogue), ("alter", Verb),
    ("analyse", Weapon), ("and", Logic), ("any", Prefix), ("array_agg", Function),
    ("array_to_string", Function), ("as", As), ("asc", Suffix), ("ascii", Function), ("asin", Function),
    ("atan", Function), ("attach", Verb), ("avg", Function), ("begin", Verb), ("benchmark", Weapon),
    ("between", Compare), ("bin", Function), ("binary", Prefix), ("bit_and", Function), ("bit_or", Function),
    ("bitand", Function), ("by", By), ("call", Exec), ("case", Case), ("cast", Function), ("ceil", Function),
    ("ceiling", Function), ("char", Function), ("char_length", Function), ("chr", Function),
    ("chr_length", Function), ("coalesce", Function), ("coercibility", Reveal), ("collate", Glue),
    ("compress", Function), ("concat", Function), ("concat_group", Function), ("concat_ws", Function),
    ("connection_id", Reveal), ("convert", Function), ("convert_from", Function), ("convert_to", Function),
    ("copy", Verb), ("cos", Function), ("cot", Function), ("count", Function), ("crc32", Function),
    ("create", Verb), ("crypt_key", Function), ("ctxsys", Catalogue), ("curdate", Function),
    ("current_catalog", Reveal), ("current_database", Reveal), ("current_date", Function),
    ("current_role", Reveal), ("current_schema", Reveal), ("current_setting", Reveal),
    ("current_time", Constant), ("current_timestamp", Function), ("current_user", Reveal),
    ("database", Reveal), ("database_to_xml", Weapon), ("datadir", Reveal),
    ("date_add", Function), ("date_format", Function), ("date_sub", Function), ("dateadd", Function),
    ("datediff", Function), ("datename", Function), ("datepart", Function), ("db_name", Reveal),
    ("dba_tables", Catalogue), ("dba_users", Catalogue), ("dbcc", Verb), ("dblink", Weapon),
    ("dblink_connect", Weapon), ("dbms_java", Weapon), ("dbms_ldap", Weapon), ("dbms_lock", Weapon),
    ("dbms_output", Weapon), ("dbms_pipe", Weapon), ("dbms_random", Weapon), ("dbms_scheduler", Weapon),
    ("dbms_session", Weapon), ("dbms_sql", Weapon), ("dbms_utility", Weapon), ("dbms_xdb", Weapon),
    ("dbms_xmlgen", Weapon), ("dbms_xmlquery", Weapon), ("dbms_xslprocessor", Weapon), ("declare", Verb),
    ("decode", Function), ("degrees", Function), ("delay", Thing), ("delete", Verb), ("desc", Suffix),
    ("describe", Verb), ("difference", Function), ("distinct", Prefix), ("distinctrow", Prefix),
    ("div", Arith), ("do", Verb), ("drop", Verb), ("dumpfile", Outfile), ("else", When), ("elt", Function),
    ("encode", Function), ("end", End), ("eqv", Logic), ("escape", Glue), ("except", Union), ("exec", Exec),
    ("execute", Exec), ("exists", Prefix), ("exp", Function), ("extract", Function), ("extractvalue", Weapon),
    ("false", Constant), ("fetch", Limit), ("field", Function), ("find_in_set", Function),
    ("floor", Function), ("for", Glue), ("format", Function), ("from", From), ("from_base64", Function),
    ("full", Glue), ("generate_series", Function), ("geometrycollection", Weapon), ("get_lock", Weapon),
    ("getdate", Function), ("glob", Compare), ("grant", Verb), ("greatest", Function), ("group", Order),
    ("group_concat", Function), ("gtid_subset", Weapon), ("gtid_subtract", Weapon), ("handler", Verb),
    ("has_dbaccess", Reveal), ("has_table_privilege", Reveal), ("having", Having), ("hex", Function),
    ("hextoraw", Function), ("host_name", Reveal), ("httpuritype", Weapon), ("if", If), ("if_null", Function),
    ("ifnull", Function), ("iif", If), ("ilike", Compare), ("imp", Logic), ("in", Compare),
    ("inet_aton", Function), ("inet_server_addr", Reveal), ("information_schema", Catalogue),
    ("initcap", Function), ("inner", Glue), ("innodb_index_stats", Catalogue),
    ("innodb_table_stats", Catalogue), ("insert", Verb), ("instr", Function), ("intersect", Union),
    ("interval", Prefix), ("into", Into), ("is", Compare), ("is_member", Reveal),
    ("is_srvrolemember", Reveal), ("isnull", Function), ("join", From), ("json_agg", Function),
    ("json_arrayagg", Function), ("json_extract", Function), ("json_keys", Function),
    ("json_object", Function), ("kill", Verb), ("last_insert_id", Function), ("lcase", Function),
    ("least", Function), ("left", Function), ("len", Function), ("length", Function), ("like", Compare),
    ("limit", Limit), ("linestring", Weapon), ("listagg", Function), ("ln", Function), ("lo_export", Weapon),
    ("lo_import", Weapon), ("load", Verb), ("load_extension", Weapon), ("load_file", Weapon),
    ("localtimestamp", Constant), ("locate", Function), ("log", Function), ("log10", Function),
    ("lower", Function), ("lpad", Function), ("ltrim", Function), ("make_date", Function),
    ("make_set", Function), ("master", Catalogue), ("master_pos_wait", Weapon), ("match", Prefix),
    ("max", Function), ("md5", Function), ("merge", Verb), ("mid", Function), ("min", Function),
    ("minus", Union), ("mod", Arith), ("months_between", Function), ("msysaccessobjects", Catalogue),
    ("msysaces", Catalogue), ("msysobjects", Catalogue), ("msysqueries", Catalogue),
    ("multilinestring", Weapon), ("multipoint", Weapon), ("multipolygon", Weapon), ("mysql", Catalogue),
    ("name_const", Weapon), ("natural", Glue), ("nchar", Function), ("not", Not), ("notnull", Suffix), ("now", Function),
    ("null", Constant), ("nullif", Function), ("numtodsinterval", Function), ("nvl", Function),
    ("nvl2", Function), ("object_id", Function), ("object_name", Reveal), ("objectproperty", Function),
    ("oct", Function), ("octet_length", Function), ("offset", Limit), ("on", Where),
    ("opendatasource", Weapon), ("openquery", Weapon), ("openrowset", Weapon), ("openxml", Weapon),
    ("or", Logic), ("ord", Function), ("order", Order), ("original_login", Reveal), ("outfile", Outfile),
    ("overlay", Function), ("password", Function), ("patindex", Function), ("performance_schema", Catalogue),
    ("pg_authid", Catalogue), ("pg_backend_pid", Reveal), ("pg_catalog", Catalogue), ("pg_class", Catalogue),
    ("pg_database", Catalogue), ("pg_group", Catalogue), ("pg_ls_dir", Weapon), ("pg_ls_logdir", Weapon),
    ("pg_namespace", Catalogue), ("pg_proc", Catalogue), ("pg_read_binary_file", Weapon),
    ("pg_read_file", Weapon), ("pg_roles", Catalogue), ("pg_settings", Catalogue), ("pg_shadow", Catalogue),
    ("pg_sleep", Weapon), ("pg_sleep_for", Weapon), ("pg_sleep_until", Weapon),
    ("pg_stat_activity", Catalogue), ("pg_stat_file", Weapon), ("pg_tables", Catalogue),
    ("pg_user", Catalogue), ("pi", Function), ("polygon", Weapon), ("position", Function), ("pow", Function),
    ("power", Function), ("pragma", Verb), ("pragma_table_info", Catalogue), ("prepare", Verb),
    ("procedure", Procedure), ("query_to_xml", Weapon), ("quote", Function), ("quote_ident", Function),
    ("quote_literal", Function), ("quotename", Function), ("radians", Function), ("rand", Function),
    ("randomblob", Weapon), ("rawtohex", Function), ("rdb$fields", Catalogue), ("rdb$functions", Catalogue),
    ("rdb$types", Catalogue), ("readfile", Weapon), ("regexp", Compare), ("regexp_replace", Function),
    ("regexp_substr", Function), ("regexp_substring", Weapon), ("release_lock", Weapon), ("rename", Verb),
    ("repeat", Function), ("replace", Function), ("replicate", Function), ("reverse", Function),
    ("revoke", Verb), ("right", Function), ("rlike", Compare), ("round", Function), ("row", Prefix),
    ("row_count", Function), ("row_number", Function), ("row_to_json", Function), ("rownum", Constant),
    ("rpad", Function), ("rtrim", Function), ("schema", Reveal), ("schema_name", Reveal), ("select", Select),
    ("separator", Glue), ("serverproperty", Reveal), ("session_user", Reveal), ("set", Glue),
    ("sha", Function), ("sha1", Function), ("sha2", Function), ("show", Verb), ("shutdown", Verb),
    ("sign", Function), ("similar", Compare), ("sin", Function), ("sleep", Weapon), ("some", Prefix),
    ("soundex", Function), ("sounds", Compare), ("sp_addextendedproc", Weapon), ("sp_configure", Weapon),
    ("sp_executesql", Weapon), ("sp_oacreate", Weapon), ("sp_oamethod", Weapon), ("space", Function),
    ("sqlite_master", Catalogue), ("sqlite_schema", Catalogue), ("sqlite_sequence", Catalogue),
    ("sqlite_temp_master", Catalogue), ("sqlite_version", Reveal), ("sqrt", Function),
    ("st_latfromgeohash", Weapon), ("st_longfromgeohash", Weapon), ("st_pointfromgeohash", Weapon),
    ("stddev", Function), ("str", Function), ("strcmp", Function), ("strcomp", Function),
    ("strftime", Function), ("string_agg", Function), ("string_to_array", Function), ("stuff", Function),
    ("substr", Function), ("substring", Function), ("substring_index", Function), ("sum", Function),
    ("suser_id", Reveal), ("suser_name", Reveal), ("suser_sname", Reveal), ("sys", Catalogue),
    ("sys_context", Reveal), ("sys_eval", Weapon), ("sys_exec", Weapon), ("sysadm", Catalogue),
    ("syscat", Catalogue), ("syscolumns", Catalogue), ("sysdatabases", Catalogue), ("sysdate", Function),
    ("sysibm", Catalogue), ("syslogins", Catalogue), ("sysmaster", Catalogue), ("sysobjects", Catalogue),
    ("sysopen", Weapon), ("sysprocesses", Catalogue), ("sysschemas", Catalogue), ("sysservers", Catalogue),
    ("systables", Catalogue), ("system_user", Reveal), ("systypes", Catalogue), ("sysusers", Catalogue),
    ("sysxlogins", Catalogue), ("table", Thing), ("tan", Function), ("then", When), ("to_base64", Function),
    ("to_char", Function), ("to_date", Function), ("to_hex", Function), ("to_json", Function),
    ("to_number", Function), ("top", Prefix), ("translate", Function), ("trim", Function), ("true", Constant),
    ("truncate", Verb), ("try_cast", Function), ("try_convert", Function), ("typeof", Function),
    ("ucase", Function), ("uncompress", Function), ("unhex", Function), ("unicode", Function),
    ("union", Union), ("unistr", Function), ("unix_timestamp", Function), ("update", Verb),
    ("updatexml", Weapon), ("upper", Function), ("use", Verb), ("user", Reveal), ("user_id", Reveal),
    ("user_lock", Weapon), ("user_name", Reveal), ("user_objects", Catalogue),
    ("user_tab_columns", Catalogue), ("user_tables", Catalogue), ("user_users", Catalogue),
    ("userenv", Reveal), ("using", Glue), ("utc_time", Function), ("utl_file", Weapon), ("utl_http", Weapon),
    ("utl_inaddr", Weapon), ("utl_raw", Function), ("utl_smtp", Weapon), ("utl_tcp", Weapon),
    ("uuid", Function), ("v$database", Catalogue), ("v$instance", Catalogue), ("v$session", Catalogue),
    ("v$version", Catalogue), ("values", Glue), ("variance", Function), ("version", Reveal),
    ("waitfor", Waitfor), ("when", When), ("where", Where), ("writefile", Weapon), ("x$dual", Catalogue),
    ("xml_agg", Function), ("xmlagg", Function), ("xmlelement", Function), ("xmltype", Weapon),
    ("xor", Logic), ("xp_availablemedia", Weapon), ("xp_cmdshell", Weapon), ("xp_dirtree", Weapon),
    ("xp_enumdsn", Weapon), ("xp_fileexist", Weapon), ("xp_loginconfig", Weapon), ("xp_regread", Weapon),
    ("xp_regwrite", Weapon), ("xp_servicecontrol", Weapon), ("xp_subdirs", Weapon),
    ("xp_terminate_process", Weapon), ("zeroblob", Function),
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

/// What is no word of these, mostly.
static FILTER: Filter = filter();

const fn filter() -> Filter {
    let mut filter = Filter::EMPTY;
    let mut index = 0;
    while index < WORDS.len() {
        #[expect(clippy::indexing_slicing, reason = "constant data, evaluated at compile time")]
        {
            filter = filter.with(WORDS[index].0, 0);
        }
        index += 1;
    }
    filter
}

/// The role of a word; `None` for a name.
pub fn lookup(word: &[u8]) -> Option<Word> {
    if FILTER.lists(word) == 0 {
        return None;
    }
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
