//! The version of the protocol, and its history.
//!
//! The number is raised when a client or a server of the version before would not understand the new
//! frames. What an older peer may leave out or ignore does not raise it: `welcome.features` says what a
//! server offers.
//!
//! History: 1, the first. The feature `windows` came without another number: `subscribe` may have `order`, `limit` and
//! `after`, and `changes` of such a subscription `order`. The feature `fields` neither: with `mode: "fields"` rows and puts
//! have what is known of them beside their values, `changes` have patches, and `subscribed` has `rules`.

/// The version of the protocol that this code speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "rhtmx-sync.v1";

/// Below this many bytes a frame is never gzipped.
pub const GZIP_BYTES_MIN: usize = 1024;
