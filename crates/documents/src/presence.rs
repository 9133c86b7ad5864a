//! Who is there in one document, of all connections of a server.
//!
//! The protocol knows no owners: clients pass on what they have heard of others, and one that is slow says of somebody who
//! has been silent for it that they are gone. So each client's state belongs to the connection that brought its newest
//! clock, and only from there it is believed that the client is gone. Clocks that are not newer are ignored without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use crate::awareness::AwarenessEntry;

/// The greatest clock that is taken; there is always one above it.
const CLOCK_MAX: u64 = (1 << 32) - 2;

/// The most clients for which one connection speaks.
pub const CLIENTS_OF_CONNECTION_MAX: usize = 64;

/// A connection, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub NonZeroU64);

/// What is known of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Client {
    clock: u64,
    /// Its state as JSON; none for one who is gone.
    state: Option<String>,
    /// Who speaks for it.
    owner: Connection,
    /// When something new came of it, in milliseconds.
    at_ms: u64,
}

/// All that is known of who is there. Times are what the caller passes, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Presence {
    clients: BTreeMap<u64, Client>,
}

impl Presence {
    /// Takes what a connection says. Returns the clients of which it is new, and is to be passed on.
    pub fn take(
        &mut self,
        from: Connection,
        entries: &[AwarenessEntry<'_>],
        now_ms: u64,
    ) -> BTreeSet<u64> {
        let taken = entries
            .iter()
            .filter(|entry| self.take_one(from, entry, now_ms));
        taken.map(|entry| entry.client).collect()
    }

    fn take_one(&mut self, from: Connection, entry: &AwarenessEntry<'_>, now_ms: u64) -> bool {
        if entry.clock > CLOCK_MAX {
            return false;
        }
        let spoken_for = self.clients.values().filter(|known| known.owner == from);
        let is_full = spoken_for.count() >= CLIENTS_OF_CONNECTION_MAX;
        match (self.clients.get_mut(&entry.client), entry.state) {
            // Who is not known cannot be gone.
            (None, None) => return false,
            (None, Some(_)) if is_full => return false,
            (None, Some(state)) => {
                let client = Client {
                    clock: entry.clock,
                    state: Some(state.to_owned()),
                    owner: from,
                    at_ms: now_ms,
                };
                self.clients.insert(entry.client, client);
            }
            (Some(known), None) => {
                let is_gone = known.state.is_none();
                if known.owner != from || is_gone || entry.clock < known.clock {
                    return false;
                }
                (known.clock, known.state, known.at_ms) = (entry.clock, None, now_ms);
            }
            (Some(known), Some(state)) => {
                let is_taken_over = known.owner != from;
                if entry.clock <= known.clock || (is_taken_over && is_full) {
                    return false;
                }
                *known = Client {
                    clock: entry.clock,
                    state: Some(state.to_owned()),
                    owner: from,
                    at_ms: now_ms,
                };
            }
        }
        true
    }

    /// A connection has ended. Returns the clients that are gone with it; each has a clock above its last.
    pub fn leave(&mut self, connection: Connection, now_ms: u64) -> BTreeSet<u64> {
        self.remove(now_ms, |known| known.owner == connection)
    }

    /// Removes those who have been silent since a time, and forgets those who were gone by then. Returns who is gone now.
    pub fn expire(&mut self, silent_since_ms: u64, now_ms: u64) -> BTreeSet<u64> {
        self.clients
            .retain(|_, known| known.state.is_some() || known.at_ms >= silent_since_ms);
        self.remove(now_ms, |known| known.at_ms < silent_since_ms)
    }

    fn remove(&mut self, now_ms: u64, is_gone: impl Fn(&Client) -> bool) -> BTreeSet<u64> {
        let there = self
            .clients
            .iter_mut()
            .filter(|(_, known)| known.state.is_some());
        let gone = there
            .filter(|(_, known)| is_gone(known))
            .map(|(client, known)| {
                (known.clock, known.state, known.at_ms) = (known.clock + 1, None, now_ms);
                *client
            });
        gone.collect()
    }

    /// What is known of these clients, to be passed on.
    pub fn entries<'a>(
        &'a self,
        of: impl IntoIterator<Item = &'a u64>,
    ) -> impl Iterator<Item = AwarenessEntry<'a>> {
        of.into_iter().filter_map(|client| {
            let known = self.clients.get(client)?;
            Some(entry(*client, known))
        })
    }

    /// All who are there, for somebody new.
    pub fn all(&self) -> impl Iterator<Item = AwarenessEntry<'_>> {
        let there = self
            .clients
            .iter()
            .filter(|(_, known)| known.state.is_some());
        there.map(|(client, known)| entry(*client, known))
    }

    /// How many clients it remembers, those who are gone among them.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether it remembers nobody.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

fn entry(client: u64, known: &Client) -> AwarenessEntry<'_> {
    AwarenessEntry {
        client,
        clock: known.clock,
        state: known.state.as_deref(),
    }
}
