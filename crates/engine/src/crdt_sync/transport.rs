//! A WebSocket to a node, as a session's way to its client.

use std::sync::Arc;
use std::time::Duration;

use merge::{Clock, NodeId};
use protocol::{CloseCode, ServerFrame};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dialect::{Dialect, End};
use super::tables::Table;
use crate::clock::now_ms;
use crate::crdt_nodes::OpenNode;
use crate::session::{CLOSE_TIMEOUT, Disconnected, Incoming, Outgoing, Transport, WebSocket};
use crate::state::EngineState;

/// How often it is written down what a node has, at most. More is written when its connection ends.
const KEPT_EVERY: Duration = Duration::from_secs(10);

/// A way to a node.
pub(super) struct NodeTransport {
    state: Arc<EngineState>,
    socket: WebSocket,
    dialect: Dialect,
    /// The user, empty for nobody.
    user: String,
    node: NodeId,
    open: OpenNode,
    ended: Option<End>,
    tombstones: Option<mpsc::Receiver<Tombstones>>,
    kept_at: Instant,
}

/// What is read of rows that are gone.
enum Tombstones {
    /// These, of a table, with the clocks of their deletion.
    Gone(String, Vec<(String, Option<Clock>)>),
    /// The database failed.
    Failed,
}

/// What has happened while a node was waited for.
enum Happened {
    Incoming(Incoming),
    Tombstones(Option<Tombstones>),
    Due,
}

impl NodeTransport {
    pub(super) fn new(
        state: Arc<EngineState>,
        socket: WebSocket,
        dialect: Dialect,
        (user, node, open): (String, NodeId, OpenNode),
    ) -> Self {
        Self {
            state,
            socket,
            dialect,
            user,
            node,
            open,
            ended: None,
            tombstones: None,
            kept_at: Instant::now(),
        }
    }

    /// Hands on what there is for the node.
    fn pump(&mut self) {
        while let Some(text) = self.dialect.next_for_node() {
            self.socket.feed_text(text);
        }
        if self.dialect.takes_ping() {
            self.socket.ping_marked();
        }
    }

    fn end(&mut self, result: Result<(), End>) {
        if let Err(end) = result {
            self.ended.get_or_insert(end);
        }
    }

    /// Writes down what the node has. It may come to nothing, and then the node is sent some of it again.
    fn keep(&mut self) {
        self.kept_at = Instant::now();
        let taken = self.dialect.pushes.taken(now_ms());
        let known = self.dialect.progress.known(taken);
        let is_shared = self.open.is_shared();
        let begins_again = is_shared || self.ended == Some(End::Refetch);
        let (state, user, node) = (self.state.clone(), self.user.clone(), self.node.clone());
        self.state.tasks.spawn(async move {
            let db = &state.config.db_pool;
            let kept = match begins_again {
                true => db.forget_crdt_node(&user, &node, is_shared).await,
                false => db.keep_crdt_node(&user, &node, known).await,
            };
            if let Err(error) = kept {
                tracing::warn!(%error, %node, "what a node has could not be kept");
            }
        });
    }

    /// Begins to read the rows that are gone of tables, once their changes are followed.
    fn read_tombstones(&mut self) {
        let Some(tables) = self.dialect.tombstones_due() else {
            return;
        };
        if self.tombstones.is_some() {
            return;
        }
        let (sender, receiver) = mpsc::channel(1);
        self.tombstones = Some(receiver);
        let state = self.state.clone();
        self.state.tasks.spawn(async move {
            for table in tables {
                if read_gone(&state, &table, &sender).await.is_none() {
                    let _ = sender.send(Tombstones::Failed).await;
                    return;
                }
            }
        });
    }

    fn take_tombstones(&mut self, tombstones: Option<Tombstones>) {
        match tombstones {
            Some(Tombstones::Gone(entity, gone)) => self.dialect.tombstones(&entity, gone),
            Some(Tombstones::Failed) => self.end(Err(End::Unavailable)),
            None => {
                self.tombstones = None;
                self.dialect.tombstones_done();
            }
        }
        self.pump();
    }

