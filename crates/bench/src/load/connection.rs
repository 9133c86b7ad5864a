//! One receiver: connects, subscribes, and then counts.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use merge::{Clock, NodeId};
use serde_json::{Value, json};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::frames::{Frames, Kind, Sink, client_text, pong};
use super::marks::{Times, count};
use super::{Tally, now};

/// One buffer serves all connections, since they take turns on one thread.
const BUFFER_BYTES: usize = 256 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// What a receiver sends to the server.
#[derive(Debug, Clone)]
pub(crate) enum Speaks {
    /// Nothing at all, over bare TCP.
    Nothing,
    /// The WebSocket handshake.
    Handshake,
    /// The protocol of rhtmx-sync, and this subscription.
    Protocol(Subscribe),
    /// The protocol, and several subscriptions at once.
    Several(Vec<Subscribe>),
    /// The protocol, and then one mutation after another, each when the previous one is acked, or only one.
    Pushes {
        entity: &'static str,
        client_id: u64,
        writes: Writes,
        once: bool,
    },
}

/// What a client pushes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Writes {
    /// Changes one column of one of the client's first rows, which must be there, in place of creating a row.
    pub(crate) edits: bool,
    /// Says when the user made the write, as clients do whose rows merge by their fields.
    pub(crate) stamped: bool,
}

/// How many rows a client edits in turns.
pub(crate) const EDITED_ROWS: u64 = 200;

impl Writes {
    /// The write of this number of this client of the group.
    fn write(self, entity: &str, client: u64, number: u64) -> Result<Value> {
        let mut write = if self.edits {
            let id = client * EDITED_ROWS + number % EDITED_ROWS + 1;
            json!({ "entity": entity, "op": "update", "key": id, "values": { "list_id": number } })
        } else {
            let id = client * 1_000_000_000 + number;
            json!({
                "entity": entity, "op": "create",
                "values": { "id": id, "list_id": 0, "body": super::body() },
            })
        };
        if self.stamped {
            // All client ids of a benchmark begin with the same bytes.
            let node = NodeId::of_client(&[0; 16]);
            let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
            write["hlc"] = Clock::new(millis, number as u16, &node).as_str().into();
        }
        Ok(write)
    }
}

/// A subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscribe {
    pub(crate) entity: &'static str,
    /// `list_id IN ($1, …)`, with these numbers, or `list_id = $1`; all rows when there is none.
    pub(crate) lists: Vec<i64>,
    /// Only so many rows, those with the greatest `id`.
    pub(crate) newest: Option<u32>,
    pub(crate) cursor: Option<String>,
}

/// A receiver that says who it is.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) token: Option<String>,
    pub(crate) speaks: Speaks,
}

impl From<Speaks> for User {
    /// Nobody in particular.
    fn from(speaks: Speaks) -> Self {
        Self {
            token: None,
            speaks,
        }
    }
}

impl Subscribe {
    pub(crate) fn all(entity: &'static str) -> Self {
        Self {
            entity,
            ..Self::default()
        }
    }

    fn frame(&self, id: usize) -> String {
        let mut frame = json!({ "type": "subscribe", "id": id, "entity": self.entity });
        match self.lists.len() {
            0 => {}
            1 => frame["where"] = "list_id = $1".into(),
            count => {
                let parameters: Vec<String> = (1..=count).map(|it| format!("${it}")).collect();
                frame["where"] = format!("list_id IN ({})", parameters.join(", ")).into();
            }
        }
        if !self.lists.is_empty() {
            frame["params"] = json!(self.lists);
        }
        if let Some(limit) = self.newest {
            frame["order"] = json!([["id", "desc"]]);
            frame["limit"] = limit.into();
        }
        if let Some(cursor) = &self.cursor {
            frame["cursor"] = cursor.as_str().into();
        }
        frame.to_string()
    }
}

/// What all connections of a group share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) address: String,
    pub(crate) tally: Arc<Tally>,
    /// Limits the connections that are opened at once.
    pub(crate) connecting: Arc<Semaphore>,
    /// Subscriptions are sent once this is true.
    pub(crate) gate: watch::Receiver<bool>,
}

