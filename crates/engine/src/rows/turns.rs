//! The turns of reads on the database, as futures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sync_core::limit::Limit;
use sync_core::turns::{Requester, Ticket, Turns};
use tokio::sync::oneshot;

use crate::auth::{Counted, Identity};
use crate::limits;
use crate::mailbox::SessionId;

/// For whom a read is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadClient {
    /// None for all those together of whom neither user nor address is known.
    user: Option<Counted>,
    /// None for all plain HTTP requests of the user together: nothing tells their clients apart.
    session: Option<SessionId>,
}

impl ReadClient {
    /// A session of this user.
    pub(crate) fn session(user: Option<Counted>, session: SessionId) -> Self {
        Self {
            user,
            session: Some(session),
        }
    }

    /// A plain HTTP request.
    pub(crate) fn http(identity: &Identity) -> Self {
        Self {
            user: identity.counted(),
            session: None,
        }
    }
}

/// How many reads there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    /// At once.
    pub(crate) turns_max: usize,
    /// At once for one user.
    pub(crate) of_user_max: usize,
    /// That wait for a turn.
    pub(crate) waiting_max: usize,
    /// That wait for one user.
    pub(crate) waiting_of_user_max: usize,
}

/// The reads that run and that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadCounts {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

/// More reads wait than may.
#[derive(Debug)]
pub(crate) struct Busy;

/// The turns of reads.
#[derive(Debug)]
pub(crate) struct ReadTurns {
    limits: ReadLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    turns: Turns<Option<Counted>, Option<SessionId>>,
    waiters: HashMap<Ticket, oneshot::Sender<()>>,
}

impl ReadTurns {
    pub(super) fn new(limits: ReadLimits) -> Arc<Self> {
        let state = State {
            turns: Turns::new(limits.turns_max, limits.of_user_max),
            waiters: HashMap::new(),
        };
        Arc::new(Self {
            limits,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// The reads that run and that wait now.
    pub(crate) fn counts(&self) -> ReadCounts {
        let turns = &self.state().turns;
        ReadCounts {
            running: turns.taken(),
            waiting: turns.waiting(),
        }
    }

    /// Waits for a turn. Dropping the future gives the request up.
    pub(super) async fn take(
        self: &Arc<Self>,
        entity: &str,
        client: ReadClient,
    ) -> Result<Turn, Busy> {
        Ok(self.request(entity, client)?.turn().await)
    }

    /// Asks for a turn.
    pub(super) fn request(
        self: &Arc<Self>,
        entity: &str,
        client: ReadClient,
    ) -> Result<TurnRequest, Busy> {
        let (sender, granted) = oneshot::channel();
        let mut state = self.state();
        let of_user = state.turns.waiting_of(&client.user);
        if state.turns.waiting() >= self.limits.waiting_max
            || of_user >= self.limits.waiting_of_user_max
        {
            limits::reached(Limit::ReadsWaiting);
            return Err(Busy);
        }
        let has_share = self.limits.of_user_max < self.limits.turns_max;
        if has_share && state.turns.has_all(&client.user) {
            limits::reached(Limit::ReadsOfUser);
        }
        let ticket = state.turns.request(entity, self.requester(client));
        state.waiters.insert(ticket, sender);
        state.grant();
        let turns = self.clone();
        let turn = Turn { turns, ticket };
        Ok(TurnRequest { turn, granted })
    }

    /// Another client waits for the same read, which therefore need not wait for the turn of the first one's user.
    pub(super) fn join(&self, ticket: Ticket, client: ReadClient) {
        let mut state = self.state();
        state.turns.join(ticket, self.requester(client));
        state.grant();
    }

    fn requester(
        &self,
        ReadClient { user, session }: ReadClient,
    ) -> Requester<Option<Counted>, Option<SessionId>> {
        let turns_max = self.limits.turns_max;
        let client_max = match session {
            Some(_) => turns_max / 4,
            None => turns_max / 2,
        };
        Requester {
            user,
            client: session,
            client_max,
        }
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

/// A request for a turn; given up when it is dropped.
#[derive(Debug)]
pub(super) struct TurnRequest {
    turn: Turn,
    granted: oneshot::Receiver<()>,
}

impl TurnRequest {
    /// What others join it by.
    pub(super) fn ticket(&self) -> Ticket {
        self.turn.ticket
    }

    /// Waits for the turn.
    pub(super) async fn turn(self) -> Turn {
        // It cannot fail: the sender stays in `waiters` until the turn is granted or this request dropped.
        let _ = self.granted.await;
        self.turn
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

    fn limits(turns_max: usize) -> ReadLimits {
        ReadLimits {
            turns_max,
            of_user_max: turns_max,
            waiting_max: 4,
            waiting_of_user_max: 2,
        }
    }

    fn client(user: &str) -> ReadClient {
        let user = Some(Counted::User(user.into()));
        ReadClient::session(user, SessionId::next())
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_leaves_its_turn_to_the_next() {
        let turns = ReadTurns::new(limits(1));
        let first = turns.take("t", client("ann")).await.expect("a turn");
        let given_up = turns.request("t", client("ann")).expect("a request");
        let next = turns.request("t", client("ann")).expect("a request");
        drop(given_up);
        drop(first);
        next.turn().await;
    }

    #[tokio::test]
    async fn of_the_reads_that_wait_a_user_has_a_share() {
        let turns = ReadTurns::new(limits(1));
        let _running = turns.take("t", client("ann")).await.expect("a turn");
        let request = |user: &str| turns.request("t", client(user));
        let of_ann = [request("ann"), request("ann")];
        assert!(request("ann").is_err(), "two wait already");
        let of_ben = [request("ben"), request("ben")];
        assert!(request("cid").is_err(), "four wait already");
        let counts = ReadCounts {
            running: 1,
            waiting: 4,
        };
        assert_eq!(turns.counts(), counts);
        assert!(of_ann.iter().chain(&of_ben).all(Result::is_ok));
    }
}
