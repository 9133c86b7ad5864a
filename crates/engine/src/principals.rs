//! The principals for whom sessions act on this server: how many connections each user has, and whose end.
//!
//! Invariants:
//! 1. No user has more entries than may be.
//! 2. Whom a [`Principals::end`] means has no entry afterwards that began before it: neither one that was there, nor one
//!    whose principal was being verified meanwhile.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sync_core::policy::Principal;
use tokio::time::Instant;

use crate::mailbox::SessionId;

/// How long an end is remembered, for connections whose principal was verified before it: longer than a ticket is good,
/// and than a handshake takes.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many ends are remembered.
const REMEMBERED_MAX: usize = 1000;

/// What one is told whose sessions were ended.
pub(crate) const SIGNED_OUT: &str = "the application has ended this connection; sign in again";
/// What one is told who has as many connections as may be.
pub(crate) const TOO_MANY_OF_USER: &str =
    "this user has as many connections as may be (limits.connections_of_user_max)";

type Whom = dyn Fn(&Principal) -> bool + Send + Sync;

/// All entries.
pub(crate) struct Principals {
    /// Of one user; 0 for no limit.
    of_user_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<SessionId, Entry>,
    of_user: HashMap<String, usize>,
    ended: VecDeque<(Instant, Arc<Whom>)>,
}

struct Entry {
    principal: Arc<Principal>,
    has_ended: Arc<AtomicBool>,
}

/// One connection's entry, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Present {
    principals: Arc<Principals>,
    session: SessionId,
    has_ended: Arc<AtomicBool>,
}

/// Why a connection gets no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotEntered {
    /// Its user has as many as may be.
    TooMany,
    /// It was ended while it began.
    Ended,
}

impl fmt::Debug for Principals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.state().entries.len();
        formatter
            .debug_struct("Principals")
            .field("entries", &entries)
            .finish_non_exhaustive()
    }
}

impl Principals {
    pub(crate) fn new(of_user_max: usize) -> Self {
        Self {
            of_user_max,
            state: Mutex::default(),
        }
    }

    /// Enters a session whose principal was asked for at `since`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        session: SessionId,
        principal: &Arc<Principal>,
        since: Instant,
    ) -> Result<Present, NotEntered> {
        let mut state = self.state();
        if state.was_ended(principal, since) {
            return Err(NotEntered::Ended);
        }
        if let Some(user_id) = &principal.user_id {
            let count = state.of_user.entry(user_id.clone()).or_default();
            if self.of_user_max > 0 && *count >= self.of_user_max {
                metrics::counter!("rhtmx_sync_user_connections_refused_total").increment(1);
                return Err(NotEntered::TooMany);
            }
            *count += 1;
        }
        let has_ended = Arc::new(AtomicBool::new(false));
        let entry = Entry {
            principal: principal.clone(),
            has_ended: has_ended.clone(),
        };
        state.entries.insert(session, entry);
        Ok(Present {
            principals: self.clone(),
            session,
            has_ended,
        })
    }

    /// Ends the sessions of these principals, and returns them: the caller wakes them. Sessions that begin meanwhile get
    /// no entry.
    pub(crate) fn end(&self, whom: Arc<Whom>) -> Vec<SessionId> {
        let now = Instant::now();
        let mut state = self.state();
        let meant = state
            .entries
            .iter()
            .filter(|(_, entry)| whom(&entry.principal));
        let ended: Vec<SessionId> = meant
            .map(|(session, entry)| {
                entry.has_ended.store(true, Ordering::Release);
                *session
            })
            .collect();
        state.remember(whom, now);
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, whom: Arc<Whom>, now: Instant) {
        let is_old = |ended: &(Instant, Arc<Whom>)| ended.0 + REMEMBERED <= now;
        while self.ended.len() >= REMEMBERED_MAX || self.ended.front().is_some_and(is_old) {
            self.ended.pop_front();
        }
        self.ended.push_back((now, whom));
    }

    fn was_ended(&self, principal: &Principal, since: Instant) -> bool {
        let later = self.ended.iter().filter(|(at, _)| *at >= since);
        later.into_iter().any(|(_, whom)| whom(principal))
    }
}

impl Present {
    /// The session that it is for.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Whether the session must end.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// The session acts for this principal from now on, who was asked for at `since`. It is of the same user.
    pub(crate) fn renew(&self, principal: &Arc<Principal>, since: Instant) {
        let mut state = self.principals.state();
        if state.was_ended(principal, since) {
            self.has_ended.store(true, Ordering::Release);
        }
        if let Some(entry) = state.entries.get_mut(&self.session) {
            entry.principal = principal.clone();
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut state = self.principals.state();
        let Some(entry) = state.entries.remove(&self.session) else {
            return;
        };
        let Some(user_id) = &entry.principal.user_id else {
            return;
        };
        if let Some(count) = state.of_user.get_mut(user_id) {
            *count -= 1;
            if *count == 0 {
                state.of_user.remove(user_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Arc<Principal> {
        Principal::of_user(name).into()
    }

    fn ann() -> Arc<Whom> {
        Arc::new(|principal| principal.user_id.as_deref() == Some("ann"))
    }

    #[test]
    fn a_user_has_so_many_entries_and_nobody_counts() {
        let principals = Arc::new(Principals::new(2));
        let now = Instant::now();
        let enter = |who: &Arc<Principal>| principals.enter(SessionId::next(), who, now);
        let first = enter(&user("ann")).expect("an entry");
        let second = enter(&user("ann")).expect("an entry");
        assert_eq!(enter(&user("ann")).err(), Some(NotEntered::TooMany));
        let others: Vec<_> = (0..5)
            .map(|_| enter(&Arc::new(Principal::anonymous())))
            .collect();
        assert!(others.iter().all(Result::is_ok) && enter(&user("ben")).is_ok());
        drop(first);
        assert!(enter(&user("ann")).is_ok());
        drop((second, others));
        assert!(principals.state().of_user.is_empty() && principals.state().entries.is_empty());
    }

    #[test]
    fn whom_an_end_means_is_ended_also_if_it_was_being_verified() {
        let principals = Arc::new(Principals::new(0));
        let before = Instant::now();
        let session = SessionId::next();
        let present = principals
            .enter(session, &user("ann"), before)
            .expect("an entry");
        let other = principals
            .enter(SessionId::next(), &user("ben"), before)
            .expect("an entry");
        assert_eq!(principals.end(ann()), [session]);
        assert!(present.has_ended() && !other.has_ended());
        let late = principals.enter(SessionId::next(), &user("ann"), before);
        assert_eq!(late.err(), Some(NotEntered::Ended));
        // One who signs in again is welcome.
        let again = principals.enter(
            SessionId::next(),
            &user("ann"),
            Instant::now() + Duration::from_millis(1),
        );
        assert!(again.is_ok());
        // A renewal with what was verified before the end is none.
        other.renew(&user("ann"), before);
        assert!(other.has_ended());
        for _ in 0..2 * REMEMBERED_MAX {
            principals.end(ann());
        }
        assert_eq!(principals.state().ended.len(), REMEMBERED_MAX);
    }
}
