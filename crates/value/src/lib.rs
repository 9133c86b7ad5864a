//! What tables hold: their columns and types ([`schema`]), and the values in them, read from text and
//! compared as the databases compare them ([`date`], [`timestamp`], [`decimal`], [`number`]).
//!
//! Filters, mutations and clients all read the same values, so they read them here.
//!
//! Invariant: nothing in this crate knows frames, SQL, a clock or randomness.

pub mod date;
pub mod decimal;
pub mod number;
pub mod schema;
pub mod timestamp;

pub use date::Date;
pub use decimal::{Decimal, Finite};
pub use number::{Double, Real};
pub use timestamp::{Timestamp, Zone};
