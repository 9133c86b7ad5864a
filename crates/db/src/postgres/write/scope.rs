//! What a failed write may tell its writer: whether its row exists for the writer, and whether its values are such as
//! the writer may write.

use diesel::sql_types::{Array, Bool, Text};
use diesel::{OptionalExtension as _, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use filter::Filter;
use protocol::Op;

use super::statement::{
    ascii, from, key_is, key_object, matches, object, predicates, record, value,
};
use crate::quote::ident;
use crate::write::TableWrite;

/// A JSON text that is bound as the first parameter.
const FIRST: &str = "($1::pg_catalog.jsonb)";
/// The second parameter, another one.
const SECOND: &str = "($2::pg_catalog.jsonb)";

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    answer: bool,
}

/// Whether the row that a write names exists for its writer; none where it does not exist at all, or where every row
/// exists for the writer.
pub(super) async fn is_visible(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
) -> Result<Option<bool>, diesel::result::Error> {
    row_matches(conn, write, write.scope.visible.as_ref()).await
}

/// Whether a write may be made to the row that it names, as it is now; none where there is no such row, or where every row
/// may be written.
pub(super) async fn may_be_written(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
) -> Result<Option<bool>, diesel::result::Error> {
    row_matches(conn, write, write.scope.using.as_ref()).await
}

async fn row_matches(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    filter: Option<&Filter>,
) -> Result<Option<bool>, diesel::result::Error> {
    let Some(filter) = filter.filter(|_| write.key.is_some()) else {
        return Ok(None);
    };
    let (query, params) = matches(write, predicates(write), filter, FIRST, "$2");
    let found = sql_query(query)
        .bind::<Text, _>(ascii(&key_object(write, None)))
        .bind::<Array<Text>, _>(params)
        .get_result::<Answer>(conn)
        .await;
    Ok(found.optional()?.map(|found| found.answer))
}

/// Whether a write's values pass its check. A column that it does not name is as in the row that it finds, or null where
/// there is none.
pub(super) async fn passes_check(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
) -> Result<bool, diesel::result::Error> {
    let Some(check) = &write.scope.check else {
        return Ok(true);
    };
    let found: Answer = sql_query(check_query(write, check))
        .bind::<Text, _>(ascii(&object(&write.schema, &write.values)))
        .bind::<Text, _>(ascii(&key_object(write, None)))
        .bind::<Array<Text>, _>(predicates(write).write(check.condition()).params)
        .get_result(conn)
        .await?;
    Ok(found.answer)
}

/// The query; `$1` are the values, `$2` is the key, `$3` are the check's parameters.
fn check_query(write: &TableWrite, check: &Filter) -> String {
    let schema = &write.schema;
    let parameter = |number| format!("$3[{number}]");
    let predicate = predicates(write).write_with(check.condition(), parameter);
    let is_written = |index: usize| write.values.iter().any(|(written, _)| *written == index);
    let finds_row = write.op != Op::Create;
    let column = |index: usize| {
        let name = ident(&schema.columns[index].name);
        let value = if is_written(index) {
            value(write, index, "v", FIRST)
        } else if finds_row {
            format!("t.{name}")
        } else {
            format!("NULL::{}", write.table.column_types[index])
        };
        format!("{value} AS {name}")
    };
    let columns: Vec<String> = check.columns().map(column).collect();
    let written: Vec<usize> = check.columns().filter(|index| is_written(*index)).collect();
    let values = from(" CROSS JOIN", [&record(write, &written, "v", FIRST)]);
    let row = match finds_row {
        true => format!(
            " LEFT JOIN (SELECT t.* FROM {} t{} WHERE {}) t ON true",
            write.relation(),
            from(" CROSS JOIN", [&record(write, &schema.key, "k", SECOND)]),
            key_is(write, SECOND)
        ),
        false => String::new(),
    };
    format!(
        // Each parameter occurs, so that its type is known.
        "SELECT coalesce({}, false) AS answer FROM (SELECT {} FROM (SELECT $1::text, $2::text, $3::text[]) given{values}{row}) t",
        predicate.sql,
        columns.join(", "),
    )
}
