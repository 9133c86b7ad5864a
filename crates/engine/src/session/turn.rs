//! The queue for a turn to send a page.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// A place in the queue. It is kept while a session does something short in between, but not while it waits for
/// something else: it would be given a turn that it does not use, and everybody else's pages would wait.
#[derive(Debug)]
pub(super) struct TurnQueue {
    turns: Arc<Semaphore>,
    place: PollSemaphore,
}

impl TurnQueue {
    pub(super) fn new(turns: Arc<Semaphore>) -> Self {
        let place = PollSemaphore::new(turns.clone());
        Self { turns, place }
    }

    /// Waits for a turn; none when there will be no more. Dropping the future keeps the place.
    pub(super) async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        poll_fn(|cx| self.place.poll_acquire(cx)).await
    }

    /// Leaves the queue; the next wait begins at its end.
    pub(super) fn leave(&mut self) {
        self.place = PollSemaphore::new(self.turns.clone());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_session_that_waits_for_its_client_has_no_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let mut stalled = TurnQueue::new(turns.clone());
        let mut next = TurnQueue::new(turns.clone());
        let current = turns.clone().try_acquire_owned().expect("a turn");
        assert!(stalled.turn().now_or_never().is_none());
        assert!(next.turn().now_or_never().is_none());
        // The place is kept from one wait to the next.
        assert!(stalled.turn().now_or_never().is_none());
        stalled.leave();
        drop(current);
        let turn = next.turn().now_or_never().flatten();
        assert!(turn.is_some());
        assert!(stalled.turn().now_or_never().is_none());
        drop(turn);
        assert!(stalled.turn().now_or_never().flatten().is_some());
    }
}