/// Receives until it is dropped or the server ends.
pub(crate) async fn receive(index: usize, user: User, shared: Shared) {
    let tally = shared.tally.clone();
    if let Err(error) = run(index, user, shared).await {
        tally.fail(format!("{error:#}"));
    }
}

async fn run(index: usize, user: User, mut shared: Shared) -> Result<()> {
    let User { token, speaks } = user;
    let turn = shared.connecting.clone().acquire_owned().await?;
    let mut stream = TcpStream::connect(&shared.address)
        .await
        .context("connecting")?;
    stream.set_nodelay(true)?;
    let plain = matches!(speaks, Speaks::Nothing | Speaks::Handshake);
    let mut receiver = Receiver {
        raw: matches!(speaks, Speaks::Nothing),
        frames: Frames::new(plain),
        state: State {
            tally: shared.tally.clone(),
            recorded: index == 0,
            times: Times::default(),
            answers: Vec::new(),
            welcomed: false,
            awaited: 0,
            acked: 0,
        },
    };
    if !receiver.raw {
        handshake(&mut stream, &shared.address, &mut receiver).await?;
    }
    if plain {
        shared.tally.live.fetch_add(1, Ordering::Relaxed);
        drop(turn);
        return receiver.until_closed(&mut stream).await;
    }
    let client_id = match speaks {
        Speaks::Pushes { client_id, .. } => client_id,
        _ => now() << 16 | index as u64,
    };
    let mut hello = json!({
        "type": "hello", "protocol": 1,
        "client_id": format!("00000000-0000-4000-8000-{:012x}", client_id & 0xffff_ffff_ffff),
    });
    if let Some(token) = token {
        hello["token"] = token.into();
    }
    stream.write_all(&client_text(&hello.to_string())).await?;
    while !receiver.state.welcomed {
        receiver.some(&mut stream).await?;
    }
    drop(turn);
    shared.gate.wait_for(|open| *open).await?;
    match speaks {
        Speaks::Protocol(subscribe) => receiver.subscribed(&mut stream, &[subscribe]).await,
        Speaks::Several(subscriptions) => receiver.subscribed(&mut stream, &subscriptions).await,
        Speaks::Pushes {
            entity,
            writes,
            once,
            ..
        } => {
            receiver.push(&mut stream, entity, writes, index).await?;
            if once {
                return receiver.until_closed(&mut stream).await;
            }
            loop {
                receiver.push(&mut stream, entity, writes, index).await?;
            }
        }
        Speaks::Nothing | Speaks::Handshake => Ok(()),
    }
}

async fn handshake(stream: &mut TcpStream, address: &str, receiver: &mut Receiver) -> Result<()> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: rhtmx-sync.v1\r\n\r\n",
        "/api/sync/ws"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        ensure!(
            stream.read_buf(&mut answer).await? > 0,
            "the server closed during the handshake"
        );
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            ensure!(
                answer.starts_with(b"HTTP/1.1 101"),
                "no WebSocket: {}",
                String::from_utf8_lossy(&answer[..end])
            );
            receiver.take(&answer[end + 4..]);
            return Ok(());
        }
    }
}

struct Receiver {
    raw: bool,
    frames: Frames,
    state: State,
}

struct State {
    tally: Arc<Tally>,
    recorded: bool,
    times: Times,
    /// Pongs to be sent.
    answers: Vec<u8>,
    welcomed: bool,
    /// Subscriptions that are not live yet.
    awaited: usize,
    acked: u64,
}

impl Receiver {
    /// Subscribes, and receives until the connection is closed.
    async fn subscribed(
        &mut self,
        stream: &mut TcpStream,
        subscriptions: &[Subscribe],
    ) -> Result<()> {
        self.state.awaited = subscriptions.len();
        for (subscribe, id) in subscriptions.iter().zip(1..) {
            stream.write_all(&client_text(&subscribe.frame(id))).await?;
        }
        self.until_closed(stream).await
    }

