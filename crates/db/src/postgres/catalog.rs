//! Describes a table from the catalog: its columns, key, partitions and triggers.

use std::sync::Arc;

use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use value::schema::{Collation, Column, ColumnKind, Schema};

use super::capture::{self, Capture};
use super::projection::{self, Typed};
use crate::catalog::{DescribeError, Described, OWN_PREFIX};
use crate::entity::{Entity, RowsSql};
use crate::error::DbError;
use crate::error::DbResult;
use crate::fingerprint::fnv1a;
use crate::quote::ident;

const FIND_RELATION: &str = "\
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

#[derive(QueryableByName)]
struct Relation {
    #[diesel(sql_type = BigInt)]
    oid: i64,
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// Returns one row for each column. A domain is resolved to the type beneath it.
const COLUMNS: &str = "\
SELECT a.attnum::int AS number, a.attname::text AS name,
    NOT (a.attnotnull OR b.never_null) AS nullable,
    (a.atthasdef AND a.attgenerated = '') OR a.attidentity <> '' OR d.typdefault IS NOT NULL AS has_default,
    a.xmin::text AS written_by, a.attgenerated::text AS generated, a.attidentity = 'a' AS identity_always,
    t.typname::text AS type_name, b.typmod AS typmod,
    quote_ident(tn.nspname) || '.' || quote_ident(t.typname) AS base_type,
    quote_ident(dn.nspname) || '.' || quote_ident(d.typname) AS cast_type,
    format_type(a.atttypid, a.atttypmod) AS full_type,
    t.typcategory = 'A' AND t.typelem <> 0 AS is_array, e.typname::text AS element_name,
    (SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder)::text FROM pg_enum l
     WHERE l.enumtypid = coalesce(e.oid, t.oid)) AS labels,
    array_position(k.indkey::int2[], a.attnum) AS key_position,
    (SELECT quote_ident(opn.nspname) || '.' || op.oprname FROM pg_opclass oc
     JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amoplefttype = oc.opcintype
         AND ao.amoprighttype = oc.opcintype AND ao.amopstrategy = 3
     JOIN pg_operator op ON op.oid = ao.amopopr JOIN pg_namespace opn ON opn.oid = op.oprnamespace
     WHERE oc.oid = k.indclass[array_position(k.indkey::int2[], a.attnum)]) AS key_operator,
    CASE WHEN a.attcollation = 0 THEN 'deterministic'
        WHEN getdatabaseencoding() <> 'UTF8' OR NOT co.collisdeterministic THEN 'other'
        WHEN CASE co.collprovider WHEN 'd' THEN coalesce(to_jsonb(db) ->> 'datlocprovider', 'c')
                ELSE co.collprovider::text END = 'c'
            AND CASE co.collprovider WHEN 'd' THEN db.datcollate ELSE co.collcollate END IN ('C', 'POSIX')
        THEN 'bytes' ELSE 'deterministic' END AS collation
FROM pg_attribute a
JOIN pg_type d ON d.oid = a.atttypid JOIN pg_namespace dn ON dn.oid = d.typnamespace
CROSS JOIN LATERAL (
    WITH RECURSIVE up(oid, typmod, never_null, depth) AS (
        SELECT a.atttypid, a.atttypmod, false, 0
        UNION ALL
        SELECT u.typbasetype, CASE WHEN up.typmod = -1 THEN u.typtypmod ELSE up.typmod END,
            up.never_null OR u.typnotnull, up.depth + 1
        FROM up JOIN pg_type u ON u.oid = up.oid WHERE u.typtype = 'd')
    SELECT oid, typmod, never_null FROM up ORDER BY depth DESC LIMIT 1) b
JOIN pg_type t ON t.oid = b.oid JOIN pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_index k ON k.indrelid = a.attrelid AND k.indisprimary
LEFT JOIN pg_collation co ON co.oid = a.attcollation
JOIN pg_database db ON db.datname = current_database()
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

#[derive(QueryableByName)]
struct CatalogColumn {
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    nullable: bool,
    #[diesel(sql_type = Bool)]
    has_default: bool,
    /// The transaction that last wrote the column's catalog row: a change of its type may compute new values
    /// and leave no other trace.
    #[diesel(sql_type = Text)]
    written_by: String,
    #[diesel(sql_type = Text)]
    generated: String,
    #[diesel(sql_type = Bool)]
    identity_always: bool,
    #[diesel(sql_type = Text)]
    type_name: String,
    #[diesel(sql_type = Integer)]
    typmod: i32,
    #[diesel(sql_type = Text)]
    cast_type: String,
    #[diesel(sql_type = Text)]
    full_type: String,
    /// The type beneath a domain. The domain's own constraints may have changed since a row had a key.
    #[diesel(sql_type = Text)]
    base_type: String,
    #[diesel(sql_type = Bool)]
    is_array: bool,
    #[diesel(sql_type = Nullable<Text>)]
    element_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    labels: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    key_position: Option<i32>,
    /// The operator under which the index of the key compares the column.
    #[diesel(sql_type = Nullable<Text>)]
    key_operator: Option<String>,
    #[diesel(sql_type = Text)]
    collation: String,
}

