//! SQLite as the judge: columns of every declared type, with values of any type in them.

use filter::Backend;
use testkit::TestDatabase;
use value::schema::{Collation, ColumnKind};

use super::Oracle;
use super::random::{Random, cases};
use super::subject::{Subject, column};
use super::values::{self, Sort};
use super::writer::quote;

/// Values of no column's kind, or only of some. The bytes are `1234` in base64.
const STRAYS: &[&str] = &[
    "'abc'",
    "x'616263'",
    "x'D76DF8'",
    "2",
    "1.5",
    "-1e300",
    "9e999",
    "''",
    "'2026-13-99'",
    "'Infinity'",
    "'true'",
    "'1234'",
    "'12345678901234567890'",
    "'a' || char(0) || 'b'",
];

/// As above without the null character, at which SQLite's own LIKE ends a text.
const STRAYS_OF_TEXTS: &[&str] = STRAYS.split_at(STRAYS.len() - 1).0;

fn subject(
    name: &'static str,
    sql_type: &'static str,
    kind: ColumnKind,
    type_name: &str,
    sort: Option<Sort>,
) -> Subject {
    let column = column(name, kind, type_name, Collation::Bytes);
    let others = if matches!(sort, Some(Sort::Text { .. })) {
        STRAYS_OF_TEXTS
    } else {
        STRAYS
    };
    Subject {
        name,
        sql_type,
        sort,
        others,
        cast: "",
        ordered: sort.is_some(),
        column,
    }
}

/// The columns.
pub(crate) fn subjects() -> Vec<Subject> {
    let int = |min, max| Some(Sort::Int { min, max });
    let whole = int(i64::MIN, i64::MAX);
    let text = || ColumnKind::Text { chars_max: None };
    let texts = Some(Sort::Text { chars_max: 10 });
    let mut key = subject(
        "k",
        "INTEGER PRIMARY KEY",
        ColumnKind::INT8,
        "int8",
        int(0, 400),
    );
    key.column.nullable = false;
    let mut no_case = subject("sn", "TEXT COLLATE NOCASE", text(), "text", texts);
    no_case.column.collation = Collation::Other;
    no_case.ordered = false;
    vec![
        key,
        subject("b", "BOOLEAN", ColumnKind::Bool, "bool", Some(Sort::Bool)),
        subject("i", "INTEGER", ColumnKind::INT8, "int8", whole),
        subject(
            "i4",
            "INT",
            ColumnKind::INT8,
            "int8",
            int(i32::MIN.into(), i32::MAX.into()),
        ),
        subject("Mixed Case", "BIGINT", ColumnKind::INT8, "int8", int(-3, 3)),
        subject("r", "REAL", ColumnKind::Float, "float8", Some(Sort::Float8)),
        subject(
            "num",
            "NUMERIC",
            ColumnKind::Numeric,
            "numeric",
            Some(Sort::Numeric),
        ),
        subject(
            "amount",
            "DECIMAL(20, 5)",
            ColumnKind::Numeric,
            "numeric",
            whole,
        ),
        subject("s", "TEXT", text(), "text", texts),
        subject("v", "VARCHAR(20)", text(), "text", texts),
        subject("sb", "TEXT COLLATE BINARY", text(), "text", texts),
        no_case,
        subject("u", "UUID", ColumnKind::Uuid, "uuid", Some(Sort::Uuid)),
        subject("d", "DATE", ColumnKind::Date, "date", Some(Sort::Date)),
        subject(
            "ts",
            "TIMESTAMP",
            ColumnKind::TimestampTz,
            "timestamptz",
            None,
        ),
        subject("y", "BLOB", ColumnKind::Bytes, "bytea", None),
        subject("j", "JSON", ColumnKind::Json, "jsonb", None),
        subject("x", "", ColumnKind::Other, "any", None),
    ]
}

/// Whether a column holds a value of its kind, or null.
pub(crate) fn is_of_kind(subject: &Subject) -> String {
    let name = format!("\"{}\"", subject.name);
    match subject.column.kind {
        ColumnKind::Bool => format!("typeof({name}) IN ('integer', 'real') AND {name} IN (0, 1)"),
        ColumnKind::Int { .. } => format!("typeof({name}) = 'integer'"),
        ColumnKind::Float | ColumnKind::Numeric => format!("typeof({name}) IN ('integer', 'real')"),
        _ => format!("typeof({name}) = 'text'"),
    }
}

/// A value in SQL.
pub(crate) fn literal(value: &str, sort: Sort) -> String {
    let is_number = value.ends_with(|last: char| last.is_ascii_digit());
    match (sort, value) {
        (Sort::Bool, "true") => "1".to_owned(),
        (Sort::Bool, _) => "0".to_owned(),
        (Sort::Int { .. } | Sort::Numeric | Sort::Float4 | Sort::Float8, "Infinity") => {
            "9e999".to_owned()
        }
        (Sort::Int { .. } | Sort::Numeric | Sort::Float4 | Sort::Float8, "-Infinity") => {
            "-9e999".to_owned()
        }
        (Sort::Int { .. } | Sort::Numeric | Sort::Float4 | Sort::Float8, _) if is_number => {
            value.to_owned()
        }
        _ => quote(value),
    }
}

/// The table's definition.
pub(crate) fn table(subjects: &[Subject]) -> String {
    let columns: Vec<String> = subjects
        .iter()
        .map(|subject| format!("\"{}\" {}", subject.name, subject.sql_type))
        .collect();
    format!("CREATE TABLE t ({})", columns.join(", "))
}

/// A value for a column in SQL, and as a filter may name it.
pub(crate) fn random_value(random: &mut Random, subject: &Subject) -> (String, Option<String>) {
    if random.once_in(10) {
        return ("NULL".to_owned(), None);
    }
    match subject.sort {
        Some(sort) if !random.once_in(8) => {
            let value = values::value(random, sort);
            (literal(&value, sort), Some(value))
        }
        _ => (random.pick(subject.others).to_string(), None),
    }
}

/// Fills the table; returns the values that rows hold, for each column.
async fn fill(
    db: &TestDatabase,
    subjects: &[Subject],
    rows: usize,
    random: &mut Random,
) -> Vec<Vec<String>> {
    let mut pools = vec![Vec::new(); subjects.len()];
    let mut tuples = Vec::new();
    for row in 0..rows {
        let mut tuple = vec![row.to_string()];
        pools[0].push(row.to_string());
        for (index, subject) in subjects.iter().enumerate().skip(1) {
            let (sql, value) = random_value(random, subject);
            pools[index].extend(value);
            tuple.push(sql);
        }
        tuples.push(format!("({})", tuple.join(", ")));
    }
    db.execute(&format!("INSERT INTO t VALUES {}", tuples.join(", ")))
        .await;
    pools
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_core_and_the_server_agree() {
    let mut random = Random::new("sqlite_core_and_the_server_agree");
    let db = TestDatabase::sqlite().await;
    let subjects = subjects();
    db.execute(&table(&subjects)).await;
    // As core's LIKE, which is case-sensitive.
    db.execute("PRAGMA case_sensitive_like = ON").await;
    let pools = fill(&db, &subjects, 300, &mut random).await;
    let oracle = Oracle::new(db, random, subjects, Backend::Sqlite, pools).await;
    oracle.run(cases("ORACLE_FILTERS", 2000)).await;
}
