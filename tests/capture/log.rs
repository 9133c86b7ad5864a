//! The log's entries, and that undoing them gives the rows as they were.

use serde_json::Value;
use testkit::{Backend, TestDatabase};

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
    /// Its content, without its id.
    pub(crate) fn says(&self) -> (&str, Option<&str>, &Value) {
        (&self.action, self.key.as_deref(), &self.old)
    }
}

/// The entries after `id`, without those of one entity.
pub(crate) async fn since(db: &TestDatabase, id: i64, without: &str) -> Vec<Entry> {
    let entry = match db.backend() {
        Backend::Postgres => {
            "encode(convert_to(json_build_object('id', id, 'entity', entity, 'action', action, \
             'key', entity_id, 'old', old)::text, 'UTF8'), 'hex')"
        }
        Backend::Sqlite => {
            "hex(json_object('id', id, 'entity', entity, 'action', action, \
             'key', entity_id, 'old', json(old)))"
        }
    };
    let sql = format!(
        "SELECT {entry} FROM _rhtmx_sync_log WHERE id > {id} AND entity <> '{without}' ORDER BY id"
    );
    let rows = db.query_text(&sql).await;
    rows.iter().flatten().map(|hex| parse(hex)).collect()
}

/// Parses an entry in hex, because SQLite permits texts that are not UTF-8.
fn parse(hex: &str) -> Entry {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    let entry: Value = serde_json::from_str(&String::from_utf8_lossy(&bytes)).expect("JSON");
    let text = |name: &str| entry[name].as_str().map(str::to_owned);
    Entry {
        id: entry["id"].as_i64().expect("`id` is a number"),
        entity: text("entity").expect("`entity` is a text"),
        action: text("action").expect("`action` is a text"),
        key: text("key"),
        old: entry["old"].clone(),
    }
}

/// The number of entries.
pub(crate) async fn length(db: &TestDatabase) -> u64 {
    let count = db.query_json("SELECT count(*) FROM _rhtmx_sync_log").await;
    count[0].as_u64().expect("a count")
}

/// Takes the rows after the entries and returns those before; none when the entries do not determine
/// them.
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
                    "a create of a row that does not exist: {entry:?}"
                );
            }
            "update" => {
                let mut row =
                    row.unwrap_or_else(|| panic!("no row to undo an update of: {entry:?}"));
                let old = entry
                    .old
                    .as_object()
                    .unwrap_or_else(|| panic!("an update without old values: {entry:?}"));
                let columns = row.as_object_mut().expect("a row is an object");
                columns.extend(
                    old.iter()
                        .map(|(name, value)| (name.clone(), value.clone())),
                );
                rows.insert(key, row);
            }
            "delete" => {
                // SQLite's capture logs a row that may be replaced before it is known whether it will
                // be.
                let is_deleted = row.is_none_or(|row| {
                    let mut old = entry.old.clone();
                    fill_in(&mut old, &row);
                    row == old
                });
                assert!(is_deleted, "a delete of a row that still exists: {entry:?}");
                rows.insert(key, entry.old.clone());
            }
            other => panic!("an entry `{other}` has a key"),
        }
    }
    Some(rows)
}

/// The log has 0 in place of each value, but null, that no filter can compare: puts in the value of `row`.
pub(crate) fn fill_in(old: &mut Value, row: &Value) {
    for (name, value) in old.as_object_mut().into_iter().flatten() {
        if *value == 0 && row.get(name).is_some() {
            *value = row[name].clone();
        }
    }
}