    async fn wait(&mut self) -> Happened {
        let due_ms = self.dialect.pushes.due_ms();
        let due = due_ms.map(|due| Duration::from_millis(due.saturating_sub(now_ms())));
        tokio::select! {
            incoming = self.socket.next(), if self.dialect.pushes.has_room() => Happened::Incoming(incoming),
            read = receive(&mut self.tombstones) => Happened::Tombstones(read),
            () = sleep(due) => Happened::Due,
        }
    }

    /// What the session is to know of what the node sent.
    fn take(&mut self, incoming: Incoming) -> Incoming {
        if !matches!(incoming, Incoming::Disconnected) {
            self.open.hear();
        }
        if self.open.must_begin_again() {
            self.end(Err(End::Refetch));
        }
        match incoming {
            Incoming::Frame(text) => {
                let received = self.dialect.received(&text, now_ms());
                self.end(received);
                Incoming::Handled { bytes: text.len() }
            }
            Incoming::Malformed(_) => {
                self.end(Err(End::Protocol("a changeset is a text")));
                Incoming::Alive
            }
            Incoming::Pong { is_marked } => {
                if is_marked {
                    self.dialect.progress.answered();
                }
                if self.kept_at.elapsed() >= KEPT_EVERY {
                    self.keep();
                }
                Incoming::Alive
            }
            other => other,
        }
    }
}

/// Reads the rows that are gone of a table; none when the database fails.
async fn read_gone(
    state: &EngineState,
    table: &Table,
    sender: &mpsc::Sender<Tombstones>,
) -> Option<()> {
    let name = &table.schema.entity;
    let entity = state.entities.find(name)?;
    let mut read = state.config.db_pool.read_tombstones(&entity).ok()?;
    read.start().await.ok()?;
    while let Some(rows) = read.next().await.ok()? {
        let gone = rows.into_iter().map(|(key, known)| {
            let newest = known.newest.as_deref();
            (key, newest.and_then(|hlc| Clock::read_foreign(hlc).ok()))
        });
        let gone = Tombstones::Gone(name.clone(), gone.collect());
        if sender.send(gone).await.is_err() {
            break;
        }
    }
    Some(())
}

async fn receive(tombstones: &mut Option<mpsc::Receiver<Tombstones>>) -> Option<Tombstones> {
    match tombstones {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

impl Transport for NodeTransport {
    const ANSWERS: bool = true;

    fn feed(&mut self, outgoing: Outgoing<'_>) {
        let pieces = outgoing.frame.pieces();
        let text: Vec<u8> = pieces.concat();
        let frame = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| ServerFrame::parse(text).ok());
        let Some(frame) = frame else {
            tracing::error!("a frame of the server's own cannot be read");
            self.end(Err(End::Refetch));
            return;
        };
        let sent = self.dialect.sent(frame, now_ms());
        self.end(sent);
        self.pump();
    }

    fn ping(&mut self) {
        // A node may answer the last of several pings alone.
        match self.dialect.progress.is_asked() {
            true => self.socket.ping_marked(),
            false => self.socket.ping(),
        }
    }

    fn is_full(&self) -> bool {
        self.socket.is_full()
    }

    async fn flush(&mut self) -> Result<(), Disconnected> {
        self.socket.flush().await
    }

    async fn next(&mut self) -> Incoming {
        loop {
            if let Some(end) = self.ended {
                let (code, reason) = match end {
                    End::Protocol(reason) => (CloseCode::Protocol, reason),
                    End::Refetch => (CloseCode::ShuttingDown, "reconnect to take all rows again"),
                    End::Unavailable => {
                        let reason = "the database is out of reach; reconnect";
                        (CloseCode::ShuttingDown, reason)
                    }
                };
                let closing = self.socket.close(code, reason);
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
                return Incoming::Disconnected;
            }
            if let Some(text) = self.dialect.next_for_session(now_ms()) {
                return Incoming::Frame(text);
            }
            self.read_tombstones();
            match self.wait().await {
                Happened::Incoming(incoming) => return self.take(incoming),
                Happened::Tombstones(read) => {
                    self.take_tombstones(read);
                    if self.socket.flush().await.is_err() {
                        return Incoming::Disconnected;
                    }
                }
                Happened::Due => {}
            }
        }
    }

    async fn close(&mut self, code: CloseCode, reason: &'static str) {
        self.socket.close(code, reason).await;
    }
}

impl Drop for NodeTransport {
    fn drop(&mut self) {
        self.keep();
    }
}
