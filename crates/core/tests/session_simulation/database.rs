//! A database that knows the rows of its tables at every position.
//!
//! As a model of PostgreSQL, it runs transactions side by side, which commit in any order and lock the
//! rows that they write; as a model of SQLite, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::RejectCode;
use rhtmx_sync_core::cursor::{CommitId, Position};
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::log::{ChangeKind, NetChange};
use rhtmx_sync_core::snapshot::{Snapshot, Xid};
use serde_json::value::RawValue;

use crate::random::Random;
use crate::shapes::{Generation, Selection};

/// The entities that a database may have; fewer make worlds with more changes of each.
pub(crate) const ENTITIES: [&str; 3] = ["a", "b", "c"];
const KEYS: usize = 4;

/// Rows by key, as a client has them.
pub(crate) type Table = BTreeMap<String, String>;

/// A row without its key. Every write gives it another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) version: i64,
    pub(crate) kind: usize,
    pub(crate) name: usize,
}

/// How the database numbers its commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    Snapshots,
    LogIds,
}

#[derive(Debug)]
struct LogEntry {
    id: i64,
    commit_id: CommitId,
    /// The transaction that wrote it, while it runs.
    running: Option<Xid>,
    aborted: bool,
    entity: usize,
    key: Option<usize>,
    kind: ChangeKind,
    row: Row,
}

/// One change of a batch, a catch-up or a resume.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) commit_id: CommitId,
    pub(crate) entity: &'static str,
    pub(crate) key: Option<String>,
    /// Its effect on a reader of all rows.
    pub(crate) effect: Effect,
    /// The row's versions, from the beginning of the batch to its end.
    pub(crate) versions: Vec<Option<Row>>,
    /// The table's generation at the end.
    pub(crate) generation: Generation,
}

/// The answer to a mutation, the same for ever.
pub(crate) type Answer = Result<CommitId, RejectCode>;

#[derive(Debug)]
pub(crate) struct Database {
    numbering: Numbering,
    entities: usize,
    /// How often a write changes a table's schema.
    schema_changes_percent: usize,
    log: Vec<LogEntry>,
    running: Vec<Xid>,
    xid_next: Xid,
    /// One more than the newest transaction that has ended.
    xmax: Xid,
    id_committed: i64,
    floor: Arc<Position>,
    /// Positions that were read at, oldest first.
    past: Vec<Arc<Position>>,
    answers: BTreeMap<(usize, u64), Answer>,
}

impl Database {
    pub(crate) fn new(
        numbering: Numbering,
        entities: usize,
        schema_changes_percent: usize,
    ) -> Self {
        let mut database = Self {
            numbering,
            entities,
            schema_changes_percent,
            log: Vec::new(),
            running: Vec::new(),
            xid_next: 3,
            xmax: 3,
            id_committed: 0,
            floor: Arc::new(Position::log_id(0)),
            past: Vec::new(),
            answers: BTreeMap::new(),
        };
        database.floor = database.now();
        database
    }

    /// The position of a snapshot taken now.
    pub(crate) fn now(&mut self) -> Arc<Position> {
        let position = Arc::new(match self.numbering {
            Numbering::LogIds => Position::log_id(self.id_committed),
            Numbering::Snapshots => {
                let running = self.running.iter().copied().filter(|&xid| xid < self.xmax);
                let running: Vec<Xid> = running.collect();
                let xmin = running.first().copied().unwrap_or(self.xmax);
                Position::Snapshot(Snapshot::new(xmin, self.xmax, running).expect("a snapshot"))
            }
        });
        self.past.push(position.clone());
        position
    }

