//! Runs real sessions in a model of everything around them, from a seed.
//!
//! The sessions are those of `rhtmx_sync_core::session`. Around them are a database whose transactions
//! commit out of order (`database`), a hub (`hub`), an engine that executes the sessions' commands
//! (`engine`, `reading`) for subscriptions with different selections (`shapes`), and strict clients that
//! lose their connections (`client`). Which of them takes the next step is drawn from the seed (`world`).
//! [`world::Rule`] lists the rules that are checked, [`world::Fault`] the faults that show that each rule
//! is checked.

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

/// What must happen often enough in all worlds together.
const EXPECTED: [&str; 18] = [
    "acked",
    "apart",
    "batches for one subscription",
    "catch-ups",
    "continued reads",
    "cursors",
    "ended",
    "errors",
    "failed catch-ups",
    "leaves",
    "refetched",
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

/// The failure of this seed's shortest run that fails, with everything that happened in it.
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
    // Worlds in which little happens would prove little.
    println!("{happened:?}");
    for what in EXPECTED {
        let often = happened.get(what).is_some_and(|times| *times > 10);
        assert!(often, "{what} in {happened:?}");
    }
}

#[track_caller]
fn is_caught(fault: Fault, rules: &[Rule]) {
    let caught =
        (0..10 * SEEDS).find_map(|seed| run(seed, EVENTS, Some(fault)).err().map(|e| (seed, e)));
    let (seed, failure) = caught.expect("the fault must show");
    println!("seed {seed}: {failure}");
    assert!(rules.contains(&failure.rule), "seed {seed}: {failure}");
}

const COPY: &[Rule] = &[Rule::Cursor, Rule::Subscribed, Rule::Stall];

#[test]
fn attaching_after_the_read_is_caught() {
    is_caught(Fault::AttachesAfterRead, COPY);
}

#[test]
fn dropping_batches_during_a_read_is_caught() {
    is_caught(Fault::DropsBacklog, COPY);
}

#[test]
fn sending_changes_that_a_read_had_is_caught() {
    is_caught(Fault::IgnoresSince, &[Rule::Repeat]);
}

#[test]
fn leaving_out_transient_changes_is_caught() {
    is_caught(Fault::DropsTransients, COPY);
    is_caught(Fault::CatchesUpWithoutTransients, COPY);
    is_caught(Fault::RepeatsWithoutTransients, COPY);
}

#[test]
fn queueing_again_after_the_catch_up_is_caught() {
    is_caught(Fault::RejoinsAfterCatchUp, COPY);
}

#[test]
fn a_cursor_for_each_batch_is_caught() {
    is_caught(Fault::SendsCursorForEachBatch, &[Rule::Cursor]);
}

#[test]
fn dropping_an_awaited_position_is_caught() {
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
fn a_client_that_keeps_held_changes_over_a_refetch_is_caught() {
    is_caught(Fault::KeepsHeldChangesOverRefetch, COPY);
}

#[test]
fn keeping_rows_that_left_a_shape_is_caught() {
    is_caught(Fault::SendsNoLeaves, COPY);
}

#[test]
fn shapes_of_a_former_table_are_caught() {
    is_caught(Fault::KeepsTheOldShape, COPY);
    is_caught(Fault::ReadsStaleShapes, COPY);
}
