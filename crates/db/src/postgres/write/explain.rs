//! Why a mutation failed, and what follows from that.

mod role;

use diesel::sql_types::{Bool, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use protocol::{Op, Reject, RejectCode};
use serde::Deserialize;

use super::scope;
use super::statement::{ascii, from, key_object, object, record, value};
use crate::error::{DbError, DbResult, Failed};
use crate::postgres::store::{SEARCH_PATH, in_schema};
use crate::quote::ident;
use crate::write::{TableWrite, outside_check, outside_using};

/// What went wrong in a mutation, with the names that PostgreSQL reports; empty where it reports none.
#[derive(Debug, Clone, Default, Deserialize)]
pub(in crate::postgres) struct Fault {
    state: String,
    /// The write; -1 before the first; none after the last, when deferred constraints are checked.
    write: Option<i64>,
    column: String,
    constraint: String,
    schema: String,
    table: String,
    /// Which of the engine's own conditions the write does not meet.
    refused: Option<Refused>,
    /// Whether a function of the user's raised it on purpose.
    raised: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refused {
    NotFound,
    Check,
    /// The role of its writes may not be had, or their statements have left it.
    Role,
    /// The row has changed since the write was planned.
    Raced,
}

/// What follows from a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Kind {
    /// The data or a constraint forbids it: a reject.
    Data,
    /// The statement or a trigger does not fit the table or the schema. It may have been made for an older table.
    Table,
    /// Another transaction holds a lock.
    Locked,
    /// It passes by itself, unless it comes again and again.
    Recurring,
    /// The database cannot do it at the moment, whatever the mutation holds.
    Passing,
    /// It was planned for a row that has changed since.
    Raced,
}

impl Fault {
    fn class(&self) -> &str {
        self.state.get(..2).unwrap_or_default()
    }

    /// What follows from it.
    pub(in crate::postgres) fn kind(&self) -> Kind {
        let (state, class) = (self.state.as_str(), self.class());
        let is_own = self.write == Some(-1)
            || self.table.starts_with("_rhtmx_sync_")
            || self.table == "_rhtmx_field_conflict";
        match state {
            _ if matches!(self.refused, Some(Refused::Raced)) => Kind::Raced,
            _ if self.refused.is_some() => Kind::Data,
            "55P03" if !self.raised => Kind::Locked,
            _ if is_own && !matches!(class, "22" | "54") => Kind::Passing,
            "42501" | "428C9" => Kind::Data,
            "55P03" | "55006" | "XX001" | "XX002" if !self.raised => Kind::Recurring,
            _ => match class {
                "08" | "53" | "57" | "58" | "F0" if !self.raised => Kind::Passing,
                "25" | "26" | "40" if !self.raised => Kind::Recurring,
                "08" | "25" | "26" | "40" | "53" | "57" | "58" | "F0" => Kind::Table,
                "42" | "55" | "XX" => Kind::Table,
                _ => Kind::Data,
            },
        }
    }

    /// Whether the row has changed since the write was planned. Of a write that was to create a row because there was
    /// none, the row that is there by now tells; and of one that may create a row and was to change it, that it is gone without a
    /// trace, as after a `TRUNCATE`.
    pub(in crate::postgres) fn is_race(&self, writes: &[TableWrite]) -> bool {
        let write = self.write_index().and_then(|index| writes.get(index));
        let finds = |write: &TableWrite| write.op == Op::Create && write.written_op() != Op::Create;
        // Where a policy may hide the row, another attempt would take time that tells of it.
        let misses = |write: &TableWrite| {
            write.op == Op::Update
                && write.written_op() == Op::Upsert
                && write.scope.using.is_none()
                && write.run_as.is_none()
        };
        match self.refused {
            Some(Refused::Raced) => true,
            Some(Refused::NotFound) => write.is_some_and(misses),
            _ => self.state == "23505" && write.is_some_and(finds),
        }
    }

    /// The write that failed, if it was one.
    pub(in crate::postgres) fn write_index(&self) -> Option<usize> {
        usize::try_from(self.write?).ok()
    }

    /// The write at fault, where it is one of several or the only one.
    fn write_of(&self, writes: &[TableWrite]) -> Option<usize> {
        match self.write {
            Some(write) => usize::try_from(write).ok(),
            None => (writes.len() == 1).then_some(0),
        }
    }

    /// The error of a mutation that may be tried again.
    pub(in crate::postgres) fn error(&self, writes: &[TableWrite]) -> DbError {
        let write = self.write_of(writes);
        let message = format!("SQLSTATE {}", self.state);
        match self.kind() {
            Kind::Locked => DbError::Locked("a write waits for it".to_owned()),
            Kind::Passing => DbError::Unreachable(format!("a mutation failed: {message}")),
            Kind::Recurring | Kind::Raced => DbError::Recurring { write, message },
            Kind::Data | Kind::Table => DbError::Table { write, message },
        }
    }
}

/// The reject for a fault of the data; none when the table is at fault.
pub(in crate::postgres) async fn explain(
    conn: &mut AsyncPgConnection,
    log_schema: &str,
    writes: &[TableWrite],
    fault: &Fault,
) -> DbResult<Option<Reject>> {
    let explained = conn
        .transaction(async |conn| {
            conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
                .await?;
            let mut probes = Probes { conn, log_schema };
            probes.explain(writes, fault).await.map_err(Failed::Diesel)
        })
        .await;
    explained.map_err(|failed: Failed| failed.while_doing("explaining why a mutation failed"))
}

/// The reject that was found before any statement ran, as the writer may know it: it may tell what the row holds, so of a row
/// that the writer may not write nothing is told but that.
pub(in crate::postgres) async fn of_plan(
    conn: &mut AsyncPgConnection,
    writes: &[TableWrite],
    reject: Reject,
) -> DbResult<Reject> {
    let index = reject.write.unwrap_or_default();
    let Some(write) = writes.get(index) else {
        return Ok(reject);
    };
    let outside = conn
        .transaction(async |conn| {
            conn.batch_execute(&format!("SET LOCAL {SEARCH_PATH}"))
                .await?;
            if scope::may_be_written(conn, write).await? != Some(false) {
                return Ok(None);
            }
            if write.op == Op::Upsert {
                return Ok(Some(outside_check()));
            }
            let is_visible = scope::is_visible(conn, write).await?;
            Ok(Some(outside_using(is_visible == Some(true))))
        })
        .await;
    let outside = outside.map_err(|failed: Failed| {
        failed.while_doing("looking whether a rejected write may be explained")
    })?;
    Ok(outside.map_or(reject, |outside| outside.of_write(index)))
}

impl Probes<'_> {
    async fn explain(
        &mut self,
        writes: &[TableWrite],
        fault: &Fault,
    ) -> Result<Option<Reject>, diesel::result::Error> {
        if let Some(Refused::Role) = fault.refused {
            let run_as = writes.iter().find_map(|write| write.run_as.as_deref());
            return Ok(Some(role::refused(run_as)));
        }
        let write = fault.write_of(writes);
        let as_role = write.and_then(|at| Some((at, writes.get(at)?)));
        if let Some((index, write)) = as_role
            && let Some(run_as) = &write.run_as
            && let Some(reject) = role::outside(self, write, run_as, fault).await?
        {
            return Ok(Some(reject.of_write(index)));
        }
        if fault.kind() == Kind::Table {
            // A type may refuse a value with a code of this kind, too.
            let Some((index, write)) = write.and_then(|at| Some((at, writes.get(at)?))) else {
                return Ok(None);
            };
            let column = column_at_fault(self, write).await?;
            return Ok(column.map(|column| unfit().of_column(column).of_write(index)));
        }
        if let Some((index, write)) = write.and_then(|at| Some((at, writes.get(at)?))) {
            let reject = match in_scope(self.conn, write, fault).await? {
                Some(outside) => outside,
                None => reject(self, write, fault).await?,
            };
            return Ok(Some(reject.of_write(index)));
        }
        if fault.write.is_none() {
            let message = "a deferred constraint is violated";
            return Ok(Some(Reject::new(RejectCode::Constraint, message)));
        }
        // A value that cannot even be read as JSON, in any of them.
        for (index, write) in writes.iter().enumerate() {
            if let Some(column) = column_at_fault(self, write).await? {
                return Ok(Some(unfit().of_column(column).of_write(index)));
            }
        }
        Ok(Some(unfit()))
    }
}