    pub(crate) fn entities(&self) -> &'static [&'static str] {
        &ENTITIES[..self.entities]
    }

    pub(crate) fn floor(&self) -> &Arc<Position> {
        &self.floor
    }

    /// Prunes the log up to some position of the past.
    pub(crate) fn prune(&mut self, random: &mut Random) {
        let position = &self.past[random.below(self.past.len())];
        if position.covers(&self.floor) {
            self.floor = position.clone();
        }
    }

    pub(crate) fn running(&self) -> &[Xid] {
        &self.running
    }

    /// Begins a transaction, unless it would have to wait for another one.
    pub(crate) fn begin(&mut self) -> Option<Xid> {
        let running_max = if self.numbering == Numbering::LogIds {
            1
        } else {
            4
        };
        if self.running.len() >= running_max {
            return None;
        }
        let xid = self.xid_next;
        self.xid_next += 1;
        self.running.push(xid);
        Some(xid)
    }

    /// Makes a random write, unless the lock is taken or there is nothing to delete.
    pub(crate) fn write(&mut self, xid: Xid, random: &mut Random) {
        let entity = random.below(self.entities);
        let key = random.below(KEYS);
        let exists = self.latest(entity, key).is_some();
        let (key, kind) = match random.below(100) {
            drawn if drawn < self.schema_changes_percent => (None, ChangeKind::SchemaChange),
            0..8 if random.percent(60) => (None, ChangeKind::Truncate),
            0..45 if exists => (Some(key), ChangeKind::Delete),
            0..45 => return,
            _ if exists => (Some(key), ChangeKind::Update),
            _ => (Some(key), ChangeKind::Create),
        };
        let locked = self.log.iter().any(|entry| {
            let others = entry.running.is_some_and(|owner| owner != xid);
            let same = key.is_none() || entry.key.is_none() || entry.key == key;
            others && entry.entity == entity && same
        });
        if !locked {
            self.append(xid, entity, key, kind, random);
        }
    }

    /// Writes some row of `entity`, on which nobody has a lock.
    pub(crate) fn put(&mut self, xid: Xid, entity: usize, random: &mut Random) {
        let key = random.below(KEYS);
        let kind = match self.latest(entity, key) {
            Some(_) => ChangeKind::Update,
            None => ChangeKind::Create,
        };
        self.append(xid, entity, Some(key), kind, random);
    }

    fn append(
        &mut self,
        xid: Xid,
        entity: usize,
        key: Option<usize>,
        kind: ChangeKind,
        random: &mut Random,
    ) {
        let id = self.log.last().map_or(1, |entry| entry.id + 1);
        let before = key.and_then(|key| self.latest(entity, key));
        let mut row = Row {
            version: id,
            kind: random.below(3),
            name: random.below(2),
        };
        if let Some(before) = before {
            // Most writes leave most columns unchanged.
            row.kind = if random.percent(50) {
                before.kind
            } else {
                row.kind
            };
            row.name = if random.percent(70) {
                before.name
            } else {
                row.name
            };
        }
        let commit_id = match self.numbering {
            Numbering::Snapshots => CommitId::Xid(xid),
            Numbering::LogIds => CommitId::LogId(id),
        };
        let running = Some(xid);
        self.log.push(LogEntry {
            id,
            commit_id,
            running,
            aborted: false,
            entity,
            key,
            kind,
            row,
        });
    }

    /// The row, if it exists, as a transaction sees it that may write it.
    fn latest(&self, entity: usize, key: usize) -> Option<Row> {
        let newest = self
            .log
            .iter()
            .rev()
            .filter(|entry| !entry.aborted)
            .find(|entry| {
                let all = entry.key.is_none() && entry.kind == ChangeKind::Truncate;
                entry.entity == entity && (all || entry.key == Some(key))
            });
        newest
            .filter(|entry| matches!(entry.kind, ChangeKind::Create | ChangeKind::Update))
            .map(|entry| entry.row)
    }

    /// Commits a transaction, and returns its commit id.
    pub(crate) fn commit(&mut self, xid: Xid) -> CommitId {
        self.end(xid);
        self.id_committed = self.log.last().map_or(0, |entry| entry.id);
        match self.numbering {
            Numbering::Snapshots => CommitId::Xid(xid),
            Numbering::LogIds => CommitId::LogId(self.id_committed),
        }
    }

    pub(crate) fn abort(&mut self, xid: Xid) {
        match self.numbering {
            // SQLite uses the numbers again.
            Numbering::LogIds => self.log.retain(|entry| entry.running.is_none()),
            Numbering::Snapshots => {
                let own = self
                    .log
                    .iter_mut()
                    .filter(|entry| entry.running == Some(xid));
                own.for_each(|entry| entry.aborted = true);
            }
        }
        self.end(xid);
    }

    fn end(&mut self, xid: Xid) {
        self.running.retain(|&running| running != xid);
        self.xmax = self.xmax.max(xid + 1);
        for entry in self
            .log
            .iter_mut()
            .filter(|entry| entry.running == Some(xid))
        {
            entry.running = None;
        }
    }

    /// Stores the answer to a mutation, as the transaction that applies it does.
    pub(crate) fn store_answer(&mut self, client: usize, mutation: u64, answer: Answer) {
        let before = self.answers.insert((client, mutation), answer);
        assert!(
            before.is_none(),
            "the model engine applied a mutation twice"
        );
    }

    pub(crate) fn answer(&self, client: usize, mutation: u64) -> Option<Answer> {
        self.answers.get(&(client, mutation)).copied()
    }

    /// The rows that a client with this selection must have at `position`.
    pub(crate) fn table(&self, entity: &str, selection: Selection, position: &Position) -> Table {
        let (rows, generation) = self.rows(entity, position);
        let rows = rows.iter().enumerate();
        rows.filter_map(|(key, row)| {
            Some((key.to_string(), selection.view(row.as_ref()?, generation)?))
        })
        .collect()
    }

    /// How often the table's schema had changed at `position`.
    pub(crate) fn generation(&self, entity: &str, position: &Position) -> Generation {
        self.rows(entity, position).1
    }

    /// The table's rows at `position`, by key, and its generation.
    fn rows(&self, entity: &str, position: &Position) -> ([Option<Row>; KEYS], Generation) {
        let mut rows = [None; KEYS];
        let mut generation = 0;
        let seen = self.log.iter().filter(|entry| {
            ENTITIES[entry.entity] == entity && !entry.aborted && position.contains(entry.commit_id)
        });
        for entry in seen {
            match (entry.kind, entry.key) {
                (ChangeKind::SchemaChange, _) => generation += 1,
                (ChangeKind::Delete, Some(key)) => rows[key] = None,
                (_, Some(key)) => rows[key] = Some(entry.row),
                (_, None) => rows = [None; KEYS],
            }
        }
        (rows, generation)
    }

    /// The net change of each row from `since` to `until`.
    pub(crate) fn changes(&self, since: &Position, until: &Position) -> Vec<Item> {
        let new = self.log.iter().filter(|entry| {
            !entry.aborted && until.contains(entry.commit_id) && !since.contains(entry.commit_id)
        });
        let new: Vec<&LogEntry> = new.collect();
        let mut newest: BTreeMap<_, (&LogEntry, i64, i64)> = BTreeMap::new();
        let mut truncated = [None; ENTITIES.len()];
        let mut schema_changed = [None; ENTITIES.len()];
        for entry in &new {
            match entry.kind {
                ChangeKind::Truncate => truncated[entry.entity] = Some(entry.id),
                ChangeKind::SchemaChange => schema_changed[entry.entity] = Some(entry.id),
                _ => {}
            }
            let whole = entry.key.is_none().then_some(entry.kind as u8);
            let seen = newest
                .entry((entry.entity, entry.key, whole))
                .or_insert((entry, 0, 0));
            seen.0 = entry;
            seen.1 += i64::from(entry.kind == ChangeKind::Create);
            seen.2 += i64::from(entry.kind == ChangeKind::Delete);
        }
        let before = ENTITIES.map(|entity| self.rows(entity, since).0);
        let after = ENTITIES.map(|entity| self.rows(entity, until));
        let mut newest: Vec<(&LogEntry, i64, i64)> = newest.into_values().collect();
        newest.sort_by_key(|(entry, ..)| entry.id);
        let items = newest.into_iter().map(|(entry, created, deleted)| {
            let (rows, generation) = after[entry.entity];
            // A row of the time before a schema change cannot be looked up.
            let lost = schema_changed[entry.entity]
                .is_some_and(|schema_changed| entry.id < schema_changed);
            let row = entry.key.filter(|_| !lost).and_then(|key| rows[key]);
            let text = row.and_then(|row| Selection::Everything.view(&row, generation));
            let net_change = NetChange {
                id: entry.id,
                commit_id: entry.commit_id,
                entity: ENTITIES[entry.entity].to_owned(),
                key: entry.key.map(|key| key.to_string()),
                kind: entry.kind,
                created,
                deleted,
                truncated_at: truncated[entry.entity],
                mutation_id: None,
                row: text.map(|text| RawValue::from_string(text).expect("JSON")),
                metadata: None,
                undo: None,
            };
            let begin = match (truncated[entry.entity], entry.key) {
                (None, Some(key)) => before[entry.entity][key],
                _ => None,
            };
            let own = new.iter().filter(|other| {
                let gone = truncated[entry.entity].is_some_and(|id| other.id < id);
                other.entity == entry.entity && other.key == entry.key && !gone
            });
            let written = own.map(|entry| match entry.kind {
                ChangeKind::Create | ChangeKind::Update => Some(entry.row),
                _ => None,
            });
            Item {
                commit_id: entry.commit_id,
                entity: ENTITIES[entry.entity],
                key: net_change.key.clone(),
                effect: net_change.effect(),
                versions: std::iter::once(begin).chain(written).collect(),
                generation,
            }
        });
        items.collect()
    }
}
