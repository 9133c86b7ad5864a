//! Clocks of two precisions.
//!
//! Nodes stamp with microseconds, of which their texts have six digits, or three where the last three are zeros. Clocks are
//! ordered by their texts, and so `.428Z` comes after `.428170Z`. What a database stamps has three digits: it would come after
//! all that nodes write in the same millisecond, also after what they write having seen it, and they would not follow.
//!
//! So here a node's clock has three digits, and the microseconds are in its counter; and what goes to nodes has six. Each of
//! our clocks is one of theirs and the other way round, in the same order of texts. Only where a node counts further in one
//! microsecond than there is room, its clock is of a later millisecond here.

use merge::Clock;

/// How far a node may count in one microsecond.
const COUNTS: u32 = 64;

/// Where the counters begin of clocks that have three digits there, which come after all others of their millisecond.
const COARSE: u32 = 1000 * COUNTS;

/// How many counters there are.
const COUNTERS: u32 = 1 << 16;

/// A node's clock as it is kept here.
pub(super) fn here(clock: &Clock) -> Clock {
    let (first, end) = match clock.micros_beyond() {
        Some(micros) => (u32::from(micros) * COUNTS, (u32::from(micros) + 1) * COUNTS),
        None => (COARSE, COUNTERS),
    };
    let counter = first + u32::from(clock.counter());
    let (later_ms, counter) = match counter.checked_sub(end) {
        None => (0, counter),
        Some(over) => (1 + over / COARSE, over % COARSE),
    };
    let counter = u16::try_from(counter).unwrap_or(u16::MAX);
    Clock::new(clock.millis() + u64::from(later_ms), counter, &clock.node())
}

/// A clock from here as nodes have it.
pub(super) fn there(clock: &Clock) -> Clock {
    let counter = u32::from(clock.counter());
    if clock.micros_beyond().is_some() {
        // It came by another way, as it is.
        return clock.clone();
    }
    let node = clock.node();
    if let Some(counter) = counter.checked_sub(COARSE) {
        return Clock::new(
            clock.millis(),
            u16::try_from(counter).unwrap_or(u16::MAX),
            &node,
        );
    }
    let (micros, counter) = (counter / COUNTS, counter % COUNTS);
    let moment = &clock.as_str()[..23];
    let fine = format!("{moment}{micros:03}Z-{counter:04X}-{node}");
    Clock::read_foreign(&fine).unwrap_or_else(|_| clock.clone())
}

#[cfg(test)]
mod tests {
    use merge::NodeId;
    use proptest::prelude::*;

    use super::*;

    fn theirs(millis: u64, micros: u16, counter: u16) -> Clock {
        let node = NodeId::new("a").expect("a node");
        let coarse = Clock::new(millis, counter, &node);
        match micros {
            0 => coarse,
            _ => {
                let text = format!("{}{micros:03}Z-{counter:04X}-a", &coarse.as_str()[..23]);
                Clock::read_foreign(&text).expect("a clock")
            }
        }
    }

    proptest! {
        #[test]
        fn a_clock_that_goes_and_comes_is_the_same_and_all_keep_their_order(
            one in (0_u64..3, any::<u16>()), two in (0_u64..3, any::<u16>()),
        ) {
            let node = NodeId::new("a").expect("a node");
            let [one, two] = [one, two].map(|(millis, counter)| Clock::new(millis, counter, &node));
            prop_assert_eq!(&here(&there(&one)), &one);
            prop_assert_eq!(there(&one).cmp(&there(&two)), one.cmp(&two));
        }

        #[test]
        fn a_clock_of_a_node_comes_back_as_it_was(millis in 0_u64..3, micros in 0_u16..1000, counter in 0_u16..64) {
            let clock = theirs(millis, micros, counter);
            let back = there(&here(&clock));
            prop_assert_eq!(back.as_str(), clock.as_str());
        }

        #[test]
        fn a_node_that_counts_further_stays_in_order(micros in 0_u16..1000, one in any::<u16>(), two in any::<u16>()) {
            let (one, two) = (theirs(5, micros, one), theirs(5, micros, two));
            prop_assert_eq!(here(&one).cmp(&here(&two)), one.cmp(&two));
        }
    }

    #[test]
    fn what_a_database_stamps_comes_before_what_nodes_write_in_the_same_millisecond() {
        let node = NodeId::new("db").expect("a node");
        let stamp = Clock::new(1_000_000_000_428, 1, &node);
        assert_eq!(
            there(&stamp).as_str(),
            "2001-09-09T01:46:40.428000Z-0001-db"
        );
        let written = theirs(1_000_000_000_428, 170, 0);
        assert!(written > there(&stamp) && here(&written) > stamp);
        let stamped_over = Clock::after(Some(&here(&written)), 0, &node).expect("a clock");
        assert_eq!(
            there(&stamped_over).as_str(),
            "2001-09-09T01:46:40.428170Z-0001-db"
        );
    }
}
