//! Sessions over a model of everything around them, from a seed.
//!
//! The session of `rhtmx_sync_core::session` runs as it is. Around it stand a database whose
//! transactions commit out of order (`database`), a hub (`hub`), an engine that carries out what
//! the session says (`engine`, `reading`) for subscriptions that ask for different parts of a table
//! (`shapes`), and strict clients that lose their connections
//! (`client`). Which of them takes the next step is drawn from the seed (`world`). The rules that
//! are checked, and what can go wrong so that each is seen to be checked, are in [`world::Rule`]
//! and [`world::Fault`].

mod client;
mod database;
mod engine;
mod frames;
mod hub;
mod random;
mod reading;
mod shapes;
mod world;

use world::{Failure, Fault, Rule, Tally, World};

const SEEDS: u64 = 3_000;
const EVENTS: usize = 300;

const HAPPENINGS: [&str; 17] = [
    "acked",
    "cursors",
    "delivered to one",
    "ended",
    "left",
    "pulls",
    "pulls refused",
    "read on",
    "refetched",
    "refused",
    "rejected",
    "resolved",
    "resumed",
    "shared",
    "stale",
    "storms",
    "subscribed",
];

fn run(seed: u64, events: usize, fault: Option<Fault>) -> Result<(), Failure> {
    World::new(seed, fault, false).run(events)
}

/// The failure of the shortest run of this seed that fails, with everything that happened in it.
fn explain(seed: u64, fault: Option<Fault>) -> String {
    let fails = |events: &usize| run(seed, *events, fault).is_err();
    let events = (0..EVENTS).find(fails).unwrap_or(EVENTS);
    let mut world = World::new(seed, fault, true);
    let failure = world.run(events).expect_err("it failed before");
    let trace = world.trace().join("\n");
    format!("{trace}\nseed {seed}, {events} events: {failure}")
}

#[test]
fn every_promise_holds() {
    let mut happened = Tally::new();
    for seed in 0..SEEDS {
        let mut world = World::new(seed, None, false);
        if world.run(EVENTS).is_err() {
            panic!("{}", explain(seed, None));
        }
        for (what, times) in world.tally() {
            *happened.entry(what).or_default() += times;
        }
    }
    // Worlds in which hardly anything happens would prove little.
    println!("{happened:?}");
    for what in HAPPENINGS {
        let often = happened.get(what).is_some_and(|times| *times > 10);
        assert!(often, "{what} in {happened:?}");
    }
}

#[track_caller]
fn is_caught(fault: Fault, rules: &[Rule]) {
    let caught =
        (0..10 * SEEDS).find_map(|seed| run(seed, EVENTS, Some(fault)).err().map(|e| (seed, e)));
    let (seed, failure) = caught.expect("the fault has to show");
    println!("seed {seed}: {failure}");
    assert!(rules.contains(&failure.rule), "seed {seed}: {failure}");
}

const COPY: &[Rule] = &[Rule::Cursor, Rule::Subscribed, Rule::Stall];

#[test]
fn attaching_after_the_read_is_caught() {
    is_caught(Fault::AttachesAfterRead, COPY);
}

#[test]
fn dropping_what_came_during_a_read_is_caught() {
    is_caught(Fault::DropsBacklog, COPY);
}

#[test]
fn sending_what_the_read_had_is_caught() {
    is_caught(Fault::IgnoresSince, &[Rule::Repeat]);
}

#[test]
fn leaving_out_rows_that_came_and_went_is_caught() {
    is_caught(Fault::DropsTransients, COPY);
    is_caught(Fault::PullsWithoutTransients, COPY);
    is_caught(Fault::RepeatsWithoutTransients, COPY);
}

#[test]
fn queueing_again_after_the_pull_is_caught() {
    is_caught(Fault::RejoinsAfterPull, COPY);
}

#[test]
fn a_cursor_for_each_batch_is_caught() {
    is_caught(Fault::TellsEachBatch, &[Rule::Cursor]);
}

#[test]
fn forgetting_what_is_waited_for_is_caught() {
    is_caught(Fault::ForgetsAwaits, &[Rule::Stall]);
}

#[test]
fn an_ack_at_commit_is_caught() {
    is_caught(Fault::AcksAtOnce, &[Rule::Ack]);
}

#[test]
fn a_client_that_holds_nothing_back_is_caught() {
    is_caught(Fault::HoldsNothingBack, &[Rule::Resume]);
}

#[test]
fn a_client_that_keeps_what_it_holds_over_a_refetch_is_caught() {
    is_caught(Fault::KeepsWhatItHolds, COPY);
}

#[test]
fn keeping_rows_that_left_a_shape_is_caught() {
    is_caught(Fault::TellsNobodyToLeave, COPY);
}

#[test]
fn shapes_of_a_table_that_is_no_more_are_caught() {
    is_caught(Fault::KeepsTheOldShape, COPY);
    is_caught(Fault::ReadsWhatIsStale, COPY);
}
