use super::*;
use crate::catalog::{Column, View};

fn catalog() -> Catalog {
    let table = |oid, name: &str, columns: &[&str]| {
        let columns = columns.iter().map(|&name| Column { name: name.into(), ..Column::default() });
        Arc::new(Table {
            oid,
            schema: "public".into(),
            name: name.into(),
            columns: columns.collect(),
            ..Table::default()
        })
    };
    let view = |name: &str, definition: &str| View {
        schema: "public".into(),
        name: name.into(),
        definition: definition.into(),
    };
    Catalog {
        search_path: vec!["public".into()],
        views: vec![
            view("living", "SELECT id, tenant_id AS whose, owner FROM tasks WHERE deleted_at IS NULL;"),
            view("ours", "SELECT l.id, l.whose FROM living l JOIN users u ON u.id = l.owner"),
            view("itself", "SELECT id FROM itself"),
            view("broken", "SELEKT"),
        ],
        tables: vec![
            table(1, "tasks", &["id", "tenant_id", "status", "due", "deleted_at", "owner"]),
            table(2, "users", &["id", "tenant_id", "email", "role"]),
            table(3, "Odd", &["Id", "id"]),
        ],
        ..Catalog::default()
    }
}

fn read(text: &str) -> Analysis {
    analyze(&catalog(), &[text]).remove(0).unwrap()
}

/// `table: key kind, ...` of each access, in order.
fn shown(text: &str) -> Vec<String> {
    read(text).accesses.iter().map(one).collect()
}

fn one(access: &Access) -> String {
    let predicates: Vec<String> = access
        .predicates
        .iter()
        .map(|predicate| {
            let key = match &predicate.key {
                Key::Column(name) => name.clone(),
                Key::Expression { sql, .. } => format!("[{sql}]"),
            };
            format!("{key} {:?}{}", predicate.kind, if predicate.constant { "!" } else { "" })
        })
        .collect();
    format!("{}: {}", access.table.name, predicates.join(", "))
}

#[test]
fn conditions_of_one_table() {
    assert_eq!(
        shown(
            "SELECT id FROM tasks t WHERE t.tenant_id = 7 AND status IN ('a','b') AND due >= '2026-01-01' AND deleted_at IS NULL \
             AND status <> 'x' AND owner = $1"
        ),
        ["tasks: tenant_id Equal!, status In!, due Range!, deleted_at Null!, status Not!, owner Equal"]
    );
    let clauses: Vec<String> =
        read("SELECT 1 FROM tasks AS t WHERE t.status = 'Open' AND t.deleted_at IS NULL").accesses[0]
            .predicates
            .iter()
            .map(|predicate| predicate.clause.clone())
            .collect();
    // Literals keep their letters, names lose their table.
    assert_eq!(clauses, ["status = 'Open'", "deleted_at IS NULL"]);
}

#[test]
fn names_are_resolved_through_scopes() {
    assert_eq!(
        shown("SELECT * FROM tasks JOIN users u ON u.id = tasks.owner WHERE email = 'x'"),
        ["tasks: owner Join", "users: id Join, email Equal!"]
    );
    // Of a derived table and of a common one, back to the column it is.
    assert_eq!(
        shown("SELECT * FROM (SELECT tenant_id AS t, owner FROM tasks) x WHERE x.t = 3"),
        ["tasks: tenant_id Equal"]
    );
    assert_eq!(
        shown(
            "WITH recent(o) AS (SELECT owner FROM tasks WHERE due > '2026-01-01') SELECT * FROM recent JOIN users ON users.id = o"
        ),
        ["tasks: due Range!, owner Join", "users: id Join"]
    );
    // An inner scope sees the outer one, and an inner name hides an outer one.
    assert_eq!(
        shown(
            "SELECT 1 FROM users u WHERE EXISTS (SELECT 1 FROM tasks WHERE owner = u.id AND tenant_id = 4)"
        ),
        ["users: id Join", "tasks: owner Join, tenant_id Equal!"]
    );
    assert_eq!(
        shown("SELECT 1 FROM users WHERE id IN (SELECT owner FROM tasks)"),
        ["users: id Join", "tasks: owner Join"]
    );
    assert_eq!(
        shown("SELECT 1 FROM tasks JOIN users USING (tenant_id)"),
        ["tasks: tenant_id Join", "users: tenant_id Join"]
    );
}

#[test]
fn views_are_read_through() {
    assert_eq!(
        shown("SELECT id FROM living v WHERE v.whose = 7 AND id = 3"),
        ["tasks: deleted_at Null!, tenant_id Equal, id Equal!"]
    );
    assert_eq!(
        shown("WITH tasks AS (SELECT 1) SELECT 1 FROM ours WHERE id = 3"),
        ["tasks: deleted_at Null!, owner Join, id Equal!", "users: id Join"]
    );
    for odd in ["itself", "broken", "public.broken", "elsewhere.living"] {
        assert_eq!(shown(&format!("SELECT 1 FROM {odd} WHERE id = 3")), Vec::<String>::new(), "{odd}");
    }
}

