//! What a program can make grow has an end.

use std::time::Duration;

/// How many rows a result has at most.
pub const RESULT_ROWS_MAX: usize = 10_000;

/// How many bytes the rows of a result have at most, as JSON.
pub const RESULT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a transaction may take, from its begin to its commit.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How many writes a transaction or a batch has at most.
pub const TRANSACTION_WRITES_MAX: usize = 5_000;

/// How many queries are watched at once.
pub const WATCHES_MAX: usize = 256;
