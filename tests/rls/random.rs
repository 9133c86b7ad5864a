//! Random policies.
