//! The types of a table's columns, taken apart: what a domain is over, an array's elements, a composite's
//! fields.

use std::collections::BTreeMap;

use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use value::schema::ColumnKind;

/// The levels of nesting to which a type is taken apart. PostgreSQL knows no type that contains itself, so
/// this only bounds the size of the generated SQL.
const DEPTH_MAX: usize = 16;

/// Adds a recursive query `types(oid)` after one of `roots(oid)`: these types and all that they consist of.
pub(super) const REACHABLE: &str = "\
types(oid) AS (SELECT oid FROM roots UNION \
SELECT part.oid FROM types JOIN pg_type y ON y.oid = types.oid CROSS JOIN LATERAL ( \
SELECT y.typbasetype AS oid WHERE y.typtype = 'd' \
UNION ALL SELECT y.typelem WHERE y.typcategory = 'A' AND y.typelem <> 0 \
UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE y.typtype = 'c' AND a.attrelid = y.typrelid \
AND a.attnum > 0 AND NOT a.attisdropped) part)";

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ValueType {
    /// One without parts.
    Scalar {
        /// Its name, without its schema.
        name: String,
        /// The kind of its values.
        kind: ColumnKind,
        /// Whether any role could have made it, and casts from it and to it. Base types only a superuser makes.
        is_own: bool,
    },
    /// An array of these.
    Array(Box<ValueType>),
    /// A composite type: each field's name and type.
    Composite(Vec<(String, ValueType)>),
}

impl ValueType {
    /// The kind of a column of this type.
    pub(super) fn kind(&self) -> ColumnKind {
        match self {
            Self::Scalar { kind, .. } => kind.clone(),
            Self::Array(element) => ColumnKind::Array(Box::new(element.kind())),
            Self::Composite(_) => ColumnKind::Other,
        }
    }

    /// A text that is the same for the same type, in every version of the engine.
    pub(super) fn spelled(&self) -> String {
        match self {
            Self::Scalar { name, kind, .. } => match kind {
                ColumnKind::Enum(labels) => format!("{name:?}{labels:?}"),
                _ => format!("{name:?}"),
            },
            Self::Array(element) => format!("{}[]", element.spelled()),
            Self::Composite(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, field)| format!("{name:?} {}", field.spelled()));
                format!("({})", fields.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// The types that some columns consist of, by oid.
#[derive(Debug)]
pub(super) struct Types(BTreeMap<i64, CatalogType>);

#[derive(Debug, QueryableByName)]
struct CatalogType {
    #[diesel(sql_type = BigInt)]
    oid: i64,
    #[diesel(sql_type = Text)]
    name: String,
    /// Whether any role could have made it.
    #[diesel(sql_type = Bool)]
    is_own: bool,
    /// The type beneath a domain, 0 for any other.
    #[diesel(sql_type = BigInt)]
    base: i64,
    /// The type of an array's elements, 0 for any other.
    #[diesel(sql_type = BigInt)]
    element: i64,
    /// An enum's labels, as a JSON array.
    #[diesel(sql_type = Nullable<Text>)]
    labels: Option<String>,
    /// A composite's fields, as a JSON array of their names and types.
    #[diesel(sql_type = Nullable<Text>)]
    fields: Option<String>,
}

impl Types {
    /// Reads the types of a table's columns.
    pub(super) async fn read(conn: &mut AsyncPgConnection, table: i64) -> QueryResult<Self> {
        let sql = format!(
            "WITH RECURSIVE roots(oid) AS (SELECT atttypid FROM pg_attribute \
             WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped), {REACHABLE} \
             SELECT y.oid::bigint AS oid, y.typname::text AS name, \
             y.typtype <> 'b' AND y.typnamespace <> 'pg_catalog'::regnamespace AS is_own, y.typbasetype::bigint AS base, \
             CASE WHEN y.typcategory = 'A' THEN y.typelem::bigint ELSE 0 END AS element, \
             (SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder)::text FROM pg_enum l WHERE l.enumtypid = y.oid) \
             AS labels, \
             CASE WHEN y.typtype = 'c' THEN (SELECT coalesce(json_agg(json_build_array(a.attname, a.atttypid::bigint) \
             ORDER BY a.attnum), '[]')::text FROM pg_attribute a WHERE a.attrelid = y.typrelid AND a.attnum > 0 \
             AND NOT a.attisdropped) END AS fields \
             FROM types JOIN pg_type y ON y.oid = types.oid"
        );
        let found: Vec<CatalogType> = sql_query(sql).bind::<BigInt, _>(table).load(conn).await?;
        Ok(Self(found.into_iter().map(|it| (it.oid, it)).collect()))
    }

    /// The type with this oid, as a column with this type modifier has it.
    pub(super) fn value_type(&self, oid: i64, typmod: i32) -> ValueType {
        self.below(oid, typmod, 0)
    }

    fn below(&self, oid: i64, typmod: i32, depth: usize) -> ValueType {
        let unknown = |name: &str| ValueType::Scalar {
            name: name.to_owned(),
            kind: ColumnKind::Other,
            is_own: true,
        };
        let Some(found) = self.0.get(&oid) else {
            return unknown("");
        };
        if depth == DEPTH_MAX {
            return unknown(&found.name);
        }
        if found.base != 0 {
            return self.below(found.base, typmod, depth + 1);
        }
        if found.element != 0 {
            return ValueType::Array(Box::new(self.below(found.element, -1, depth + 1)));
        }
        if let Some(fields) = &found.fields {
            let fields: Vec<(String, i64)> = serde_json::from_str(fields).unwrap_or_default();
            let fields = fields.into_iter();
            return ValueType::Composite(
                fields
                    .map(|(name, oid)| (name, self.below(oid, -1, depth + 1)))
                    .collect(),
            );
        }
        let labels = found.labels.as_deref();
        let labels = labels.map(|labels| serde_json::from_str(labels).unwrap_or_default());
        let kind = match labels {
            Some(labels) => ColumnKind::Enum(labels),
            // It may have the name of one of PostgreSQL's.
            None if found.is_own => ColumnKind::Other,
            None => scalar(&found.name, typmod),
        };
        ValueType::Scalar {
            name: found.name.clone(),
            kind,
            is_own: found.is_own,
        }
    }
}

fn scalar(name: &str, typmod: i32) -> ColumnKind {
    // For varchar(n) and char(n) the catalog stores n + 4.
    let chars_max = u32::try_from(typmod - 4).ok().filter(|_| typmod > 4);
    match name {
        "bool" => ColumnKind::Bool,
        "int2" => ColumnKind::INT2,
        "int4" => ColumnKind::INT4,
        "int8" => ColumnKind::INT8,
        "float4" | "float8" => ColumnKind::Float,
        "numeric" => ColumnKind::Numeric,
        "text" | "name" | "citext" => ColumnKind::Text { chars_max: None },
        "varchar" | "bpchar" => ColumnKind::Text { chars_max },
        "uuid" => ColumnKind::Uuid,
        "date" => ColumnKind::Date,
        "timestamp" => ColumnKind::Timestamp,
        "timestamptz" => ColumnKind::TimestampTz,
        "bytea" => ColumnKind::Bytes,
        "json" | "jsonb" => ColumnKind::Json,
        _ => ColumnKind::Other,
    }
}
