//! What PostgreSQL knows of the engines on a database, and the status of a server.

use serde_json::Value;
use testkit::{Http, TestDatabase, eventually};

/// The upper half of each of the engine's advisory locks, and the lower half of the doorbell's.
const LOCKS: i64 = 0x7268_746d;
const DOORBELL: i64 = 0x785f_0001;

/// The locks of one kind that an engine holds or waits for.
fn locks(lower: i64, condition: &str) -> String {
    format!(
        "FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCKS} AND objid = {lower} \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) {condition}"
    )
}

/// Waits until the listener sleeps: it holds the doorbell's lock.
pub(crate) async fn asleep(db: &TestDatabase) {
    let held = locks(DOORBELL, "AND mode = 'ExclusiveLock' AND granted");
    exists(db, "the listener sleeps", &held).await;
}

/// Waits until the listener is in the doorbell's queue, behind a writer that is still open.
pub(crate) async fn queued(db: &TestDatabase) {
    let waiting = locks(DOORBELL, "AND mode = 'ExclusiveLock' AND NOT granted");
    exists(db, "the listener waits behind an open writer", &waiting).await;
}

/// Waits until a writer has written without ringing, and is still open.
pub(crate) async fn silent_writer(db: &TestDatabase) {
    exists(
        db,
        "a writer is silent",
        &locks(DOORBELL, "AND mode = 'ShareLock' AND granted"),
    )
    .await;
}

/// Ends the leader's listening connection, as a broken network would. Returns whether there was one.
pub(crate) async fn terminate_leader(db: &TestDatabase) -> bool {
    let ended = "SELECT pg_terminate_backend(a.pid)::text FROM _rhtmx_sync_lock l \
                 JOIN pg_stat_activity a ON a.pid = l.pid \
                 WHERE l.name = 'leader'";
    !db.query_text(ended).await.is_empty()
}

/// Waits until `from` has a row.
pub(crate) async fn exists(db: &TestDatabase, what: &str, from: &str) {
    let query = format!("SELECT 1::text {from}");
    eventually(what, async || {
        let found = db.query_text(&query).await;
        (!found.is_empty()).then_some(())
    })
    .await;
}

/// A server's own status.
pub(crate) async fn status(http: &Http) -> Value {
    http.get("/api/sync/status").await.json()
}

/// Waits until a server has this role.
pub(crate) async fn role(http: &Http, wanted: &str) {
    eventually(wanted, async || {
        let status = status(http).await;
        (status["role"] == wanted && status["wake_up"] == "notify").then_some(())
    })
    .await;
}
