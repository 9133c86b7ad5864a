//! The hash of a log entry, by which a position is recognised.
//!
//! A log id alone does not say which entry a reader has seen: a restored backup, or a power cut after which
//! the last commits are gone, gives ids out again. The entry's time, row and kind tell it from any other that
//! ever had its id.

use diesel::SqliteConnection;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use sync_core::cursor::LogPosition;

use super::statement::{Statement, Value};

/// The newest id that the log has ever assigned, as an expression. Entries may be gone, and the sequence lags
/// behind after a statement that failed halfway (`OR FAIL`) or that fired triggers within triggers.
macro_rules! newest {
    () => {
        "max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_rhtmx_sync_log'), 0), \
         coalesce((SELECT max(id) FROM _rhtmx_sync_log), 0))"
    };
}
pub(super) use newest;

/// The hash of an entry, as an expression of the log's columns.
macro_rules! entry_hash {
    () => {
        "rhtmx_entry_hash(created_at, entity, CAST(entity_id AS BLOB), action)"
    };
}
pub(super) use entry_hash;

/// The hash of the entry at an id, as an expression; null when there is none.
macro_rules! hash_at {
    ($id:expr) => {
        concat!(
            "(SELECT ",
            entry_hash!(),
            " FROM _rhtmx_sync_log l WHERE l.id = ",
            $id,
            ")"
        )
    };
}
pub(super) use hash_at;

/// The database's position as text, as an expression: the newest id, and the hash of its entry.
macro_rules! position {
    () => {
        concat!(
            newest!(),
            " || coalesce('.' || CASE WHEN (SELECT CAST(floor AS INTEGER) FROM _rhtmx_sync_meta) = ",
            newest!(),
            " THEN (SELECT floor_entry FROM _rhtmx_sync_meta) ELSE ",
            hash_at!(newest!()),
            " END, '')"
        )
    };
}
pub(super) use position;

/// Whether the database has come past the position `id`, `hash`. An entry that is gone proves nothing: an
/// upsert takes back what its insert has logged, and an `INSERT OR IGNORE` before it has logged the same.
const IS_KNOWN: [&str; 3] = [
    concat!(
        "SELECT CASE WHEN p.id > ",
        newest!(),
        " THEN 0 WHEN p.id < (SELECT CAST(floor AS INTEGER) FROM _rhtmx_sync_meta) THEN 1 \
         WHEN p.id = (SELECT CAST(floor AS INTEGER) FROM _rhtmx_sync_meta) \
         THEN (SELECT floor_entry FROM _rhtmx_sync_meta) IS p.hash \
         ELSE coalesce((SELECT ",
        entry_hash!(),
        " IS p.hash FROM _rhtmx_sync_log l WHERE l.id = p.id), 1) END AS known FROM (SELECT "
    ),
    " AS id, ",
    " AS hash) p",
];

/// Whether the database has come past this position. One below the floor counts as known: that it has been
/// pruned is found out elsewhere.
pub(super) fn is_known(conn: &mut SqliteConnection, position: LogPosition) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Known {
        #[diesel(sql_type = Bool)]
        known: bool,
    }
    let hash = match position.entry {
        Some(hash) => Value::Text(hash_text(hash)),
        None => Value::Null,
    };
    let [before, between, after] = IS_KNOWN;
    let known: Known = Statement::new(before)
        .value(Value::Integer(position.id))
        .sql(between)
        .value(hash)
        .sql(after)
        .kept()
        .get_result(conn)?;
    Ok(known.known)
}

/// Begins a new epoch, unless the position is known. Returns whether it did.
pub(super) fn begin_epoch(conn: &mut SqliteConnection, reached: LogPosition) -> QueryResult<bool> {
    if is_known(conn, reached)? {
        return Ok(false);
    }
    conn.batch_execute("UPDATE _rhtmx_sync_meta SET epoch = lower(hex(randomblob(16))), node = lower(hex(randomblob(4)))")?;
    Ok(true)
}

/// The hash of an entry with these values: FNV-1a over their bytes.
pub(super) fn hash(created_at: &str, entity: &str, key: Option<&[u8]>, action: &str) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let bytes = [
        created_at.as_bytes(),
        entity.as_bytes(),
        key.unwrap_or(b"\x01"),
        action.as_bytes(),
    ];
    let bytes = bytes.iter().flat_map(|text| text.iter().chain(&[0]));
    hash_text(bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
    }))
}

fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn each_value_makes_another_hash() {
        let first = hash("2026-01-01T00:00:00.000Z", "notes", Some(b"1"), "create");
        for other in [
            hash("2026-01-01T00:00:00.001Z", "notes", Some(b"1"), "create"),
            hash("2026-01-01T00:00:00.000Z", "note", Some(b"s1"), "create"),
            hash("2026-01-01T00:00:00.000Z", "notes", None, "create"),
            hash("2026-01-01T00:00:00.000Z", "notes", Some(b"1"), "update"),
        ] {
            assert_ne!(first, other);
        }
        assert_eq!(first.len(), 16);
    }
}
