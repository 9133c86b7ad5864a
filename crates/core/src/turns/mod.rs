//! Whose turn it is: a bounded number of reads at once, shared fairly among users, and among the entities and clients of
//! each.
//!
//! Invariants:
//! 1. No more reads run at once than there are turns, and of one user, one entity or one client no more than its share.
//!    So a user with many reads, a locked table, or a client with expensive reads, leaves turns to the others.
//! 2. A turn does not stay free while a read waits that may have it.
//! 3. Users are served one after another: while a read of one user could have the next turn, no other user gets two. So
//!    a read that its own user's reads do not hold up waits behind at most one of each user who waits already.
//! 4. The entities of a user are served one after another, and so are the clients of an entity: among the reads of its
//!    own user, a read waits behind at most one other of each client in each entity.
//! 5. A read for several users runs at the first turn that one of them gets.

mod round_robin;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use round_robin::RoundRobin;

/// One request for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// For whom a read is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester<U, C> {
    /// Among users, turns are shared first.
    pub user: U,
    /// One of the user's clients.
    pub client: C,
    /// The most turns of this client at once.
    pub client_max: usize,
}

/// The turns that are taken, and the requests that wait.
#[derive(Debug)]
pub struct Turns<U, C> {
    turns_max: usize,
    user_max: usize,
    entity_max: usize,
    next_ticket: u64,
    next_place: u64,
    taken: HashMap<Ticket, Taken<U, C>>,
    waiting: HashMap<Ticket, Waiting<U, C>>,
    users: HashMap<U, UserQueue<C>>,
    /// Of each entity that is waited for, the users who wait for it, by their places.
    entities: HashMap<String, BTreeMap<u64, U>>,
}

#[derive(Debug)]
struct Taken<U, C> {
    entity: String,
    user: U,
    client: C,
}

#[derive(Debug)]
struct Waiting<U, C> {
    entity: String,
    /// Of each user the first client that asked.
    requesters: HashMap<U, Requester<U, C>>,
}

/// What a user waits for.
#[derive(Debug)]
struct UserQueue<C> {
    /// The user with the lowest place is served next.
    place: u64,
    requests: usize,
    entities: RoundRobin<String, RoundRobin<C, Requests>>,
}

/// What a client waits for in one entity, in the order of its requests.
#[derive(Debug, Default)]
struct Requests {
    client_max: usize,
    tickets: BTreeSet<Ticket>,
}

impl<U: Clone + Eq + Hash, C: Clone + Eq + Hash> Turns<U, C> {
    /// So many turns, of which one user has at most `user_max`, and one entity at most half.
    pub fn new(turns_max: usize, user_max: usize) -> Self {
        let turns_max = turns_max.max(1);
        Self {
            turns_max,
            user_max: user_max.clamp(1, turns_max),
            entity_max: turns_max.div_ceil(2),
            next_ticket: 0,
            next_place: 0,
            taken: HashMap::new(),
            waiting: HashMap::new(),
            users: HashMap::new(),
            entities: HashMap::new(),
        }
    }

    /// The number of turns that are taken.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// The number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The number of requests that wait for this user.
    pub fn waiting_of(&self, user: &U) -> usize {
        self.users.get(user).map_or(0, |queue| queue.requests)
    }

    /// Whether this user has all turns that it may have at once.
    pub fn has_all(&self, user: &U) -> bool {
        let taken = self.taken.values().filter(|taken| taken.user == *user);
        taken.count() >= self.user_max
    }

