//! The load: thousands of cheap receivers on one thread.
//!
//! A receiver parses only frame headers, and counts marks in the payloads. Whatever a receiver does takes
//! processor time that the server needs as well, so it does nothing else.

mod connection;
mod frames;
mod histogram;
mod marks;
mod receivers;
mod tally;

pub(crate) use connection::{EDITED_ROWS, Speaks, Subscribe, User, Writes};
pub(crate) use frames::client_text;
pub(crate) use histogram::Histogram;
pub(crate) use marks::{MARK, body, now};
pub(crate) use receivers::{Group, Receivers};
pub(crate) use tally::{Recording, Tally};
