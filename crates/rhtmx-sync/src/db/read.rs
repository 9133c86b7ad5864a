//! What readers of the log and of tables get, from both backends alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::str::FromStr as _;
use std::sync::Arc;

use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::history::Step;
use rhtmx_sync_core::log::{Action, NewestEntry};
use rhtmx_sync_core::protocol::{Origin, RowImage};
use rhtmx_sync_core::shape::{Part, Shape};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::DbError;
use super::error::DbResult;
use super::quote::literal;
use crate::entity::{Entity, RowsSql};

/// Items handed over together; a balance between memory and wake-ups.
pub(crate) const ITEMS_PER_CHUNK: usize = 512;
/// A chunk is handed over early when it holds this much.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// A part of what a read found, in order.
#[derive(Debug)]
pub(crate) enum ReadPart {
    /// First: the position of the database at the read's snapshot, and the log's floor there.
    Start {
        /// Everything up to here is in what follows.
        position: Position,
        /// What the log has forgotten.
        floor: Position,
    },
    /// Entries of the log, in its order.
    Entries(Vec<NewestEntry>),
    /// Rows of a table.
    Rows(Vec<RowImage>),
    /// This entity's table has changed since the statement was made, so what follows may be half of
    /// the truth. Nothing follows.
    Outdated(String),
}

/// Which changes to read.
#[derive(Debug, Clone)]
pub(crate) struct ChangesQuery {
    /// Those that are not part of this.
    pub(crate) from: Position,
    /// The columns whose previous values to bring along.
    pub(crate) histories: HistoryColumns,
    /// Whether to look at what tables the entities have at the read's snapshot. A client that misses
    /// a change of its table, because its read was made for the old one and is as new as the new one,
    /// would never hear of it.
    pub(crate) checked: bool,
}

impl ChangesQuery {
    /// The tables that the statement is made for, where that matters.
    pub(crate) fn expected(&self, entities: &BTreeMap<String, Arc<Entity>>) -> Versions {
        match self.checked {
            true => versions(entities.values()),
            false => Versions::new(),
        }
    }
}

/// The fingerprint of each entity's table.
pub(crate) type Versions = BTreeMap<String, String>;

/// Those that the statement is made for.
pub(crate) fn versions<'a>(entities: impl IntoIterator<Item = &'a Arc<Entity>>) -> Versions {
    let tables = entities
        .into_iter()
        .filter(|entity| entity.relation.is_some());
    tables
        .map(|entity| (entity.schema.entity.clone(), entity.fingerprint.clone()))
        .collect()
}

/// Where a read puts its parts. When the receiver is gone the read ends.
pub(crate) type ReadSender = mpsc::Sender<ReadPart>;

/// A read under way in a task of its own, at most a few parts ahead of whoever takes them.
#[derive(Debug)]
pub(crate) struct PartStream {
    parts: mpsc::Receiver<ReadPart>,
    task: JoinHandle<DbResult<()>>,
}

/// Parts that may wait to be taken.
const PARTS_WAITING_MAX: usize = 4;

impl PartStream {
    /// Begins a read.
    pub(crate) fn begin<F: Future<Output = DbResult<()>> + Send + 'static>(
        read: impl FnOnce(ReadSender) -> F,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
        Self {
            parts,
            task: tokio::spawn(read(sender)),
        }
    }

    /// The next part; none at the end, or when the read has failed.
    pub(crate) async fn next(&mut self) -> Option<ReadPart> {
        self.parts.recv().await
    }

    /// Ends the read, also before its end, and says whether it failed.
    pub(crate) async fn finish(mut self) -> DbResult<()> {
        self.parts.close();
        while self.parts.try_recv().is_ok() {}
        self.task
            .await
            .unwrap_or_else(|error| Err(unreadable(&error)))
    }
}

/// One line of [`changes_sql`].
#[derive(Debug)]
pub(crate) struct ChangeRow {
    pub(crate) position: String,
    pub(crate) floor: String,
    pub(crate) versions: Option<String>,
    pub(crate) id: Option<i64>,
    pub(crate) mark: Option<i64>,
    pub(crate) entity: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) came: Option<i64>,
    pub(crate) went: Option<i64>,
    pub(crate) truncated_at: Option<i64>,
    pub(crate) client_id: Option<String>,
    pub(crate) mutation: Option<i64>,
    pub(crate) row: Option<String>,
    pub(crate) history: Option<String>,
}

