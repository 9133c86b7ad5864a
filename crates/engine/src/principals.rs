//! The principals for whom sessions act on this server: how many connections each user and each address has, and whose
//! end.
//!
//! Invariants:
//! 1. No user, and no address, has more entries than may be.
//! 2. Whom a [`Principals::end`] means has no entry afterwards that began before it: neither one that was there, nor one
//!    whose principal was being verified meanwhile.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sync_core::limit::Limit;
use sync_core::policy::Principal;
use tokio::time::Instant;

use crate::auth::{Counted, Identity};
use crate::limits;
use crate::mailbox::SessionId;

/// How long an end is remembered, for connections whose principal was verified before it: longer than a ticket is good,
/// and than a handshake takes.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many ends are remembered.
const REMEMBERED_MAX: usize = 1000;

/// What one is told whose sessions were ended.
pub(crate) const SIGNED_OUT: &str = "the application has ended this connection; sign in again";
/// What one is told who has as many connections as may be.
const TOO_MANY: &str = "this user, or this address, has as many connections as may be \
                        (limits.connections_of_user_max, connections_of_address_max)";

type Whom = dyn Fn(&Principal) -> bool + Send + Sync;

/// All entries.
pub(crate) struct Principals {
    /// Of one user; 0 for no limit.
    of_user_max: usize,
    /// Of one address; 0 for no limit.
    of_address_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<SessionId, Entry>,
    counts: HashMap<Counted, usize>,
    ended: VecDeque<(Instant, Arc<Whom>)>,
}

struct Entry {
    principal: Arc<Principal>,
    counted: [Option<Counted>; 2],
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
    /// Its user, or its address, has as many as may be.
    TooMany,
    /// It was ended while it began.
    SignedOut,
}

impl NotEntered {
    /// For the client.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::TooMany => TOO_MANY,
            Self::SignedOut => SIGNED_OUT,
        }
    }
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
    pub(crate) fn new(of_user_max: usize, of_address_max: usize) -> Self {
        Self {
            of_user_max,
            of_address_max,
            state: Mutex::default(),
        }
    }

    /// Enters a session.
    pub(crate) fn enter(
        self: &Arc<Self>,
        session: SessionId,
        identity: &Identity,
    ) -> Result<Present, NotEntered> {
        let principal = &identity.principal;
        let user = principal.user_id.as_deref();
        let user = user.map(|user_id| Counted::User(user_id.into()));
        let address = identity.address.map(Counted::Address);
        let counted = [
            user.filter(|_| self.of_user_max > 0),
            address.filter(|_| self.of_address_max > 0),
        ];
        let mut state = self.state();
        if state.was_ended(principal, identity.since) {
            return Err(NotEntered::SignedOut);
        }
        let maxima = [self.of_user_max, self.of_address_max];
        let is_full = |(counted, max): (&Option<Counted>, usize)| {
            let count = counted
                .as_ref()
                .and_then(|counted| state.counts.get(counted));
            count.is_some_and(|count| *count >= max)
        };
        let full = counted.iter().zip(maxima).position(is_full);
        if let Some(full) = full {
            limits::reached([Limit::ConnectionsOfUser, Limit::ConnectionsOfAddress][full]);
            return Err(NotEntered::TooMany);
        }
        for counted in counted.iter().flatten() {
            *state.counts.entry(counted.clone()).or_default() += 1;
        }
        let has_ended = Arc::new(AtomicBool::new(false));
        let entry = Entry {
            principal: principal.clone(),
            counted,
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
        for counted in entry.counted.into_iter().flatten() {
            if let Some(count) = state.counts.get_mut(&counted) {
                *count -= 1;
                if *count == 0 {
                    state.counts.remove(&counted);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::auth::NamedBy;

    fn identity(user_id: Option<&str>, address: u8, since: Instant) -> Identity {
        let principal = user_id.map_or_else(Principal::anonymous, Principal::of_user);
        Identity {
            principal: principal.into(),
            named_by: NamedBy::Token,
            since,
            address: Some(IpAddr::from([192, 0, 2, address])),
        }
    }

    fn ann() -> Arc<Whom> {
        Arc::new(|principal| principal.user_id.as_deref() == Some("ann"))
    }

    #[test]
    fn a_user_and_an_address_have_so_many_entries() {
        let principals = Arc::new(Principals::new(2, 3));
        let now = Instant::now();
        let enter = |user_id: Option<&str>, address: u8| {
            principals.enter(SessionId::next(), &identity(user_id, address, now))
        };
        let first = enter(Some("ann"), 1).expect("an entry");
        let second = enter(Some("ann"), 2).expect("an entry");
        assert_eq!(enter(Some("ann"), 3).err(), Some(NotEntered::TooMany));
        // Nobody is not one user, but has an address.
        let others: Vec<_> = (0..4).map(|_| enter(None, 1)).collect();
        let refused: Vec<_> = others.iter().map(Result::is_err).collect();
        assert_eq!(refused, [false, false, true, true]);
        assert_eq!(enter(Some("ben"), 1).err(), Some(NotEntered::TooMany));
        drop(first);
        assert!(enter(Some("ben"), 1).is_ok() && enter(Some("ann"), 1).is_ok());
        drop((second, others));
        assert!(principals.state().counts.is_empty() && principals.state().entries.is_empty());
    }

    #[test]
    fn whom_an_end_means_is_ended_also_if_it_was_being_verified() {
        let principals = Arc::new(Principals::new(0, 0));
        let before = Instant::now();
        let enter = |session: SessionId, user_id: &str, since: Instant| {
            principals.enter(session, &identity(Some(user_id), 1, since))
        };
        let session = SessionId::next();
        let present = enter(session, "ann", before).expect("an entry");
        let other = enter(SessionId::next(), "ben", before).expect("an entry");
        assert_eq!(principals.end(ann()), [session]);
        assert!(present.has_ended() && !other.has_ended());
        assert_eq!(
            enter(SessionId::next(), "ann", before).err(),
            Some(NotEntered::SignedOut)
        );
        // One who signs in again is welcome.
        let later = Instant::now() + Duration::from_millis(1);
        assert!(enter(SessionId::next(), "ann", later).is_ok());
        // A renewal with what was verified before the end is none.
        other.renew(&identity(Some("ann"), 1, before).principal, before);
        assert!(other.has_ended());
        for _ in 0..2 * REMEMBERED_MAX {
            principals.end(ann());
        }
        assert_eq!(principals.state().ended.len(), REMEMBERED_MAX);
    }
}
