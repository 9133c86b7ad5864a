//! One mutation, applied exactly once: the order of steps, written once for both backends.
//!
//! Everything happens in one transaction: the device's row is locked, its number compared, the
//! writes are run in a savepoint, and the number moves. So a mutation that is sent again, on this
//! server or another, finds the number moved and is answered as the first time.

use rhtmx_sync_core::cursor::Mark;
use rhtmx_sync_core::mutation::CheckedWrite;
use rhtmx_sync_core::protocol::{Origin, Reject, RejectCode};

/// A mutation whose writes have been checked, or that the check has rejected.
#[derive(Debug)]
pub(crate) struct Mutation {
    pub(crate) origin: Origin,
    pub(crate) writes: Result<Vec<TableWrite>, Reject>,
}

/// A checked write with the table that it goes to.
#[derive(Debug)]
pub(crate) struct TableWrite {
    pub(crate) checked: CheckedWrite,
    /// The table's quoted name.
    pub(crate) relation: String,
    /// The types of the schema's columns as casts spell them, where the backend needs them.
    pub(crate) column_types: Vec<String>,
}

impl std::ops::Deref for TableWrite {
    type Target = CheckedWrite;

    fn deref(&self) -> &CheckedWrite {
        &self.checked
    }
}

/// How a mutation ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Committed, now or when it was first sent.
    Committed {
        /// A position that contains this shows it; none when it is older than the log remembers.
        mark: Option<Mark>,
        /// The history that the mark belongs to; none where there is only one.
        epoch: Option<String>,
    },
    /// Not applied, now or when it was first sent.
    Rejected(Reject),
}

/// How far a device has come. Its row is locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) last_mutation: i64,
    /// The transaction of the last mutation that was applied.
    pub(crate) last_mark: Option<i64>,
    /// The database's history; none where it never changes.
    pub(crate) epoch: Option<String>,
}

/// Why the writes of a mutation were rolled back.
pub(crate) enum WriteFailed {
    /// The data or a constraint forbids it.
    Rejected(Reject),
    /// Anything else: the mutation is tried again.
    Diesel(diesel::result::Error),
}

impl From<diesel::result::Error> for WriteFailed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Diesel(error)
    }
}

fn out_of_order(expected: u64) -> Reject {
    let message = format!("the next mutation of this client is {expected}");
    Reject {
        expected: Some(expected),
        ..Reject::new(RejectCode::OutOfOrder, message)
    }
}