/// Returns the table, all its partitions and all tables of which it is a partition, each with the number of
/// its enabled capture triggers and their identity, which changes when a trigger is disabled and enabled
/// again. `pg_partition_tree` would wait for partitions that are locked.
const MEMBERS: &str = "\
WITH RECURSIVE down(relid) AS (SELECT $1::oid UNION SELECT i.inhrelid FROM down \
        JOIN pg_inherits i ON i.inhparent = down.relid JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition),
    up(relid) AS (SELECT $1::oid UNION SELECT i.inhparent FROM up \
        JOIN pg_inherits i ON i.inhrelid = up.relid JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, g.count, coalesce(g.triggers, '') AS triggers
FROM (SELECT relid FROM down UNION SELECT relid FROM up) m
JOIN pg_class c ON c.oid = m.relid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE g.tgenabled <> 'D') AS count, string_agg(g.oid || ':' || g.xmin, ',' ORDER BY g.oid) AS triggers
    FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE g.tgrelid = c.oid AND p.proname = $2 AND p.pronamespace = $3::regnamespace) g
WHERE c.relkind IN ('r', 'p') ORDER BY 1";

#[derive(QueryableByName)]
struct Member {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Text)]
    triggers: String,
}

/// A trigger each for insert, update, delete and truncate.
const TRIGGERS_PER_TABLE: i64 = 4;

impl Member {
    fn is_captured(&self) -> bool {
        self.count == TRIGGERS_PER_TABLE
    }
}

/// Describes `table` as it is now; `None` when there is no such table.
pub(crate) async fn describe(
    conn: &mut AsyncPgConnection,
    entity: &str,
    table: &str,
    log_schema: &str,
) -> DbResult<Result<Option<Described>, DescribeError>> {
    let failed = |error| DbError::while_doing("reading the catalog", error);
    let Some(relation) = find(conn, table).await.map_err(failed)? else {
        return Ok(Ok(None));
    };
    if !matches!(relation.kind.as_str(), "r" | "p") {
        return Ok(Err(DescribeError::NotATable(table.to_owned())));
    }
    if relation.name.starts_with(OWN_PREFIX) {
        return Ok(Err(DescribeError::Own(table.to_owned())));
    }
    let rows: Vec<CatalogColumn> = sql_query(COLUMNS)
        .bind::<BigInt, _>(relation.oid)
        .load(conn)
        .await
        .map_err(failed)?;
    let function = capture::function_name(entity);
    let members: Vec<Member> = sql_query(MEMBERS)
        .bind::<BigInt, _>(relation.oid)
        .bind::<Text, _>(&function)
        .bind::<Text, _>(ident(log_schema))
        .load(conn)
        .await
        .map_err(failed)?;
    let key = key_of(&rows);
    if key.is_empty() {
        return Ok(Err(DescribeError::NoPrimaryKey(table.to_owned())));
    }
    let columns: Vec<Column> = rows.iter().map(column).collect();
    let schema = Arc::new(Schema {
        entity: entity.to_owned(),
        columns,
        key,
    });
    Ok(Ok(Some(Described {
        captured: members.iter().all(Member::is_captured),
        settled: members
            .iter()
            .filter(|member| member.is_captured())
            .flat_map(|member| capture::triggers(entity, log_schema, &member.name))
            .collect(),
        entity: generate(&relation, &rows, &members, schema, log_schema),
    })))
}

/// Finds a table by its name. A name may contain a dot, so the whole is tried before its parts.
async fn find(
    conn: &mut AsyncPgConnection,
    table: &str,
) -> Result<Option<Relation>, diesel::result::Error> {
    let splits = table
        .match_indices('.')
        .map(|(at, _)| (Some(&table[..at]), &table[at + 1..]));
    for (schema, name) in std::iter::once((None, table)).chain(splits) {
        let quoted = match schema {
            Some(schema) => format!("{}.{}", ident(schema), ident(name)),
            None => ident(name),
        };
        if name.is_empty() || schema.is_some_and(str::is_empty) || quoted.contains('\0') {
            continue;
        }
        let found: Vec<Relation> = sql_query(FIND_RELATION)
            .bind::<Text, _>(quoted)
            .load(conn)
            .await?;
        // PostgreSQL truncates a name of more than 63 bytes and would find another table.
        let exact = found.into_iter().find(|relation| {
            relation.name == name && schema.is_none_or(|schema| relation.schema == schema)
        });
        if exact.is_some() {
            return Ok(exact);
        }
    }
    Ok(None)
}

fn key_of(rows: &[CatalogColumn]) -> Vec<usize> {
    let mut key: Vec<(i32, usize)> = rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| row.key_position.map(|position| (position, index)))
        .collect();
    key.sort_unstable();
    key.into_iter().map(|(_, index)| index).collect()
}