/// What differs between the backends in the statements below.
pub(crate) struct ChangesDialect {
    /// One row: `position`, `floor`.
    pub(crate) start: &'static str,
    /// A JSON object of the fingerprints of entities `e`.
    pub(crate) versions: &'static str,
    /// The entries that are new, with `mark`.
    pub(crate) news: &'static str,
    /// The columns, as JSON, whose previous values are wanted of the entity of the entry `n`; null
    /// where none are.
    pub(crate) wanted: &'static str,
    /// The entry `w` as a JSON array of its id, its transaction (or null), its action and its `old`,
    /// in which values that are not `wanted` are 0.
    pub(crate) step: &'static str,
}

/// The columns whose previous values somebody wants to know, for each entity.
pub(crate) type HistoryColumns = BTreeMap<String, BTreeSet<String>>;

/// The history of one row may be this long, in bytes; of a longer one it is not known what the row
/// was.
const HISTORY_BYTES_MAX: usize = 1024 * 1024;

/// Which rows of an entity to read.
#[derive(Debug, Clone)]
pub(crate) struct RowsQuery {
    /// Those of this shape, which must have been made for the entity as it is.
    pub(crate) shape: Shape,
    /// Some of them; none for all.
    pub(crate) page: Option<RowsPage>,
}

/// A page of rows, in the order of the bytes of their keys.
#[derive(Debug, Clone)]
pub(crate) struct RowsPage {
    /// Begin behind this key.
    pub(crate) after_key: Option<String>,
    /// No more than these.
    pub(crate) limit: usize,
}

impl RowsQuery {
    /// All rows of a shape.
    pub(crate) fn all(shape: Shape) -> Self {
        Self { shape, page: None }
    }
}

/// One statement, so one snapshot: where the database is, and for each row that the new entries
/// name the newest of them with the row as it is. Without entries it gives one line with nulls.
///
/// The row is a scalar subquery by key, which leaves the planner no choice but the key's index.
/// Entries before a reshape are not looked up: their keys may be of another type.
///
/// With `history` it also gives, for entities of which somebody wants to know that, what a row's
/// entries say that it was.
pub(crate) fn changes_sql(
    dialect: &ChangesDialect,
    entities: &BTreeMap<String, Arc<Entity>>,
    history: bool,
    checked: bool,
) -> String {
    let versions = match checked {
        true => versions_sql(dialect, entities.keys()),
        false => "CAST(NULL AS TEXT)".to_owned(),
    };
    let mut rows = String::new();
    let (away, here): (Vec<_>, Vec<_>) = entities.iter().partition(|(_, entity)| entity.is_away());
    let away: Vec<String> = away.into_iter().map(|(name, _)| literal(name)).collect();
    let unless_away = match away.is_empty() {
        true => String::new(),
        false => format!(
            "AND (entity_id IS NULL OR entity NOT IN ({})) ",
            away.join(", ")
        ),
    };
    for (name, entity) in here {
        write!(rows, " WHEN {} THEN {}", literal(name), entity.row_by_key)
            .expect("writing to a string");
    }
    let row = match rows.is_empty() {
        true => "CAST(NULL AS TEXT)".to_owned(),
        false => format!(
            "CASE WHEN entity_id IS NULL OR id < coalesce(reshaped_at, 0) THEN NULL ELSE CASE entity{rows} END END"
        ),
    };
    format!(
        "SELECT s.position, s.floor, {versions} AS versions, l.* FROM ({start}) s LEFT JOIN ( \
         SELECT id, mark, entity, entity_id AS key, action, came, went, truncated_at, client_id, mutation, \
         {row} AS row, {history} AS history FROM ( \
         SELECT n.*, row_number() OVER (PARTITION BY entity, entity_id, \
           CASE WHEN entity_id IS NULL THEN action END ORDER BY id DESC) AS rank, \
         sum(CASE action WHEN 'create' THEN 1 ELSE 0 END) OVER (PARTITION BY entity, entity_id) AS came, \
         sum(CASE action WHEN 'delete' THEN 1 ELSE 0 END) OVER (PARTITION BY entity, entity_id) AS went, \
         max(CASE WHEN action = 'truncate' THEN id END) OVER (PARTITION BY entity) AS truncated_at, \
         max(CASE WHEN action = 'reshape' THEN id END) OVER (PARTITION BY entity) AS reshaped_at{steps} \
         FROM ({news}) n) ranked WHERE rank = 1 {unless_away}) l ON true ORDER BY l.id",
        start = dialect.start,
        news = news_sql(dialect, history),
        history = match history {
            true => "'[' || steps || ']'".to_owned(),
            false => "CAST(NULL AS TEXT)".to_owned(),
        },
        // One pass: the whole of a partition gives the same for each of its rows.
        steps = match history {
            true => format!(
                ", string_agg(step, ',') FILTER (WHERE steps_bytes <= {HISTORY_BYTES_MAX}) \
                 OVER (PARTITION BY entity, entity_id ORDER BY id DESC \
                 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS steps"
            ),
            false => String::new(),
        },
    )
}