/// Whether a constraint has said no. The writes themselves explain their refusals, so this one came
/// with the commit, at which deferred constraints speak; or a rule of the table ended the whole
/// transaction (SQLite's `RAISE(ROLLBACK)`), and there was nothing left to commit.
fn forbids(error: &diesel::result::Error) -> bool {
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

fn refused_by_commit(mutation: &Mutation) -> Reject {
    let reject = Reject::new(
        RejectCode::Constraint,
        "a constraint or a rule of the table does not hold",
    );
    match &mutation.writes {
        Ok(writes) if writes.len() == 1 => reject.of_write(0),
        _ => reject,
    }
}

macro_rules! write_on {
    ($backend:ident, $Conn:ty, $transaction:ident) => {
        /// The steps on this backend.
        pub(crate) mod $backend {
            use diesel::prelude::*;
            use diesel_async::{AsyncConnection as _, RunQueryDsl};

            use super::{
                Device, Mutation, Outcome, WriteFailed, forbids, out_of_order, refused_by_commit,
            };
            use crate::db::DbError;
            use crate::db::error::{DbResult, Failed};
            use crate::db::tables::{_rhtmx_sync_client as client, _rhtmx_sync_reject as reject};
            use crate::db::$backend::write;

            /// Applies a mutation.
            pub(crate) async fn apply(conn: &mut $Conn, mutation: &Mutation) -> DbResult<Outcome> {
                let mut ended = conn
                    .$transaction(async |conn| run(conn, mutation).await)
                    .await;
                if let Err(Failed::Diesel(error)) = &ended
                    && forbids(error)
                {
                    let writes = Err(refused_by_commit(mutation));
                    let rejected = Mutation {
                        origin: mutation.origin,
                        writes,
                    };
                    ended = conn
                        .$transaction(async |conn| run(conn, &rejected).await)
                        .await;
                }
                ended.map_err(|failed: Failed| failed.while_doing("applying a mutation"))
            }

            async fn run(conn: &mut $Conn, mutation: &Mutation) -> Result<Outcome, Failed> {
                let device = mutation.origin.client_id.to_string();
                let number = i64::try_from(mutation.origin.mutation).unwrap_or(i64::MAX);
                write::begin(conn).await?;
                diesel::insert_into(client::table)
                    .values((client::client_id.eq(&device), client::last_mutation.eq(0)))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                let locked = write::lock_device(conn, &device).await?;
                let last = locked.last_mutation;
                if (1..=last).contains(&number) {
                    return answered(conn, &device, number, locked).await;
                }
                if number != last + 1 {
                    return Ok(Outcome::Rejected(out_of_order(
                        u64::try_from(last + 1).unwrap_or(1),
                    )));
                }
                let applied = match &mutation.writes {
                    Err(reject) => Err(reject.clone()),
                    Ok(writes) => apply_writes(conn, mutation, writes).await?,
                };
                let mark = match applied {
                    Ok(()) => Some(write::mark(conn).await?),
                    Err(_) => locked.last_mark,
                };
                diesel::update(client::table.find(&device))
                    .set((client::last_mutation.eq(number), client::last_mark.eq(mark)))
                    .execute(conn)
                    .await?;
                match applied {
                    Ok(()) => Ok(Outcome::Committed {
                        mark: mark.map(crate::db::$backend::read::mark),
                        epoch: locked.epoch,
                    }),
                    Err(why) => {
                        let text = serde_json::to_string(&why).expect("a reject is JSON");
                        diesel::insert_into(reject::table)
                            .values((
                                reject::client_id.eq(&device),
                                reject::mutation.eq(number),
                                reject::reject.eq(text),
                            ))
                            .execute(conn)
                            .await?;
                        Ok(Outcome::Rejected(why))
                    }
                }
            }

            /// The answer that the mutation got when it was first sent.
            async fn answered(
                conn: &mut $Conn,
                device: &str,
                number: i64,
                locked: Device,
            ) -> Result<Outcome, Failed> {
                let text: Option<String> = reject::table
                    .find((device, number))
                    .select(reject::reject)
                    .first(conn)
                    .await
                    .optional()?;
                Ok(match text {
                    None => Outcome::Committed {
                        mark: locked.last_mark.map(crate::db::$backend::read::mark),
                        epoch: locked.epoch,
                    },
                    Some(text) => {
                        Outcome::Rejected(serde_json::from_str(&text).map_err(|error| {
                            DbError::Statement {
                                context: "reading a stored reject",
                                message: error.to_string(),
                            }
                        })?)
                    }
                })
            }

            /// Runs the writes in a savepoint, so that a reject leaves nothing of them.
            async fn apply_writes(
                conn: &mut $Conn,
                mutation: &Mutation,
                writes: &[super::TableWrite],
            ) -> Result<Result<(), rhtmx_sync_core::protocol::Reject>, Failed> {
                let ended = conn
                    .transaction(async |conn| {
                        write::set_origin(conn, &mutation.origin).await?;
                        for (index, write) in writes.iter().enumerate() {
                            write::write(conn, index, write).await?;
                        }
                        write::settle(conn, writes).await
                    })
                    .await;
                match ended {
                    Ok(()) => Ok(Ok(())),
                    Err(WriteFailed::Rejected(reject)) => Ok(Err(reject)),
                    Err(WriteFailed::Diesel(error)) => Err(Failed::Diesel(error)),
                }
            }

            /// The newest mutation of a device that has been answered, 0 for none.
            pub(crate) async fn last_mutation(conn: &mut $Conn, device: &str) -> DbResult<u64> {
                let last: Option<i64> = client::table
                    .find(device)
                    .select(client::last_mutation)
                    .first(conn)
                    .await
                    .optional()
                    .map_err(|error| {
                        DbError::while_doing("reading a client's last mutation", error)
                    })?;
                Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
            }
        }
    };
}

write_on!(postgres, diesel_async::AsyncPgConnection, transaction);
write_on!(
    sqlite,
    crate::db::sqlite::connect::SqliteConn,
    immediate_transaction
);
