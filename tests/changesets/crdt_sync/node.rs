//! A node of the family as its packages make one: whole rows with one clock each, in memory, and the client of `crdt_sync` 1.0.
//! Written from what they do, not with our own merge, so that it can contradict it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How far ahead of its own time a clock may be that a node merges.
const DRIFT_MICROS_MAX: i64 = 60_000_000;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hybrid logical clock as the family has it: microseconds, a counter, a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hlc {
    pub(super) micros: i64,
    pub(super) counter: u32,
    pub(super) node: String,
}

impl Hlc {
    pub(super) fn zero(node: &str) -> Self {
        Self {
            micros: 0,
            counter: 0,
            node: node.to_owned(),
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let colon = text.rfind(':').expect("a time");
        let dash = colon + text[colon..].find('-').expect("a counter");
        let next = dash + 1 + text[dash + 1..].find('-').expect("a node");
        let moment = &text[..dash];
        let (seconds, fraction) = moment
            .trim_end_matches('Z')
            .split_once('.')
            .expect("a fraction");
        let fraction: i64 = format!("{fraction:0<6}").parse().expect("digits");
        Self {
            micros: seconds_of(seconds) * 1_000_000 + fraction,
            counter: u32::from_str_radix(&text[dash + 1..next], 16).expect("a counter"),
            node: text[next + 1..].to_owned(),
        }
    }

    fn increment(&self, wall: i64) -> Self {
        let micros = self.micros.max(wall);
        assert!(micros - wall <= DRIFT_MICROS_MAX, "the clock drifts");
        Self {
            micros,
            counter: if micros == self.micros {
                self.counter + 1
            } else {
                0
            },
            node: self.node.clone(),
        }
    }

    fn merge(&self, remote: &Self, wall: i64) -> Result<Self, String> {
        if (remote.micros, remote.counter) <= (self.micros, self.counter) {
            return Ok(self.clone());
        }
        if remote.node == self.node {
            return Err(format!("duplicate node {}", self.node));
        }
        if remote.micros - wall > DRIFT_MICROS_MAX {
            return Err("clock drift".to_owned());
        }
        Ok(Self {
            node: self.node.clone(),
            ..remote.clone()
        })
    }
}

impl std::fmt::Display for Hlc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
        let fraction = match micros % 1000 {
            0 => format!("{:03}", micros / 1000),
            _ => format!("{micros:06}"),
        };
        write!(
            f,
            "{}.{fraction}Z-{:04X}-{}",
            moment_of(seconds),
            self.counter,
            self.node
        )
    }
}

/// `2026-11-20T07:00:00` as seconds from 1970 (H. Hinnant: "chrono-Compatible Low-Level Date Algorithms").
fn seconds_of(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("digits");
    let (month, day) = (number(5..7), number(8..10));
    let year = number(0..4) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19)
}

fn moment_of(seconds: i64) -> String {
    let (days, of_day) = (
        seconds.div_euclid(86_400) + 719_468,
        seconds.rem_euclid(86_400),
    );
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// A row with the four columns of the family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) columns: Map<String, Value>,
    pub(super) is_deleted: bool,
    pub(super) hlc: String,
    node_id: String,
    modified: String,
}

/// A table, whose key is `id`.
#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    columns: BTreeSet<String>,
    required: BTreeSet<String>,
    pub(super) rows: BTreeMap<String, Row>,
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: String,
    canonical: Hlc,
    /// How much its clock is ahead of ours, in microseconds.
    pub(super) ahead_micros: i64,
    pub(super) tables: BTreeMap<String, Table>,
    /// What it could not merge; the family prints it.
    pub(super) errors: Vec<String>,
    /// How many records it has merged, also in vain.
    pub(super) merged: usize,
}

impl Node {
    /// A node with tables, of which each has a name, and columns; those with `!` take no null.
    pub(super) fn new(id: &str, tables: &[(&str, &[&str])]) -> Self {
        let tables = tables.iter().map(|(name, columns)| {
            let plain = columns.iter().map(|column| column.trim_end_matches('!'));
            let required = columns.iter().filter(|column| column.ends_with('!'));
            let table = Table {
                columns: plain.map(str::to_owned).collect(),
                required: required
                    .map(|column| column.trim_end_matches('!').to_owned())
                    .collect(),
                rows: BTreeMap::new(),
            };
            ((*name).to_owned(), table)
        });
        Self {
            id: id.to_owned(),
            canonical: Hlc::zero(id),
            ahead_micros: 0,
            tables: tables.collect(),
            errors: Vec::new(),
            merged: 0,
        }
    }

    fn wall(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time after 1970");
        i64::try_from(since.as_micros()).expect("a time before 292277") + self.ahead_micros
    }

    /// Writes columns of a row, or all of a new one, as an upsert does.
    pub(super) fn put(&mut self, table: &str, columns: Value) -> String {
        self.write(table, columns, false)
    }

