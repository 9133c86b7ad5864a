//! Edits the note from a terminal, also while it is offline.
//!
//! Commands: `title Oat milk`, `due Monday`, `likes +1`, `offline`, `online`, `quit`.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use merge::{
    ColumnMerge, ColumnRule, Edit, HybridClock, Metadata, NodeId, Row, Rules, Site, Write,
};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The note's key.
const KEY: &str = "1";

/// The note on this device.
struct Note {
    client_id: Uuid,
    clock: HybridClock,
    rules: Rules,
    /// What the server has.
    row: Option<Row>,
    /// The edits that it has not shown yet, with their numbers.
    pending: VecDeque<(u64, Write)>,
    next: u64,
    /// Changes that wait for the next `cursor`, and the mutations that are acked by then.
    held: Vec<Value>,
    acked: u64,
}

impl Note {
    fn new() -> Self {
        let client_id = Uuid::new_v4();
        let counter = ColumnRule {
            merge: ColumnMerge::Counter,
            strategy: None,
        };
        Self {
            client_id,
            clock: HybridClock::new(NodeId::of_client(client_id.as_bytes()), None),
            rules: Rules {
                columns: [("likes".to_owned(), counter)].into(),
                ..Rules::default()
            },
            row: None,
            pending: VecDeque::new(),
            next: 1,
            held: Vec::new(),
            acked: 0,
        }
    }

    /// Makes an edit now, of the row as it is seen here.
    fn edit(&mut self, column: &str, value: Value) -> Result<u64> {
        let row = self.seen();
        let edit = Write {
            clock: self.clock.now(now_ms())?,
            born: row.as_ref().and_then(|row| row.born().cloned()),
            seen: row.as_ref().and_then(|row| row.newest().cloned()),
            edit: Edit::Update(Map::from_iter([(column.to_owned(), value)])),
        };
        let number = self.next;
        self.next += 1;
        self.pending.push_back((number, edit));
        Ok(number)
    }

    /// The row with the edits that wait.
    fn seen(&self) -> Option<Row> {
        let mut row = self.row.clone()?;
        for (_, edit) in &self.pending {
            if let Ok(written) = edit.apply(Some(&row), &self.rules, &Site::default()) {
                row = written.row;
            }
        }
        Some(row)
    }

    /// The `push` of an edit.
    fn push(&self, number: u64) -> Option<Value> {
        let (_, edit) = self.pending.iter().find(|(it, _)| *it == number)?;
        let Edit::Update(values) = &edit.edit else {
            return None;
        };
        let mut write = json!({ "entity": "notes", "op": "update", "key": KEY, "values": values, "hlc": edit.clock });
        if let Some(born) = &edit.born {
            write["born"] = json!(born);
        }
        if let Some(seen) = &edit.seen {
            write["seen"] = json!(seen);
        }
        Some(json!({ "type": "push", "mutation": number, "writes": [write] }))
    }

    /// Takes a frame. Whether the note may look different now.
    fn take(&mut self, frame: &Value) -> Result<bool> {
        match frame["type"].as_str().unwrap_or_default() {
            "snapshot" => {
                let rows = frame["rows"].as_array().into_iter().flatten();
                for image in rows.filter(|image| image["key"] == KEY) {
                    self.put(&image["row"], image)?;
                }
                Ok(true)
            }
            "changes" => {
                let changes = frame["changes"].as_array().into_iter().flatten();
                self.held
                    .extend(changes.filter(|change| change["key"] == KEY).cloned());
                Ok(false)
            }
            "cursor" => {
                for change in std::mem::take(&mut self.held) {
                    self.change(&change)?;
                }
                // What is acked is in the row by now.
                self.pending.retain(|(number, _)| *number > self.acked);
                Ok(true)
            }
            "ack" => {
                self.acked = frame["mutation"].as_u64().unwrap_or(self.acked);
                Ok(false)
            }
            "reject" => {
                println!(
                    "! rejected: {}",
                    frame["message"].as_str().unwrap_or_default()
                );
                self.pending
                    .retain(|(number, _)| frame["mutation"] != *number);
                Ok(true)
            }
            "conflict" => {
                println!(
                    "! {} stays {}, not {}",
                    frame["field"], frame["kept"]["value"], frame["lost"]["value"]
                );
                Ok(false)
            }
            "error" => bail!("{}", frame["message"]),
            _ => Ok(false),
        }
    }