    /// Asks for a turn to read an entity; [`Turns::grant`] says when it has come.
    pub fn request(&mut self, entity: &str, requester: Requester<U, C>) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let waiting = Waiting {
            entity: entity.to_owned(),
            requesters: HashMap::new(),
        };
        self.waiting.insert(ticket, waiting);
        self.join(ticket, requester);
        ticket
    }

    /// Another user waits for the same read, too. Without effect when the turn has come.
    pub fn join(&mut self, ticket: Ticket, requester: Requester<U, C>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else {
            return;
        };
        if waiting.requesters.contains_key(&requester.user) {
            return;
        }
        let entity = &waiting.entity;
        let next_place = &mut self.next_place;
        let user = requester.user.clone();
        let queue = self.users.entry(user.clone()).or_insert_with(|| {
            *next_place += 1;
            UserQueue {
                place: *next_place,
                requests: 0,
                entities: RoundRobin::default(),
            }
        });
        let users = self.entities.entry(entity.clone()).or_default();
        users.insert(queue.place, user.clone());
        queue.requests += 1;
        let clients = queue.entities.enter(entity);
        let requests = clients.enter(&requester.client);
        requests.client_max = requester.client_max.max(1);
        requests.tickets.insert(ticket);
        waiting.requesters.insert(user, requester);
    }

    /// Gives the next free turn; none when none is free, or nobody may have one.
    pub fn grant(&mut self) -> Option<Ticket> {
        if self.taken.len() >= self.turns_max {
            return None;
        }
        let user = self.next_user()?;
        let (entity, client, ticket) = self.next_of(&user)?;
        self.put_last(&user, &entity, &client);
        self.remove(ticket);
        let taken = Taken {
            entity,
            user,
            client,
        };
        self.taken.insert(ticket, taken);
        Some(ticket)
    }

    /// Gives a turn back, or the request for one up.
    pub fn end(&mut self, ticket: Ticket) {
        self.taken.remove(&ticket);
        self.remove(ticket);
    }

    /// The user with the lowest place among those who may have a turn.
    ///
    /// Whom this passes over has a turn already, so there are few of them however many wait.
    fn next_user(&self) -> Option<U> {
        let open = self.entities.iter().filter(|(name, _)| self.is_open(name));
        let first = open.filter_map(|(entity, users)| {
            let mut users = users.iter().filter(|(_, user)| !self.has_all(user));
            users.find(|(_, user)| self.next_client(user, entity).is_some())
        });
        let next = first.min_by_key(|(place, _)| **place)?;
        Some(next.1.clone())
    }

    fn is_open(&self, entity: &str) -> bool {
        let taken = self.taken.values().filter(|taken| taken.entity == entity);
        taken.count() < self.entity_max
    }

    /// The request of this user that is served next.
    fn next_of(&self, user: &U) -> Option<(String, C, Ticket)> {
        let queue = self.users.get(user)?;
        let mut open = queue.entities.iter().filter(|(name, _)| self.is_open(name));
        open.find_map(|(entity, _)| {
            let (client, ticket) = self.next_client(user, entity)?;
            Some((entity.clone(), client, ticket))
        })
    }

    /// The client of this user that is served next in an entity.
    fn next_client(&self, user: &U, entity: &String) -> Option<(C, Ticket)> {
        let clients = self.users.get(user)?.entities.get(entity)?;
        clients.iter().find_map(|(client, requests)| {
            let is_its = |taken: &&Taken<U, C>| taken.client == *client && taken.user == *user;
            let taken = self.taken.values().filter(is_its);
            let may = taken.count() < requests.client_max;
            let first = requests.tickets.first().filter(|_| may)?;
            Some((client.clone(), *first))
        })
    }

    /// Serves all others first from now on.
    fn put_last(&mut self, user: &U, entity: &String, client: &C) {
        let Some(queue) = self.users.get_mut(user) else {
            return;
        };
        self.next_place += 1;
        let place = std::mem::replace(&mut queue.place, self.next_place);
        for (waited_for, _) in queue.entities.iter() {
            if let Some(users) = self.entities.get_mut(waited_for) {
                users.remove(&place);
                users.insert(queue.place, user.clone());
            }
        }
        if let Some(clients) = queue.entities.get_mut(entity) {
            clients.put_last(client);
        }
        queue.entities.put_last(entity);
    }

    /// Removes a request that waits, for everybody who waits for it.
    fn remove(&mut self, ticket: Ticket) {
        let Some(Waiting { entity, requesters }) = self.waiting.remove(&ticket) else {
            return;
        };
        for Requester { user, client, .. } in requesters.values() {
            let Some(queue) = self.users.get_mut(user) else {
                continue;
            };
            queue.requests -= 1;
            let Some(clients) = queue.entities.get_mut(&entity) else {
                continue;
            };
            if let Some(requests) = clients.get_mut(client) {
                requests.tickets.remove(&ticket);
                if requests.tickets.is_empty() {
                    clients.remove(client);
                }
            }
            if !clients.is_empty() {
                continue;
            }
            queue.entities.remove(&entity);
            if let Some(users) = self.entities.get_mut(&entity) {
                users.remove(&queue.place);
                if users.is_empty() {
                    self.entities.remove(&entity);
                }
            }
            if queue.entities.is_empty() {
                self.users.remove(user);
            }
        }
    }
}