/// The entries that are new; with `history` each has its step where it is wanted, and how long the
/// steps of its row are together.
pub(crate) fn news_sql(dialect: &ChangesDialect, history: bool) -> String {
    if !history {
        return dialect.news.to_owned();
    }
    format!(
        "SELECT s.*, sum(length(step)) OVER (PARTITION BY entity, entity_id) AS steps_bytes FROM ( \
         SELECT w.*, CASE WHEN wanted IS NOT NULL AND entity_id IS NOT NULL THEN {step} END AS step FROM ( \
         SELECT n.*, {wanted} AS wanted FROM ({news}) n) w) s",
        step = dialect.step,
        wanted = dialect.wanted,
        news = dialect.news,
    )
}

/// What tables these entities have at the snapshot.
fn versions_sql<'a>(
    dialect: &ChangesDialect,
    names: impl IntoIterator<Item = &'a String>,
) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    format!(
        "(SELECT {} FROM _rhtmx_sync_entity e WHERE e.entity IN ({}))",
        dialect.versions,
        names.join(", ")
    )
}

/// The entity whose table is not the one that was expected.
fn outdated(expected: &Versions, found: Option<&str>) -> DbResult<Option<String>> {
    let found: Versions = match found {
        Some(found) => serde_json::from_str(found).map_err(|error| unreadable(&error))?,
        None => Versions::new(),
    };
    let changed = expected
        .iter()
        .find(|(entity, version)| found.get(*entity) != Some(version));
    Ok(changed.map(|(entity, _)| entity.clone()))
}

/// Collects the lines of a read of changes into parts.
pub(crate) struct ChangesCollector {
    mark: fn(i64) -> Mark,
    expected: Versions,
    started: bool,
    entries: Vec<NewestEntry>,
    bytes: usize,
}

