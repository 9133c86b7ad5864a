//! Nodes of the family of CRDTs over SQL (`sqlite_crdt`, `postgres_crdt`, `drift_crdt`), which sync by the protocol of
//! `crdt_sync` 1.0: their own client, unmodified, on a session like any other.
//!
//! A node knows whole rows with one clock each, of which the later one stays. So every row goes out with a clock that is
//! later with each change of the row, also where fields have merged and the newest of their clocks has not moved
//! ([`protocol::MODE_RECORDS`]). A node says by clocks what it has; what counts here is the cursor up to which its answers
//! to pings say that everything has arrived ([`progress`]).

mod dialect;
mod frames;
mod precision;
mod progress;
mod pushes;
mod tables;
mod transport;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use merge::{Clock, NodeId};
use protocol::CloseCode;
use sha2::{Digest as _, Sha256};
use sync_core::cursor::Cursor;
use sync_core::policy::{Principal, ReadScope};
use uuid::Uuid;

pub(crate) use frames::FRAME_BYTES_MAX;

use self::dialect::{Beginning, Dialect};
use self::frames::Opening;
use self::progress::{Progress, can_go_on};
use self::pushes::Pushes;
use self::tables::{Table, Tables};
use self::transport::NodeTransport;
use crate::admission;
use crate::auth::{AuthError, Credential};
use crate::clock::now_ms;
use crate::crdt_nodes::OpenNode;
use crate::mailbox::SessionId;
use crate::session::{CLOSE_TIMEOUT, Incoming, SessionTask, Transport as _, WebSocket};
use crate::state::EngineState;

/// What the route knows of a node before its first frame.
pub(crate) struct Arrival {
    /// What the upgrade shows of who connects. Unless the application has named somebody, `data.token` of the first frame
    /// counts instead.
    pub(crate) credential: Credential,
    /// The address by which the node is limited, where it is known.
    pub(crate) address: Option<IpAddr>,
    /// Whether it takes `true` and `false` where SQLite has numbers.
    pub(crate) has_booleans: bool,
}

/// Why a node is not let in.
struct Refused(CloseCode, &'static str);

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(_) => {
                Self(CloseCode::Unauthenticated, "there is no valid token")
            }
            AuthError::RateLimited { .. } => Self(CloseCode::RateLimited, "too many wrong tokens"),
            AuthError::Unavailable(_) => Self::unavailable(),
        }
    }
}

impl Refused {
    fn unavailable() -> Self {
        Self(CloseCode::ShuttingDown, "out of reach; reconnect")
    }
}

/// Serves a node to the end of its connection.
pub(crate) async fn serve(state: Arc<EngineState>, mut socket: WebSocket, arrival: Arrival) {
    let shutdown = state.shutdown.clone();
    let opened = tokio::select! {
        opened = opening(&state, &mut socket) => opened,
        () = shutdown.cancelled() => Err(Refused(CloseCode::ShuttingDown, "the server is shutting down")),
    };
    let opening = match opened {
        Ok(Some(opening)) => opening,
        Ok(None) => return,
        Err(refused) => return refuse(socket, refused).await,
    };
    match Box::pin(enter(&state, opening, arrival)).await {
        Ok(entered) => Box::pin(run(state, socket, entered)).await,
        Err(refused) => refuse(socket, refused).await,
    }
}

/// A node that never gets an answer does not reconnect, so it gets one that asks it for nothing, before the connection is
/// closed. It does not name the database, which may be out of reach and is nobody's business who is refused.
async fn refuse(mut socket: WebSocket, Refused(code, reason): Refused) {
    let nobody = NodeId::of_client(&[0; 16]);
    let after = Clock::new(now_ms(), u16::MAX, &nobody);
    socket.feed_text(frames::opening(&nobody, &after));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(code, reason)).await;
}

/// Reads the first frame; none when the node is gone.
async fn opening(state: &EngineState, socket: &mut WebSocket) -> Result<Option<Opening>, Refused> {
    let first = async {
        loop {
            match socket.next().await {
                Incoming::Alive | Incoming::Pong { .. } => {}
                other => return other,
            }
        }
    };
    let first = tokio::time::timeout(state.config.limits.hello_timeout(), first).await;
    let first = first.map_err(|_| Refused(CloseCode::Timeout, "no first frame arrived in time"))?;
    match first {
        Incoming::Disconnected => Ok(None),
        Incoming::TooLarge => Err(Refused(CloseCode::TooLarge, "the first frame is too large")),
        Incoming::Frame(text) => {
            let opening = Opening::read(&text);
            let opening = opening.map_err(|reason| Refused(CloseCode::Protocol, reason))?;
            Ok(Some(opening))
        }
        _ => Err(Refused(CloseCode::Protocol, "the first frame is a text")),
    }
}

/// What is known of a node that is let in.
struct Entered {
    identity: crate::auth::Identity,
    present: crate::principals::Present,
    epoch: sync_core::cursor::Epoch,
    client_id: Uuid,
    user: String,
    node: NodeId,
    open: OpenNode,
    answer: String,
    dialect: Dialect,
}

