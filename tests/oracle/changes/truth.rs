//! The table at each instant, recorded independently: by triggers on PostgreSQL, where writers overlap,
//! and by a query after each transaction on SQLite, where they cannot.

use std::collections::{BTreeMap, BTreeSet};

use filter::Backend;
use serde_json::Value;
use sync_core::cursor::{LogPosition, Position};
use sync_core::snapshot::Xid;
use testkit::TestDatabase;
use value::schema::ColumnKind;

use super::Selection;
use crate::filters::subject::Subject;

/// Rows by key; none for a row whose values were not recorded.
pub(crate) type Copy = BTreeMap<i64, Option<Value>>;

/// One version of a row, or its end; without a key the end of all rows.
#[derive(Debug)]
pub(crate) struct Version {
    xid: Xid,
    key: Option<i64>,
    row: Option<Value>,
    /// For each selection, whether it matches.
    truths: String,
}

/// The table after a transaction.
#[derive(Debug)]
pub(crate) struct State {
    log_id: i64,
    /// For each selection, the keys of the rows that match.
    matching: Vec<BTreeSet<i64>>,
}

#[derive(Debug)]
pub(crate) enum Truth {
    Versions(Vec<Version>),
    States(Vec<State>),
}

const HISTORY: &str = "
CREATE TABLE history (h_seq bigserial PRIMARY KEY, h_xid xid8 DEFAULT pg_current_xact_id(), h_k int, h_gone bool, h_row t);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'TRUNCATE' THEN INSERT INTO history (h_gone) VALUES (true); RETURN NULL; END IF;
    IF TG_OP <> 'INSERT' THEN INSERT INTO history (h_k, h_gone) VALUES (OLD.k, true); END IF;
    IF TG_OP <> 'DELETE' THEN INSERT INTO history (h_k, h_gone, h_row) VALUES (NEW.k, false, NEW); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION remember();
CREATE TRIGGER remember_all AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION remember();";

/// Starts the record, before the table has rows.
pub(crate) async fn prepare(db: &TestDatabase, backend: Backend) {
    let sql = match backend {
        Backend::Postgres => HISTORY,
        Backend::Sqlite => "CREATE TABLE bounds (n INTEGER PRIMARY KEY, log_id INTEGER NOT NULL)",
    };
    db.execute(sql).await;
}

/// On SQLite, the last statement of each transaction: the end of the log with it.
pub(crate) const BOUND: &str = "INSERT INTO bounds SELECT NULL, coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = '_rhtmx_sync_log'";

/// On SQLite, the end of the log with the last transaction.
pub(crate) async fn bounds(db: &TestDatabase) -> i64 {
    let bound = db
        .query_text("SELECT CAST(max(log_id) AS TEXT) FROM bounds")
        .await;
    let bound = bound[0].as_ref();
    bound.map_or(0, |id| id.parse().expect("a number"))
}

impl Truth {
    /// For PostgreSQL, at rest: everything recorded.
    pub(crate) async fn of_history(
        db: &TestDatabase,
        subjects: &[Subject],
        selections: &[Selection],
    ) -> Self {
        let truths: Vec<String> = selections
            .iter()
            .map(|selection| format!("coalesce(({})::int::text, 'u')", selection.written.plain))
            .collect();
        let columns: Vec<String> = subjects
            .iter()
            .map(|subject| {
                format!(
                    "'{}', {}",
                    subject.name,
                    json_value(&subject.column.kind, &format!("\"{}\"", subject.name))
                )
            })
            .collect();
        let sql = format!(
            "SET \"TimeZone\" = 'UTC'; SELECT json_build_array(h_xid::text, h_k, h_gone, \
             CASE WHEN NOT h_gone THEN json_build_object({}) END, \
             CASE WHEN NOT h_gone THEN {} ELSE '' END)::text \
             FROM history CROSS JOIN LATERAL (SELECT (h_row).*) t ORDER BY h_seq",
            columns.join(", "),
            truths.join(" || ")
        );
        let version = |line: Value| Version {
            xid: line[0]
                .as_str()
                .and_then(|xid| xid.parse().ok())
                .expect("a transaction"),
            key: line[1].as_i64(),
            row: (line[2] == false).then(|| line[3].clone()),
            truths: line[4].as_str().unwrap_or_default().to_owned(),
        };
        Self::Versions(db.query_json(&sql).await.into_iter().map(version).collect())
    }

    /// For SQLite: adds the current state, after a transaction.
    pub(crate) async fn add_state(&mut self, db: &TestDatabase, selections: &[Selection]) {
        let Self::States(states) = self else { return };
        let log_id = bounds(db).await;
        let query = |(n, selection): (usize, &Selection)| {
            format!(
                "SELECT {n} AS n, (SELECT group_concat(k) FROM t WHERE {}) AS keys",
                selection.written.plain
            )
        };
        let queries: Vec<String> = selections.iter().enumerate().map(query).collect();
        let sql = format!(
            "SELECT keys FROM ({}) ORDER BY n",
            queries.join(" UNION ALL ")
        );
        let matching = db
            .query_text(&sql)
            .await
            .into_iter()
            .map(|keys| match keys {
                Some(keys) => keys
                    .split(',')
                    .map(|key| key.parse().expect("a key"))
                    .collect(),
                None => BTreeSet::new(),
            });
        states.push(State {
            log_id,
            matching: matching.collect(),
        });
    }

    /// The rows that a copy must hold at a position.
    pub(crate) fn at(&self, position: &Position, number: usize, selection: &Selection) -> Copy {
        match (self, position) {
            (Self::Versions(versions), Position::Snapshot(snapshot)) => {
                let mut copy = BTreeMap::new();
                for version in versions
                    .iter()
                    .filter(|version| snapshot.contains(version.xid))
                {
                    match (version.key, &version.row) {
                        (Some(key), Some(row)) if version.truths.as_bytes()[number] == b'1' => {
                            copy.insert(key, Some(selection.project(row)));
                        }
                        (Some(key), _) => drop(copy.remove(&key)),
                        (None, _) => copy.clear(),
                    }
                }
                copy
            }
            (Self::States(states), Position::Log(LogPosition { id, .. })) => {
                let state = states
                    .iter()
                    .rfind(|state| state.log_id <= *id)
                    .expect("a state");
                state.matching[number]
                    .iter()
                    .map(|key| (*key, None))
                    .collect()
            }
            (_, position) => panic!("a cursor of another database: {position}"),
        }
    }
}

/// The JSON of a value, as the protocol writes it.
fn json_value(kind: &ColumnKind, name: &str) -> String {
    match kind {
        ColumnKind::Int { min: i64::MIN, .. } => format!(
            "CASE WHEN {name} BETWEEN -9007199254740992 AND 9007199254740992 THEN to_json({name}) ELSE to_json({name}::text) END"
        ),
        ColumnKind::Numeric => format!(
            "CASE WHEN length(translate({name}::text, '-.', '')) <= 15 THEN to_json({name}) ELSE to_json({name}::text) END"
        ),
        ColumnKind::Bytes => format!("encode({name}, 'base64')"),
        _ => name.to_owned(),
    }
}
