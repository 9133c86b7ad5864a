//! Every interleaving of a few writers, PostgreSQL, the driver and the listener of
//! `rhtmx_sync_core::doorbell`, which runs here as it is.
//!
//! A [`World`](world::World) is one state of all of them; its `next` lists what may happen in it,
//! each step as small as PostgreSQL takes it. `search` walks all worlds that can be reached and
//! checks:
//!
//! - where nothing has to happen any more (open transactions may stay so for ever), the listener
//!   sleeps on K and everything visible is drained, or it queues for K because somebody has K, and
//!   everything rung for is drained. Every wake was answered by a drain that began after it;
//! - without safety drains no run is endless. Writers do finitely much here, so the listener comes
//!   to rest by itself; with the check above, every run in which all writers end drains everything;
//! - awake and between commands, nothing of the listener's keeps a writer from K: no `NOTIFY` under
//!   load;
//! - asleep, K is held; and no command comes that K's state does not allow.
//!
//! A safety drain may happen at any time, but none is counted on. Time is abstract: a wait may end
//! as soon as it began.
//!
//! A search that cannot fail proves nothing, so broken listeners and a broken PostgreSQL are
//! searched too, and each must be caught.

mod listeners;
mod search;
mod world;

use rhtmx_sync_core::doorbell::{Doorbell, Timing};

use listeners::{Broken, Fault, TIMING};
use search::search;
use world::{Failure, Setting};

const TWO_WRITERS: Setting = Setting {
    writers: 2,
    transactions_each: 2,
    writes_each: 2,
    pokes: 0,
    connection_losses: 0,
    visible_before_release: true,
    visible_before_ring: true,
};

const THREE_WRITERS: Setting = Setting {
    writers: 3,
    transactions_each: 1,
    ..TWO_WRITERS
};

#[track_caller]
fn holds(setting: Setting) {
    let worlds = search(Doorbell::new(TIMING), &setting).expect("nothing goes wrong");
    println!("{worlds} worlds");
    assert!(
        worlds > 1_000,
        "only {worlds} worlds: the model does not move"
    );
}

#[track_caller]
fn is_caught(fault: Fault, setting: Setting, expected: Failure) {
    let caught = search(Broken::new(fault), &setting).expect_err("the fault has to show");
    println!("{caught:?}");
    assert_eq!(caught.failure, expected, "{caught:?}");
}

#[test]
fn two_writers_of_two_transactions_each() {
    holds(TWO_WRITERS);
}

#[test]
fn three_writers() {
    holds(THREE_WRITERS);
}

#[test]
fn three_writers_at_the_default_timing() {
    let listener = Doorbell::new(Timing::default());
    let worlds = search(listener, &THREE_WRITERS).expect("nothing goes wrong");
    println!("{worlds} worlds");
}

#[test]
fn two_writers_and_a_poke() {
    holds(Setting {
        pokes: 1,
        ..TWO_WRITERS
    });
}

#[test]
fn two_writers_and_lost_connections() {
    holds(Setting {
        connection_losses: 1,
        ..TWO_WRITERS
    });
}

#[test]
fn three_writers_a_poke_and_lost_connections() {
    holds(Setting {
        writes_each: 1,
        pokes: 1,
        connection_losses: 1,
        ..THREE_WRITERS
    });
}

#[test]
fn sleeping_without_the_final_drain_is_caught() {
    is_caught(
        Fault::SleepsWithoutFinalDrain,
        TWO_WRITERS,
        Failure::LostChange,
    );
}

#[test]
fn sleeping_without_the_lock_is_caught() {
    is_caught(
        Fault::SleepsWithoutLock,
        TWO_WRITERS,
        Failure::SleepsWithoutLock,
    );
}

#[test]
fn ignoring_a_ring_during_a_drain_is_caught() {
    is_caught(Fault::DeafDuringDrain, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn ignoring_a_ring_in_the_queue_is_caught() {
    is_caught(Fault::DeafInQueue, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn counting_a_drain_begun_before_the_grant_is_caught() {
    is_caught(Fault::CountsEarlierDrain, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn ignoring_a_poke_is_caught() {
    let setting = Setting {
        pokes: 1,
        ..TWO_WRITERS
    };
    is_caught(Fault::IgnoresPokeAsleep, setting, Failure::LostPoke);
}

#[test]
fn taking_a_cancel_for_its_answer_is_caught() {
    is_caught(Fault::TrustsCancel, TWO_WRITERS, Failure::RingsUnderLoad);
}

#[test]
fn trying_again_instead_of_queueing_is_caught() {
    is_caught(
        Fault::TriesAgainInsteadOfQueueing,
        TWO_WRITERS,
        Failure::Endless,
    );
}

/// The argument rests on PostgreSQL's order at commit, so without it changes must get lost.
#[test]
fn a_lock_released_before_the_commit_is_visible_is_caught() {
    let setting = Setting {
        visible_before_release: false,
        ..TWO_WRITERS
    };
    let caught = search(Doorbell::new(TIMING), &setting).expect_err("the fault has to show");
    assert_eq!(caught.failure, Failure::LostChange, "{caught:?}");
}

#[test]
fn a_ring_before_the_commit_is_visible_is_caught() {
    let setting = Setting {
        visible_before_ring: false,
        ..TWO_WRITERS
    };
    let caught = search(Doorbell::new(TIMING), &setting).expect_err("the fault has to show");
    assert_eq!(caught.failure, Failure::LostChange, "{caught:?}");
}