/// The reject of a write that failed for a reason that its writer may not know: of rows that the writer could not
/// write, not even which values are taken is told. None where the reason may be told.
async fn in_scope(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    fault: &Fault,
) -> Result<Option<Reject>, diesel::result::Error> {
    Ok(match (fault.refused, write.op) {
        (Some(Refused::NotFound), Op::Update | Op::Delete) => {
            let is_visible = scope::is_visible(conn, write).await?;
            Some(outside_using(is_visible == Some(true)))
        }
        // The values are looked at as where a constraint of theirs has failed before the check: the answer takes as long,
        // so that not even its time tells which values and keys are taken.
        (Some(Refused::NotFound), Op::Upsert | Op::Create)
        | (Some(Refused::Check | Refused::Role | Refused::Raced), _) => {
            scope::passes_check(conn, write).await?;
            Some(outside_check())
        }
        (None, Op::Delete) => None,
        // What these say of a value depends on the value alone.
        (None, _) if matches!(fault.class(), "22" | "42" | "54") => None,
        (None, _) if !scope::passes_check(conn, write).await? => Some(outside_check()),
        // A key that is taken by a row that does not exist for the writer.
        (None, Op::Create)
            if fault.state == "23505" && scope::is_visible(conn, write).await? == Some(false) =>
        {
            Some(outside_check())
        }
        (None, _) => None,
    })
}

