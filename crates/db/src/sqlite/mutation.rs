//! Mutations on SQLite.
//!
//! There is one writer at a time, so mutations that wait share a transaction, which does everything in one visit to a
//! blocking thread: another program that writes finds the file locked for as short as can be.

use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use protocol::Reject;
use sync_core::mutation::Applied;
use sync_core::mutation::chain::{CHAINS_KEPT, KeptChains, Turn};
use sync_core::mutation::fields::{Merged, Plan};
use tokio::sync::oneshot;

use super::connect::{SqliteConn, blocking};
use super::explain::WriteFailed;
use super::statement::KeptStatements;
use super::{field_write, read, store, write};
use crate::error::{DbError, DbResult, Failed};
use crate::lanes::Job;
use crate::tables::{
    _rhtmx_sync_client as client, _rhtmx_sync_merged as merged, _rhtmx_sync_reject as reject,
};
use crate::write::{
    Began, ClientState, Mutation, TableWrite, answer_again, is_violation, merged_of_before,
    rejected_at_commit, stored_merged, stored_reject,
};

const CONTEXT: &str = "applying a mutation";

/// Of a client: its last mutation and commit, its chains, and its user.
type StoredClient = (i64, Option<i64>, Vec<u8>, Option<String>);

/// A mutation that waits to be applied.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) mutation: Arc<Mutation>,
    pub(super) answer: oneshot::Sender<DbResult<Applied>>,
}

impl Job for Waiting {
    fn row(&self) -> Option<&str> {
        None
    }

    fn weight(&self) -> usize {
        self.mutation.writes.as_ref().map_or(1, Vec::len)
    }
}

/// Applies mutations in one transaction or, if that fails as a whole, each in its own.
pub(super) async fn apply_all(
    conn: &mut SqliteConn,
    mutations: Vec<Arc<Mutation>>,
    kept: &Arc<KeptStatements>,
) -> Vec<DbResult<Applied>> {
    let (together, keep) = (mutations.clone(), kept.clone());
    let applied = blocking(conn, CONTEXT, move |conn| Ok(run(conn, &together, &keep))).await;
    match applied {
        Ok(Ok(answers)) => return answers,
        Ok(Err(failed)) if mutations.len() == 1 => {
            return vec![Err(failed.while_doing(CONTEXT))];
        }
        _ => {}
    }
    let mut answers = Vec::new();
    for mutation in mutations {
        let keep = kept.clone();
        let alone = move |conn: &mut SqliteConnection| Ok(run_alone(conn, &mutation, &keep));
        let alone = blocking(conn, CONTEXT, alone).await;
        answers.push(alone.and_then(|ended| ended.map_err(|failed| failed.while_doing(CONTEXT))));
    }
    answers
}

/// Applies one mutation, or rejects it when only the commit fails.
fn run_alone(
    conn: &mut SqliteConnection,
    mutation: &Arc<Mutation>,
    kept: &KeptStatements,
) -> Result<Applied, Failed> {
    let one = |answers: Vec<DbResult<Applied>>| {
        let lost = || Failed::Other(DbError::Unreachable("there is no answer".to_owned()));
        let answer = answers.into_iter().next().ok_or_else(lost)?;
        answer.map_err(Failed::Other)
    };
    match run_once(conn, std::slice::from_ref(mutation), kept) {
        Err(Failed::Diesel(error)) if is_violated_at_commit(&error) => {
            let rejected = mutation.rejected(rejected_at_commit(mutation));
            one(run_once(conn, &[rejected.into()], kept)?)
        }
        ended => one(ended?),
    }
}

fn run(
    conn: &mut SqliteConnection,
    mutations: &[Arc<Mutation>],
    kept: &KeptStatements,
) -> Result<Vec<DbResult<Applied>>, Failed> {
    match mutations {
        [one] => Ok(vec![
            run_alone(conn, one, kept).map_err(|failed| failed.while_doing(CONTEXT)),
        ]),
        several => run_once(conn, several, kept),
    }
}

fn run_once(
    conn: &mut SqliteConnection,
    mutations: &[Arc<Mutation>],
    kept: &KeptStatements,
) -> Result<Vec<DbResult<Applied>>, Failed> {
    conn.immediate_transaction(|conn| {
        mutations
            .iter()
            .map(|mutation| match apply_one(conn, mutation, kept) {
                Ok(applied) => Ok(Ok(applied)),
                // Nothing of it is left, and the others go on.
                Err(Failed::Other(error)) => Ok(Err(error)),
                Err(failed) => Err(failed),
            })
            .collect()
    })
}

