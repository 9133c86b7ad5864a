//! Whose turn it is: a bounded number of reads at once, shared fairly among entities and clients.
//!
//! Invariants:
//! 1. No more reads run at once than there are turns, and of one entity or one client no more than its share. So a
//!    locked table, or a client with expensive reads, leaves turns to the others.
//! 2. A turn does not stay free while a read waits that may have it.
//! 3. Entities are served one after another, and so are the clients of an entity: a read waits behind at most one
//!    other of each client, however many reads each of them asks for.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// One request for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Who asks, and how many turns it may have at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<C> {
    /// The entity that is read.
    pub entity: String,
    /// The client that it is read for.
    pub client: C,
    /// The most turns of this client at once.
    pub client_max: usize,
}

/// The clients that wait for one entity, each with its requests.
type ClientQueue<C> = VecDeque<(C, VecDeque<Ticket>)>;

/// The turns that are taken, and the requests that wait.
#[derive(Debug)]
pub struct Turns<C> {
    turns_max: usize,
    entity_max: usize,
    next: u64,
    taken: HashMap<Ticket, Request<C>>,
    waiting: HashMap<Ticket, Request<C>>,
    /// The entities and their clients in the order in which they are served next.
    queue: VecDeque<(String, ClientQueue<C>)>,
}

impl<C: Clone + Eq + Hash> Turns<C> {
    /// So many turns, of which one entity has at most half.
    pub fn new(turns_max: usize) -> Self {
        let turns_max = turns_max.max(1);
        Self {
            turns_max,
            entity_max: turns_max.div_ceil(2),
            next: 0,
            taken: HashMap::new(),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// The number of requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Asks for a turn; [`Turns::grant`] says when it has come.
    pub fn request(&mut self, request: Request<C>) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let of_entity = self
            .queue
            .iter()
            .position(|(name, _)| *name == request.entity);
        let of_entity = of_entity.unwrap_or_else(|| {
            self.queue
                .push_back((request.entity.clone(), VecDeque::new()));
            self.queue.len() - 1
        });
        let clients = &mut self.queue[of_entity].1;
        match clients
            .iter_mut()
            .find(|(client, _)| *client == request.client)
        {
            Some((_, tickets)) => tickets.push_back(ticket),
            None => clients.push_back((request.client.clone(), VecDeque::from([ticket]))),
        }
        self.waiting.insert(ticket, request);
        ticket
    }

    /// Gives the next free turn; none when none is free, or nobody may have one.
    pub fn grant(&mut self) -> Option<Ticket> {
        if self.taken.len() >= self.turns_max {
            return None;
        }
        let (entity, client) = self.next_served()?;
        let (name, mut clients) = self.queue.remove(entity)?;
        let (who, mut tickets) = clients.remove(client)?;
        let ticket = tickets.pop_front()?;
        if !tickets.is_empty() {
            clients.push_back((who, tickets));
        }
        if !clients.is_empty() {
            self.queue.push_back((name, clients));
        }
        let request = self.waiting.remove(&ticket)?;
        self.taken.insert(ticket, request);
        Some(ticket)
    }

    /// The places in the queue of the entity and the client that are served next.
    fn next_served(&self) -> Option<(usize, usize)> {
        let entities = self.queue.iter().enumerate();
        let mut open = entities.filter(|(_, (name, _))| {
            let taken = self.taken.values().filter(|taken| taken.entity == *name);
            taken.count() < self.entity_max
        });
        open.find_map(|(entity, (_, clients))| {
            let client = clients.iter().position(|(who, tickets)| {
                let max = tickets.front().and_then(|ticket| self.waiting.get(ticket));
                let taken = self.taken.values().filter(|taken| taken.client == *who);
                max.is_some_and(|request| taken.count() < request.client_max.max(1))
            });
            client.map(|client| (entity, client))
        })
    }

    /// Gives a turn back, or the request for one up.
    pub fn end(&mut self, ticket: Ticket) {
        self.taken.remove(&ticket);
        let Some(request) = self.waiting.remove(&ticket) else {
            return;
        };
        for (name, clients) in &mut self.queue {
            if *name != request.entity {
                continue;
            }
            for (client, tickets) in clients.iter_mut() {
                if *client == request.client {
                    tickets.retain(|other| *other != ticket);
                }
            }
            clients.retain(|(_, tickets)| !tickets.is_empty());
        }
        self.queue.retain(|(_, clients)| !clients.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(entity: &str, client: u8) -> Request<u8> {
        Request {
            entity: entity.to_owned(),
            client,
            client_max: 2,
        }
    }

    #[test]
    fn a_locked_table_leaves_turns_to_the_others() {
        let mut turns = Turns::new(8);
        for client in 0..100 {
            turns.request(request("locked", client));
        }
        while turns.grant().is_some() {}
        let other = turns.request(request("other", 200));
        assert_eq!(turns.grant(), Some(other));
        assert_eq!(turns.waiting(), 96);
    }

    #[test]
    fn a_newcomer_waits_behind_one_read_of_each_client() {
        let mut turns = Turns::new(1);
        let running = turns.request(request("t", 1));
        assert_eq!(turns.grant(), Some(running));
        for _ in 0..100 {
            turns.request(request("t", 1));
        }
        let newcomer = turns.request(request("t", 2));
        turns.end(running);
        let first = turns.grant().expect("a turn");
        turns.end(first);
        assert_eq!(turns.grant(), Some(newcomer));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Ask(u8, u8),
        End(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => (0_u8..4, 0_u8..5).prop_map(|(entity, client)| Event::Ask(entity, client)),
            2 => (0_usize..30).prop_map(Event::End),
        ]
    }

    proptest! {
        #[test]
        fn the_shares_hold_and_no_turn_stays_free(
            turns_max in 1_usize..9,
            events in proptest::collection::vec(event(), 1..120),
        ) {
            let mut turns = Turns::new(turns_max);
            let mut known = Vec::new();
            for event in events {
                match event {
                    Event::Ask(entity, client) => {
                        known.push(turns.request(request(&entity.to_string(), client)));
                    }
                    Event::End(which) if which < known.len() => turns.end(known.swap_remove(which)),
                    Event::End(_) => {}
                }
                while turns.grant().is_some() {}
                let count = |matches: &dyn Fn(&Request<u8>) -> bool| {
                    turns.taken.values().filter(|taken| matches(taken)).count()
                };
                prop_assert!(turns.taken.len() <= turns_max);
                for waiting in turns.waiting.values() {
                    let of_entity = count(&|taken| taken.entity == waiting.entity);
                    let of_client = count(&|taken| taken.client == waiting.client);
                    prop_assert!(of_entity <= turns.entity_max && of_client <= 2);
                    prop_assert!(
                        turns.taken.len() == turns_max
                            || of_entity == turns.entity_max
                            || of_client == 2
                    );
                }
                let queued: usize = turns
                    .queue
                    .iter()
                    .flat_map(|(_, clients)| clients.iter().map(|(_, tickets)| tickets.len()))
                    .sum();
                prop_assert_eq!(queued, turns.waiting.len());
                prop_assert_eq!(turns.taken.len() + turns.waiting.len(), known.len());
            }
        }
    }
}
