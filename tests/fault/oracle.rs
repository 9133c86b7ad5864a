//! Every state that the tables have been in, and what a client must hold at a cursor.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use sync_core::snapshot::Snapshot;

use crate::database::Database;
use crate::filters::Memberships;
use crate::sample::{Sample, SampledSubscription};

/// A text that JSON writes with six characters for each one, so that its row is larger than a row may be.
pub(crate) const UNREADABLE_BODY: &str = "repeat(chr(1), 3000000)";
/// No other text is as long.
const READABLE_BODY_MAX: usize = 1_000_000;

/// A row after a transaction; none when it was deleted.
#[derive(Debug)]
struct Version {
    seq: i64,
    xid: u64,
    row: Option<Value>,
}

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<String, Vec<Version>>,
    /// Sequence number and transaction of each `TRUNCATE`.
    emptied: Vec<(i64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    tables: BTreeMap<String, Table>,
    /// The snapshot up to which the history has been read.
    read: Option<String>,
}

impl Oracle {
    /// An oracle that knows only the current rows, at a snapshot that sees everything.
    pub(crate) fn of_tables(tables: BTreeMap<String, Vec<Value>>) -> Self {
        let version = |row| Version {
            seq: 1,
            xid: 0,
            row: Some(row),
        };
        let table = |rows: Vec<Value>| Table {
            rows: rows
                .into_iter()
                .map(|row| (row["id"].to_string(), vec![version(row)]))
                .collect(),
            emptied: Vec::new(),
        };
        let tables = tables
            .into_iter()
            .map(|(name, rows)| (name, table(rows)))
            .collect();
        Self { tables, read: None }
    }

    /// Reads what has been committed since the last time; returns the snapshot of the read.
    pub(crate) async fn read(&mut self, db: &Database) -> Snapshot {
        let mut client = db.connect().await;
        let transaction = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .start()
            .await
            .expect("a transaction");
        let now: String = transaction
            .query_one("SELECT pg_current_snapshot()::text", &[])
            .await
            .expect("a snapshot")
            .get(0);
        let since = self.read.replace(now.clone()).unwrap_or("1:1:".to_owned());
        let rows = transaction
            .query(
                "SELECT seq, xid::text, entity, key, row::text FROM history \
                 WHERE NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) \
                 AND xid >= pg_snapshot_xmin($1::text::pg_snapshot) ORDER BY seq",
                &[&since],
            )
            .await
            .expect("the history");
        for row in rows {
            let (seq, xid, entity): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            let (key, row): (Option<String>, Option<String>) = (row.get(3), row.get(4));
            let xid = xid.parse().expect("a transaction");
            let table = self.tables.entry(entity).or_default();
            match key {
                None => table.emptied.push((seq, xid)),
                Some(key) => {
                    let row = row.map(|row| serde_json::from_str(&row).expect("JSON"));
                    let versions = table.rows.entry(key).or_default();
                    versions.push(Version { seq, xid, row });
                    // Entries of long transactions arrive late.
                    versions.sort_by_key(|version| version.seq);
                }
            }
        }
        now.parse().expect("a snapshot")
    }

    /// Drops the versions that no later snapshot can show.
    pub(crate) fn forget_before(&mut self, snapshot: &Snapshot) {
        for table in self.tables.values_mut() {
            let emptied = table.emptied_at(snapshot);
            for versions in table.rows.values_mut() {
                let newest = visible(versions, snapshot, emptied).map(|version| version.seq);
                versions.retain(|version| {
                    !snapshot.contains(version.xid) || Some(version.seq) == newest
                });
            }
            table.rows.retain(|_, versions| {
                versions
                    .iter()
                    .any(|v| v.row.is_some() || !snapshot.contains(v.xid))
            });
            table
                .emptied
                .retain(|(seq, xid)| *seq >= emptied || !snapshot.contains(*xid));
        }
    }

