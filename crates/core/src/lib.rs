//! The decisions of rhtmx-sync, without effects.
//!
//! What is hard about live data is decided here, where it can be tested without a network and without a
//! database: what a reader has seen ([`cursor`], [`snapshot`]), who rings whom ([`doorbell`]), what the log
//! says ([`log`]) and how it is undone ([`undo`]), who wants which rows ([`shape`]) and receives what
//! ([`effect`]), who may do what ([`policy`]), whether a write can be right ([`mutation`]), and what a
//! connection does next ([`session`]).
//!
//! Invariant: nothing in this crate knows tokio, SQL, a clock or randomness; times and random values are
//! arguments.

pub mod cursor;
pub mod doorbell;
pub mod effect;
pub mod key;
pub mod log;
pub mod mutation;
pub mod policy;
pub mod schema;
pub mod session;
pub mod shape;
pub mod snapshot;
pub mod undo;