    async fn until_closed(&mut self, stream: &mut TcpStream) -> Result<()> {
        loop {
            self.some(stream).await?;
        }
    }

    /// Pushes a mutation and waits until it is acked.
    async fn push(
        &mut self,
        stream: &mut TcpStream,
        entity: &str,
        writes: Writes,
        index: usize,
    ) -> Result<()> {
        let mutation = self.state.acked + 1;
        let write = writes.write(entity, index as u64, mutation)?;
        let push = json!({ "type": "push", "mutation": mutation, "writes": [write] });
        let sent = now();
        stream.write_all(&client_text(&push.to_string())).await?;
        while self.state.acked < mutation {
            self.some(stream).await?;
        }
        if let Some(latency) = self.state.tally.latency().as_mut() {
            latency.add(now() - sent);
        }
        Ok(())
    }

    /// Waits for bytes and takes them, with one system call per piece: a short read shows the runtime that
    /// there is no more.
    async fn some(&mut self, stream: &mut TcpStream) -> Result<()> {
        let length = poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut into = ReadBuf::new(buffer);
                let polled = Pin::new(&mut *stream).poll_read(context, &mut into);
                polled.map_ok(|()| {
                    self.take(into.filled());
                    into.filled().len()
                })
            })
        })
        .await?;
        if !self.state.answers.is_empty() {
            let answers = std::mem::take(&mut self.state.answers);
            stream.write_all(&answers).await?;
        }
        if length == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let state = &mut self.state;
        state
            .tally
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.raw {
            return state.piece(Kind::Changes, bytes);
        }
        self.frames.read(bytes, state);
    }
}

impl Sink for State {
    fn piece(&mut self, kind: Kind, bytes: &[u8]) {
        let tally = &self.tally;
        if self.recorded
            && matches!(kind, Kind::Changes | Kind::Cursor)
            && let Some(recording) = tally.recording().as_mut()
        {
            recording.bytes.extend_from_slice(bytes);
        }
        match kind {
            Kind::Changes => {
                if let Some(latency) = tally.latency().as_mut() {
                    let now = now();
                    self.times
                        .read(bytes, |then| latency.add(now.saturating_sub(then)));
                }
                let changes = count(bytes);
                if changes > 0 {
                    tally.count(&tally.changes, changes);
                }
            }
            Kind::Snapshot => tally.count(&tally.rows, count(bytes)),
            Kind::Cursor | Kind::Control => {}
        }
    }

    fn end(&mut self, kind: Kind) {
        if self.recorded
            && matches!(kind, Kind::Changes | Kind::Cursor)
            && let Some(recording) = self.tally.recording().as_mut()
        {
            // Frame headers are not recorded; filler of their length stands for them.
            recording.bytes.extend_from_slice(b"    ");
            if kind == Kind::Cursor {
                recording.ends.push(recording.bytes.len());
            }
        }
    }

    fn control(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        match frame["type"].as_str().unwrap_or_default() {
            "welcome" => {
                self.welcomed = true;
                self.acked = frame["last_mutation"].as_u64().unwrap_or_default();
                self.tally.welcomed.fetch_add(1, Ordering::Relaxed);
            }
            "subscribed" => {
                self.awaited = self.awaited.saturating_sub(1);
                if self.awaited == 0 {
                    self.tally.subscribed(&text);
                }
            }
            "ack" => {
                self.acked = frame["mutation"].as_u64().unwrap_or_default();
                self.tally.count(&self.tally.acks, 1);
            }
            "pong" => {}
            _ => self.tally.fail(text),
        }
    }

    fn ping(&mut self, payload: &[u8]) {
        self.answers.extend(pong(payload));
    }

    fn close(&mut self, payload: &[u8]) {
        let code = payload
            .first_chunk()
            .map_or(0, |code| u16::from_be_bytes(*code));
        self.tally.fail(format!(
            "closed with {code}: {}",
            String::from_utf8_lossy(payload.get(2..).unwrap_or_default())
        ));
    }
}
