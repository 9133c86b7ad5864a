//! Runs every interleaving of a few writers, PostgreSQL, the driver and the real listener of
//! `rhtmx_sync_core::doorbell`.
//!
//! A [`World`](world::World) is one state of all of them; its `next` lists what may happen in it, in
//! steps as small as PostgreSQL's own. `search` visits all worlds that can be reached and checks:
//!
//! - where nothing has to happen any more (open transactions may stay open for ever), the listener
//!   sleeps on K and everything visible is drained, or it queues for K because somebody holds K, and
//!   every change with a ring is drained. Every wake was answered by a drain that began after it;
//! - without safety drains no run is endless. Writers do a finite number of steps here, so the listener
//!   comes to rest by itself; with the check above, every run in which all writers end drains everything;
//! - awake and between commands, the listener keeps no writer from K: no `NOTIFY` under load;
//! - asleep, K is held; and no command is given that K's state does not allow.
//!
//! A safety drain may happen at any time, but nothing depends on one. Time is abstract: a wait may end
//! as soon as it began.
//!
//! A search that cannot fail proves nothing, so broken listeners and a broken PostgreSQL are searched
//! too, and each must be caught.

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
    wakes: 0,
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
    let worlds = search(Doorbell::new(TIMING), &setting).expect("no failure");
    println!("{worlds} worlds");
    assert!(
        worlds > 1_000,
        "only {worlds} worlds: the model does not move"
    );
}

#[track_caller]
fn is_caught(fault: Fault, setting: Setting, expected: Failure) {
    let caught = search(Broken::new(fault), &setting).expect_err("the fault must show");
    println!("{caught:?}");
    assert_eq!(caught.failure, expected, "{caught:?}");
}

#[test]
fn two_writers_of_two_transactions_lose_no_change() {
    holds(TWO_WRITERS);
}

#[test]
fn three_writers_lose_no_change() {
    holds(THREE_WRITERS);
}

#[test]
fn three_writers_at_the_default_timing_lose_no_change() {
    let listener = Doorbell::new(Timing::default());
    let worlds = search(listener, &THREE_WRITERS).expect("no failure");
    println!("{worlds} worlds");
}

#[test]
fn two_writers_and_a_wake_lose_no_change() {
    holds(Setting {
        wakes: 1,
        ..TWO_WRITERS
    });
}

#[test]
fn two_writers_and_lost_connections_lose_no_change() {
    holds(Setting {
        connection_losses: 1,
        ..TWO_WRITERS
    });
}

#[test]
fn three_writers_a_wake_and_lost_connections_lose_no_change() {
    holds(Setting {
        writes_each: 1,
        wakes: 1,
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
    is_caught(
        Fault::IgnoresRingDuringDrain,
        TWO_WRITERS,
        Failure::LostChange,
    );
}

#[test]
fn ignoring_a_ring_in_the_queue_is_caught() {
    is_caught(Fault::IgnoresRingInQueue, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn counting_a_drain_begun_before_the_grant_is_caught() {
    is_caught(Fault::CountsEarlierDrain, TWO_WRITERS, Failure::LostChange);
}

#[test]
fn ignoring_a_wake_is_caught() {
    let setting = Setting {
        wakes: 1,
        ..TWO_WRITERS
    };
    is_caught(Fault::IgnoresWakeAsleep, setting, Failure::LostWake);
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

/// The argument rests on PostgreSQL's order at commit: without it, changes must be lost.
#[test]
fn a_lock_released_before_the_commit_is_visible_is_caught() {
    let setting = Setting {
        visible_before_release: false,
        ..TWO_WRITERS
    };
    let caught = search(Doorbell::new(TIMING), &setting).expect_err("the fault must show");
    assert_eq!(caught.failure, Failure::LostChange, "{caught:?}");
}

#[test]
fn a_ring_before_the_commit_is_visible_is_caught() {
    let setting = Setting {
        visible_before_ring: false,
        ..TWO_WRITERS
    };
    let caught = search(Doorbell::new(TIMING), &setting).expect_err("the fault must show");
    assert_eq!(caught.failure, Failure::LostChange, "{caught:?}");
}