async fn enter(
    state: &Arc<EngineState>,
    opening: Opening,
    arrival: Arrival,
) -> Result<Entered, Refused> {
    let credential = match (arrival.credential, opening.token) {
        (credential @ Credential::Application(_), _) => credential,
        (_, Some(token)) => Credential::Token(Some(token)),
        (credential, None) => credential,
    };
    let identity = admission::identify(state, credential, arrival.address).await?;
    let present = state.principals.enter(SessionId::next(), &identity);
    let present = present.map_err(|refused| match refused {
        crate::principals::NotEntered::TooMany => {
            Refused(CloseCode::RateLimited, "too many connections of this user")
        }
        crate::principals::NotEntered::SignedOut => {
            Refused(CloseCode::Unauthenticated, "signed out")
        }
    })?;
    let epoch = state.hub.epoch().ok_or_else(Refused::unavailable)?;
    let db = &state.config.db_pool;
    let database = db.node().await.map_err(unavailable)?;
    let node = opening.node;
    if node == database {
        return Err(Refused(
            CloseCode::Forbidden,
            "`node_id` is the server's own",
        ));
    }
    let user = identity.principal.user_id.clone().unwrap_or_default();
    let client_id = client_id(&user, &node);
    let client = db
        .client_state(&client_id.to_string())
        .await
        .map_err(unavailable)?;
    let known = db
        .crdt_node(&user, &node)
        .await
        .map_err(unavailable)?
        .unwrap_or_default();
    let tables = tables(state, &identity.principal, arrival.has_booleans);
    let open = state.crdt_nodes.enter(&user, node.as_str());
    let goes_on = !open.is_shared() && can_go_on(&known, &opening.last_modified);
    let since = match goes_on {
        true => since(state, &tables, known.reached.as_deref(), &epoch).await,
        false => None,
    };
    if since.is_none() && known.reached.is_some() {
        // Or a connection that ends before it has sent all rows would leave it where it was.
        let forgotten = db.forget_crdt_node(&user, &node, false);
        forgotten.await.map_err(unavailable)?;
    }
    let taken = known.taken.as_deref().filter(|_| !open.is_shared());
    let taken = taken.and_then(|taken| Clock::read_foreign(taken).ok());
    let after = taken.clone().unwrap_or_else(|| Clock::new(0, 0, &database));
    let answer = frames::opening(&database, &after);
    let beginning = Beginning {
        node: node.clone(),
        database,
        is_empty: since.is_none() && opening.last_modified.millis() == 0,
        since,
    };
    let before = match beginning.since {
        Some(_) => known,
        None => db::crdt_node::CrdtNode::default(),
    };
    let writes_max = state.config.limits.writes_max;
    let pushes = Pushes::new(client.chains.last(), taken, writes_max, now_ms());
    Ok(Entered {
        dialect: Dialect::new(tables, beginning, pushes, Progress::new(&before)),
        identity,
        present,
        epoch,
        client_id,
        user,
        node,
        open,
        answer,
    })
}

fn unavailable(error: db::DbError) -> Refused {
    tracing::warn!(%error, "a node could not be let in");
    Refused::unavailable()
}

async fn run(state: Arc<EngineState>, mut socket: WebSocket, entered: Entered) {
    socket.feed_text(entered.answer);
    if socket.flush().await.is_err() {
        return;
    }
    let of_node = (entered.user, entered.node.clone(), entered.open);
    let transport = NodeTransport::new(state.clone(), socket, entered.dialect, of_node);
    let session = SessionTask::new(
        state,
        entered.epoch,
        transport,
        (entered.identity, entered.present),
        Some(entered.client_id),
    );
    session.of_records(entered.node).run(None).await;
}

/// The id under which a user's node pushes: the same for all its connections.
fn client_id(user: &str, node: &NodeId) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"crdt\0");
    hash.update((user.len() as u64).to_le_bytes());
    hash.update(user);
    hash.update(node.as_str());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The tables that a principal may sync, in the order of the configuration.
fn tables(state: &EngineState, principal: &Principal, has_booleans: bool) -> Tables {
    let authorizer = &state.config.auth.authorizer;
    let configured = state.config.entities.iter().filter(|entity| entity.records);
    let open = configured.filter(|entity| !authorizer.is_closed(&entity.name));
    let tables = open.filter_map(|config| {
        let entity = state.entities.last_known(&config.name)?;
        let scope = authorizer.read(principal, &config.name);
        Some(Table {
            schema: entity.schema.clone(),
            is_guarded: !matches!(scope, ReadScope::Everything),
        })
    });
    Tables::new(tables.collect(), has_booleans)
}

/// The cursor from which a node goes on, if the log still reaches back to it.
async fn since(
    state: &EngineState,
    tables: &Tables,
    reached: Option<&str>,
    epoch: &sync_core::cursor::Epoch,
) -> Option<String> {
    let reached = reached?;
    let cursor: Cursor = reached.parse().ok()?;
    let first = tables.all().first()?;
    if cursor.epoch != *epoch {
        return None;
    }
    let entity = state.entities.find(&first.schema.entity)?;
    let read = state
        .config
        .db_pool
        .read_records(&entity, Some(cursor.position));
    read.ok()?.start().await.ok()?;
    Some(reached.to_owned())
}