    fn change(&mut self, change: &Value) -> Result<()> {
        match change["op"].as_str().unwrap_or_default() {
            "put" => self.put(&change["row"], change),
            "patch" => {
                let mut values = self.row.as_ref().map(Row::values).unwrap_or_default();
                let changed = change["values"].as_object().cloned().unwrap_or_default();
                values.extend(changed);
                self.put(&Value::Object(values), change)
            }
            _ => {
                self.row = None;
                Ok(())
            }
        }
    }

    /// Takes the row's values, and what is known beside them.
    fn put(&mut self, values: &Value, entry: &Value) -> Result<()> {
        let mut known = Map::new();
        for (member, name) in [
            ("born", "born"),
            ("died", "died"),
            ("base", "base"),
            ("edited", "edited"),
            ("clocks", "fields"),
        ] {
            if let Some(value) = entry.get(member) {
                known.insert(name.to_owned(), value.clone());
            }
        }
        let metadata: Metadata = serde_json::from_value(known.into())?;
        let mut values = values.as_object().cloned().unwrap_or_default();
        values.remove("id");
        let row = Row::new(&metadata, &values, &self.rules)?;
        if let Some(newest) = row.newest() {
            // From now on this device stamps above what it has seen.
            let _ = self.clock.receive(newest, now_ms());
        }
        self.row = Some(row);
        Ok(())
    }

    fn show(&self, is_online: bool) {
        let Some(row) = self.seen() else {
            println!("the note is gone");
            return;
        };
        let values = row.values();
        let of = |column: &str| values.get(column).cloned().unwrap_or_default();
        println!(
            "title {}  due {}  likes {}  ({}, {} waiting)",
            of("title"),
            of("due"),
            of("likes"),
            if is_online { "online" } else { "offline" },
            self.pending.len()
        );
    }
}

/// Connects, subscribes to the fields, and pushes what waits.
async fn connect(url: &str, note: &Note) -> Result<Socket> {
    let (mut socket, _) = connect_async(url).await.context("is the server there?")?;
    let hello = json!({ "type": "hello", "protocol": 1, "client_id": note.client_id });
    let subscribe =
        json!({ "type": "subscribe", "id": "note", "entity": "notes", "mode": "fields" });
    let waiting = note
        .pending
        .iter()
        .filter_map(|(number, _)| note.push(*number));
    for frame in [hello, subscribe].into_iter().chain(waiting) {
        socket.send(Message::text(frame.to_string())).await?;
    }
    Ok(socket)
}

/// The next frame; never while offline.
async fn next(socket: &mut Option<Socket>) -> Option<Value> {
    let Some(open) = socket else {
        return std::future::pending().await;
    };
    while let Some(Ok(message)) = open.next().await {
        if let Some(frame) = message
            .to_text()
            .ok()
            .and_then(|text| serde_json::from_str(text).ok())
        {
            return Some(frame);
        }
    }
    None
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "ws://127.0.0.1:3000/api/sync/ws".to_owned());
    let mut note = Note::new();
    let mut socket = Some(connect(&url, &note).await?);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            frame = next(&mut socket) => match frame {
                Some(frame) => {
                    if note.take(&frame)? {
                        note.show(true);
                    }
                }
                None => {
                    println!("! the connection is gone; `online` tries again");
                    socket = None;
                }
            },
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let (command, value) = line.split_once(' ').unwrap_or((line.as_str(), ""));
                let written = match command {
                    "offline" => { socket = None; None }
                    "online" => { socket = Some(connect(&url, &note).await?); None }
                    "title" | "due" => Some(note.edit(command, json!(value))?),
                    "likes" => match value.parse::<i64>() {
                        Ok(add) => Some(note.edit("likes", json!({ "add": add }))?),
                        Err(_) => { println!("likes +1, likes -1 …"); None }
                    },
                    "quit" => return Ok(()),
                    "" => None,
                    _ => { println!("title …, due …, likes +1, offline, online, quit"); None }
                };
                let push = written.and_then(|number| note.push(number));
                if let (Some(push), Some(open)) = (push, &mut socket) {
                    open.send(Message::text(push.to_string())).await?;
                }
                note.show(socket.is_some());
            }
        }
    }
}