fn unfit() -> Reject {
    let message = "the value does not fit the column's type";
    Reject::new(RejectCode::Invalid, message)
}

/// The reject for a failed write, in the engine's words, with the column where there is one.
async fn reject(
    conn: &mut Probes<'_>,
    write: &TableWrite,
    fault: &Fault,
) -> Result<Reject, diesel::result::Error> {
    let named = |reject: Reject, column: Option<String>| match column {
        Some(column) if write.schema.position(&column).is_some() => reject.of_column(column),
        _ => reject,
    };
    let constraint = RejectCode::Constraint;
    Ok(match (fault.state.as_str(), fault.class()) {
        ("23502", _) => {
            let column = match fault.column.as_str() {
                "" => column_at_fault(conn, write).await?,
                column => Some(column.to_owned()),
            };
            named(
                Reject::new(constraint, "the column may not be null"),
                column,
            )
        }
        ("23505", _) => match constraint_of(conn.conn, write, fault).await? {
            Some(found) if found.kind == "p" => {
                Reject::new(RejectCode::Exists, "a row with this key already exists")
            }
            found => named(
                Reject::new(constraint, "another row already has this value"),
                found.and_then(|found| found.column),
            ),
        },
        ("23503", _) => {
            let found = constraint_of(conn.conn, write, fault).await?;
            if write.op == Op::Delete || found.as_ref().is_some_and(|found| found.refers_here) {
                Reject::new(constraint, "other rows refer to this row")
            } else {
                named(
                    Reject::new(constraint, "it refers to a row that does not exist"),
                    found.and_then(|found| found.column),
                )
            }
        }
        ("23514", _) => {
            let column = match constraint_of(conn.conn, write, fault).await? {
                Some(found) => found.column,
                // A domain's check.
                None => column_at_fault(conn, write).await?,
            };
            named(
                Reject::new(constraint, "a check of the table is violated"),
                column,
            )
        }
        ("42501", _) => Reject::new(RejectCode::Forbidden, "the server may not write this"),
        ("428C9", _) => Reject::new(RejectCode::Invalid, "the database computes this column"),
        (_, "54") => Reject::new(
            RejectCode::TooLarge,
            "a value is too large for the database",
        ),
        (_, "22") => {
            let column = column_at_fault(conn, write).await?;
            named(unfit(), column)
        }
        _ => Reject::new(constraint, "a rule of the table forbids it"),
    })
}

#[derive(QueryableByName)]
struct ConstraintOf {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    column: Option<String>,
    /// Whether it is a foreign key of another table that refers to the written one.
    #[diesel(sql_type = Bool)]
    refers_here: bool,
}

