//! Describes a table from the catalog: its columns, keys and triggers.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::sql_types::{Bool, Integer, Nullable, Text};
use diesel::{QueryResult, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query};
use merge::Rules;
use value::schema::{Collation, Column, Schema};

use super::capture::{self, Trigger};
use super::projection;
use super::table::{self, Field, KeyPart, Table};
use crate::catalog::{DescribeError, Described, OWN_PREFIX};
use crate::entity::{Entity, RowsSql};
use crate::fields;
use crate::fingerprint::fnv1a;
use crate::quote::ident;

const FIND_TABLE: &str = "\
SELECT l.name, l.type AS kind, l.wr AS is_keyed, l.strict AS is_strict, s.sql AS text
FROM pragma_table_list l LEFT JOIN sqlite_schema s ON s.type = 'table' AND s.name = l.name
WHERE l.schema = 'main' AND l.name = ?1 COLLATE NOCASE";

#[derive(QueryableByName)]
struct Relation {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    /// Whether it has no rowid (`WITHOUT ROWID`): its rows are in the key's own index.
    #[diesel(sql_type = Bool)]
    is_keyed: bool,
    #[diesel(sql_type = Bool)]
    is_strict: bool,
    #[diesel(sql_type = Nullable<Text>)]
    text: Option<String>,
}

/// `hidden` is 1 for a virtual table's own columns, 2 and 3 for generated ones.
const COLUMNS: &str = "\
SELECT name, type AS sql_type, \"notnull\" AS not_null, dflt_value IS NOT NULL AS has_default,
    pk AS key_position, hidden IN (2, 3) AS generated
FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid";

#[derive(QueryableByName)]
struct CatalogColumn {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    sql_type: String,
    #[diesel(sql_type = Bool)]
    not_null: bool,
    #[diesel(sql_type = Bool)]
    has_default: bool,
    #[diesel(sql_type = Integer)]
    key_position: i32,
    #[diesel(sql_type = Bool)]
    generated: bool,
}

/// Returns the columns of the unique indexes. `field` is negative for an expression and for the rowid.
const UNIQUE_KEYS: &str = "\
SELECT l.name, l.origin = 'pk' AS is_primary, l.partial AS is_partial, x.cid AS field,
    x.coll AS collation
FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x
WHERE l.\"unique\" AND x.key ORDER BY l.name, x.seqno";

#[derive(QueryableByName)]
struct IndexColumn {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    is_primary: bool,
    #[diesel(sql_type = Bool)]
    is_partial: bool,
    #[diesel(sql_type = Integer)]
    field: i32,
    #[diesel(sql_type = Text)]
    collation: String,
}

const TRIGGERS: &str = "\
SELECT name, sql AS text FROM sqlite_schema
WHERE type = 'trigger' AND substr(name, 1, length(?1)) = ?1";

#[derive(QueryableByName)]
struct CatalogTrigger {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    text: String,
}

/// A table as it is now.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) described: Described,
    /// Whether it has triggers, which may be those of another version.
    pub(super) has_triggers: bool,
    /// Whether some of them stamp fields.
    pub(super) stamps: bool,
}

