//! Mutations on PostgreSQL.

crate::write::mutation_steps!(diesel_async::AsyncPgConnection, transaction);
