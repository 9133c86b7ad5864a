//! Clocks of any time, and texts that may be clocks.

use merge::{Clock, ClockPolicy, Deletes, Edit, HybridClock, MILLIS_MAX, Row, Site, Write};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{node, object, rules};

const T: u64 = 1_000_000_000_000;
const NODE: &str = "[0-9a-z][0-9a-z-]{0,35}";

proptest! {
    #[test]
    fn the_order_of_texts_is_that_of_moment_counter_and_node(
        one in (0..=MILLIS_MAX, any::<u16>(), NODE),
        two in (0..=MILLIS_MAX, any::<u16>(), NODE),
        near in any::<bool>(),
    ) {
        let two = if near { (one.0, two.1, two.2) } else { two };
        let clock = |(millis, counter, name): &(u64, u16, String)| Clock::new(*millis, *counter, &node(name));
        let order = clock(&one).cmp(&clock(&two));
        prop_assert_eq!(order, clock(&one).as_str().as_bytes().cmp(clock(&two).as_str().as_bytes()));
        prop_assert_eq!(order, one.cmp(&two));
    }

    #[test]
    fn a_clock_that_was_written_is_read_as_itself(
        millis in 0..=MILLIS_MAX,
        counter in any::<u16>(),
        name in NODE,
    ) {
        let clock = Clock::new(millis, counter, &node(&name));
        let read = Clock::read(clock.as_str()).expect("the one form");
        prop_assert_eq!(&read, &clock);
        prop_assert_eq!((read.millis(), read.counter()), (millis, counter));
        prop_assert_eq!(read.node(), node(&name));
        prop_assert!(clock >= Clock::ground());
    }

    #[test]
    fn a_foreign_clock_keeps_its_text_and_one_stamped_after_it_is_above(
        text in "(19[789]|20[0-9])[0-9]-0[1-9]-[012][1-8]T[01][0-9]:[0-5][0-9]:[0-5][0-9]\\.[0-9]{3}([0-9]{3})?Z-[0-9A-Fa-f]{4}-[0-9a-zA-Z][0-9a-zA-Z-]{0,40}",
        millis in 0..2 * T,
    ) {
        let clock = Clock::read_foreign(&text).expect("a clock of the family");
        prop_assert_eq!(clock.as_str(), &*text);
        let json = serde_json::to_string(&clock).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Clock>(&json).expect("a clock"), clock.clone());
        let next = Clock::after(Some(&clock), millis, &node("0")).expect("a later one");
        prop_assert!(next > clock);
        prop_assert!(next.millis() >= millis);
        prop_assert_eq!(Clock::read(next.as_str()), Ok(next.clone()));
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        text in prop_oneof![
            any::<String>(),
            "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3,6}Z-[0-9A-Fa-fé]{3,5}-.{0,4}",
            "2001-09-09T01:46:40\\.000Z\\PC{0,8}",
            "\\PC{22,30}",
        ],
    ) {
        if let Ok(clock) = Clock::read_foreign(&text) {
            prop_assert_eq!(clock.as_str(), &*text);
            prop_assert!(clock.is_of(&clock.node()));
        }
    }

    #[test]
    fn a_clock_never_goes_back_whatever_the_time_does_and_whatever_it_hears(
        steps in prop::collection::vec((0..3 * T, prop::option::of((0..3 * T, any::<u16>(), "[a-c]"))), 1..30),
    ) {
        let mut clock = HybridClock::new(node("b"), None);
        for (time_ms, remote) in steps {
            let before = clock.last().cloned();
            let remote = remote.map(|(millis, counter, name)| Clock::new(millis, counter, &node(&name)));
            let issued = match &remote {
                Some(remote) => clock.receive(remote, time_ms),
                None => clock.now(time_ms),
            };
            match issued {
                Ok(issued) => {
                    prop_assert!(Some(&issued) > before.as_ref());
                    prop_assert!(Some(&issued) > remote.as_ref());
                    prop_assert!(issued.millis() >= time_ms);
                }
                Err(_) => prop_assert_eq!(clock.last().cloned(), before),
            }
        }
    }

    #[test]
    fn nobody_holds_a_field_against_an_honest_write_of_a_second_later(
        clocks in prop::collection::vec((0..MILLIS_MAX, any::<u16>()), 1..50),
        received_ms in T..T + 5,
    ) {
        let rules = rules(Deletes::Win);
        let mut row = Row::untracked(&object(json!({"title": ""})), &rules).expect("a row");
        let mut previous: Option<Clock> = None;
        let write = |clock, title: &str| Write {
            clock, born: None, seen: None, edit: Edit::Update(object(json!({"title": title}))),
        };
        for (millis, counter) in clocks {
            let claimed = Clock::new(millis, counter, &node("zzzz"));
            let admitted = ClockPolicy::Clamp.admit(&claimed, received_ms, previous.as_ref()).expect("clamped");
            row = write(admitted.clone(), "mine").apply(Some(&row), &rules, &Site::default()).expect("applied").row;
            previous = previous.max(Some(admitted));
        }
        let honest = Clock::new(received_ms + 1_001, 0, &node("a"));
        row = write(honest, "honest").apply(Some(&row), &rules, &Site::default()).expect("applied").row;
        prop_assert_eq!(&row.values()["title"], "honest");
    }

    #[test]
    fn writes_of_one_client_keep_their_order_when_they_are_clamped(
        ahead in prop::collection::vec((0..3_u64, 0..4_u64), 2..20),
    ) {
        let mut device = HybridClock::new(node("device"), None);
        let mut previous: Option<Clock> = None;
        for (time_ms, (ahead_ms, later_ms)) in (T..).zip(ahead) {
            let claimed = device.now(time_ms + ahead_ms).expect("a clock");
            let admitted = ClockPolicy::Clamp.admit(&claimed, time_ms + later_ms / 2, previous.as_ref()).expect("clamped");
            prop_assert!(admitted.millis() <= time_ms + 20);
            prop_assert!(Some(&admitted) > previous.as_ref(), "{} {:?}", admitted, previous);
            previous = Some(admitted);
        }
    }
}
