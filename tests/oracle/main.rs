//! Core's snapshot logic held against PostgreSQL itself.

mod cursor_query;
mod random_snapshots;
mod real_snapshots;
mod visibility;