/// Finds a constraint, or the index behind it, by the names in an error. On a partition these are the
/// partition's.
async fn constraint_of(
    conn: &mut AsyncPgConnection,
    write: &TableWrite,
    fault: &Fault,
) -> Result<Option<ConstraintOf>, diesel::result::Error> {
    if fault.table.is_empty() {
        // A domain's constraint, or a trigger of the user's that raises this code.
        return Ok(None);
    }
    let found: Vec<ConstraintOf> = sql_query(
        "SELECT c.contype::text AS kind, (SELECT attname::text FROM pg_attribute \
           WHERE attrelid = c.conrelid AND attnum = c.conkey[1]) AS column, \
           c.confrelid = to_regclass($3) AND c.conrelid <> c.confrelid AS refers_here \
         FROM pg_constraint c WHERE c.conrelid = to_regclass($1) AND c.conname = $2 \
         UNION ALL SELECT 'u', (SELECT attname::text FROM pg_attribute \
           WHERE attrelid = x.indrelid AND attnum = x.indkey[0]), false \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
         WHERE x.indrelid = to_regclass($1) AND i.relname = $2",
    )
    .bind::<Text, _>(format!("{}.{}", ident(&fault.schema), ident(&fault.table)))
    .bind::<Text, _>(&fault.constraint)
    .bind::<Text, _>(write.relation())
    .load(conn)
    .await?;
    Ok(found.into_iter().next())
}

/// The column whose value PostgreSQL cannot read. It does not say which, so each is tried alone.
async fn column_at_fault(
    probes: &mut Probes<'_>,
    write: &TableWrite,
) -> Result<Option<String>, diesel::result::Error> {
    let key = key_object(write, None);
    let values = write
        .values
        .iter()
        .map(|value| (value.0, object(&write.schema, std::slice::from_ref(value))));
    let key = write
        .schema
        .key
        .iter()
        .filter(|_| write.key.is_some())
        .map(|&index| (index, key.clone()));
    for (index, object) in values.chain(key) {
        let probe = format!(
            "SELECT {}{}",
            value(write, index, "v", "$1"),
            from("FROM", [&record(write, &[index], "v", "$1")])
        );
        if probes.fails(&probe, &ascii(&object)).await? {
            return Ok(Some(write.schema.columns[index].name.clone()));
        }
    }
    Ok(None)
}

/// A connection for trying statements.
struct Probes<'a> {
    conn: &'a mut AsyncPgConnection,
    log_schema: &'a str,
}

impl Probes<'_> {
    /// Whether a statement on this JSON object fails because of the data.
    async fn fails(&mut self, statement: &str, input: &str) -> Result<bool, diesel::result::Error> {
        #[derive(QueryableByName)]
        struct Answer {
            #[diesel(sql_type = Bool)]
            failed: bool,
        }
        let call = in_schema(
            "SELECT _rhtmx_sync_write($1, $2, '{}')::json ->> 'state' IS NOT NULL AS failed",
            self.log_schema,
        );
        let answer: Answer = sql_query(call)
            .bind::<Text, _>(statement)
            .bind::<Text, _>(input)
            .get_result(self.conn)
            .await?;
        Ok(answer.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(state: &str, write: Option<i64>, raised: bool) -> Fault {
        Fault {
            state: state.to_owned(),
            write,
            raised,
            ..Fault::default()
        }
    }

    /// All classes of PostgreSQL's appendix of error codes, and one of a user's own.
    const CLASSES: [&str; 44] = [
        "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22",
        "23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F",
        "40", "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX", "Q7",
    ];

    #[test]
    fn whatever_a_trigger_raises_ends_with_an_answer() {
        for class in CLASSES {
            for state in [format!("{class}000"), format!("{class}P03")] {
                let kind = fault(&state, Some(0), true).kind();
                assert!(
                    matches!(kind, Kind::Data | Kind::Table),
                    "{state}: {kind:?}"
                );
            }
        }
    }

    #[test]
    fn what_passes_by_itself_is_no_answer() {
        for state in ["53100", "57014", "57P01", "58030", "08006"] {
            assert_eq!(
                fault(state, Some(0), false).kind(),
                Kind::Passing,
                "{state}"
            );
        }
        // Before the first write: nothing of the mutation's is at fault.
        for state in ["25006", "40001", "42501", "XX000"] {
            assert_eq!(
                fault(state, Some(-1), false).kind(),
                Kind::Passing,
                "{state}"
            );
        }
        assert_eq!(fault("55P03", Some(0), false).kind(), Kind::Locked);
        assert_eq!(fault("22P05", Some(-1), false).kind(), Kind::Data);
        assert_eq!(fault("42703", Some(0), false).kind(), Kind::Table);
        assert_eq!(fault("40P01", Some(0), false).kind(), Kind::Recurring);
    }
}
