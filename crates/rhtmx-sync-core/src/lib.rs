//! The pure part of rhtmx-sync.
//!
//! What is hard about live data is decided here, where it can be tested without a network and
//! without a database: what a reader has seen ([`cursor`], [`snapshot`]), who rings whom
//! ([`doorbell`]), what a run of log entries means ([`log`], [`history`]), who wants which rows
//! ([`filter`], [`shape`]), whether a write can be right
//! ([`mutation`]), what a connection says next ([`session`]), and how it is spelled ([`protocol`]).
//!
//! Invariant: nothing in this crate knows tokio, SQL, a clock or randomness; times and random
//! values are arguments.

pub mod cursor;
pub mod doorbell;
pub mod filter;
pub mod history;
pub mod key;
pub mod log;
pub mod mutation;
pub mod protocol;
pub mod schema;
pub mod session;
pub mod shape;
pub mod snapshot;
