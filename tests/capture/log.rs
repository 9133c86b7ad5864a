//! What the log says, and that undoing it gives what was.

use rhtmx_sync_testkit::{Backend, TestDatabase};
use serde_json::Value;

use super::watch::Rows;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) entity: String,
    pub(crate) action: String,
    pub(crate) key: Option<String>,
    /// The previous values; null for an insert.
    pub(crate) old: Value,
}

impl Entry {
    /// What it says, without its number.
    pub(crate) fn says(&self) -> (&str, Option<&str>, &Value) {
        (&self.action, self.key.as_deref(), &self.old)
    }
}

/// The entries after `id`, without those of one entity.
pub(crate) async fn since(db: &TestDatabase, id: i64, without: &str) -> Vec<Entry> {
    let object = match db.backend() {
        Backend::Postgres => {
            "json_build_object('id', id, 'entity', entity, 'action', action, 'key', entity_id, 'old', old)"
        }
        Backend::Sqlite => {
            "json_object('id', id, 'entity', entity, 'action', action, 'key', entity_id, 'old', json(old))"
        }
    };
    let sql = format!(
        "SELECT {object} FROM _rhtmx_sync_log WHERE id > {id} AND entity <> '{without}' ORDER BY id"
    );
    let text = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
    let entries = db.query_json(&sql).await.into_iter().map(|entry| Entry {
        id: entry["id"].as_i64().expect("`id` is a number"),
        entity: text(&entry, "entity").expect("`entity` is a text"),
        action: text(&entry, "action").expect("`action` is a text"),
        key: text(&entry, "key"),
        old: entry["old"].clone(),
    });
    entries.collect()
}

/// How many entries there are.
pub(crate) async fn length(db: &TestDatabase) -> u64 {
    let count = db.query_json("SELECT count(*) FROM _rhtmx_sync_log").await;
    count[0].as_u64().expect("a count")
}

/// The rows before the entries, from those after; none when the entries do not tell.
pub(crate) fn undo<'a>(
    mut rows: Rows,
    entries: impl DoubleEndedIterator<Item = &'a Entry> + Clone,
) -> Option<Rows> {
    if entries.clone().any(|entry| entry.key.is_none()) {
        return None;
    }
    for entry in entries.rev() {
        let key = entry.key.clone()?;
        let row = rows.remove(&key);
        match entry.action.as_str() {
            "create" => {
                assert_eq!(entry.old, Value::Null, "a create has an old row: {entry:?}");
                assert!(
                    row.is_some(),
                    "a create of a row that is not there: {entry:?}"
                );
            }
            "update" => {
                let mut row = row.unwrap_or_else(|| panic!("no row to undo: {entry:?}"));
                let old = entry
                    .old
                    .as_object()
                    .unwrap_or_else(|| panic!("no old: {entry:?}"));
                let columns = row.as_object_mut().expect("a row is an object");
                columns.extend(
                    old.iter()
                        .map(|(name, value)| (name.clone(), value.clone())),
                );
                rows.insert(key, row);
            }
            "delete" => {
                // SQLite's capture notes a row that may be replaced before that is known.
                let is_gone = row.is_none_or(|row| row == entry.old);
                assert!(is_gone, "a delete of a row that is there: {entry:?}");
                rows.insert(key, entry.old.clone());
            }
            other => panic!("{other} has a key"),
        }
    }
    Some(rows)
}
