//! The protocol: every frame, in both directions, for servers and for clients.
//!
//! A file for each topic holds the frames of both directions: [`connect`] (hello, welcome, auth, ping),
//! [`rows`] (subscriptions and what they receive), [`push`] and [`chain`] (mutations and their answers),
//! [`error`].
//! [`frame`] lists the frames and reads their text; [`json`] writes those whose payload is text already;
//! [`version`] has the version and its history.
//!
//! A frame's text is one JSON object with a `type`. Unknown fields are ignored, so a newer peer can add
//! some.
//!
//! Invariant: nothing in this crate knows what a frame means for a database. Cursors are opaque texts
//! here, as they are for clients.

pub mod chain;
pub mod connect;
pub mod error;
pub mod frame;
pub mod json;
pub mod push;
pub mod rows;
pub mod version;

#[cfg(test)]
mod typescript;

pub use chain::Chain;
pub use connect::{Auth, Authenticated, Hello, Limits, Ping, Pong, Welcome};
pub use error::{CloseCode, Error, ErrorCode, json_fault};
pub use frame::{ClientFrame, FrameError, ServerFrame};
pub use push::{
    Ack, Conflict, MutationId, MutatorCall, Op, Push, Reject, RejectCode, Rejected, Stamp,
    StampedValue, Step, Write, Writes,
};
pub use rows::{
    Change, Changes, Cursor, Direction, MODE_FIELDS, MODE_RECORDS, MODE_ROWS, Refetch,
    RefetchReason, RowImage, RowMetadata, SchemaSummary, SelectionRequest, Snapshot, Subscribe,
    Subscribed, SubscriptionId, Unsubscribe,
};
pub use version::{PROTOCOL_VERSION, SUBPROTOCOL};