#[test]
fn what_cannot_be_resolved_is_left_out() {
    assert_eq!(shown("SELECT 1 FROM elsewhere WHERE tenant_id = 3"), Vec::<String>::new());
    assert_eq!(shown("SELECT 1 FROM tasks WHERE nothing = 3 AND other.id = 4"), ["tasks: "]);
    assert_eq!(shown("SELECT 1 FROM \"Odd\" WHERE \"Id\" = 3 AND ID = 4"), ["Odd: Id Equal!, id Equal!"]);
    assert_eq!(shown("SELECT 1 FROM Odd"), Vec::<String>::new());
    assert!(matches!(analyze(&catalog(), &["SELEKT 1"]).remove(0), Err(SqlError::Syntax(_))));
    assert!(matches!(analyze(&catalog(), &["-- nothing"]).remove(0), Err(SqlError::Empty)));
    assert!(!read("VACUUM tasks").explainable);
}

#[test]
fn alternatives_and_expressions() {
    assert_eq!(
        shown(
            "SELECT 1 FROM tasks WHERE (tenant_id = 1 AND due > '2026-01-01') OR (tenant_id = 1 AND owner = 2)"
        ),
        ["tasks: tenant_id Equal!"]
    );
    assert_eq!(shown("SELECT 1 FROM tasks WHERE owner = 1 OR owner = 2"), ["tasks: owner In!"]);
    // Near miss: alternatives of two columns demand neither.
    assert_eq!(shown("SELECT 1 FROM tasks WHERE owner = 1 OR tenant_id = 2"), ["tasks: "]);
    assert_eq!(shown("SELECT 1 FROM users u WHERE lower(u.email) = 'x'"), ["users: [lower(email)] Equal!"]);
    assert_eq!(shown("SELECT 1 FROM users WHERE email LIKE 'ab%'"), ["users: email Prefix!"]);
    assert_eq!(shown("SELECT 1 FROM users WHERE email LIKE '%ab'"), ["users: "]);
    // An aggregate is no key.
    assert_eq!(shown("SELECT tenant_id FROM users GROUP BY tenant_id HAVING count(id) = 3"), ["users: "]);
}

#[test]
fn the_bound_from_which_on_a_range_asks() {
    let since = |text: &str| {
        read(text).accesses[0].predicates.iter().filter_map(|one| one.since.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        since("SELECT 1 FROM tasks t WHERE t.due >= '2026-01-01' AND due < '2026-02-01'"),
        ["due >= '2026-01-01'"]
    );
    assert_eq!(since("SELECT 1 FROM tasks WHERE '2026-01-01' < due"), ["'2026-01-01' < due"]);
    assert_eq!(since("SELECT 1 FROM tasks WHERE due BETWEEN '2026-01-01' AND $1"), ["due >= '2026-01-01'"]);
    // Near misses: an upper bound, what is not known before, a row, another column.
    for text in
        ["due < '2026-01-01'", "due >= $1", "due >= now()", "(due, id) > ('2026-01-01', 3)", "due >= owner"]
    {
        assert_eq!(since(&format!("SELECT 1 FROM tasks WHERE {text}")), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn order_and_group() {
    let analysis = read("SELECT status AS s, due FROM tasks ORDER BY 2 DESC, s LIMIT 5");
    let access = &analysis.accesses[0];
    let order: Vec<_> = access.order.iter().map(|order| (order.key.clone(), order.descending)).collect();
    assert_eq!(order, [(Key::Column("due".into()), true), (Key::Column("status".into()), false)]);
    assert!(access.limited && access.used.contains("status"));
    let analysis = read(
        "SELECT t.owner, count(*) FROM tasks t, users u WHERE u.id = t.owner GROUP BY t.owner ORDER BY u.id, t.due",
    );
    assert_eq!(analysis.accesses[0].group, [Key::Column("owner".into())]);
    assert!(analysis.accesses[0].order.is_empty(), "an order over two tables is none of one");
}

#[test]
fn statements_that_write() {
    let update = read("UPDATE tasks SET status = 'done' WHERE id = 4");
    let written = update.accesses[0].written.as_ref();
    assert!(update.writes && matches!(written, Some(Written::Updated(columns)) if !columns.is_empty()));
    assert_eq!(one(&update.accesses[0]), "tasks: id Equal!");
    let insert = read("INSERT INTO tasks SELECT * FROM users WHERE role = 'x'");
    let shown: Vec<_> = insert
        .accesses
        .iter()
        .map(|access| (access.table.name.as_str(), access.written == Some(Written::Inserted)))
        .collect();
    assert_eq!(shown, [("tasks", true), ("users", false)]);
    assert!(read("WITH d AS (DELETE FROM tasks WHERE owner = 1 RETURNING id) SELECT * FROM d").writes);
}

#[test]
fn long_chains_do_not_overflow() {
    let chain = (0..4000).map(|n| format!("owner <> {n}")).collect::<Vec<_>>().join(" AND ");
    assert_eq!(read(&format!("SELECT 1 FROM tasks WHERE {chain}")).accesses[0].predicates.len(), 4000);
    let long = format!("SELECT '{}'", "x".repeat(MAX_BYTES));
    assert!(matches!(analyze(&catalog(), &[&long]).remove(0), Err(SqlError::Long(_))));
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(analyze(&catalog(), &[&deep]).remove(0), Err(SqlError::Syntax(_))));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z (),.='\"*$0-9;<>-]{0,80}", words in proptest::collection::vec(
        proptest::sample::select(vec!["SELECT", "FROM", "tasks", "WHERE", "(", ")", "users", "id", "=", "1", "JOIN", "ON", "AND", "OR",
            "IN", "WITH", "AS", ",", "*", "ORDER BY", "LIMIT", "UNION", "EXISTS", "t", ".", "'a'"]), 0..24)) {
        let words = words.join(" ");
        drop(analyze(&catalog(), &[&text, &words]));
    }
}
