//! Both protocols on one connection: what a node's frames mean for a session, and what a session's frames mean for a node.
//!
//! Effects are elsewhere: texts go in and come out, and the time is an argument.

use std::collections::{BTreeMap, VecDeque};

use merge::{Clock, NodeId};
use protocol::{
    Change, Changes, ErrorCode, MODE_RECORDS, RowMetadata, ServerFrame, SubscriptionId,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sync_core::mutation::fields::key_values;

use super::frames::{Shown, changesets, read_changeset};
use super::precision;
use super::progress::Progress;
use super::pushes::Pushes;
use super::tables::{Table, Tables};

/// How many bytes of changes are held back for the end of their transaction; beyond that they go in several frames.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The node broke the protocol.
    Protocol(&'static str),
    /// It must take all rows again.
    Refetch,
    /// The database cannot be read at the moment.
    Unavailable,
}

/// What is known of a node at the beginning of a connection.
pub(super) struct Beginning {
    /// The node.
    pub(super) node: NodeId,
    /// The database.
    pub(super) database: NodeId,
    /// From where it goes on; none if it gets all rows.
    pub(super) since: Option<String>,
    /// Whether it has no row of anybody else's, so that its own may be gone, too.
    pub(super) is_empty: bool,
}

/// One connection.
pub(super) struct Dialect {
    tables: Tables,
    of: Beginning,
    /// Subscriptions that have been answered, in the order of the tables.
    answered: usize,
    /// Whether the next one is asked for.
    asks: bool,
    shapes: BTreeMap<String, usize>,
    held: Vec<Shown>,
    held_bytes: usize,
    /// The newest cursor at which it has all changes of its tables, once all are answered. It begins with the first table's.
    cursor: Option<String>,
    /// Whether rows that are gone are still to be sent.
    awaits_tombstones: bool,
    to_session: VecDeque<String>,
    to_node: VecDeque<String>,
    pub(super) pushes: Pushes,
    pub(super) progress: Progress,
    /// Whether to ask if all has arrived.
    asks_for_arrival: bool,
}

impl Dialect {
    pub(super) fn new(tables: Tables, of: Beginning, pushes: Pushes, progress: Progress) -> Self {
        let awaits_tombstones = of.since.is_none() && !tables.all().is_empty();
        let mut dialect = Self {
            tables,
            of,
            answered: 0,
            asks: false,
            shapes: BTreeMap::new(),
            held: Vec::new(),
            held_bytes: 0,
            cursor: None,
            awaits_tombstones,
            to_session: VecDeque::new(),
            to_node: VecDeque::new(),
            pushes,
            progress,
            asks_for_arrival: false,
        };
        dialect.subscribe();
        dialect
    }

    /// Takes a frame of the node.
    pub(super) fn received(&mut self, text: &str, now_ms: u64) -> Result<(), End> {
        let read = read_changeset(text, &self.tables, &self.of.node).map_err(End::Protocol)?;
        for reason in &read.left_out {
            tracing::debug!(node = %self.of.node, reason, "a record is left out");
        }
        self.pushes.add(read, now_ms);
        Ok(())
    }

    /// The next frame for the session.
    pub(super) fn next_for_session(&mut self, now_ms: u64) -> Option<String> {
        let waiting = self.to_session.pop_front();
        waiting.or_else(|| self.pushes.next(now_ms))
    }

    /// The next frame for the node.
    pub(super) fn next_for_node(&mut self) -> Option<String> {
        self.to_node.pop_front()
    }

    /// Whether to send a ping behind what was sent.
    pub(super) fn takes_ping(&mut self) -> bool {
        let asks = std::mem::take(&mut self.asks_for_arrival);
        if asks {
            self.progress.pinged();
        }
        asks
    }

    /// The tables whose rows that are gone are to be read now, that is after their changes are followed.
    pub(super) fn tombstones_due(&self) -> Option<Vec<Table>> {
        let is_due = self.awaits_tombstones && self.is_live();
        is_due.then(|| {
            let tables = self.tables.all().iter();
            tables.filter(|table| !table.is_guarded).cloned().collect()
        })
    }

    /// Rows that are gone, with the clocks of their deletion.
    pub(super) fn tombstones(&mut self, entity: &str, gone: Vec<(String, Option<Clock>)>) {
        let Some(index) = self.tables.position(entity) else {
            return;
        };
        for (key, hlc) in gone {
            let hlc = hlc.max(Some(self.origin())).unwrap_or_else(Clock::ground);
            self.hold_deletion(index, &key, hlc);
        }
        self.let_go();
    }

    /// All of them have been sent.
    pub(super) fn tombstones_done(&mut self) {
        self.awaits_tombstones = false;
        self.reached();
    }

    /// It has been sent everything up to the cursor, unless a table or rows that are gone are still to come.
    fn reached(&mut self) {
        if self.is_live()
            && !self.awaits_tombstones
            && let Some(cursor) = self.cursor.clone()
        {
            self.asks_for_arrival |= self.progress.reached(cursor);
        }
    }

    /// Takes a frame of the session.
    pub(super) fn sent(&mut self, frame: ServerFrame, now_ms: u64) -> Result<(), End> {
        match frame {
            ServerFrame::Snapshot(snapshot) => {
                let Some(index) = index_of(&snapshot.id) else {
                    return Ok(());
                };
                for row in snapshot.rows {
                    self.hold_row(index, &row.row, &row.metadata, true);
                }
                self.let_go();
            }
            ServerFrame::Subscribed(subscribed) => {
                if let Some(index) = index_of(&subscribed.id) {
                    self.shapes.insert(subscribed.shape, index);
                    self.let_go();
                    self.cursor.get_or_insert(subscribed.cursor);
                    self.answered(index);
                    self.reached();
                }
            }
            ServerFrame::Changes(changes) => self.changes(changes, now_ms)?,
            ServerFrame::Cursor(cursor) => {
                self.let_go();
                if self.is_live() {
                    self.cursor = Some(cursor.cursor);
                    self.reached();
                }
            }
            ServerFrame::Ack(ack) => self.pushes.acked(ack.mutation),
            ServerFrame::Reject(rejected) => {
                let reject = &rejected.reject;
                tracing::info!(
                    node = %self.of.node, code = ?reject.code, column = reject.column,
                    "a record of a node is refused"
                );
                let result = self.pushes.rejected(rejected.mutation, reject);
                result.map_err(End::Protocol)?;
            }
            ServerFrame::Refetch(_) => return Err(End::Refetch),
            ServerFrame::Error(error) => match (error.id, error.code) {
                (_, ErrorCode::Unavailable | ErrorCode::RateLimited) => {
                    return Err(End::Unavailable);
                }
                // The user may not read the table: for it there is none.
                (Some(id), _) => {
                    if let Some(index) = index_of(&id) {
                        self.answered(index);
                        self.reached();
                    }
                }
                (None, _) => {}
            },
            ServerFrame::Welcome(_)
            | ServerFrame::Conflict(_)
            | ServerFrame::Authenticated(_)
            | ServerFrame::Pong(_) => {}
        }
        Ok(())
    }

    fn changes(&mut self, changes: Changes, now_ms: u64) -> Result<(), End> {
        let of_shape = changes.shape.and_then(|shape| self.shapes.get(&shape));
        let index = of_shape.copied();
        let index = index.or_else(|| changes.id.as_ref().and_then(index_of));
        let Some(index) = index else {
            return Ok(());
        };
        for change in changes.changes {
            match change {
                Change::Put { row, metadata, .. } => {
                    self.hold_row(index, &row, &metadata, false);
                }
                Change::Delete { key, hlc, .. } => {
                    let hlc = hlc.as_deref().and_then(|hlc| Clock::read_foreign(hlc).ok());
                    let hlc = hlc.unwrap_or_else(|| Clock::new(now_ms, 0, &self.of.database));
                    self.hold_deletion(index, &key, hlc);
                }
                // The protocol cannot say either: the rows stay where they are.
                Change::Leave { .. } | Change::Truncate => {}
                Change::Patch { .. } => return Err(End::Refetch),
            }
        }
        if self.held_bytes > HELD_BYTES_MAX {
            self.let_go();
        }
        Ok(())
    }

    fn is_live(&self) -> bool {
        self.answered >= self.tables.all().len()
    }

    /// Asks for the next table, those that others refer to first.
    fn subscribe(&mut self) {
        let Some(table) = self.tables.get(self.answered) else {
            return;
        };
        if std::mem::replace(&mut self.asks, true) {
            return;
        }
        let mut frame = json!({
            "type": "subscribe", "id": self.answered, "entity": table.schema.entity, "mode": MODE_RECORDS,
        });
        if let Some(since) = &self.of.since {
            frame["cursor"] = Value::from(since.as_str());
        }
        self.to_session.push_back(frame.to_string());
    }

    fn answered(&mut self, index: usize) {
        if index == self.answered {
            self.answered += 1;
            self.asks = false;
            self.subscribe();
        }
    }

    /// Holds a row for the node, unless it has written it.
    fn hold_row(
        &mut self,
        index: usize,
        row: &RawValue,
        metadata: &RowMetadata,
        is_first_read: bool,
    ) {
        let newest = metadata.newest.as_deref();
        let hlc = newest.and_then(|newest| Clock::read_foreign(newest).ok());
        let hlc = hlc.max(Some(self.origin())).unwrap_or_else(Clock::ground);
        let restores = is_first_read && self.of.is_empty;
        let (Some(hlc), Some(table)) = (self.for_node(hlc, restores), self.tables.get(index))
        else {
            return;
        };
        let Ok(row) = serde_json::from_str::<Map<String, Value>>(row.get()) else {
            return;
        };
        let columns = self.tables.shown(table, row);
        self.hold(Shown::new(index, columns, hlc, (false, false)));
    }

    /// The clock of rows from before anything was stamped. It is later than the one of a node that has nothing.
    fn origin(&self) -> Clock {
        Clock::new(1, 0, &self.of.database)
    }

    fn hold_deletion(&mut self, index: usize, key: &str, hlc: Clock) {
        let (Some(hlc), Some(table)) = (self.for_node(hlc, false), self.tables.get(index)) else {
            return;
        };
        let Some(key) = key_values(&table.schema, key) else {
            return;
        };
        let is_alone = Tables::has_filled_tombstones(table);
        let columns = self.tables.of_tombstone(table, key);
        self.hold(Shown::new(index, columns, hlc, (true, is_alone)));
    }

    /// The clock under which a node gets a row; none for a row of its own, which it would take for that of another node with
    /// its name. Where its rows may be gone it gets them under this database's name.
    fn for_node(&self, hlc: Clock, restores: bool) -> Option<Clock> {
        let hlc = match hlc.is_of(&self.of.node) {
            false => hlc,
            true if restores => Clock::new(hlc.millis(), hlc.counter(), &self.of.database),
            true => return None,
        };
        Some(precision::there(&hlc))
    }

    fn hold(&mut self, record: Shown) {
        self.held_bytes += record.bytes();
        self.held.push(record);
    }

    /// Sends what is held.
    fn let_go(&mut self) {
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        for record in &held {
            self.progress.sent(&record.hlc);
        }
        self.to_node.extend(changesets(&self.tables, held));
    }
}

fn index_of(id: &SubscriptionId) -> Option<usize> {
    match id {
        SubscriptionId::Number(number) => usize::try_from(*number).ok(),
        SubscriptionId::Text(_) => None,
    }
}
