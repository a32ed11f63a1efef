//! Reads the catalog with few statements, each over all tables.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, Row};

use super::{Catalog, Column, Costs, ForeignKey, Index, Partitioned, Table, View};
use crate::Error;

/// Which tables are looked at, of `pg_class c` in `pg_namespace n`: not the system's, and not our own.
macro_rules! those_of_users {
    () => {
        "c.relkind IN ('r', 'm', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'portcullis_advisor')"
    };
}

const TABLES: &str = concat!(
    "
SELECT c.oid, n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::float8,
       (CASE c.relkind WHEN 'p' THEN 0 ELSE pg_relation_size(c.oid) / 8192 END)::float8, c.relkind = 'p',
       CASE WHEN c.relispartition THEN
         (SELECT quote_ident(rn.nspname) || '.' || quote_ident(r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
          WHERE r.oid = pg_partition_root(c.oid)) END,
       CASE c.relkind WHEN 'p' THEN
         ARRAY(SELECT t.relid::oid FROM pg_partition_tree(c.oid) t WHERE t.isleaf ORDER BY pg_relation_size(t.relid) DESC, t.relid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE ",
    those_of_users!(),
    "
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname"
);

/// Types whose equal values may differ in bytes cannot be deduplicated: the operator class says so in its fourth function.
const COLUMNS: &str = concat!(
    "
SELECT a.attrelid, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attlen, a.attalign::text,
       a.attnotnull, s.avg_width, s.n_distinct::float8, s.null_frac::float8,
       s.most_common_vals::text::text[], s.most_common_freqs::float8[], s.correlation::float8,
       o.oid IS NOT NULL, coalesce(p.oid IS NOT NULL, false),
       coalesce(l.collname IN ('C', 'POSIX') OR l.collcollate IN ('C', 'POSIX')
                OR (l.collname = 'default' AND d.datcollate IN ('C', 'POSIX')), false),
       y.typcategory = 'S'
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type y ON y.oid = a.atttypid
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
LEFT JOIN LATERAL (SELECT oc.oid, oc.opcfamily, oc.opcintype FROM pg_opclass oc JOIN pg_am m ON m.oid = oc.opcmethod
  WHERE m.amname = 'btree' AND oc.opcdefault AND (oc.opcintype = y.oid
        OR (y.typcategory = 'S' AND oc.opcintype = 'text'::regtype)
        OR (y.typtype = 'e' AND oc.opcintype = 'anyenum'::regtype)
        OR oc.opcintype = y.typbasetype)
  ORDER BY oc.opcintype = y.oid DESC LIMIT 1) o ON true
LEFT JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype
  AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4
WHERE ",
    those_of_users!(),
    "
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum"
);

const INDEXES: &str = concat!(
    "
SELECT i.indrelid, i.indexrelid, x.relname::text, m.amname::text,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false)
             || CASE WHEN i.indoption[k - 1] & 1 = 1 THEN ' DESC' ELSE '' END
             || CASE WHEN o.opcdefault THEN '' ELSE ' ' || o.opcname END
             FROM generate_series(1, i.indnkeyatts) k JOIN pg_opclass o ON o.oid = i.indclass[k - 1] ORDER BY k),
       ARRAY(SELECT (SELECT attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1]
             AND a.attnum > 0)
             FROM generate_series(1, i.indnkeyatts) k ORDER BY k),
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(i.indnkeyatts + 1, i.indnatts) k
             ORDER BY k),
       pg_get_expr(i.indpred, i.indrelid), i.indisunique,
       i.indisreplident OR x.relispartition OR EXISTS (SELECT FROM pg_constraint q WHERE q.conindid = i.indexrelid),
       i.indisvalid AND i.indisready OR EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.index_relid = i.indexrelid),
       pg_relation_size(i.indexrelid), coalesce(u.idx_scan, 0)
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_user_indexes u ON u.indexrelid = i.indexrelid
WHERE ",
    those_of_users!(),
    "
ORDER BY i.indexrelid"
);

const FOREIGN_KEYS: &str = "
SELECT k.conname::text, k.conrelid, k.confrelid,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY w(number, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = w.number ORDER BY place)
FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY k.conrelid, k.conname";

const VIEWS: &str = "
SELECT n.nspname::text, c.relname::text, pg_get_viewdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'portcullis_advisor')
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname";

