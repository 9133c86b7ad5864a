//! Mutations on SQLite.

crate::write::mutation_steps!(super::connect::SqliteConn, immediate_transaction);