    /// Deletes a row.
    pub(super) fn delete(&mut self, table: &str, id: i64) -> String {
        self.write(table, json!({ "id": id }), true)
    }

    fn write(&mut self, table: &str, columns: Value, is_deleted: bool) -> String {
        self.canonical = self.canonical.increment(self.wall());
        let hlc = self.canonical.to_string();
        let columns = columns.as_object().expect("columns").clone();
        let key = columns["id"].to_string();
        let rows = &mut self.tables.get_mut(table).expect("a table").rows;
        let row = rows.entry(key).or_insert_with(|| Row {
            columns: Map::new(),
            is_deleted: false,
            hlc: String::new(),
            node_id: String::new(),
            modified: String::new(),
        });
        row.columns.extend(columns);
        row.is_deleted |= is_deleted;
        row.hlc.clone_from(&hlc);
        row.modified.clone_from(&hlc);
        row.node_id.clone_from(&self.id);
        hlc
    }

    /// Its rows that are there: their columns.
    pub(super) fn shown(&self, table: &str) -> BTreeMap<String, Value> {
        let rows = self.tables[table].rows.iter();
        let shown = rows.filter(|(_, row)| !row.is_deleted);
        shown
            .map(|(key, row)| (key.clone(), Value::Object(row.columns.clone())))
            .collect()
    }

    /// Its own records that were modified after a clock, and those at it if it is of one change.
    fn changeset(&self, takes: impl Fn(&Row) -> bool) -> Option<Value> {
        let mut changeset = Map::new();
        for (name, table) in &self.tables {
            let rows = table.rows.values();
            let rows = rows.filter(|row| row.node_id == self.id && takes(row));
            let records: Vec<Value> = rows.map(record).collect();
            if !records.is_empty() {
                changeset.insert(name.clone(), records.into());
            }
        }
        (!changeset.is_empty()).then_some(Value::Object(changeset))
    }

    /// The newest clock at which it has taken up a row of another node.
    pub(super) fn last_modified(&self) -> String {
        let rows = self.tables.values().flat_map(|table| table.rows.values());
        let of_others = rows.filter(|row| row.node_id != self.id);
        let newest = of_others.map(|row| row.modified.clone()).max();
        newest.unwrap_or_else(|| Hlc::zero(&self.id).to_string())
    }

    /// Merges a changeset: all of it, or none.
    pub(super) fn merge(&mut self, changeset: &Value) {
        if let Err(error) = self.try_merge(changeset) {
            self.errors.push(error);
        }
    }

    fn try_merge(&mut self, changeset: &Value) -> Result<(), String> {
        let changeset = changeset.as_object().ok_or("no object")?;
        let mut newest = self.canonical.clone();
        let mut tables = self.tables.clone();
        for records in changeset.values() {
            for record in records.as_array().ok_or("no array")? {
                let hlc = Hlc::parse(record["hlc"].as_str().ok_or("no clock")?);
                newest = newest.merge(&hlc, self.wall())?;
            }
        }
        for (name, records) in changeset {
            let table = tables.get_mut(name).ok_or(format!("no table {name}"))?;
            for record in records.as_array().into_iter().flatten() {
                table.merge(record, &newest)?;
                self.merged += 1;
            }
        }
        self.tables = tables;
        self.canonical = newest;
        Ok(())
    }
}

impl Table {
    fn merge(&mut self, record: &Value, newest: &Hlc) -> Result<(), String> {
        let mut columns = record.as_object().ok_or("no record")?.clone();
        let hlc = record["hlc"].as_str().ok_or("no clock")?.to_owned();
        let is_deleted = columns.get("is_deleted").is_some_and(|it| it == &json!(1));
        for own in ["is_deleted", "hlc", "node_id", "modified"] {
            columns.remove(own);
        }
        for (column, value) in &columns {
            if !self.columns.contains(column) {
                return Err(format!("no column {column}"));
            }
            if value.is_object() || value.is_array() || value.is_boolean() {
                return Err(format!("{value} cannot be bound"));
            }
        }
        for column in &self.required {
            if columns.get(column).is_none_or(Value::is_null) {
                return Err(format!("{column} may not be null"));
            }
        }
        let key = columns.get("id").ok_or("no key")?.to_string();
        match self.rows.get_mut(&key) {
            Some(row) if hlc.as_bytes() <= row.hlc.as_bytes() => return Ok(()),
            Some(row) => {
                row.columns.extend(columns);
                (row.is_deleted, row.node_id) = (is_deleted, Hlc::parse(&hlc).node);
                (row.hlc, row.modified) = (hlc, newest.to_string());
            }
            None => {
                let row = Row {
                    columns,
                    is_deleted,
                    node_id: Hlc::parse(&hlc).node,
                    hlc,
                    modified: newest.to_string(),
                };
                self.rows.insert(key, row);
            }
        }
        Ok(())
    }
}

