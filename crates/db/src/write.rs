//! Applying a mutation exactly once: the sequence of steps that both backends share.
//!
//! Everything happens in one transaction: it locks the client's row, compares its number, runs the writes in
//! a savepoint, and advances the number. So a mutation that is sent again, to this server or another, finds
//! the number advanced and gets the same answer as the first time.

use std::sync::Arc;

use filter::Filter;
use protocol::{MutationId, Op, Reject, RejectCode};
use sync_core::mutation::CheckedWrite;

use crate::entity::Entity;

/// A mutation whose writes have been checked, or that the check has rejected. A rejected one goes to the
/// database too, so that its number advances and its reject is stored.
#[derive(Debug)]
pub struct Mutation {
    /// Its client and number.
    pub mutation_id: MutationId,
    /// The checked writes, or the reject.
    pub writes: Result<Vec<TableWrite>, Reject>,
}

/// A checked write with its table and the rows that the writer may write there.
#[derive(Debug)]
pub struct TableWrite {
    checked: CheckedWrite,
    pub(crate) table: Arc<Entity>,
    pub(crate) scope: TableScope,
}

/// The rows of a table that a writer may write.
#[derive(Debug, Default)]
pub struct TableScope {
    /// The filter that a row must match before it is updated or deleted; `None` allows any row.
    pub using: Option<Filter>,
    /// The filter that a row must match after it is created or updated; `None` allows any row.
    pub check: Option<Filter>,
}

impl TableWrite {
    /// A write to an entity's table; `None` when the entity has no table.
    pub fn new(checked: CheckedWrite, table: Arc<Entity>, scope: TableScope) -> Option<Self> {
        table.relation.as_ref()?;
        Some(Self {
            checked,
            table,
            scope,
        })
    }

    /// The table's quoted name.
    pub(crate) fn relation(&self) -> &str {
        self.table.relation.as_deref().unwrap_or_default()
    }
}

impl std::ops::Deref for TableWrite {
    type Target = CheckedWrite;

    fn deref(&self) -> &CheckedWrite {
        &self.checked
    }
}

/// A client's row, which stays locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) last_mutation: i64,
    /// The commit id of the last mutation that was applied.
    pub(crate) last_commit: Option<i64>,
    /// The database's epoch; `None` where it never changes.
    pub(crate) epoch: Option<String>,
}

/// Why the writes of a mutation were rolled back.
pub(crate) enum WriteFailed {
    /// The data or a constraint forbids it.
    Rejected(Reject),
    /// The table or a trigger on it is at fault. The mutation is retried once the table has been read again.
    Table {
        write: Option<usize>,
        /// The database's message or code.
        message: String,
    },
    /// Anything else. The mutation stays open and may be tried again.
    Diesel(diesel::result::Error),
}

impl WriteFailed {
    /// The same failure, with the index of its write.
    pub(crate) fn of_write(self, index: usize) -> Self {
        match self {
            Self::Rejected(reject) => Self::Rejected(reject.of_write(index)),
            Self::Table { message, .. } => Self::Table {
                write: Some(index),
                message,
            },
            failed @ Self::Diesel(_) => failed,
        }
    }
}

impl From<diesel::result::Error> for WriteFailed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Diesel(error)
    }
}

/// The reject of a mutation whose number is not the next.
pub(crate) fn out_of_order(expected: u64) -> Reject {
    let message = format!("the next mutation of this client is {expected}");
    Reject {
        expected: Some(expected),
        ..Reject::new(RejectCode::OutOfOrder, message)
    }
}

/// Whether the error is a violated constraint, so that the mutation must be rejected. A write that fails
/// explains itself, so this error came with the commit, which checks deferred constraints, or a rule of the
/// table ended the whole transaction (SQLite's `RAISE(ROLLBACK)`) and left nothing to commit.
pub(crate) fn is_violation(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind as Kind, Error};
    match error {
        Error::NotInTransaction => true,
        Error::DatabaseError(kind, _) => matches!(
            kind,
            Kind::ForeignKeyViolation
                | Kind::UniqueViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::ExclusionViolation
        ),
        _ => false,
    }
}

/// The reject of a mutation whose commit violated a constraint.
pub(crate) fn rejected_at_commit(mutation: &Mutation) -> Reject {
    let reject = Reject::new(
        RejectCode::Constraint,
        "a constraint or a rule of the table is violated",
    );
    match &mutation.writes {
        Ok(writes) if writes.len() == 1 => reject.of_write(0),
        _ => reject,
    }
}

/// The reject of a write to a row that does not match [`TableScope::using`].
pub(crate) fn outside_using(op: Op) -> Reject {
    match op {
        // For the writer such a row does not exist.
        Op::Update | Op::Delete => not_found(),
        Op::Create | Op::Upsert => outside_check(),
    }
}

/// The reject of a write whose row does not exist.
pub(crate) fn not_found() -> Reject {
    Reject::new(RejectCode::NotFound, "the row does not exist")
}

/// The reject of a write whose row does not match [`TableScope::check`] afterwards.
pub(crate) fn outside_check() -> Reject {
    Reject::new(RejectCode::Forbidden, "this user may not write such a row")
}