fn apply_one(
    conn: &mut SqliteConnection,
    mutation: &Mutation,
    kept_statements: &KeptStatements,
) -> Result<Applied, Failed> {
    let client = match next(conn, mutation)? {
        Began::Open(client) => client,
        Began::Answered(applied) => return Ok(applied),
    };
    let applied = match &mutation.writes {
        Err(reject) => Err(reject.clone()),
        Ok(writes) => apply_writes(conn, mutation, writes, kept_statements)?,
    };
    client.answer(conn, applied)
}

/// A client whose next mutation has come.
#[derive(Debug)]
pub(super) struct NextOfClient {
    name: String,
    /// The mutation's number.
    number: i64,
    /// Those up to the mutation.
    chains: KeptChains,
    last_commit: Option<i64>,
    user_id: Option<String>,
}

/// The mutation's client, if the mutation comes next.
pub(super) fn next(
    conn: &mut SqliteConnection,
    mutation: &Mutation,
) -> Result<Began<NextOfClient>, Failed> {
    let name = mutation.client_id.to_string();
    let stored: Option<StoredClient> = client::table
        .find(&name)
        .select((
            client::last_mutation,
            client::last_commit,
            client::chains,
            client::user_id,
        ))
        .first(conn)
        .optional()?;
    let (last, last_commit, chains, user_id) = stored.unwrap_or_default();
    let chains = KeptChains::stored(u64::try_from(last).unwrap_or(0), chains);
    let known = ClientState { chains, user_id };
    if !known.is_open_to(mutation.user_id.as_deref()) {
        return Err(Failed::Other(DbError::OtherUser));
    }
    let mut kept = known.chains;
    let number = i64::try_from(mutation.place.number).unwrap_or(i64::MAX);
    let Turn::Next(chain) = kept.turn(&mutation.place) else {
        let text: Option<String> = reject::table
            .find((&name, number))
            .select(reject::reject)
            .first(conn)
            .optional()?;
        let told: Option<String> = merged::table
            .find((&name, number))
            .select(merged::merged)
            .first(conn)
            .optional()?;
        let again = answer_again(&kept, &mutation.place, || match text {
            None => Ok(Applied::Committed {
                commit_id: last_commit.map(read::commit_id),
                epoch: None,
                merged: merged_of_before(told.as_deref()),
            }),
            Some(text) => stored_reject(&text).map(Applied::Rejected),
        });
        let lost = || DbError::Unreachable("the client's number has moved".to_owned());
        return Ok(Began::Answered(again?.ok_or_else(lost)?));
    };
    kept.push(chain);
    Ok(Began::Open(NextOfClient {
        name,
        number,
        chains: kept,
        last_commit,
        user_id: known.user_id.or_else(|| mutation.user_id.clone()),
    }))
}

impl NextOfClient {
    /// Stores how the mutation was answered.
    pub(super) fn answer(
        &self,
        conn: &mut SqliteConnection,
        applied: Result<Merged, Reject>,
    ) -> Result<Applied, Failed> {
        let (name, number) = (&self.name, self.number);
        let commit_id = match &applied {
            Ok(_) => Some(store::newest(conn)?),
            Err(_) => self.last_commit,
        };
        let state = (
            client::last_mutation.eq(number),
            client::last_commit.eq(commit_id),
            client::chains.eq(self.chains.bytes()),
            client::user_id.eq(self.user_id.as_ref()),
        );
        diesel::insert_into(client::table)
            .values((client::client_id.eq(name), state))
            .on_conflict(client::client_id)
            .do_update()
            .set(state)
            .execute(conn)?;
        match applied {
            Ok(mut merged) => {
                for conflict in &mut merged.conflicts {
                    conflict.mutation = u64::try_from(number).ok();
                }
                if let Some(text) = stored_merged(&merged) {
                    self.keep_merged(conn, &text)?;
                }
                Ok(Applied::Committed {
                    commit_id: commit_id.map(read::commit_id),
                    epoch: None,
                    merged,
                })
            }
            Err(rejected) => {
                let text = serde_json::to_string(&rejected).expect("a reject is JSON");
                diesel::insert_into(reject::table)
                    .values((
                        reject::client_id.eq(name),
                        reject::mutation.eq(number),
                        reject::reject.eq(text),
                    ))
                    .execute(conn)?;
                let of_client = reject::table.filter(reject::client_id.eq(name));
                let old = of_client.filter(reject::mutation.le(self.oldest()));
                diesel::delete(old).execute(conn)?;
                Ok(Applied::Rejected(rejected))
            }
        }
    }