    /// The rows of a table that can be read at a snapshot.
    pub(crate) fn rows<'a>(
        &'a self,
        entity: &str,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let table = &self.tables[entity];
        let emptied = table.emptied_at(snapshot);
        table.rows.iter().filter_map(move |(key, versions)| {
            let row = visible(versions, snapshot, emptied)?.row.as_ref()?;
            is_readable(row).then_some((key, row))
        })
    }

    pub(crate) fn memberships(&self, snapshot: &Snapshot) -> Memberships {
        Memberships::of(self.rows("members", snapshot).map(|(_, row)| row))
    }

    /// The contradiction between a client's copy at a cursor and the history, if any: the first row's
    /// key, and the message.
    ///
    /// The sample cannot have seen transactions from `before` on, whatever its snapshot says.
    pub(crate) fn contradicts(&self, sample: &Sample, before: u64) -> Option<(String, String)> {
        let seen = earlier(&sample.snapshot, before);
        let memberships = self.memberships(&seen);
        sample
            .subscriptions
            .iter()
            .find_map(|it| self.contradicts_subscription(&seen, &memberships, it))
    }

    fn contradicts_subscription(
        &self,
        snapshot: &Snapshot,
        memberships: &Memberships,
        subscription: &SampledSubscription,
    ) -> Option<(String, String)> {
        let mut held: BTreeMap<&str, u64> = subscription
            .rows
            .iter()
            .map(|(key, hash)| (key.as_str(), *hash))
            .collect();
        let mut wrong = Vec::new();
        for (key, row) in self.rows(&subscription.entity, snapshot) {
            if !subscription.filter.holds(row, memberships) {
                continue;
            }
            match held.remove(key.as_str()) {
                None => wrong.push(format!("{key} is missing: {row}")),
                Some(hash) if hash != fingerprint(row, &subscription.columns, Some(row)) => {
                    // A column may have been dropped or renamed since the client received the schema.
                    let known: BTreeSet<String> = subscription.columns.iter().cloned().collect();
                    let there = |name: &String| row.get(name).is_some();
                    if known.iter().all(there) {
                        wrong.push(format!("{key} is not what it was: {row}"));
                    }
                }
                Some(_) => {}
            }
        }
        wrong.extend(held.keys().map(|key| format!("{key} should not be there")));
        if wrong.is_empty() {
            return None;
        }
        let first = wrong[0].split(' ').next().unwrap_or_default();
        let past = self.tables[&subscription.entity].rows.get(first);
        Some((
            first.to_owned(),
            format!(
                "{} WHERE {}, columns {:?}, at {snapshot}: {} rows are wrong:\n  {}\nthe first one's past: {past:?}\nall that was emptied: {:?}",
                subscription.entity,
                subscription.filter.text(),
                subscription.columns,
                wrong.len(),
                wrong[..wrong.len().min(5)].join("\n  "),
                self.tables[&subscription.entity].emptied,
            ),
        ))
    }
}

impl Table {
    /// The newest `TRUNCATE` that the snapshot sees.
    fn emptied_at(&self, snapshot: &Snapshot) -> i64 {
        let seen = self
            .emptied
            .iter()
            .filter(|(_, xid)| snapshot.contains(*xid));
        seen.map(|(seq, _)| *seq).max().unwrap_or(0)
    }
}

/// The snapshot without transactions from `before` on.
fn earlier(snapshot: &Snapshot, before: u64) -> Snapshot {
    let running = snapshot.running().iter().copied();
    let running: Vec<u64> = running.filter(|xid| *xid < before).collect();
    let xmax = snapshot.xmax().min(before);
    let xmin = running.first().copied().unwrap_or(xmax);
    Snapshot::new(xmin, xmax, running).expect("a smaller snapshot is valid")
}

fn is_readable(row: &Value) -> bool {
    row["body"]
        .as_str()
        .is_none_or(|body| body.len() <= READABLE_BODY_MAX)
}

fn visible<'a>(versions: &'a [Version], snapshot: &Snapshot, emptied: i64) -> Option<&'a Version> {
    let newest = versions
        .iter()
        .rev()
        .find(|version| snapshot.contains(version.xid))?;
    (newest.seq > emptied).then_some(newest)
}

/// The columns of a row as one number, without those that `within` lacks.
pub(crate) fn fingerprint(row: &Value, columns: &[String], within: Option<&Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for column in columns {
        if within.is_none_or(|within| within.get(column).is_some()) {
            column.hash(&mut hasher);
            row[column].to_string().hash(&mut hasher);
        }
    }
    hasher.finish()
}
