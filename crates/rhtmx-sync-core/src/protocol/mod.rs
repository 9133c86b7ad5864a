//! The wire, version 1: what the frames mean and how they are spelled.
//!
//! `client` holds what clients send, `server` what the server sends, `change` what both a stream
//! and an HTTP answer carry, `code` the words for what went wrong. A frame's text is one JSON
//! object with a `type`; unknown fields are ignored.
//!
//! Version history: 1, the first.

mod change;
mod client;
mod code;
mod server;
#[cfg(test)]
mod typescript;

pub use change::{Change, Origin, RowImage};
pub use client::{
    ClientFrame, FrameError, Hello, Op, Push, Subscribe, SubscriptionId, Write, json_fault,
};
pub use code::{CloseCode, ErrorCode, RefetchReason, Reject, RejectCode};
pub use server::{Limits, ServerFrame, Welcome};

/// The version of the protocol that this code speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "rhtmx-sync.v1";

/// Below this many bytes a frame is never gzipped.
pub const GZIP_BYTES_MIN: usize = 1024;
