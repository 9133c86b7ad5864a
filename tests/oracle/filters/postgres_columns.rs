//! A column of every type of PostgreSQL.

use value::schema::{Collation, ColumnKind};

use super::subject::{Subject, column};
use super::values::Sort;

const LABELS: &[&str] = &["zeta", "alpha", "Mid dle", "o'clock \"x\\y,{}", "NULL", "é"];

/// The types that the columns need.
pub(crate) const TYPES: &str = r#"
CREATE TYPE "Moo d" AS ENUM ('zeta', 'alpha', 'Mid dle', 'o''clock "x\y,{}', 'NULL', 'é');
CREATE DOMAIN small AS int2 CHECK (VALUE < 20000);
CREATE DOMAIN smaller AS small NOT NULL;
CREATE DOMAIN word AS text COLLATE "C";
CREATE DOMAIN mood AS "Moo d";
CREATE TYPE pair AS (one int, two text);
CREATE COLLATION vague (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"#;

/// A column of a type whose texts have no collation, or the default one.
fn subject(
    name: &'static str,
    sql_type: &'static str,
    kind: ColumnKind,
    type_name: &str,
    sort: Option<Sort>,
) -> Subject {
    let column = column(name, kind, type_name, Collation::Deterministic);
    let ordered = sort.is_some_and(|sort| !matches!(sort, Sort::Text { .. }));
    Subject {
        name,
        sql_type,
        sort,
        others: &[],
        cast: "",
        ordered,
        column,
    }
}

fn text(
    name: &'static str,
    sql_type: &'static str,
    type_name: &str,
    collation: Collation,
) -> Subject {
    let chars_max = matches!(type_name, "varchar" | "bpchar").then_some(20);
    let kind = ColumnKind::Text { chars_max };
    let mut subject = subject(
        name,
        sql_type,
        kind,
        type_name,
        Some(Sort::Text { chars_max: 10 }),
    );
    subject.ordered = collation == Collation::Bytes;
    subject.column.collation = collation;
    subject
}

fn opaque(
    name: &'static str,
    sql_type: &'static str,
    kind: ColumnKind,
    type_name: &str,
    others: &'static [&'static str],
) -> Subject {
    Subject {
        others,
        ..subject(name, sql_type, kind, type_name, None)
    }
}

/// The columns; `usual` is the default collation of the database.
pub(crate) fn subjects(usual: Collation) -> Vec<Subject> {
    let int = |min, max| Some(Sort::Int { min, max });
    let labels = || ColumnKind::Enum(LABELS.iter().map(|label| (*label).to_owned()).collect());
    let moods = Some(Sort::Labels(LABELS));
    let (own, bytes, other) = (Collation::Deterministic, Collation::Bytes, Collation::Other);
    let k = subject("k", "int4", ColumnKind::INT4, "int4", int(0, 400));
    let never_null = |mut subject: Subject| {
        subject.column.nullable = false;
        subject
    };
    let generated = |mut subject: Subject| {
        subject.column.generated = true;
        subject
    };
    vec![
        never_null(k),
        subject("b", "bool", ColumnKind::Bool, "bool", Some(Sort::Bool)),
        subject(
            "i2",
            "int2",
            ColumnKind::INT2,
            "int2",
            int(i16::MIN.into(), i16::MAX.into()),
        ),
        subject(
            "i4",
            "int4",
            ColumnKind::INT4,
            "int4",
            int(i32::MIN.into(), i32::MAX.into()),
        ),
        subject(
            "i8",
            "int8",
            ColumnKind::INT8,
            "int8",
            int(i64::MIN, i64::MAX),
        ),
        subject("Mixed Case", "int4", ColumnKind::INT4, "int4", int(-3, 3)),
        subject(
            "num",
            "numeric",
            ColumnKind::Numeric,
            "numeric",
            Some(Sort::Numeric),
        ),
        subject(
            "fixed",
            "numeric(20, 5)",
            ColumnKind::Numeric,
            "numeric",
            int(-1000, 1000),
        ),
        subject(
            "f4",
            "float4",
            ColumnKind::Float,
            "float4",
            Some(Sort::Float4),
        ),
        subject(
            "f8",
            "float8",
            ColumnKind::Float,
            "float8",
            Some(Sort::Float8),
        ),
        text("s", "text", "text", usual),
        text("sc", "text COLLATE \"C\"", "text", bytes),
        text("si", "text COLLATE \"en-x-icu\"", "text", own),
        text("sn", "text COLLATE vague", "text", other),
        text("v", "varchar(20)", "varchar", usual),
        text("ch", "char(20)", "bpchar", usual),
        text("nm", "name", "name", bytes),
        text("wo", "word", "text", bytes),
        subject("u", "uuid", ColumnKind::Uuid, "uuid", Some(Sort::Uuid)),
        subject("d", "date", ColumnKind::Date, "date", Some(Sort::Date)),
        subject(
            "ts",
            "timestamp",
            ColumnKind::Timestamp,
            "timestamp",
            Some(Sort::Timestamp),
        ),
        subject(
            "tz",
            "timestamptz",
            ColumnKind::TimestampTz,
            "timestamptz",
            Some(Sort::TimestampTz),
        ),
        subject(
            "t0",
            "timestamptz(0)",
            ColumnKind::TimestampTz,
            "timestamptz",
            Some(Sort::TimestampTz),
        ),
        subject("e", "\"Moo d\"", labels(), "Moo d", moods),
        Subject {
            // PostgreSQL has no operators for domains over enums.
            cast: "::\"Moo d\"",
            ..subject("em", "mood", labels(), "Moo d", moods)
        },
        subject("dom", "small", ColumnKind::INT2, "int2", int(-5, 5)),
        never_null(subject(
            "dd",
            "smaller",
            ColumnKind::INT2,
            "int2",
            int(-5, 5),
        )),
        generated(subject(
            "g",
            "int8 GENERATED ALWAYS AS (dd::int8 * 3002399751580331) STORED",
            ColumnKind::INT8,
            "int8",
            int(-15_011_998_757_901_655, 15_011_998_757_901_655),
        )),
        opaque(
            "o",
            "inet",
            ColumnKind::Other,
            "inet",
            &["'::1'", "'10.0.0.1'"],
        ),
        opaque("cq", "\"char\"", ColumnKind::Other, "char", &["'x'", "''"]),
        opaque("ti", "time", ColumnKind::Other, "time", &["'07:00'"]),
        opaque(
            "a",
            "int4[]",
            ColumnKind::Array(Box::new(ColumnKind::INT4)),
            "int4[]",
            &["'{}'", "'{1,NULL}'", "'{NULL}'"],
        ),
        opaque(
            "j",
            "jsonb",
            ColumnKind::Json,
            "jsonb",
            &["'null'", "'{}'", "'\"x\"'"],
        ),
        opaque(
            "y",
            "bytea",
            ColumnKind::Bytes,
            "bytea",
            &["''", "'\\x00ff'"],
        ),
        opaque(
            "p",
            "pair",
            ColumnKind::Other,
            "pair",
            &["'(,)'", "'(1,)'", "'(1,x)'"],
        ),
    ]
}
