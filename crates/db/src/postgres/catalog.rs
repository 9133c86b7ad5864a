//! Describes a table from the catalog: its columns, key, partitions and triggers.

use std::sync::Arc;

use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use merge::Rules;
use value::schema::{Collation, Column, Schema};

use super::capture::{self, Capture};
use super::observed::{self, Observed};
use super::projection::{self, Typed};
use super::types::{Types, ValueType};
use crate::catalog::{DescribeError, Described, OWN_PREFIX};
use crate::entity::{Entity, RowsSql};
use crate::error::DbError;
use crate::error::DbResult;
use crate::fields::{self, FieldsError};
use crate::fingerprint::fnv1a;
use crate::quote::ident;

/// Finds a table on the role's own search path, so it leaves no name to be looked up there but the table's.
const FIND_RELATION: &str = "\
SELECT c.oid::pg_catalog.int8 AS oid, n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
    c.relkind::pg_catalog.text AS kind
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid";

/// A table, or what else has the name of one.
#[derive(QueryableByName)]
pub(super) struct Relation {
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
    a.attcollation::bigint AS collation_oid, md5(pg_get_expr(def.adbin, def.adrelid)) AS expression,
    a.atttypid::bigint AS type_oid, t.typname::text AS type_name, b.typmod AS typmod,
    quote_ident(tn.nspname) || '.' || quote_ident(t.typname) AS base_type,
    quote_ident(dn.nspname) || '.' || quote_ident(d.typname) AS cast_type,
    format_type(a.atttypid, a.atttypmod) AS full_type,
    t.typcategory = 'A' AND t.typelem <> 0 AS is_array, e.typname::text AS element_name,
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
LEFT JOIN pg_attrdef def ON def.adrelid = a.attrelid AND def.adnum = a.attnum AND a.attgenerated <> ''
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
    /// The transaction that last wrote the column's catalog row.
    #[diesel(sql_type = Text)]
    written_by: String,
    #[diesel(sql_type = BigInt)]
    collation_oid: i64,
    /// The hash of what computes a generated column.
    #[diesel(sql_type = Nullable<Text>)]
    expression: Option<String>,
    #[diesel(sql_type = BigInt)]
    type_oid: i64,
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
    #[diesel(sql_type = Nullable<Integer>)]
    key_position: Option<i32>,
    /// The operator under which the index of the key compares the column.
    #[diesel(sql_type = Nullable<Text>)]
    key_operator: Option<String>,
    #[diesel(sql_type = Text)]
    collation: String,
}

/// Returns the table, all its partitions and all tables of which it is a partition, each with the number of
/// its capture triggers that are enabled, and of those that are not. `pg_partition_tree` would wait for partitions
/// that are locked.
const MEMBERS: &str = "\
WITH RECURSIVE down(oid) AS (SELECT $1::oid UNION SELECT i.inhrelid FROM down \
        JOIN pg_inherits i ON i.inhparent = down.oid JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition),
    up(oid) AS (SELECT $1::oid UNION SELECT i.inhparent FROM up \
        JOIN pg_inherits i ON i.inhrelid = up.oid JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition)
SELECT c.oid::bigint AS oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
    c.relfilenode::bigint AS file, m.has_rows, g.enabled, g.disabled, coalesce(g.triggers, '') AS triggers
FROM (SELECT oid, true AS has_rows FROM down UNION ALL SELECT oid, false FROM up WHERE oid <> $1::oid) m
JOIN pg_class c ON c.oid = m.oid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE g.tgenabled <> 'D') AS enabled, count(*) FILTER (WHERE g.tgenabled = 'D') AS disabled,
        string_agg(g.oid || ':' || g.xmin, ',' ORDER BY g.oid) AS triggers
    FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE g.tgrelid = c.oid AND p.proname = $2 AND p.pronamespace = $3::regnamespace) g
WHERE c.relkind IN ('r', 'p') ORDER BY 2";

#[derive(QueryableByName)]
struct Member {
    #[diesel(sql_type = BigInt)]
    oid: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    file: i64,
    #[diesel(sql_type = Bool)]
    has_rows: bool,
    #[diesel(sql_type = BigInt)]
    enabled: i64,
    #[diesel(sql_type = BigInt)]
    disabled: i64,
    #[diesel(sql_type = Text)]
    triggers: String,
}

/// A trigger each for insert, update, delete and truncate.
const TRIGGERS_PER_TABLE: i64 = 4;

impl Member {
    fn is_captured(&self) -> bool {
        self.enabled == TRIGGERS_PER_TABLE && self.disabled == 0
    }

    /// Whether some engine, maybe of another version, has captured it.
    fn has_triggers(&self) -> bool {
        self.enabled > 0 && self.disabled == 0
    }
}

