//! Transactions in which several statements see one snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};

use crate::entity::Entity;
use crate::error::{DbError, Failed};
use crate::quote::literal;
use crate::read::Exported;
use crate::read::inquiry::QUESTION_LOCK_MS_MAX;

/// The snapshot of every statement in it is that of the first. Nothing that it reads is newer, but for a table that
/// was truncated meanwhile: so the tables are locked before.
pub(super) const ONE_SNAPSHOT: &str = "ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// The settings of a question. The planner's are not those of reads of the log.
pub(super) fn question_settings(timeout: Duration) -> String {
    // Zero would be none.
    let timeout = timeout.as_millis().max(1);
    format!(
        "SET LOCAL statement_timeout = {timeout}; SET LOCAL lock_timeout = {QUESTION_LOCK_MS_MAX}; \
         SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on"
    )
}

/// Takes the snapshot of a drain over, at the begin of a transaction, with the locks that `lock` takes. The drain still has
/// its own; a session that waits for these to end goes first.
///
/// # Errors
/// When the drain has ended meanwhile, or a lock cannot be had at once.
pub(super) async fn take_over(
    conn: &mut AsyncPgConnection,
    exported: Exported,
    settings: &str,
    lock: &str,
) -> Result<(), Failed> {
    let snapshot = literal(&exported.snapshot);
    let at_once = if lock.is_empty() { "" } else { " NOWAIT" };
    conn.batch_execute(&format!(
        "SET TRANSACTION {ONE_SNAPSHOT}; SET TRANSACTION SNAPSHOT {snapshot}; {settings}; {lock}{at_once}"
    ))
    .await?;
    if !exported.confirm() {
        let too_late = "the drain has ended before its snapshot was taken over";
        return Err(DbError::Unreachable(too_late.to_owned()).into());
    }
    Ok(())
}

/// A statement that takes the locks of reads of these tables, before there is a snapshot; empty when there are none.
pub(super) fn lock_sql(
    entities: &BTreeMap<String, Arc<Entity>>,
    left_out: &BTreeSet<String>,
) -> String {
    let read = entities
        .iter()
        .filter(|(name, _)| !left_out.contains(*name));
    lock_all(read.map(|(_, entity)| &**entity))
}

/// The same for these.
pub(super) fn lock_all<'a>(entities: impl Iterator<Item = &'a Entity>) -> String {
    let relations: BTreeSet<&str> = entities
        .filter_map(|entity| entity.relation.as_deref())
        .collect();
    if relations.is_empty() {
        return String::new();
    }
    let relations: Vec<&str> = relations.into_iter().collect();
    format!("LOCK TABLE {} IN ACCESS SHARE MODE", relations.join(", "))
}