const SERVER: &str = "
SELECT current_setting('server_version_num')::int4,
       (SELECT extversion FROM pg_extension WHERE extname = 'hypopg'),
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements'),
       pg_is_in_recovery(), current_schemas(false)::text[],
       current_setting('seq_page_cost')::float8, current_setting('random_page_cost')::float8,
       current_setting('cpu_tuple_cost')::float8, current_setting('cpu_index_tuple_cost')::float8,
       current_setting('cpu_operator_cost')::float8,
       (SELECT quote_ident(n.nspname) || '.gin_trgm_ops' FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_trgm')";

/// Reads the catalog of the database that `client` is connected to.
///
/// # Errors
/// [`Error::Database`] when the server refuses.
pub async fn load(client: &Client) -> Result<Catalog, Error> {
    let server = client.query_one(SERVER, &[]).await?;
    let mut catalog = Catalog {
        version: u32::try_from(server.try_get::<_, i32>(0)?).unwrap_or(0),
        hypopg: server.try_get(1)?,
        statements: server.try_get(2)?,
        standby: server.try_get(3)?,
        search_path: server.try_get(4)?,
        trigrams: server.try_get(10)?,
        costs: Costs {
            sequential_page: server.try_get(5)?,
            random_page: server.try_get(6)?,
            tuple: server.try_get(7)?,
            index_tuple: server.try_get(8)?,
            operator: server.try_get(9)?,
        },
        ..Catalog::default()
    };
    let mut tables: Vec<Table> = Vec::new();
    let mut places = HashMap::new();
    let mut parts: HashMap<u32, Vec<u32>> = HashMap::new();
    for row in client.query(TABLES, &[]).await? {
        let table = Table {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            rows: row.try_get(3)?,
            pages: row.try_get(4)?,
            part_of: row.try_get(6)?,
            ..Table::default()
        };
        if row.try_get(5)? {
            parts.insert(table.oid, row.try_get::<_, Option<Vec<u32>>>(7)?.unwrap_or_default());
        }
        places.insert(table.oid, tables.len());
        tables.push(table);
    }
    for row in client.query(COLUMNS, &[]).await? {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = places.get(&oid).and_then(|place| tables.get_mut(*place)) else { continue };
        let column = column(&row, table.rows, catalog.version)?;
        table.columns.push(column);
    }
    for row in client.query(INDEXES, &[]).await? {
        let oid: u32 = row.try_get(0)?;
        let Some(table) = places.get(&oid).and_then(|place| tables.get_mut(*place)) else { continue };
        table.indexes.push(index(&row)?);
    }
    for row in client.query(FOREIGN_KEYS, &[]).await? {
        let key = ForeignKey {
            name: row.try_get(0)?,
            table: row.try_get(1)?,
            target: row.try_get(2)?,
            columns: row.try_get(3)?,
        };
        match parts.get(&key.table) {
            // What refers is a row of a part.
            Some(parts) => catalog
                .foreign_keys
                .extend(parts.iter().map(|part| ForeignKey { table: *part, ..key.clone() })),
            None if places.contains_key(&key.table) => catalog.foreign_keys.push(key),
            None => {}
        }
    }
    for row in client.query(VIEWS, &[]).await? {
        catalog.views.push(View {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            definition: row.try_get(2)?,
        });
    }
    for table in tables {
        match parts.remove(&table.oid) {
            Some(parts) => catalog.partitioned.push(Partitioned { table: Arc::new(table), parts }),
            None => catalog.tables.push(Arc::new(table)),
        }
    }
    Ok(catalog)
}

fn column(row: &Row, rows: f64, version: u32) -> Result<Column, Error> {
    let length: i16 = row.try_get(4)?;
    let width: Option<i32> = row.try_get(7)?;
    let distinct: Option<f64> = row.try_get(8)?;
    let values: Option<Vec<Option<String>>> = row.try_get(10)?;
    let shares: Option<Vec<f64>> = row.try_get(11)?;
    let common = values
        .unwrap_or_default()
        .into_iter()
        .zip(shares.unwrap_or_default())
        .filter_map(|(value, share)| Some((value?, share)))
        .collect();
    Ok(Column {
        number: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        length,
        alignment: match row.try_get::<_, &str>(5)? {
            "d" => 8,
            "i" => 4,
            "s" => 2,
            _ => 1,
        },
        not_null: row.try_get(6)?,
        width: width.map_or(f64::from(if length > 0 { length } else { 32 }), f64::from),
        // A negative number is a share of the rows, which grows with the table.
        distinct: match distinct {
            Some(share) if share < 0.0 => (-share * rows).max(1.0),
            Some(count) if count > 0.0 => count,
            _ => (rows / 10.0).clamp(1.0, 200.0),
        },
        nulls: row.try_get::<_, Option<f64>>(9)?.unwrap_or(0.0),
        common,
        correlation: row.try_get::<_, Option<f64>>(12)?.unwrap_or(0.0),
        analyzed: distinct.is_some(),
        ordered: row.try_get(13)?,
        deduplicates: row.try_get::<_, bool>(14)? && version >= 130_000,
        bytewise: row.try_get(15)?,
        text: row.try_get(16)?,
    })
}

fn index(row: &Row) -> Result<Index, Error> {
    Ok(Index {
        oid: row.try_get(1)?,
        name: row.try_get(2)?,
        method: row.try_get(3)?,
        keys: row.try_get(4)?,
        key_columns: row.try_get(5)?,
        include: row.try_get(6)?,
        predicate: row.try_get(7)?,
        unique: row.try_get(8)?,
        constraint: row.try_get(9)?,
        valid: row.try_get(10)?,
        bytes: u64::try_from(row.try_get::<_, i64>(11)?).unwrap_or(0),
        scans: row.try_get(12)?,
    })
}