/// Returns a foreign table below one of the tables in `$1`, which may be a partition or inherit from one.
const FOREIGN: &str = "\
WITH RECURSIVE below(oid) AS (
    SELECT value::oid FROM json_array_elements_text($1::json)
    UNION SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
FROM below JOIN pg_class c ON c.oid = below.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'f' ORDER BY 1 LIMIT 1";

/// Returns the tables in `$1` whose files are not empty.
const NOT_EMPTY: &str = "\
SELECT value AS name FROM json_array_elements_text($1::json) WHERE pg_relation_size(value::oid) > 0";

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// A table as it is now, and its capture.
pub(super) struct Table {
    pub(super) described: Described,
    pub(super) observed: Observed,
    /// Whether each of its tables has triggers, which may be those of another version.
    pub(super) has_triggers: bool,
    /// The statements of its capture that need not run again unless its key has changed.
    pub(super) settled: Vec<String>,
    /// The statements that give triggers to the tables that have none that are enabled.
    pub(super) missing: Vec<String>,
}

/// Describes the table as it is now.
pub(super) async fn describe(
    conn: &mut AsyncPgConnection,
    entity: &str,
    table: &str,
    relation: &Relation,
    log_schema: &str,
    rules: Option<&Rules>,
) -> DbResult<Result<Table, DescribeError>> {
    let failed = |error| DbError::while_doing("reading the catalog", error);
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
    let types = Types::read(conn, relation.oid).await.map_err(failed)?;
    let function = capture::function_name(entity);
    let members: Vec<Member> = sql_query(MEMBERS)
        .bind::<BigInt, _>(relation.oid)
        .bind::<Text, _>(&function)
        .bind::<Text, _>(ident(log_schema))
        .load(conn)
        .await
        .map_err(failed)?;
    let oids: Vec<i64> = members.iter().map(|member| member.oid).collect();
    let foreign: Vec<Name> = sql_query(FOREIGN)
        .bind::<Text, _>(protocol::json::text(&oids))
        .load(conn)
        .await
        .map_err(failed)?;
    if let Some(foreign) = foreign.into_iter().next() {
        return Ok(Err(DescribeError::Foreign {
            table: table.to_owned(),
            foreign: foreign.name,
        }));
    }
    let key = key_of(&rows);
    if key.is_empty() {
        return Ok(Err(DescribeError::NoPrimaryKey(table.to_owned())));
    }
    let value_types = rows
        .iter()
        .map(|row| types.value_type(row.type_oid, row.typmod));
    let value_types: Vec<ValueType> = value_types.collect();
    let schema = Arc::new(Schema {
        entity: entity.to_owned(),
        columns: rows
            .iter()
            .zip(&value_types)
            .map(|(row, of)| column(row, of))
            .collect(),
        key,
    });
    let fitted = if rules.is_some() && members.iter().any(|member| !member.has_rows) {
        Err(FieldsError::Partition)
    } else {
        fields::fitted(rules, &schema)
    };
    let rules = match fitted {
        Ok(rules) => rules,
        Err(error) => {
            return Ok(Err(DescribeError::Fields {
                table: table.to_owned(),
                error,
            }));
        }
    };
    let observed = Observed {
        columns: rows
            .iter()
            .map(|row| (row.number, row.written_by.clone()))
            .collect(),
        members: members
            .iter()
            .map(|member| {
                let observed = observed::Member {
                    file: member.file,
                    triggers: member.triggers.clone(),
                    has_rows: member.has_rows,
                };
                (member.oid, observed)
            })
            .collect(),
    };
    let triggers_of = |keep: fn(&Member) -> bool| {
        let members = members.iter().filter(move |member| keep(member));
        members
            .flat_map(|member| capture::triggers(entity, log_schema, &member.name))
            .collect()
    };
    Ok(Ok(Table {
        described: Described {
            captured: members.iter().all(Member::is_captured),
            entity: generate(
                relation,
                &rows,
                &value_types,
                &members,
                schema,
                rules,
                log_schema,
            ),
        },
        observed,
        has_triggers: members.iter().all(Member::has_triggers),
        settled: triggers_of(Member::is_captured),
        missing: triggers_of(|member| !member.has_triggers()),
    }))
}

/// Whether one of these tables has rows, or had some once.
pub(super) async fn any_has_rows(conn: &mut AsyncPgConnection, tables: &[i64]) -> DbResult<bool> {
    let found: Result<Vec<Name>, _> = sql_query(NOT_EMPTY)
        .bind::<Text, _>(protocol::json::text(&tables))
        .load(conn)
        .await;
    let found = found.map_err(|error| DbError::while_doing("looking for rows", error))?;
    Ok(!found.is_empty())
}

