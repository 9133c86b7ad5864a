//! The first frame of a WebSocket.

use std::sync::Arc;

use rhtmx_sync_core::protocol::{
    ClientFrame, CloseCode, ErrorCode, Hello, PROTOCOL_VERSION, ServerFrame, Welcome,
};
use uuid::Uuid;

use super::socket::Socket;
use super::wire::{Incoming, Outgoing, Resume, Wire as _};
use super::{CLOSE_TIMEOUT, Connection};
use crate::engine::Inner;
use crate::frame::Shared;

/// Why a connection was not welcomed.
struct Refused {
    error: ErrorCode,
    message: String,
    close: CloseCode,
}

impl Refused {
    fn protocol(message: impl Into<String>) -> Self {
        Self {
            error: ErrorCode::Protocol,
            message: message.into(),
            close: CloseCode::Protocol,
        }
    }
}

/// Waits for `hello` and answers it; none when the connection was not welcomed and has ended.
/// `allowed`: whether the page behind it may connect; a browser shows a page only the close code, so
/// that is how it is told.
pub(crate) async fn greet(
    engine: Arc<Inner>,
    mut socket: Socket,
    allowed: bool,
) -> Option<Box<Connection<Socket>>> {
    let shutdown = engine.shutdown.clone();
    let greeted = tokio::select! {
        greeted = welcome(&engine, &mut socket, allowed) => greeted,
        () = shutdown.cancelled() => Err(Some(Refused {
            error: ErrorCode::Unavailable,
            message: "the server is shutting down".to_owned(),
            close: CloseCode::ShuttingDown,
        })),
    };
    match greeted {
        Ok(hello) => {
            let seat = engine.hub.join(engine.config.limits.queue_batches_max);
            Some(Connection::new(engine, socket, seat, Some(hello.client_id)))
        }
        Err(Some(refused)) => {
            let Refused {
                error: code,
                message,
                close,
            } = refused;
            let frame = ServerFrame::Error {
                code,
                message: &message,
                id: None,
                fatal: true,
            }
            .to_text();
            socket.feed(Outgoing {
                frame: Shared::new(frame),
                resume: Resume::Unchanged,
            });
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(close, "no welcome")).await;
            None
        }
        Err(None) => None,
    }
}

/// Reads `hello` and answers `welcome`. `Err(None)`: the client is gone.
async fn welcome(
    engine: &Inner,
    socket: &mut Socket,
    allowed: bool,
) -> Result<Hello, Option<Refused>> {
    if !allowed {
        return Err(Some(Refused {
            error: ErrorCode::Forbidden,
            message: "pages of this origin may not connect".to_owned(),
            close: CloseCode::Forbidden,
        }));
    }
    let limits = &engine.config.limits;
    let hello = match tokio::time::timeout(limits.hello_timeout(), hello(socket)).await {
        Ok(hello) => hello?,
        Err(_) => {
            return Err(Some(Refused {
                close: CloseCode::Timeout,
                ..Refused::protocol("no hello came in time")
            }));
        }
    };
    if hello.protocol != PROTOCOL_VERSION {
        return Err(Some(Refused::protocol(format!(
            "this server speaks protocol {PROTOCOL_VERSION}"
        ))));
    }
    let unavailable = || Refused {
        error: ErrorCode::Unavailable,
        message: "the database is out of reach; try again".to_owned(),
        close: CloseCode::ShuttingDown,
    };
    let epoch = engine.hub.epoch().ok_or_else(|| Some(unavailable()))?;
    let last_mutation = engine
        .config
        .db_pool
        .last_mutation(&hello.client_id.to_string())
        .await;
    let last_mutation = last_mutation.map_err(|error| {
        tracing::warn!(%error, "a client could not be welcomed");
        Some(unavailable())
    })?;
    let frame = ServerFrame::Welcome(Welcome {
        protocol: PROTOCOL_VERSION,
        session_id: Uuid::new_v4(),
        epoch,
        last_mutation,
        heartbeat_ms: limits.heartbeat_ms,
        limits: engine.wire_limits(),
        user: None,
    });
    let frame = Outgoing {
        frame: Shared::new(frame.to_text()),
        resume: Resume::Unchanged,
    };
    socket.feed(frame);
    socket.flush().await.map_err(|_| None)?;
    socket.gzip = hello.accept.iter().any(|accepted| accepted == "gzip");
    Ok(hello)
}

async fn hello(socket: &mut Socket) -> Result<Hello, Option<Refused>> {
    loop {
        let text = match socket.next().await {
            Incoming::Alive => continue,
            Incoming::Gone => return Err(None),
            Incoming::Malformed(message) => return Err(Some(Refused::protocol(message))),
            Incoming::TooLarge => {
                return Err(Some(Refused {
                    error: ErrorCode::TooLarge,
                    message: "the frame is larger than frame_bytes_max".to_owned(),
                    close: CloseCode::TooLarge,
                }));
            }
            Incoming::Frame(text) => text,
        };
        return match ClientFrame::parse(&text) {
            Ok(ClientFrame::Hello(hello)) => Ok(hello),
            Ok(_) => Err(Some(Refused::protocol("the first frame must be hello"))),
            Err(error) => Err(Some(Refused::protocol(error.message))),
        };
    }
}
