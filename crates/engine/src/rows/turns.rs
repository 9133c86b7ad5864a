//! The turns of reads on the database, as futures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sync_core::turns::{Request, Ticket, Turns};
use tokio::sync::oneshot;

use crate::mailbox::SessionId;

/// For whom a read is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ReadClient {
    /// A session.
    Session(SessionId),
    /// All plain HTTP requests together: nothing tells their clients apart.
    Http,
}

/// More reads wait than may.
#[derive(Debug)]
pub(crate) struct Busy;

/// The turns of reads.
#[derive(Debug)]
pub(crate) struct ReadTurns {
    turns_max: usize,
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    turns: Turns<ReadClient>,
    waiters: HashMap<Ticket, oneshot::Sender<()>>,
}

impl ReadTurns {
    /// So many turns at once, and so many reads that may wait for one.
    pub(super) fn new(turns_max: usize, waiting_max: usize) -> Arc<Self> {
        let state = State {
            turns: Turns::new(turns_max),
            waiters: HashMap::new(),
        };
        Arc::new(Self {
            turns_max,
            waiting_max,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// Waits for a turn. Dropping the future gives the request up.
    pub(super) async fn take(
        self: &Arc<Self>,
        entity: &str,
        client: ReadClient,
    ) -> Result<Turn, Busy> {
        let (sender, granted) = oneshot::channel();
        let turn = {
            let mut state = self.state();
            if state.turns.waiting() >= self.waiting_max {
                metrics::counter!("rhtmx_sync_reads_refused_total").increment(1);
                return Err(Busy);
            }
            let ticket = state.turns.request(Request {
                entity: entity.to_owned(),
                client,
                client_max: match client {
                    ReadClient::Session(_) => self.turns_max / 4,
                    ReadClient::Http => self.turns_max / 2,
                },
            });
            state.waiters.insert(ticket, sender);
            state.grant();
            Turn {
                turns: self.clone(),
                ticket,
            }
        };
        // It cannot fail: the sender stays in `waiters` until the turn is granted or this future dropped.
        let _ = granted.await;
        Ok(turn)
    }
}

impl State {
    fn grant(&mut self) {
        while let Some(ticket) = self.turns.grant() {
            if let Some(waiter) = self.waiters.remove(&ticket) {
                let _ = waiter.send(());
            }
        }
        metrics::gauge!("rhtmx_sync_reads_waiting").set(self.turns.waiting() as f64);
    }
}

/// A turn, or the request for one; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<ReadTurns>,
    ticket: Ticket,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.waiters.remove(&self.ticket);
        state.turns.end(self.ticket);
        state.grant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_is_given_up_leaves_its_turn_to_the_next() {
        let turns = ReadTurns::new(1, 2);
        let client = ReadClient::Http;
        let first = turns.take("t", client).await.expect("a turn");
        let given_up = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take("t", client).await.map(drop) }
        });
        let next = tokio::spawn({
            let turns = turns.clone();
            async move {
                turns
                    .take("t", ReadClient::Session(SessionId::next()))
                    .await
                    .map(drop)
            }
        });
        while turns.state().turns.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(turns.take("t", client).await.is_err(), "two wait already");
        given_up.abort();
        assert!(given_up.await.is_err());
        drop(first);
        next.await.expect("no panic").expect("a turn");
    }
}
