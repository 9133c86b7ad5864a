use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const CLIENT_MAX: usize = 2;

fn requester(user: u8, client: u8) -> Requester<u8, u8> {
    Requester {
        user,
        client,
        client_max: CLIENT_MAX,
    }
}

fn grant_all(turns: &mut Turns<u8, u8>) -> Vec<Ticket> {
    std::iter::from_fn(|| turns.grant()).collect()
}

#[test]
fn a_locked_table_leaves_turns_to_the_others() {
    let mut turns = Turns::new(8, 8);
    for client in 0..100 {
        turns.request("locked", requester(client % 3, client));
    }
    grant_all(&mut turns);
    let other = turns.request("other", requester(1, 200));
    assert_eq!(turns.grant(), Some(other));
    assert_eq!(turns.waiting(), 96);
}

#[test]
fn a_newcomer_waits_behind_one_read_of_each_client_of_its_user() {
    let mut turns = Turns::new(1, 1);
    let running = turns.request("t", requester(1, 1));
    assert_eq!(turns.grant(), Some(running));
    for _ in 0..100 {
        turns.request("t", requester(1, 1));
    }
    let newcomer = turns.request("t", requester(1, 2));
    turns.end(running);
    let first = turns.grant().expect("a turn");
    turns.end(first);
    assert_eq!(turns.grant(), Some(newcomer));
}

#[test]
fn a_newcomer_waits_behind_one_read_of_each_user_however_many_tables_and_clients_the_others_have() {
    let mut turns = Turns::new(1, 1);
    for request in 0..100 {
        let entity = format!("big {request}");
        turns.request(&entity, requester(1, request));
        turns.request(&entity, requester(2, request));
    }
    let running = turns.grant().expect("a turn");
    let newcomer = turns.request("small", requester(3, 0));
    turns.end(running);
    for _ in 0..2 {
        let other = turns.grant().expect("a turn");
        assert_ne!(other, newcomer);
        turns.end(other);
    }
    assert_eq!(turns.grant(), Some(newcomer));
}

#[test]
fn one_user_alone_has_all_its_turns_and_leaves_the_rest_to_others() {
    let mut turns = Turns::new(6, 5);
    for request in 0..100 {
        turns.request(&format!("big {request}"), requester(1, request));
    }
    assert_eq!(grant_all(&mut turns).len(), 5);
    assert!(turns.has_all(&1) && !turns.has_all(&2));
    let other = turns.request("small", requester(2, 0));
    assert_eq!(turns.grant(), Some(other));
    assert_eq!((turns.waiting_of(&1), turns.waiting_of(&2)), (95, 0));
}

#[test]
fn a_read_that_another_user_joins_does_not_wait_behind_all_of_the_first() {
    let mut turns = Turns::new(1, 1);
    let running = turns.request("big", requester(1, 0));
    assert_eq!(turns.grant(), Some(running));
    for request in 0..100 {
        turns.request(&format!("big {request}"), requester(1, request));
    }
    let small = turns.request("small", requester(1, 101));
    turns.join(small, requester(2, 0));
    turns.end(running);
    let first = turns.grant().expect("a turn");
    turns.end(first);
    assert_eq!(turns.grant(), Some(small));
    turns.end(small);
    assert_eq!((turns.waiting(), turns.waiting_of(&2)), (99, 0));
}

#[derive(Debug, Clone)]
enum Event {
    Ask {
        entity: u8,
        user: u8,
        client: u8,
    },
    /// Another user waits for one of the requests, too.
    Join {
        which: usize,
        user: u8,
        client: u8,
    },
    End(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let ask = (0_u8..4, 0_u8..4, 0_u8..3);
    let join = (0_usize..30, 0_u8..4, 0_u8..3);
    prop_oneof![
        4 => ask.prop_map(|(entity, user, client)| Event::Ask { entity, user, client }),
        1 => join.prop_map(|(which, user, client)| Event::Join { which, user, client }),
        3 => (0_usize..30).prop_map(Event::End),
    ]
}

/// A request, and the users with their clients who wait for it.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    entity: String,
    requesters: Vec<(u8, u8)>,
}

/// What was asked for, beside what the turns make of it.
#[derive(Debug, Default)]
struct Model {
    waiting: Vec<Pending>,
    taken: Vec<(Ticket, String, u8, u8)>,
    /// Of each user who waits, how often each other user was served when it could have been.
    passed_by: HashMap<(u8, u8), usize>,
}

impl Model {
    fn count(&self, matches: impl Fn(&(Ticket, String, u8, u8)) -> bool) -> usize {
        self.taken.iter().filter(|taken| matches(taken)).count()
    }