fn column(row: &CatalogColumn) -> Column {
    let labels: Option<Vec<String>> = row
        .labels
        .as_deref()
        .map(|labels| serde_json::from_str(labels).unwrap_or_default());
    let (kind, type_name) = match &row.element_name {
        Some(element) if row.is_array => (
            ColumnKind::Array(Box::new(kind(element, -1, labels))),
            format!("{element}[]"),
        ),
        _ => (
            kind(&row.type_name, row.typmod, labels),
            row.type_name.clone(),
        ),
    };
    Column {
        name: row.name.clone(),
        kind,
        type_name,
        nullable: row.nullable,
        has_default: row.has_default,
        generated: !row.generated.is_empty() || row.identity_always,
        collation: match row.collation.as_str() {
            "bytes" => Collation::Bytes,
            "deterministic" => Collation::Deterministic,
            _ => Collation::Other,
        },
        logged: row.generated != "v",
    }
}

fn kind(type_name: &str, typmod: i32, labels: Option<Vec<String>>) -> ColumnKind {
    if let Some(labels) = labels {
        return ColumnKind::Enum(labels);
    }
    // For varchar(n) and char(n) the catalog stores n + 4.
    let chars_max = u32::try_from(typmod - 4).ok().filter(|_| typmod > 4);
    match type_name {
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

/// The part of a fingerprint that stays the same as long as keys are spelled as before.
pub(super) fn key_fingerprint(fingerprint: &str) -> Option<&str> {
    fingerprint.rsplit_once('-').map(|(key, _)| key)
}

/// Generates the SQL that reads and captures the table.
fn generate(
    relation: &Relation,
    rows: &[CatalogColumn],
    members: &[Member],
    schema: Arc<Schema>,
    log_schema: &str,
) -> Entity {
    let name = format!("{}.{}", ident(&relation.schema), ident(&relation.name));
    // Tables that inherit from this one may have the same keys and are not captured.
    let from = if relation.kind == "p" {
        name.clone()
    } else {
        format!("ONLY {name}")
    };
    let select = projection::select_items(&schema.columns, "t").join(", ");
    let row = projection::row_of(&schema.columns, &select);
    let key: Vec<&Column> = schema.key_columns().collect();
    let base_types: Vec<String> = rows.iter().map(|row| row.base_type.clone()).collect();
    let typed_key: Vec<Typed<'_>> = schema
        .key
        .iter()
        .map(|&index| Typed {
            column: &schema.columns[index],
            base_type: &base_types[index],
        })
        .collect();
    let key_is = projection::key_is(&typed_key, "t", "ranked.entity_id");
    let key_text = projection::key_text(&key, "t");
    let virtual_columns: Vec<String> = rows
        .iter()
        .filter(|row| row.generated == "v")
        .map(|row| row.name.clone())
        .collect();
    let relations: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let triggers: Vec<&str> = members
        .iter()
        .map(|member| member.triggers.as_str())
        .collect();
    let form = rows.iter().fold(
        format!("{:?}", (relation.oid, &relations, triggers, &schema.key)),
        |form, row| {
            let column = (
                row.number,
                &row.written_by,
                &row.name,
                (&row.cast_type, &row.base_type),
                row.typmod,
                row.nullable,
                &row.generated,
                &row.labels,
            );
            format!("{form}{column:?}")
        },
    );
    let key_form = schema
        .key
        .iter()
        .fold(relation.oid.to_string(), |form, &index| {
            let row = &rows[index];
            let column = (
                row.number,
                &row.name,
                &row.cast_type,
                &row.base_type,
                row.typmod,
                &row.labels,
            );
            format!("{form}{column:?}")
        });
    let capture = Capture {
        schema: &schema,
        base_types: &base_types,
        log_schema,
        oid: u32::try_from(relation.oid).unwrap_or_default(),
        relations: &relations,
        virtual_columns: &virtual_columns,
    };
    let capture = capture.statements();
    Entity {
        fingerprint: format!(
            "{}-{:016x}-{:016x}",
            capture::GENERATION,
            fnv1a(&key_form),
            fnv1a(&form)
        ),
        row_by_key: format!("(SELECT {row} FROM {from} t WHERE {key_is})"),
        row_of_key: format!(
            "SELECT {row} FROM {from} t WHERE {}",
            projection::key_is(&typed_key, "t", "$1")
        ),
        rows: RowsSql::Table {
            key: key_text,
            row,
            columns: projection::select_items(&schema.columns, "t"),
            from: format!("{from} t"),
        },
        base_types,
        capture,
        relation: Some(name),
        key_operators: schema
            .key
            .iter()
            .map(|&index| match &rows[index].key_operator {
                Some(operator) => format!("OPERATOR({operator})"),
                None => "OPERATOR(pg_catalog.=)".to_owned(),
            })
            .collect(),
        column_types: rows.iter().map(|row| row.full_type.clone()).collect(),
        schema,
    }
}
