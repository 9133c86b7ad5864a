//! Notices connections that have become silent: a firewall, a NAT or a failover may drop a flow without a word to
//! either side, and then nothing would arrive any more, and nothing fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::Line;
use crate::error::DbError;
use crate::listener::{ListenerStatus, WakeUp};
use crate::postgres::connect::Connector;

/// Between two questions whether a connection still works.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take before the database is asked, on another connection, why there is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The same behind a pooler, where nothing can be found out on another connection.
const ANSWER_WITHIN_POOLED: Duration = Duration::from_secs(50);

/// Whether the backend `$1` is at work: its statement runs, or waits for a lock, and it is not trying to send us
/// something.
const IS_AT_WORK: &str = "\
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND state = 'active' \
AND coalesce(wait_event_type, '') <> 'Client')";

/// Watches one pair of connections.
pub(super) struct Silence {
    connector: Connector,
    status: tokio::sync::watch::Receiver<ListenerStatus>,
    connections: [(Arc<Client>, i32); 2],
}

impl Line<'_> {
    /// A watch of this pair of connections.
    pub(super) fn silence(&self) -> Silence {
        Silence {
            connector: self.owner.connector.clone(),
            status: self.owner.context.status.subscribe(),
            connections: [(self.l.clone(), self.l_pid), (self.w.clone(), self.w_pid)],
        }
    }
}

impl Silence {
    /// Waits until one of the connections is silent though its backend has nothing to do.
    pub(super) async fn detected(self) -> DbError {
        loop {
            tokio::time::sleep(PING_EVERY).await;
            let pooled = self.status.borrow().wake_up == WakeUp::Polling;
            for (client, pid) in &self.connections {
                let patience = if pooled {
                    ANSWER_WITHIN_POOLED
                } else {
                    ANSWER_WITHIN
                };
                // An error is an answer; an end of the connection is noticed elsewhere.
                if timeout(patience, client.batch_execute("")).await.is_ok() {
                    continue;
                }
                if pooled || !self.is_at_work(*pid).await {
                    return DbError::Unreachable(
                        "a connection of the listener is silent; the network may have dropped it"
                            .to_owned(),
                    );
                }
            }
        }
    }

    /// Whether the backend of a connection that does not answer is at work. When the database cannot be asked,
    /// it is not.
    async fn is_at_work(&self, pid: i32) -> bool {
        let asked = timeout(ANSWER_WITHIN, async {
            let (client, connection) = self.connector.connect().await?;
            let _driving = AbortOnDropHandle::new(tokio::spawn(connection));
            let row = client
                .query_typed_one(IS_AT_WORK, &[(&pid, Type::INT4)])
                .await;
            row.and_then(|row| row.try_get::<_, bool>(0))
                .map_err(|error| DbError::Unreachable(error.to_string()))
        });
        match asked.await {
            Ok(Ok(is_at_work)) => is_at_work,
            Ok(Err(error)) => {
                debug!(%error, "the database could not be asked about a silent connection");
                false
            }
            Err(_) => false,
        }
    }
}
