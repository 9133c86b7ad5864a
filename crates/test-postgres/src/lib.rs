//! Throwaway PostgreSQL servers, in temporary directories that are removed afterwards.
//!
//! This crate needs only the standard library and `anyhow`, because `cargo xtask` depends on it, and compiling
//! that is the first thing a new contributor waits for.

mod account;
pub mod binaries;
mod cluster;
mod scratch;

pub use account::is_root;
pub use cluster::{Cluster, FOR_TESTS};
