//! The decisions of rhtmx-sync, without effects.
//!
//! The hard decisions about live data are made here, where they can be tested without a network and without
//! a database: what a reader has seen ([`cursor`], [`snapshot`]), when the listener sleeps and when writers
//! wake it ([`doorbell`]), whether a database goes on in its epoch ([`incarnation`]), what the log says
//! ([`log`]) and how it is undone ([`undo`]), what is known of a row beside its values ([`metadata`]), which rows a subscription wants ([`shape`]) and what it receives
//! ([`effect`]), who may do what ([`policy`]), whether a write is valid ([`mutation`]), what a connection does next
//! ([`session`]), whose turn to read it is ([`turns`]), what follows a failed read ([`retry`]), how fast a client
//! may send ([`rate`]), which limits a client can reach ([`limit`]) and whose address a request comes from ([`address`]).
//!
//! Invariant: nothing in this crate knows tokio, SQL, a clock or randomness; times and random values are
//! arguments.

pub mod address;
pub mod cursor;
pub mod doctor;
pub mod doorbell;
pub mod effect;
pub mod incarnation;
pub mod key;
pub mod limit;
pub mod log;
pub mod membership;
pub mod metadata;
pub mod mutation;
pub mod policy;
pub mod rate;
pub mod retry;
pub mod schema;
pub mod session;
pub mod shape;
pub mod snapshot;
pub mod turns;
pub mod undo;