fn record(row: &Row) -> Value {
    let mut record = row.columns.clone();
    record.insert("is_deleted".to_owned(), u8::from(row.is_deleted).into());
    record.insert("hlc".to_owned(), row.hlc.as_str().into());
    record.insert("node_id".to_owned(), row.node_id.as_str().into());
    record.insert("modified".to_owned(), row.modified.as_str().into());
    Value::Object(record)
}

/// A connection of a node, after both have said what they have.
pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    /// After which clock the server wants the node's records.
    pub(super) wanted_after: String,
    /// Whether the server has asked if what it sent has arrived.
    is_asked: bool,
}

impl Connection {
    /// Connects and opens; what was written offline is not sent yet.
    pub(super) async fn open(node: &Node, url: &str, data: Value) -> Self {
        let mut socket = dial(url).await;
        let opening = json!({
            "node_id": node.id, "last_modified": node.last_modified(), "data": data,
        });
        socket
            .send(Message::text(opening.to_string()))
            .await
            .expect("a connection");
        let answer = tokio::time::timeout(PATIENCE, next_text(&mut socket)).await;
        let answer = answer.expect("an answer in time").expect("an opening");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let wanted_after = answer["last_modified"].as_str().expect("a clock");
        assert_ne!(answer["node_id"], json!(node.id));
        Hlc::parse(wanted_after);
        Self {
            wanted_after: wanted_after.to_owned(),
            is_asked: false,
            socket,
        }
    }

    /// Connects, opens, and sends what was written offline, as the client does by itself.
    pub(super) async fn start(node: &Node, url: &str) -> Self {
        let mut connection = Self::open(node, url, Value::Null).await;
        connection.send_missed(node).await;
        connection
    }

    /// Sends what was written after the clock that the server has named.
    pub(super) async fn send_missed(&mut self, node: &Node) {
        let after = Hlc {
            node: node.id.clone(),
            ..Hlc::parse(&self.wanted_after)
        };
        let after = after.to_string();
        if let Some(changeset) = node.changeset(|row| row.modified > after) {
            self.send(changeset.to_string()).await;
        }
    }

    /// Sends the rows of one change.
    pub(super) async fn send_change(&mut self, node: &Node, hlc: &str) {
        let changeset = node.changeset(|row| row.modified == hlc);
        self.send(changeset.expect("a change").to_string()).await;
    }

    pub(super) async fn send(&mut self, text: String) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("a connection");
    }

    /// Merges what comes until the node is as it should be.
    pub(super) async fn until(&mut self, node: &mut Node, is_reached: impl Fn(&Node) -> bool) {
        let merging = async {
            while !is_reached(node) {
                self.take(node).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, merging).await;
        assert!(in_time.is_ok(), "it never came: {node:?}");
    }

    /// Merges what comes until the server has asked if it has arrived.
    pub(super) async fn until_asked(&mut self, node: &mut Node) {
        let merging = async {
            while !self.is_asked {
                self.take(node).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, merging).await;
        assert!(in_time.is_ok(), "the server never asks: {node:?}");
    }

    /// Takes one message, and merges it if it is a changeset.
    async fn take(&mut self, node: &mut Node) {
        let message = next_message(&mut self.socket).await;
        match message.unwrap_or_else(|| panic!("the connection ended: {node:?}")) {
            Message::Text(text) => node.merge(&serde_json::from_str(&text).expect("JSON")),
            // The library answers it before it waits for the next one.
            Message::Ping(mark) => self.is_asked |= !mark.is_empty(),
            _ => {}
        }
    }

    /// Waits until the server closes the connection, and returns why.
    pub(super) async fn closed(mut self) -> Option<u16> {
        let waiting = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        let closed = tokio::time::timeout(PATIENCE, waiting).await;
        closed.expect("the server closes the connection")
    }

    /// Closes the connection, and waits until the server has done so, too.
    pub(super) async fn end(mut self) {
        let _ = self.socket.close(None).await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

pub(super) async fn dial(url: &str) -> WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>> {
    let (socket, _) = connect_async(url).await.expect("a connection");
    socket
}

async fn next_text(
    socket: &mut WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
) -> Option<String> {
    loop {
        if let Message::Text(text) = next_message(socket).await? {
            return Some(text.to_string());
        }
    }
}

/// The next message; none at the end of the connection.
async fn next_message(
    socket: &mut WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
) -> Option<Message> {
    match socket.next().await? {
        Ok(message @ (Message::Text(_) | Message::Ping(_) | Message::Pong(_))) => Some(message),
        // The client would stop to listen without a word.
        Ok(Message::Binary(_)) => panic!("a binary frame"),
        Ok(_) | Err(_) => None,
    }
}