/// Defines `apply` and `last_mutation` for one backend: `$Conn` is its connection, `$transaction` the method
/// that begins a transaction; the single steps are in the backend's `write` module.
macro_rules! mutation_steps {
    ($Conn:ty, $transaction:ident) => {
        use diesel::prelude::*;
        use diesel_async::{AsyncConnection as _, RunQueryDsl};
        use protocol::{Op, Reject};
        use sync_core::mutation::Applied;

        use super::{read, write};
        use crate::error::{DbError, DbResult, Failed};
        use crate::tables::{_rhtmx_sync_client as client, _rhtmx_sync_reject as reject};
        use crate::write::{
            ClientState, Mutation, TableWrite, WriteFailed, is_violation, out_of_order,
            outside_check, outside_using, rejected_at_commit,
        };

        /// Applies a mutation, or rejects it when only the commit fails.
        pub(crate) async fn apply(conn: &mut $Conn, mutation: &Mutation) -> DbResult<Applied> {
            let mut ended = conn
                .$transaction(async |conn| run(conn, mutation).await)
                .await;
            if let Err(Failed::Diesel(error)) = &ended
                && is_violation(error)
            {
                let writes = Err(rejected_at_commit(mutation));
                let rejected = Mutation {
                    mutation_id: mutation.mutation_id,
                    writes,
                };
                ended = conn
                    .$transaction(async |conn| run(conn, &rejected).await)
                    .await;
            }
            ended.map_err(|failed: Failed| failed.while_doing("applying a mutation"))
        }

        async fn run(conn: &mut $Conn, mutation: &Mutation) -> Result<Applied, Failed> {
            let client = mutation.mutation_id.client_id.to_string();
            let number = i64::try_from(mutation.mutation_id.mutation).unwrap_or(i64::MAX);
            write::begin(conn).await?;
            diesel::insert_into(client::table)
                .values((client::client_id.eq(&client), client::last_mutation.eq(0)))
                .on_conflict_do_nothing()
                .execute(conn)
                .await?;
            let locked = write::lock_client(conn, &client).await?;
            let last = locked.last_mutation;
            if (1..=last).contains(&number) {
                return answered(conn, &client, number, locked).await;
            }
            if number != last + 1 {
                return Ok(Applied::Rejected(out_of_order(
                    u64::try_from(last + 1).unwrap_or(1),
                )));
            }
            let applied = match &mutation.writes {
                Err(reject) => Err(reject.clone()),
                Ok(writes) => apply_writes(conn, mutation, writes).await?,
            };
            let commit_id = match applied {
                Ok(()) => Some(write::commit_id(conn).await?),
                Err(_) => locked.last_commit,
            };
            diesel::update(client::table.find(&client))
                .set((
                    client::last_mutation.eq(number),
                    client::last_commit.eq(commit_id),
                ))
                .execute(conn)
                .await?;
            match applied {
                Ok(()) => Ok(Applied::Committed {
                    commit_id: commit_id.map(read::commit_id),
                    epoch: locked.epoch,
                }),
                Err(reject) => {
                    let text = serde_json::to_string(&reject).expect("a reject is JSON");
                    diesel::insert_into(reject::table)
                        .values((
                            reject::client_id.eq(&client),
                            reject::mutation.eq(number),
                            reject::reject.eq(text),
                        ))
                        .execute(conn)
                        .await?;
                    Ok(Applied::Rejected(reject))
                }
            }
        }

        /// The answer that the mutation got the first time.
        async fn answered(
            conn: &mut $Conn,
            client: &str,
            number: i64,
            locked: ClientState,
        ) -> Result<Applied, Failed> {
            let text: Option<String> = reject::table
                .find((client, number))
                .select(reject::reject)
                .first(conn)
                .await
                .optional()?;
            Ok(match text {
                None => Applied::Committed {
                    commit_id: locked.last_commit.map(read::commit_id),
                    epoch: locked.epoch,
                },
                Some(text) => Applied::Rejected(serde_json::from_str(&text).map_err(|error| {
                    DbError::Statement {
                        context: "reading a stored reject",
                        message: error.to_string(),
                    }
                })?),
            })
        }

        /// Runs the writes in a savepoint, so that a reject undoes all of them.
        async fn apply_writes(
            conn: &mut $Conn,
            mutation: &Mutation,
            writes: &[TableWrite],
        ) -> Result<Result<(), Reject>, Failed> {
            let ended = conn
                .transaction(async |conn| {
                    write::set_mutation_id(conn, &mutation.mutation_id).await?;
                    for (index, write) in writes.iter().enumerate() {
                        write_in_scope(conn, write)
                            .await
                            .map_err(|failed| failed.of_write(index))?;
                    }
                    write::settle(conn, writes).await
                })
                .await;
            match ended {
                Ok(()) => Ok(Ok(())),
                Err(WriteFailed::Rejected(reject)) => Ok(Err(reject)),
                Err(WriteFailed::Table { write, message }) => {
                    Err(Failed::Other(DbError::Table { write, message }))
                }
                Err(WriteFailed::Diesel(error)) => Err(Failed::Diesel(error)),
            }
        }

        /// Runs one write, if its row is within the writer's scope before and after.
        async fn write_in_scope(conn: &mut $Conn, write: &TableWrite) -> Result<(), WriteFailed> {
            if let Some(using) = &write.scope.using
                && write.op != Op::Create
                && write::row_matches(conn, write, using).await? == Some(false)
            {
                return Err(WriteFailed::Rejected(outside_using(write.op)));
            }
            write::write(conn, write).await?;
            if let Some(check) = &write.scope.check
                && write.op != Op::Delete
                && write::row_matches(conn, write, check).await? != Some(true)
            {
                return Err(WriteFailed::Rejected(outside_check()));
            }
            Ok(())
        }

        /// The number of a client's newest answered mutation, 0 for none.
        pub(crate) async fn last_mutation(conn: &mut $Conn, client: &str) -> DbResult<u64> {
            let last: Option<i64> = client::table
                .find(client)
                .select(client::last_mutation)
                .first(conn)
                .await
                .optional()
                .map_err(|error| DbError::while_doing("reading a client's last mutation", error))?;
            Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
        }
    };
}
pub(crate) use mutation_steps;