/// Finds a table by its name. A name may contain a dot, so the whole is tried before its parts.
pub(super) async fn find(
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

fn column(row: &CatalogColumn, value_type: &ValueType) -> Column {
    let type_name = match &row.element_name {
        Some(element) if row.is_array => format!("{element}[]"),
        _ => row.type_name.clone(),
    };
    Column {
        name: row.name.clone(),
        kind: value_type.kind(),
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

/// The part of a fingerprint that stays the same as long as keys are spelled as before.
pub(super) fn key_fingerprint(fingerprint: &str) -> Option<&str> {
    fingerprint.rsplit_once('-').map(|(key, _)| key)
}

/// Generates the SQL that reads and captures the table.
fn generate(
    relation: &Relation,
    rows: &[CatalogColumn],
    types: &[ValueType],
    members: &[Member],
    schema: Arc<Schema>,
    rules: Option<Arc<Rules>>,
    log_schema: &str,
) -> Entity {
    let name = format!("{}.{}", ident(&relation.schema), ident(&relation.name));
    // Tables that inherit from this one may have the same keys and are not captured.
    let from = if relation.kind == "p" {
        name.clone()
    } else {
        format!("ONLY {name}")
    };
    let select_items = projection::select_items(&schema.columns, types, "t");
    let select = select_items.join(", ");
    let row = projection::row_of(&schema.columns, &select);
    let filtered = filter::Table::new(&schema, filter::Backend::Postgres);
    let compared: Vec<bool> = (0..schema.columns.len())
        .map(|index| filter::compares(filtered, index))
        .collect();
    let base_types: Vec<String> = rows.iter().map(|row| row.base_type.clone()).collect();
    let typed_key: Vec<Typed<'_>> = schema
        .key
        .iter()
        .map(|&index| Typed {
            column: &schema.columns[index],
            base_type: &base_types[index],
            compared: compared[index],
        })
        .collect();
    let key_operators: Vec<String> = schema
        .key
        .iter()
        .map(|&index| match &rows[index].key_operator {
            Some(operator) => format!("OPERATOR({operator})"),
            None => "OPERATOR(pg_catalog.=)".to_owned(),
        })
        .collect();
    let key_is = projection::key_is(&typed_key, &key_operators, "t", "ranked.entity_id");
    let key_text = projection::key_text(&typed_key, "t");
    let virtual_columns: Vec<String> = rows
        .iter()
        .filter(|row| row.generated == "v")
        .map(|row| row.name.clone())
        .collect();
    let relations: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let old_items = projection::select_items(&schema.columns, types, "o");
    let (form, key_form) = forms(relation, rows, types, &schema);
    let capture = Capture {
        schema: &schema,
        base_types: &base_types,
        log_schema,
        oid: u32::try_from(relation.oid).unwrap_or_default(),
        relations: &relations,
        virtual_columns: &virtual_columns,
        compared: &compared,
        fields: rules.as_deref().map(|rules| (rules, &*old_items)),
    };
    let capture = capture.statements();
    Entity {
        fingerprint: format!(
            "{:016x}-{:016x}",
            fnv1a(&key_form),
            fnv1a(&fields::with_rules(form, rules.as_deref()))
        ),
        fields: rules,
        records: false,
        row_by_key: format!("(SELECT {row} FROM {from} t WHERE {key_is})"),
        row_of_key: format!(
            "SELECT {row} FROM {from} t WHERE {}",
            projection::key_is(&typed_key, &key_operators, "t", "$1")
        ),
        rows: RowsSql::Table {
            key: key_text,
            row,
            columns: select_items,
            from: format!("{from} t"),
        },
        base_types,
        capture,
        relation: Some(name),
        key_operators,
        column_types: rows.iter().map(|row| row.full_type.clone()).collect(),
        schema,
    }
}

/// What the values of a table's rows depend on, and what the texts of their keys depend on. Two versions of the
/// engine beside each other must agree on it, so it contains nothing of how either of them works.
fn forms(
    relation: &Relation,
    rows: &[CatalogColumn],
    types: &[ValueType],
    schema: &Schema,
) -> (String, String) {
    let columns: Vec<String> = rows
        .iter()
        .zip(types)
        .map(|(row, value_type)| {
            let of_type = (
                &row.cast_type,
                &row.base_type,
                row.typmod,
                value_type.spelled(),
            );
            format!("{:?}", (row.number, &row.name, of_type))
        })
        .collect();
    let start = format!("{:?}", (relation.oid, &schema.key));
    let form = rows
        .iter()
        .zip(&columns)
        .fold(start, |form, (row, column)| {
            let beside = (
                row.nullable,
                row.collation_oid,
                &row.generated,
                &row.expression,
            );
            format!("{form}{column}{beside:?}")
        });
    let key = schema.key.iter().map(|&index| columns[index].as_str());
    let key_form = std::iter::once(relation.oid.to_string().as_str())
        .chain(key)
        .collect();
    (form, key_form)
}
