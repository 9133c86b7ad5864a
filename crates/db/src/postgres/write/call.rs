//! The call that applies several mutations in one transaction and one round trip.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use sync_core::mutation::chain::KeptChains;
use tokio_postgres::SimpleQueryMessage;

use super::explain::Fault;
use super::literal::literal;
use super::statement;
use crate::error::{DbError, DbResult};
use crate::postgres::incarnation::is_current;
use crate::postgres::store::in_schema;
use crate::write::{Mutation, RunAs, TableWrite};

/// How long the call and each lock may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::postgres) struct Patience {
    /// Of the whole call.
    pub(in crate::postgres) statement: Duration,
    /// Of the wait for a lock.
    pub(in crate::postgres) lock: Duration,
}

/// What became of one mutation.
#[derive(Debug, Clone)]
pub(in crate::postgres) enum Stored {
    /// It was applied, or its reject was stored.
    Now,
    /// It does not come next.
    Before(StoredClient),
    /// Nothing of it is left.
    Failed(Fault),
    /// Its client id is another user's.
    OtherUser,
}

/// A client as it is stored.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::postgres) struct StoredClient {
    last: u64,
    /// The commit id of the last mutation that was applied.
    pub(in crate::postgres) commit: Option<i64>,
    chains: Option<String>,
    /// The reject that is stored for the mutation.
    pub(in crate::postgres) reject: Option<String>,
    /// What is stored to be told of it, when it was applied.
    pub(in crate::postgres) merged: Option<String>,
}

impl StoredClient {
    pub(in crate::postgres) fn chains(&self) -> KeptChains {
        KeptChains::stored(self.last, bytes(self.chains.as_deref().unwrap_or_default()))
    }
}

/// What the call returned.
#[derive(Debug)]
pub(in crate::postgres) struct Returned {
    pub(in crate::postgres) epoch: String,
    /// The commit id of the mutations that were applied now.
    pub(in crate::postgres) commit_id: i64,
    /// For each mutation, in their order.
    pub(in crate::postgres) stored: Vec<Stored>,
}

/// The beginning of the call. After a crash or a restore PostgreSQL assigns transaction numbers again, so no mutation is
/// applied until a new epoch has begun: its commit id would be mistaken for that of an earlier transaction.
const CALL: &str = concat!(
    "SELECT m.epoch, pg_catalog.pg_current_xact_id()::pg_catalog.text AS commit_id, CASE WHEN ",
    is_current!(),
    " THEN _rhtmx_sync_apply("
);

/// The statements: they form one transaction, because they are sent together. `emptied` are those that empty settings.
///
/// They say how they are to be understood, because behind a transaction pooler the database session has other users.
pub(in crate::postgres) fn sql(
    mutations: &[&Mutation],
    emptied: &str,
    log_schema: &str,
    patience: Patience,
) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {}; {emptied}{}",
        patience.statement.as_millis(),
        query(mutations, log_schema, patience.lock)
    )
}

/// The query alone.
pub(in crate::postgres) fn query(
    mutations: &[&Mutation],
    log_schema: &str,
    lock_patience: Duration,
) -> String {
    let mut sql = in_schema(CALL, log_schema);
    let list = |of: &dyn Fn(&Mutation) -> Option<String>| {
        let items: Vec<String> = mutations
            .iter()
            .map(|mutation| of(mutation).map_or("NULL".to_owned(), |text| literal(&text)))
            .collect();
        format!("ARRAY[{}]::pg_catalog.", items.join(","))
    };
    let number = |mutation: &Mutation| i64::try_from(mutation.place.number).unwrap_or(i64::MAX);
    let reject = |mutation: &Mutation| {
        let reject = mutation.writes.as_ref().err()?;
        let json = serde_json::to_string(reject).expect("a reject is JSON");
        Some(statement::ascii(&json))
    };
    let steps = |mutation: &Mutation| {
        let writes = mutation.writes.as_ref().ok()?;
        Some(statement::steps(writes, mutation.merged.as_deref()))
    };
    let _ = write!(
        sql,
        "{}text[],{}text[],{}int8[],{}text[],{}text[],{}text[],{}text[],{}) END AS answers {}",
        list(&|mutation| Some(mutation.client_id.to_string())),
        list(&|mutation| mutation.user_id.clone()),
        list(&|mutation| Some(number(mutation).to_string())),
        list(&|mutation| Some(hex(&mutation.place.digest.0))),
        list(&|mutation| mutation.place.claimed.map(|chain| chain.to_string())),
        list(&reject),
        list(&steps),
        lock_patience.as_millis(),
        in_schema("FROM _rhtmx_sync_meta m", log_schema),
    );
    sql
}

/// The query for writes of the mutation that the transaction has begun; without any, it checks the deferred constraints.
/// What is deferred runs as `run_as`, where a write has run so.
pub(in crate::postgres) fn query_of_open(
    writes: &[TableWrite],
    run_as: Option<&RunAs>,
    log_schema: &str,
    lock_patience: Duration,
) -> String {
    const NULLS: &str = "ARRAY[NULL]::pg_catalog.text[]";
    format!(
        "{}{NULLS},{NULLS},ARRAY[NULL]::pg_catalog.int8[],{NULLS},{NULLS},{NULLS},ARRAY[{}]::pg_catalog.text[],{}) \
         END AS answers {}",
        in_schema(CALL, log_schema),
        literal(&statement::steps_of(writes, run_as, None)),
        lock_patience.as_millis(),
        in_schema("FROM _rhtmx_sync_meta m", log_schema),
    )
}

/// Reads what the statements returned.
pub(in crate::postgres) fn returned(messages: &[SimpleQueryMessage]) -> DbResult<Returned> {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    read(row.map(|row| (row.get(0), row.get(1), row.get(2))))
}

/// Reads the row that the query returned: the epoch, the commit id, and the answers.
pub(in crate::postgres) fn read(
    row: Option<(Option<&str>, Option<&str>, Option<&str>)>,
) -> DbResult<Returned> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Answer {
        Client(StoredClient),
        #[allow(dead_code, reason = "it is there or it is not")]
        OtherUser {
            other_user: bool,
        },
        Fault(Fault),
    }
    let unreadable = |message: String| DbError::Statement {
        context: "applying mutations",
        message,
    };
    let row = row.ok_or_else(|| unreadable("the engine's own tables are empty".to_owned()))?;
    let (Some(epoch), Some(commit_id), answers) = row else {
        return Err(unreadable("the answer is incomplete".to_owned()));
    };
    let Some(answers) = answers else {
        return Err(DbError::Unreachable(
            "the database has crashed or was restored, and its new epoch has not begun".to_owned(),
        ));
    };
    let answers: Vec<Option<Answer>> =
        serde_json::from_str(answers).map_err(|error| unreadable(error.to_string()))?;
    Ok(Returned {
        epoch: epoch.to_owned(),
        commit_id: commit_id
            .parse()
            .map_err(|_| unreadable("a commit id is not a number".to_owned()))?,
        stored: answers
            .into_iter()
            .map(|answer| match answer {
                None => Stored::Now,
                Some(Answer::Client(client)) => Stored::Before(client),
                Some(Answer::OtherUser { .. }) => Stored::OtherUser,
                Some(Answer::Fault(fault)) => Stored::Failed(fault),
            })
            .collect(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    };
    digits.iter().map_while(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&hex(&all)), all);
    }
}
