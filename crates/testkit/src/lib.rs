//! Support for the tests of rhtmx-sync.
//!
//! - [`TestDatabase`]: a real, isolated database for each test, on PostgreSQL or SQLite, and a second program's
//!   connection to it.
//! - [`both_backends!`]: runs one test body on both.
//! - [`SyncClient`]: a client of protocol version 1 that keeps a copy of the rows, and fails the
//!   test when the server breaks a rule of the protocol.
//! - [`ServerProcess`]: the server binary as a process that can be killed and started again.
//! - [`Http`], [`eventually`]: small helpers.
//!
//! It knows the protocol but not the engine, so that it can contradict the engine. Everything panics on
//! failure, with a message for the test's output. PostgreSQL tests need `cargo xtask test`, or the server of
//! `cargo xtask cluster`.
//!
//! ```no_run
//! # use rhtmx_sync_testkit as testkit;
//! use testkit::{ClientOptions, ServerProcess, SyncClient, both_backends};
//! use serde_json::json;
//!
//! both_backends! {
//!     /// A row that another program writes reaches a subscriber.
//!     async fn a_write_is_seen(db: TestDatabase) {
//!         db.execute("CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL)").await;
//!         let settings = [("DATABASE_URL", db.url())];
//!         let server = ServerProcess::spawn(["--bind", "127.0.0.1:0"], settings).await;
//!
//!         let mut client = SyncClient::connect(&server.ws_url(), ClientOptions::default()).await;
//!         client.subscribe("all", "notes").await;
//!         client.wait_subscribed("all").await;
//!
//!         db.execute("INSERT INTO notes VALUES (1, 'hello')").await;
//!         client.wait_until(|client| client.row("all", "1").is_some()).await;
//!         assert_eq!(client.row("all", "1"), Some(&json!({ "id": 1, "body": "hello" })));
//!         assert_eq!(client.puts("all", "1"), 1);
//!     }
//! }
//! # fn main() {}
//! ```

mod backends;
mod client;
mod database;
mod http;
mod process;
mod wait;

pub use client::{
    ClientOptions, ClientState, Closed, ConnectError, Phase, PushOutcome, Rejection,
    SavedSubscription, Subscription, SubscriptionId, SyncClient, Violation, gzip,
};
pub use database::{Backend, TestDatabase, TestRole};
pub use http::{Http, HttpReply};
pub use process::{Exited, ServerProcess, binary};
pub use wait::eventually;
