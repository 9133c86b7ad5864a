//! Capture: whatever any program writes to a synced table arrives in its subscribers' copies.
//!
//! Each test writes as another program would. After every step it compares the client's copy with the
//! table, the pages of plain HTTP with the copy, and the log with the difference.

use testkit::{Backend, TestDatabase, both_backends};

/// As `both_backends!`, for features that only PostgreSQL has.
macro_rules! on_postgres {
    ($($rest:tt)+) => { one_backend! { postgres $($rest)+ } };
}

/// As `both_backends!`, for features that only SQLite has.
macro_rules! on_sqlite {
    ($($rest:tt)+) => { one_backend! { sqlite $($rest)+ } };
}

macro_rules! one_backend {
    ($backend:ident $(
        $(#[$attribute:meta])* async fn $name:ident($db:ident: TestDatabase) $body:block
    )+) => {$(
        $(#[$attribute])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let run = async |$db: TestDatabase| $body;
            Box::pin(run(TestDatabase::$backend().await)).await;
        }
    )+};
}

mod fields;
mod harm;
mod keys;
mod log;
mod names;
mod partitions;
mod refusals;
mod roles;
mod rows;
mod schema_change;
mod statements;
mod transactions;
mod types;
mod versions;
mod watch;
mod writers;

/// The text for the backend of this database.
fn dialect<'a>(db: &TestDatabase, postgres: &'a str, sqlite: &'a str) -> &'a str {
    match db.backend() {
        Backend::Postgres => postgres,
        Backend::Sqlite => sqlite,
    }
}