/// Describes `table` as it is now; `None` when there is no such table. To be called in a transaction, so that
/// all queries see the same schema.
pub(super) fn describe(
    conn: &mut SqliteConnection,
    entity: &str,
    table: &str,
    rules: Option<&Rules>,
) -> QueryResult<Result<Option<Current>, DescribeError>> {
    let Some(relation) = find(conn, table)? else {
        return Ok(Ok(None));
    };
    // SQLite's own tables cannot have triggers.
    if relation.kind != "table" || relation.name.starts_with("sqlite_") {
        return Ok(Err(DescribeError::NotATable(table.to_owned())));
    }
    if relation.name.starts_with(OWN_PREFIX) {
        return Ok(Err(DescribeError::Own(table.to_owned())));
    }
    let rows: Vec<CatalogColumn> = sql_query(COLUMNS)
        .bind::<Text, _>(&relation.name)
        .load(conn)?;
    let indexes: Vec<IndexColumn> = sql_query(UNIQUE_KEYS)
        .bind::<Text, _>(&relation.name)
        .load(conn)?;
    let existing = triggers(conn, &capture::prefix(entity))?;
    let Some(mut table_now) = table_of(&relation, &rows, &indexes) else {
        return Ok(Err(DescribeError::NoPrimaryKey(table.to_owned())));
    };
    let mut columns = Vec::new();
    for (row, field) in rows.iter().zip(&table_now.fields) {
        let collation = collation(conn, field, &relation)?;
        columns.push(column(row, field, &relation, collation));
    }
    let schema = Schema {
        entity: entity.to_owned(),
        columns,
        key: table_now.key.iter().map(|part| part.field).collect(),
    };
    let rules = match fields::fitted(rules, &schema) {
        Ok(rules) => rules,
        Err(error) => {
            return Ok(Err(DescribeError::Fields {
                table: table.to_owned(),
                error,
            }));
        }
    };
    let filtered = filter::Table::new(&schema, filter::Backend::Sqlite);
    for (index, field) in table_now.fields.iter_mut().enumerate() {
        field.compared = filter::compares(filtered, index);
    }
    let mut expected = capture::triggers(entity, &table_now, rules.as_deref());
    let capture = capture::statements(entity, &expected);
    expected.sort_unstable();
    let form = format!("{:?}", (&relation.name, &relation.text, &table_now.uniques));
    let quoted = table_now.quoted();
    let described = Described {
        captured: expected == existing,
        entity: Entity {
            schema: Arc::new(schema),
            fingerprint: format!(
                "{:016x}",
                fnv1a(&fields::with_rules(form, rules.as_deref()))
            ),
            fields: rules,
            records: false,
            // The surrounding statement calls the log's entries `ranked`.
            row_by_key: format!(
                "(SELECT {} FROM {quoted} t WHERE {})",
                projection::row(&table_now, "t"),
                projection::key_is(&table_now, "t", "ranked.entity_id")
            ),
            row_of_key: String::new(),
            rows: RowsSql::Table {
                key: projection::key_text(&table_now, "t", projection::Context::Read),
                row: projection::row(&table_now, "t"),
                columns: projection::members(&table_now, "t", projection::Context::Read),
                from: format!("{quoted} t"),
            },
            base_types: Vec::new(),
            capture,
            relation: Some(quoted),
            column_types: Vec::new(),
            key_operators: Vec::new(),
        },
    };
    Ok(Ok(Some(Current {
        described,
        has_triggers: !existing.is_empty(),
        stamps: existing
            .iter()
            .any(|trigger| capture::stamps(&trigger.name)),
    })))
}

/// The capture triggers with this prefix, sorted by name.
pub(super) fn triggers(conn: &mut SqliteConnection, prefix: &str) -> QueryResult<Vec<Trigger>> {
    let rows: Vec<CatalogTrigger> = sql_query(TRIGGERS).bind::<Text, _>(prefix).load(conn)?;
    let mut triggers: Vec<Trigger> = rows
        .into_iter()
        .map(|row| Trigger {
            name: row.name,
            sql: row.text,
        })
        .collect();
    triggers.sort_unstable();
    Ok(triggers)
}

/// Finds a table by its name. A name may contain a dot, so the whole is tried before its parts.
fn find(conn: &mut SqliteConnection, table: &str) -> QueryResult<Option<Relation>> {
    let bare = table
        .split_once('.')
        .filter(|(schema, _)| schema.eq_ignore_ascii_case("main"));
    for name in std::iter::once(table).chain(bare.map(|(_, name)| name)) {
        let found: Vec<Relation> = sql_query(FIND_TABLE).bind::<Text, _>(name).load(conn)?;
        if let Some(relation) = found.into_iter().next() {
            return Ok(Some(relation));
        }
    }
    Ok(None)
}

