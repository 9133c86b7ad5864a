//! Throwaway PostgreSQL servers: found, started in a temporary directory, and gone without a trace.
//!
//! It needs nothing but the standard library and `anyhow`, because `cargo xtask` stands on it, and
//! compiling that is the first thing a newcomer waits for.

mod account;
pub mod binaries;
mod cluster;
mod scratch;

pub use account::is_root;
pub use cluster::{Cluster, FOR_TESTS};
