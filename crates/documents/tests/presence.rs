//! Nobody removes a user who is there, but the connection that speaks for them.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use proptest::prelude::*;
use rhtmx_sync_documents::{AwarenessEntry, CLIENTS_OF_CONNECTION_MAX, Connection, Presence};

fn connection(number: u64) -> Connection {
    Connection(NonZeroU64::new(number).expect("not zero"))
}

fn entry(client: u64, clock: u64, state: Option<&str>) -> AwarenessEntry<'_> {
    AwarenessEntry {
        client,
        clock,
        state,
    }
}

fn there(presence: &Presence) -> Vec<(u64, u64)> {
    presence
        .all()
        .map(|entry| (entry.client, entry.clock))
        .collect()
}

#[test]
fn a_slow_client_removes_nobody() {
    let (ann, ben) = (connection(1), connection(2));
    let mut presence = Presence::default();
    assert_eq!(
        presence.take(ann, &[entry(7, 1, Some("{}"))], 0),
        BTreeSet::from([7])
    );
    // What was heard is passed on, as y-websocket does, and later that Ann is gone.
    for said in [
        entry(7, 1, Some("{}")),
        entry(7, 1, None),
        entry(7, 9, None),
    ] {
        assert_eq!(presence.take(ben, &[said], 1), BTreeSet::new());
    }
    assert_eq!(there(&presence), [(7, 1)]);
    assert_eq!(presence.leave(ben, 2), BTreeSet::new());
    // Her own connection says so, with the same clock or a later one.
    assert_eq!(
        presence.take(ann, &[entry(7, 1, None)], 3),
        BTreeSet::from([7])
    );
    assert_eq!(there(&presence), []);
    // What is older changes nothing afterwards.
    assert_eq!(
        presence.take(ben, &[entry(7, 1, Some("{}"))], 4),
        BTreeSet::new()
    );
    assert_eq!(
        presence.take(ann, &[entry(7, 2, Some("{}"))], 5),
        BTreeSet::from([7])
    );
}

#[test]
fn whose_connection_ends_is_gone_with_a_clock_above_the_last() {
    let mut presence = Presence::default();
    presence.take(connection(1), &[entry(7, 5, Some("{}"))], 0);
    // With another connection of the same tab.
    presence.take(connection(2), &[entry(7, 6, Some("{}"))], 1);
    assert_eq!(presence.leave(connection(1), 2), BTreeSet::new());
    let gone = presence.leave(connection(2), 3);
    let told: Vec<_> = presence
        .entries(&gone)
        .map(|told| (told.client, told.clock, told.state))
        .collect();
    assert_eq!(told, [(7, 7, None)]);
    // What is known of those who are gone is forgotten, too.
    assert_eq!(presence.expire(3, 10), BTreeSet::new());
    assert_eq!(presence.len(), 1);
    presence.expire(4, 10);
    assert!(presence.is_empty());
}

#[test]
fn who_is_silent_is_gone() {
    let mut presence = Presence::default();
    presence.take(connection(1), &[entry(7, 1, Some("{}"))], 0);
    presence.take(connection(1), &[entry(8, 1, Some("{}"))], 20);
    assert_eq!(presence.expire(10, 40), BTreeSet::from([7]));
    assert_eq!(there(&presence), [(8, 1)]);
}

#[test]
fn a_connection_speaks_for_a_bounded_number() {
    let mut presence = Presence::default();
    for client in 0..2 * CLIENTS_OF_CONNECTION_MAX as u64 {
        presence.take(connection(1), &[entry(client, 1, Some("{}"))], 0);
    }
    assert_eq!(presence.len(), CLIENTS_OF_CONNECTION_MAX);
    let late = [entry(1, u64::MAX >> 11, Some("{}"))];
    assert_eq!(presence.take(connection(1), &late, 0), BTreeSet::new());
}

proptest! {
    /// Whatever others say, one whose connection stays and who renews their state is there.
    #[test]
    fn who_is_there_stays(said in prop::collection::vec((2_u64..5, 0_u64..3, 0_u64..40, any::<bool>()), 0..60)) {
        let mut presence = Presence::default();
        let ann = connection(1);
        // Of her own number others know no clock that she has not said.
        let mut clock = 1;
        presence.take(ann, &[entry(0, clock, Some("{}"))], 0);
        for (from, client, at, is_there) in said {
            let at = if client == 0 { at.min(clock) } else { at };
            presence.take(connection(from), &[entry(client, at, is_there.then_some("{}"))], at);
            if at % 7 == 0 {
                presence.leave(connection(from), at);
            }
            if at % 5 == 0 {
                clock += 1;
                presence.take(ann, &[entry(0, clock, Some("{}"))], at);
            }
            let known = presence.all().find(|known| known.client == 0);
            prop_assert_eq!(known.map(|known| known.clock), Some(clock));
        }
    }
}
