//! Fields: two edit the same row, and both edits live, whatever arrives first.
//!
//! Servers and clients merge with the same functions; the browser's are written once more in TypeScript, and
//! `tests/vectors` holds them to these. There are no effects here: no database, no frames, no time but what is passed.
//!
//! Every write is stamped with a [`Clock`] from a [`HybridClock`]. A [`Row`] is values with metadata: its *birth* (the clock
//! of its creation), its *death*, a *base* (the clock of every field that has none of its own), and the clocks of the fields
//! edited since. A [`Write`] is a part of a row, and carries the birth that its author saw. [`Row::join`] merges rows, and
//! so parts of rows. The [`Rules`] say what columns are more than registers, what deletions mean, and the strategies. A
//! [`Changeset`] carries rows between databases; [`Peers`] knows up to where all have them.
//!
//! Invariants:
//!
//! 1. *Order does not matter.* `join` is commutative, associative and idempotent: replicas that have been told the same
//!    rows and parts, in any order and however often, hold the same values and the same metadata. So every part is a
//!    maximum, taken as it comes. A creation that is older than the deletion that is known is not ignored: it raises the
//!    birth all the same. (M. Shapiro, N. Preguiça, C. Baquero, M. Zawirski: "Conflict-free Replicated Data Types", SSS
//!    2011.)
//! 2. *The birth comes first.* What was written to an earlier row of the same key is never seen in a later one, whatever its
//!    clock. Of two births the later counts, before any value or clock is compared. Without that, counters, sets and
//!    extremes diverge when a row is deleted and created again.
//! 3. *The order of clocks is that of their texts, byte by byte*, in this crate as in databases.
//! 4. *Ties are decided by the values.* Two nodes with one id can stamp two values with one clock; all keep the same.
//! 5. *Strategies are clocks.* Where the server wins, the client's value is dropped before it is merged; where the client
//!    wins, it is stamped above what it overwrites. From then on the later clock wins, so a strategy cannot make replicas
//!    diverge.
//! 6. *Folding and purging* change no value, and commute with every write above the horizon. Writes at or below it are
//!    refused.
//! 7. *No input panics*, whatever its text; what is refused changes nothing.

mod amount;
mod cell;
mod changeset;
mod clock;
mod conflict;
mod counter;
mod digest;
mod hybrid;
mod metadata;
mod order;
mod peers;
mod row;
mod rules;
mod set;
mod write;

pub use amount::{Amount, AmountError};
pub use cell::Cell;
pub use changeset::{
    CHANGESET_VERSION, Changeset, ChangesetError, ChangesetErrorKind, ChangesetFilter, Header,
    RECORDS_MAX, RESERVED, Record, TableNames,
};
pub use clock::{Clock, ClockError, MILLIS_MAX, NODE_BYTES_MAX, NodeId};
pub use conflict::{Conflict, LOST_VALUES_MAX, LostValues, Stamped};
pub use counter::{COUNTING_DATABASES_MAX, Counter};
pub use digest::{digest, digest_above};
pub use hybrid::{AHEAD_MS_MAX, ClockPolicy, HybridClock};
pub use metadata::{FIELDS_MAX, Metadata, RowError};
pub use order::Comparison;
pub use peers::{DATABASES_MAX, Horizons, Peers, TooManyDatabases};
pub use row::Row;
pub use rules::{ColumnMerge, ColumnRule, Deletes, FieldMergeStrategy, Rules};
pub use set::{EDITED_ELEMENTS_MAX, ELEMENT_BYTES_MAX, Set, SetError};
pub use write::{Edit, Site, Write, WriteError, Written};