impl ChangesCollector {
    /// `expected`: the tables that the statement was made for, where that matters.
    pub(crate) fn new(mark: fn(i64) -> Mark, expected: Versions) -> Self {
        Self {
            mark,
            expected,
            started: false,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes one line; gives the parts that are complete with it.
    pub(crate) fn take(&mut self, line: ChangeRow) -> DbResult<Vec<ReadPart>> {
        let mut parts = Vec::new();
        if !self.started {
            self.started = true;
            if let Some(entity) = outdated(&self.expected, line.versions.as_deref())? {
                return Ok(vec![ReadPart::Outdated(entity)]);
            }
            parts.push(ReadPart::Start {
                position: position(&line.position)?,
                floor: position(&line.floor)?,
            });
        }
        let history_bytes = line.history.as_ref().map_or(0, String::len);
        if let Some(entry) = entry(line, self.mark)? {
            self.bytes += entry.row.as_ref().map_or(0, |row| row.get().len()) + history_bytes;
            self.entries.push(entry);
        }
        if self.entries.len() >= ITEMS_PER_CHUNK || self.bytes >= CHUNK_BYTES {
            parts.extend(self.finish());
        }
        Ok(parts)
    }

    /// What is left.
    pub(crate) fn finish(&mut self) -> Option<ReadPart> {
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        (!entries.is_empty()).then_some(ReadPart::Entries(entries))
    }
}

/// Collects the lines of a read of rows into parts. The first line has the position and the floor.
pub(crate) struct RowsCollector {
    expected: Versions,
    rows: Vec<RowImage>,
    bytes: usize,
}

/// One line of a read of rows: either the first two, or the last two.
#[derive(Debug)]
pub(crate) struct RowLine {
    pub(crate) position: Option<String>,
    pub(crate) floor: Option<String>,
    pub(crate) versions: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) row: Option<String>,
}

impl RowsCollector {
    /// Of the rows of an entity as its table is expected to be.
    pub(crate) fn new(entity: &Arc<Entity>) -> Self {
        Self {
            expected: versions([entity]),
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes one line; gives the part that is complete with it.
    pub(crate) fn take(&mut self, line: RowLine) -> DbResult<Option<ReadPart>> {
        match line {
            RowLine {
                position: Some(position),
                floor: Some(floor),
                versions,
                ..
            } => Ok(Some(match outdated(&self.expected, versions.as_deref())? {
                Some(entity) => ReadPart::Outdated(entity),
                None => ReadPart::Start {
                    position: self::position(&position)?,
                    floor: self::position(&floor)?,
                },
            })),
            RowLine {
                key: Some(key),
                row: Some(row),
                ..
            } => {
                self.bytes += row.len();
                self.rows.push(RowImage {
                    key,
                    row: raw(row)?,
                });
                let full = self.rows.len() >= ITEMS_PER_CHUNK || self.bytes >= CHUNK_BYTES;
                Ok(if full { self.finish() } else { None })
            }
            // A table of SQLite may hold a row whose key is null; it has no name to send it under.
            _ => Ok(None),
        }
    }

    /// What is left.
    pub(crate) fn finish(&mut self) -> Option<ReadPart> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(ReadPart::Rows(rows))
    }
}

/// What comes before and behind a query of `key` and `row`, so that its lines are [`RowLine`]s.
pub(crate) fn around_rows(dialect: &ChangesDialect, entity: &Entity) -> (String, &'static str) {
    let before = format!(
        "SELECT position, floor, {} AS versions, CAST(NULL AS TEXT) AS key, CAST(NULL AS TEXT) AS row \
         FROM ({}) s UNION ALL SELECT NULL, NULL, NULL, key, row FROM (",
        versions_sql(dialect, [&entity.schema.entity]),
        dialect.start
    );
    (before, ") all_rows")
}

/// A query of `key` and `row`, up to the predicate that `part` asks for, which has to follow.
pub(crate) fn rows_before_where(
    rows: &RowsSql,
    part: Option<&Part>,
    object_of: impl Fn(Vec<String>) -> String,
) -> String {
    match rows {
        RowsSql::Query(query) => query.clone(),
        RowsSql::Table {
            key,
            row,
            columns,
            from,
        } => {
            let wanted = part.and_then(Part::columns).map(|wanted| {
                let columns = wanted.iter().map(|&index| columns[index].clone());
                object_of(columns.collect())
            });
            let row = wanted.unwrap_or_else(|| row.clone());
            format!("SELECT {key} AS key, {row} AS row FROM {from}")
        }
    }
}

fn entry(line: ChangeRow, mark: fn(i64) -> Mark) -> DbResult<Option<NewestEntry>> {
    let (Some(id), Some(mark_number), Some(entity), Some(action)) =
        (line.id, line.mark, line.entity, line.action)
    else {
        return Ok(None);
    };
    // The setting that carries the origin is open to any writer, so nonsense is simply no origin.
    let origin = line
        .client_id
        .and_then(|client| client.parse().ok())
        .zip(line.mutation.and_then(|m| u64::try_from(m).ok()));
    Ok(Some(NewestEntry {
        id,
        mark: mark(mark_number),
        entity,
        key: line.key,
        action: self::action(&action)?,
        came: line.came.unwrap_or_default(),
        went: line.went.unwrap_or_default(),
        truncated_at: line.truncated_at,
        origin: origin.map(|(client_id, mutation)| Origin {
            client_id,
            mutation,
        }),
        row: line.row.map(raw).transpose()?,
        history: line
            .history
            .map(|steps| history(&steps, line.truncated_at))
            .transpose()?,
    }))
}

/// A row's steps since the newest truncate.
fn history(steps: &str, truncated_at: Option<i64>) -> DbResult<Vec<Step>> {
    /// As the statement writes it: id, transaction, action, old.
    type Written = (i64, Option<u64>, String, Option<Box<RawValue>>);
    let steps: Vec<Written> = serde_json::from_str(steps).map_err(|error| unreadable(&error))?;
    let since = truncated_at.unwrap_or_default();
    let steps = steps.into_iter().filter(|(id, ..)| *id > since);
    steps
        .map(|(id, transaction, word, old)| {
            let action = action(&word)?;
            Ok(Step {
                id,
                transaction,
                action,
                old,
            })
        })
        .collect()
}

fn action(word: &str) -> DbResult<Action> {
    Action::from_str(word).map_err(|error| unreadable(&error))
}

/// A position as the database keeps it: a snapshot, or a log id.
pub(crate) fn position(text: &str) -> DbResult<Position> {
    let tagged = if text.contains(':') {
        format!("p{text}")
    } else {
        format!("s{text}")
    };
    tagged.parse().map_err(|error| unreadable(&error))
}

/// JSON that the database has made.
pub(crate) fn raw(text: String) -> DbResult<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> DbError {
    DbError::Statement {
        context: "reading what the log holds",
        message: error.to_string(),
    }
}
