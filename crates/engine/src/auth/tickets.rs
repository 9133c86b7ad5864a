//! One-time tickets: for a client that can set no header, such as a browser's `EventSource`, a short-lived secret that may
//! stand in a URL instead of a token.
//!
//! Invariants:
//! 1. A ticket lets in once, within [`LIFETIME`], the principal to whom it was given.
//! 2. Of all users together, and of each, no more are given within a lifetime than the limits say; so neither can the
//!    memory grow, nor can one user take those of the others. Without users, each address is one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sync_core::policy::Principal;
use tokio::time::Instant;
use uuid::Uuid;

use super::Counted;

/// How long a ticket is good for.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30);

/// The tickets of this server.
#[derive(Debug)]
pub(crate) struct Tickets {
    /// Tickets given within a lifetime.
    max: usize,
    /// The same to one user.
    of_user_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have not been used.
    good: HashMap<Ticket, Owner>,
    /// Those that were given within the last lifetime, the oldest first.
    given: VecDeque<Given>,
    of_user: HashMap<Option<Counted>, usize>,
}

/// Whom a ticket lets in, and since when it does.
pub(crate) type Owner = (Arc<Principal>, Instant);

#[derive(Debug)]
struct Given {
    ticket: Ticket,
    user: Option<Counted>,
    ends_at: Instant,
}

/// 244 random bits. Its text is shown to its owner alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Ticket([Uuid; 2]);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ticket(…)")
    }
}

impl Ticket {
    fn text(self) -> String {
        let [first, second] = self.0;
        format!("{}{}", first.simple(), second.simple())
    }

    fn read(text: &str) -> Option<Self> {
        let halves = (text.len() == 64).then(|| text.split_at_checked(32))??;
        let half = |text: &str| Uuid::try_parse(text).ok();
        Some(Self([half(halves.0)?, half(halves.1)?]))
    }
}

/// As many tickets were given as may be; so long until there are more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) retry_after: Duration,
}

impl Tickets {
    pub(crate) fn new(max: usize, of_user_max: usize) -> Self {
        Self {
            max,
            of_user_max,
            state: Mutex::default(),
        }
    }

    /// Gives a ticket to a principal, who is counted as this user.
    pub(crate) fn give(
        &self,
        principal: &Arc<Principal>,
        user: Option<Counted>,
        now: Instant,
    ) -> Result<String, TooMany> {
        let mut state = self.state();
        state.expire(now);
        let of_user = state.of_user.get(&user).copied().unwrap_or_default();
        if state.given.len() >= self.max || of_user >= self.of_user_max {
            // When the user has all of its own, one of those must expire first.
            let has_all = of_user >= self.of_user_max;
            let mut given = state.given.iter();
            let oldest = given.find(|given| !has_all || given.user == user);
            let retry_after = oldest.map_or(LIFETIME, |given| given.ends_at.duration_since(now));
            return Err(TooMany { retry_after });
        }
        let ticket = Ticket([Uuid::new_v4(), Uuid::new_v4()]);
        *state.of_user.entry(user.clone()).or_default() += 1;
        state.good.insert(ticket, (principal.clone(), now));
        state.given.push_back(Given {
            ticket,
            user,
            ends_at: now + LIFETIME,
        });
        Ok(ticket.text())
    }

    /// Takes a ticket back: whom it lets in; nobody when it is unknown, used or too old.
    pub(crate) fn take(&self, text: &str, now: Instant) -> Option<Owner> {
        let ticket = Ticket::read(text)?;
        let mut state = self.state();
        state.expire(now);
        state.good.remove(&ticket)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        while self.given.front().is_some_and(|given| given.ends_at <= now) {
            let Some(given) = self.given.pop_front() else {
                return;
            };
            self.good.remove(&given.ticket);
            if let Some(count) = self.of_user.get_mut(&given.user) {
                *count -= 1;
                if *count == 0 {
                    self.of_user.remove(&given.user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str) -> Arc<Principal> {
        Principal::of_user(name).into()
    }

    fn give(tickets: &Tickets, name: &str, now: Instant) -> Result<String, TooMany> {
        let counted = Counted::User(name.into());
        tickets.give(&user(name), Some(counted), now)
    }

    #[test]
    fn a_ticket_lets_its_owner_in_once_and_in_time() {
        let (tickets, now) = (Tickets::new(10, 10), Instant::now());
        let ann = give(&tickets, "ann", now).expect("a ticket");
        let ben = give(&tickets, "ben", now).expect("a ticket");
        assert_ne!(ann, ben);
        let just_in_time = now + LIFETIME - Duration::from_millis(1);
        assert_eq!(tickets.take(&ann, just_in_time), Some((user("ann"), now)));
        assert_eq!(tickets.take(&ann, just_in_time), None);
        assert_eq!(tickets.take(&ben, now + LIFETIME), None);
        for wrong in [
            "",
            "x",
            &ann[1..],
            &ann.to_uppercase(),
            &"é".repeat(32),
            &format!("{ann}0"),
        ] {
            assert_eq!(tickets.take(wrong, now), None, "{wrong}");
        }
        let shown = format!("{tickets:?}");
        assert!(!shown.contains(&ben[..32]), "{shown}");
    }

    proptest! {
        #[test]
        fn no_user_takes_the_tickets_of_others(
            steps in prop::collection::vec((0_usize..3, 0_u64..8_000, any::<bool>()), 1..200),
        ) {
            let (max, of_user_max) = (7, 3);
            let tickets = Tickets::new(max, of_user_max);
            let mut now = Instant::now();
            let mut given: Vec<(usize, Instant)> = Vec::new();
            for (which, pause, uses) in steps {
                now += Duration::from_millis(pause);
                given.retain(|(_, at)| *at + LIFETIME > now);
                let of_user = given.iter().filter(|(owner, _)| *owner == which).count();
                let name = which.to_string();
                match give(&tickets, &name, now) {
                    Ok(ticket) => {
                        prop_assert!(given.len() < max && of_user < of_user_max);
                        given.push((which, now));
                        if uses {
                            prop_assert_eq!(tickets.take(&ticket, now), Some((user(&name), now)));
                        }
                    }
                    Err(TooMany { retry_after }) => {
                        prop_assert!(given.len() == max || of_user == of_user_max);
                        prop_assert!(!retry_after.is_zero() && retry_after <= LIFETIME);
                        // One who waits so long gets one, unless others come first.
                        let later = now + retry_after;
                        let left = given.iter().filter(|(_, at)| *at + LIFETIME > later);
                        let left: Vec<_> = left.collect();
                        let mine = left.iter().filter(|(owner, _)| *owner == which).count();
                        prop_assert!(left.len() < max && mine < of_user_max);
                    }
                }
            }
            let held = tickets.state();
            prop_assert!(held.good.len() <= held.given.len() && held.given.len() <= max);
        }
    }
}