    /// The users of whom a read may have the next turn.
    fn may(&self, turns: &Turns<u8, u8>) -> HashSet<u8> {
        if self.taken.len() == turns.turns_max {
            return HashSet::new();
        }
        let is_open = |pending: &&Pending| {
            self.count(|(_, entity, ..)| *entity == pending.entity) < turns.entity_max
        };
        let open = self.waiting.iter().filter(is_open);
        let requesters = open.flat_map(|pending| &pending.requesters);
        let may = requesters.filter(|(user, client)| {
            self.count(|(.., other, _)| other == user) < turns.user_max
                && self.count(|(.., other, its)| (other, its) == (user, client)) < CLIENT_MAX
        });
        may.map(|(user, _)| *user).collect()
    }

    fn grant(&mut self, turns: &mut Turns<u8, u8>) -> Result<bool, TestCaseError> {
        let may = self.may(turns);
        let Some(ticket) = turns.grant() else {
            prop_assert!(may.is_empty(), "a turn stays free for {may:?}");
            return Ok(false);
        };
        let Taken { user, client, .. } = turns.taken[&ticket];
        prop_assert!(may.contains(&user));
        let at = self
            .waiting
            .iter()
            .position(|pending| pending.ticket == ticket);
        let pending = self.waiting.remove(at.expect("it waits"));
        prop_assert!(pending.requesters.contains(&(user, client)));
        self.taken.push((ticket, pending.entity, user, client));
        self.passed_by.retain(|(waits, _), _| *waits != user);
        for waits in may.into_iter().filter(|waits| *waits != user) {
            let times = self.passed_by.entry((waits, user)).or_default();
            *times += 1;
            prop_assert!(*times == 1, "{waits} is passed by {user} twice");
        }
        Ok(true)
    }
}

fn check_structure(turns: &Turns<u8, u8>, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(turns.taken(), model.taken.len());
    prop_assert_eq!(turns.waiting(), model.waiting.len());
    let places = turns.entities.iter().flat_map(|(entity, users)| {
        let users = users.iter();
        users.map(move |(place, user)| (entity.clone(), *user, *place))
    });
    let places: HashSet<(String, u8, u64)> = places.collect();
    let mut expected = HashSet::new();
    for (user, queue) in &turns.users {
        let mut requests = 0;
        for (entity, clients) in queue.entities.iter() {
            expected.insert((entity.clone(), *user, queue.place));
            requests += clients
                .iter()
                .map(|(_, requests)| requests.tickets.len())
                .sum::<usize>();
        }
        let of_user = model
            .waiting
            .iter()
            .filter(|pending| pending.requesters.iter().any(|(other, _)| other == user));
        prop_assert_eq!(requests, of_user.count());
        prop_assert_eq!(requests, turns.waiting_of(user));
        prop_assert!(requests > 0);
    }
    prop_assert_eq!(places, expected);
    Ok(())
}

proptest! {
    #[test]
    fn the_shares_hold_no_turn_stays_free_and_nobody_is_passed_by_twice(
        turns_max in 1_usize..9,
        user_max in 1_usize..9,
        events in proptest::collection::vec(event(), 1..200),
    ) {
        let mut turns = Turns::new(turns_max, user_max);
        let mut model = Model::default();
        for event in events {
            match event {
                Event::Ask { entity, user, client } => {
                    let entity = entity.to_string();
                    let ticket = turns.request(&entity, requester(user, client));
                    let requesters = vec![(user, client)];
                    model.waiting.push(Pending { ticket, entity, requesters });
                }
                Event::Join { which, user, client } => {
                    if let Some(pending) = model.waiting.get_mut(which) {
                        turns.join(pending.ticket, requester(user, client));
                        if pending.requesters.iter().all(|(other, _)| *other != user) {
                            pending.requesters.push((user, client));
                        }
                    } else if let Some((ticket, ..)) = model.taken.first() {
                        turns.join(*ticket, requester(user, client));
                    }
                }
                Event::End(which) if which < model.taken.len() => {
                    turns.end(model.taken.remove(which).0);
                }
                Event::End(which) => {
                    let which = which - model.taken.len();
                    if which < model.waiting.len() {
                        turns.end(model.waiting.remove(which).ticket);
                    }
                }
            }
            while model.grant(&mut turns)? {}
            let waits = |user: &u8| turns.waiting_of(user) > 0;
            model.passed_by.retain(|(user, _), _| waits(user));
            check_structure(&turns, &model)?;
            for user in 0..4 {
                prop_assert!(model.count(|(.., other, _)| *other == user) <= turns.user_max);
            }
        }
    }
}
