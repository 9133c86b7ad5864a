//! Whether a pooler gives the engine's database sessions to others between its transactions.
//!
//! Behind such a pooler two statements of one connection may run in two sessions, and what one of them left behind is
//! found by a stranger. So nothing of the engine's pool outlives a transaction: its settings are `LOCAL`, and what it
//! prepares is closed before the transaction ends. That holds wherever it is not known that the sessions are its own.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use super::connect::{Connector, failed};
use crate::error::{DbError, DbResult};
use crate::pooling::Pooling;

/// What is known about it.
#[derive(Debug, Default)]
pub(super) struct KnownPooling(AtomicU8);

impl KnownPooling {
    pub(super) fn get(&self) -> Option<Pooling> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Pooling::Session),
            2 => Some(Pooling::Transaction),
            _ => None,
        }
    }

    pub(super) fn set(&self, pooling: Pooling) {
        let known = match pooling {
            Pooling::Session => 1,
            Pooling::Transaction => 2,
        };
        self.0.store(known, Ordering::Relaxed);
    }
}

/// How often two connections are compared. Other users of a pooler may take a session in between, so that one round
/// shows nothing.
const ROUNDS: u32 = 4;

const SESSION_OF: &str = "SELECT pg_catalog.pg_backend_pid()";

/// Finds it out with two connections: without a pooler each keeps a session that the other never has.
pub(super) async fn probe(connector: &Connector) -> DbResult<Pooling> {
    let (one, _one) = open(connector).await?;
    let (two, _two) = open(connector).await?;
    for _ in 0..ROUNDS {
        let first = session(&one, SESSION_OF).await?;
        // In a transaction, so that the pooler has to give the first connection another session, if it has given it away.
        let second = session(&two, &format!("BEGIN; {SESSION_OF}")).await?;
        // Asking again would wait for a session where a pooler has only one.
        let is_shared = first == second || session(&one, SESSION_OF).await? != first;
        let ended = two.batch_execute("ROLLBACK").await;
        ended.map_err(|error| failed(CONTEXT, &error))?;
        if is_shared {
            return Ok(Pooling::Transaction);
        }
    }
    Ok(Pooling::Session)
}

const CONTEXT: &str = "looking for a pooler";

async fn open(connector: &Connector) -> DbResult<(Client, AbortOnDropHandle<()>)> {
    let (client, connection) = connector.connect().await?;
    let driving = tokio::spawn(async move {
        // Its end shows when the client is used.
        let _ = connection.await;
    });
    Ok((client, AbortOnDropHandle::new(driving)))
}

/// The session that answers, by the simple protocol: nothing is prepared.
async fn session(client: &Client, sql: &str) -> DbResult<String> {
    let answer = client.simple_query(sql).await;
    let messages = answer.map_err(|error| failed(CONTEXT, &error))?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    pid.map(str::to_owned)
        .ok_or_else(|| DbError::Unreachable(format!("{CONTEXT}: no answer")))
}