/// The table as the generated SQL sees it; `None` when it has no primary key.
fn table_of(relation: &Relation, rows: &[CatalogColumn], indexes: &[IndexColumn]) -> Option<Table> {
    let mut positions: Vec<(i32, usize)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.key_position > 0)
        .map(|(index, row)| (row.key_position, index))
        .collect();
    positions.sort_unstable();
    let mut by_name: BTreeMap<&str, Vec<&IndexColumn>> = BTreeMap::new();
    for column in indexes {
        by_name.entry(&column.name).or_default().push(column);
    }
    let primary = by_name
        .values()
        .find(|columns| columns.iter().any(|column| column.is_primary));
    let collation_of = |field: usize| {
        let column = primary?
            .iter()
            .find(|column| usize::try_from(column.field) == Ok(field))?;
        Some(column.collation.clone())
    };
    let key: Vec<KeyPart> = positions
        .into_iter()
        .map(|(_, field)| KeyPart {
            field,
            collation: collation_of(field).unwrap_or_else(|| "BINARY".to_owned()),
        })
        .collect();
    // A primary key without an index of its own is the rowid.
    let rowid =
        (primary.is_none() && !relation.is_keyed).then(|| key.first().map(|part| part.field));
    let fields = rows.iter().enumerate().map(|(index, row)| {
        let (kind, _, affinity) = table::declared(&row.sql_type, relation.is_strict);
        Field {
            name: row.name.clone(),
            kind,
            affinity,
            is_rowid: rowid == Some(Some(index)),
            is_generated: row.generated,
            compared: true,
        }
    });
    let uniques = by_name
        .values()
        .filter(|columns| {
            columns
                .iter()
                .all(|column| !column.is_primary && !column.is_partial)
        })
        .filter_map(|columns| columns.iter().map(|column| key_part(column)).collect())
        .collect();
    let table = Table {
        name: relation.name.clone(),
        fields: fields.collect(),
        key,
        uniques,
    };
    (!table.key.is_empty()).then_some(table)
}

/// The column in a unique key; `None` for an expression.
fn key_part(column: &IndexColumn) -> Option<KeyPart> {
    let field = usize::try_from(column.field).ok()?;
    Some(KeyPart {
        field,
        collation: column.collation.clone(),
    })
}

/// The collation of a column. SQLite's catalog does not contain it, so a comparison is tried.
fn collation(
    conn: &mut SqliteConnection,
    field: &Field,
    relation: &Relation,
) -> QueryResult<Collation> {
    #[derive(QueryableByName)]
    struct Tried {
        #[diesel(sql_type = Bool)]
        same: bool,
    }
    let mentions_collate = |text: &String| text.to_ascii_uppercase().contains("COLLATE");
    if !relation.text.as_ref().is_some_and(mentions_collate) {
        return Ok(Collation::Bytes);
    }
    let sql = format!(
        "SELECT c = 'A' OR c = 'a ' AS same FROM (SELECT {} AS c FROM {} WHERE 0 UNION ALL SELECT 'a')",
        ident(&field.name),
        ident(&relation.name)
    );
    // A collation that the application defines is unknown here, so the query fails.
    let tried: QueryResult<Vec<Tried>> = sql_query(sql).load(conn);
    Ok(match tried {
        Ok(tried) if tried.iter().all(|tried| !tried.same) => Collation::Bytes,
        Ok(_) | Err(diesel::result::Error::DatabaseError(..)) => Collation::Other,
        Err(error) => return Err(error),
    })
}

fn column(row: &CatalogColumn, field: &Field, relation: &Relation, collation: Collation) -> Column {
    let (_, type_name, _) = table::declared(&row.sql_type, relation.is_strict);
    Column {
        name: row.name.clone(),
        kind: field.kind.clone(),
        type_name: type_name.to_owned(),
        // SQLite allows null in most primary keys, but a row with such a key cannot be synced.
        nullable: !row.not_null && row.key_position == 0,
        has_default: row.has_default || field.is_rowid,
        generated: row.generated,
        collation,
        logged: true,
    }
}