    /// Keeps what is told of the mutation.
    fn keep_merged(&self, conn: &mut SqliteConnection, text: &str) -> QueryResult<()> {
        diesel::insert_into(merged::table)
            .values((
                merged::client_id.eq(&self.name),
                merged::mutation.eq(self.number),
                merged::merged.eq(text),
            ))
            .execute(conn)?;
        let of_client = merged::table.filter(merged::client_id.eq(&self.name));
        diesel::delete(of_client.filter(merged::mutation.le(self.oldest()))).execute(conn)?;
        Ok(())
    }

    /// The newest number that is older than the chains: it is not answered from what is stored any more.
    fn oldest(&self) -> i64 {
        self.number - i64::try_from(CHAINS_KEPT).unwrap_or(i64::MAX)
    }
}

/// Runs the writes in a savepoint, so that a reject undoes all of them.
fn apply_writes(
    conn: &mut SqliteConnection,
    mutation: &Mutation,
    writes: &[TableWrite],
    kept: &KeptStatements,
) -> Result<Result<Merged, Reject>, Failed> {
    let mut merged = Merged::default();
    let ended = conn.transaction(|conn| {
        name_mutation(conn, mutation)?;
        for (index, write) in writes.iter().enumerate() {
            let of_write = |failed: WriteFailed| failed.of_write(index);
            if let Some(plan) = write_in_scope(conn, write, kept).map_err(of_write)? {
                merged.add(index, write, &plan);
            }
        }
        // Other changes in this transaction do not belong to the mutation. Deferred foreign keys cannot be checked
        // before the commit: one that is violated fails that, and with it the transaction.
        unname_mutation(conn)?;
        Ok(())
    });
    match ended {
        Ok(()) => Ok(Ok(merged)),
        Err(WriteFailed::Rejected(reject)) => Ok(Err(reject)),
        Err(WriteFailed::Table { write, message }) => {
            Err(Failed::Other(DbError::Table { write, message }))
        }
        Err(WriteFailed::Diesel(error)) => Err(Failed::Diesel(error)),
    }
}

/// Stores the mutation id that the triggers write to the log. There is only one writer at a time, and the row
/// is deleted before the transaction ends, so no other program's write is attributed to the mutation.
pub(super) fn name_mutation(conn: &mut SqliteConnection, mutation: &Mutation) -> QueryResult<()> {
    sql_query("INSERT INTO _rhtmx_sync_mutation (client_id, mutation) VALUES (?1, ?2)")
        .bind::<Text, _>(mutation.client_id.to_string())
        .bind::<BigInt, _>(i64::try_from(mutation.place.number).unwrap_or(i64::MAX))
        .execute(conn)?;
    Ok(())
}

/// Deletes the mutation id again, and returns whether it was there.
pub(super) fn unname_mutation(conn: &mut SqliteConnection) -> QueryResult<bool> {
    let deleted = sql_query("DELETE FROM _rhtmx_sync_mutation").execute(conn)?;
    Ok(deleted > 0)
}

/// Runs one write, if its row is within the writer's scope before and after. Returns the plan of one of a row that merges by
/// its fields.
pub(super) fn write_in_scope(
    conn: &mut SqliteConnection,
    write: &TableWrite,
    kept: &KeptStatements,
) -> Result<Option<Plan>, WriteFailed> {
    if let Some(fields) = &write.fields {
        return field_write::merge(conn, write, fields, kept);
    }
    write::check_before(conn, write)?;
    write::write(conn, write, kept)?;
    write::check_afterwards(conn, write)?;
    Ok(None)
}

/// Whether the error is a violated constraint, so that the mutation must be rejected. A write that fails
/// explains itself, so this error came with the commit, which checks deferred constraints, or a rule of the
/// table ended the whole transaction (`RAISE(ROLLBACK)`) and left nothing to commit.
pub(super) fn is_violated_at_commit(error: &diesel::result::Error) -> bool {
    matches!(error, diesel::result::Error::NotInTransaction) || is_violation(error)
}

/// What is known of a client.
pub(crate) async fn client_state(conn: &mut SqliteConn, client: &str) -> DbResult<ClientState> {
    let client = client.to_owned();
    blocking(conn, "reading a client's last mutation", move |conn| {
        let found: Option<(i64, Vec<u8>, Option<String>)> = client::table
            .find(client)
            .select((client::last_mutation, client::chains, client::user_id))
            .first(conn)
            .optional()?;
        Ok(
            found.map_or_else(ClientState::default, |(last, chains, user_id)| {
                let chains = KeptChains::stored(u64::try_from(last).unwrap_or(0), chains);
                ClientState { chains, user_id }
            }),
        )
    })
    .await
}
