//! The handshake of a WebSocket: from `hello` to `welcome`.

use std::net::IpAddr;
use std::sync::Arc;

use protocol::{
    ClientFrame, CloseCode, Error, ErrorCode, Hello, PROTOCOL_VERSION, ServerFrame, Welcome,
};
use sync_core::cursor::Epoch;
use sync_core::limit::Limit;
use uuid::Uuid;

use super::transport::{Incoming, Outgoing, Resume, Transport as _};
use super::websocket::WebSocket;
use super::{CLOSE_TIMEOUT, OTHER_USER, SessionTask};
use crate::admission;
use crate::auth::{AuthError, Credential, Identity};
use crate::clock::now_ms;
use crate::limits::{self, RETRY_AFTER};
use crate::mailbox::SessionId;
use crate::principals::{NotEntered, Present};
use crate::shared_frame::SharedFrame;
use crate::state::EngineState;

/// Why a connection was not welcomed.
struct Refused {
    error: Error,
    close: CloseCode,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>, close: CloseCode) -> Self {
        Self {
            error: Error::fatal(code, message),
            close,
        }
    }

    fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Protocol, message, CloseCode::Protocol)
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message, CloseCode::ShuttingDown)
    }
}

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(message) => Self::new(
                ErrorCode::Unauthenticated,
                message,
                CloseCode::Unauthenticated,
            ),
            AuthError::RateLimited { retry_after } => Self {
                error: Error::fatal(ErrorCode::RateLimited, error.to_string())
                    .retry_after(retry_after),
                close: CloseCode::RateLimited,
            },
            AuthError::Unavailable(message) => Self::unavailable(message),
        }
    }
}

impl From<NotEntered> for Refused {
    fn from(refused: NotEntered) -> Self {
        let message = refused.message();
        match refused {
            NotEntered::TooMany => Self {
                error: Error::fatal(ErrorCode::RateLimited, message).retry_after(RETRY_AFTER),
                close: CloseCode::RateLimited,
            },
            NotEntered::SignedOut => Self::new(
                ErrorCode::Unauthenticated,
                message,
                CloseCode::Unauthenticated,
            ),
        }
    }
}

/// What the route knows before the handshake.
pub(crate) struct Greeting {
    /// Why the page may not connect, if so. A browser shows a page only the close code, so that is the
    /// answer, not an HTTP status.
    pub(crate) unwelcome: Option<&'static str>,
    /// What the upgrade shows of who connects. Unless the application has named somebody, `hello.token` counts instead.
    pub(crate) credential: Result<Credential, AuthError>,
    /// The address by which the client is limited, where it is known.
    pub(crate) address: Option<IpAddr>,
    /// The features that this server offers.
    pub(crate) features: Vec<String>,
    /// Whether the client can subscribe to fields alone.
    pub(crate) only_fields: bool,
}

/// Waits for `hello` and answers it. Returns none when the connection was not welcomed and has ended.
pub(crate) async fn greet(
    state: Arc<EngineState>,
    mut socket: WebSocket,
    greeting: Greeting,
) -> Option<Box<SessionTask<WebSocket>>> {
    let shutdown = state.shutdown.clone();
    let only_fields = greeting.only_fields;
    let greeted = tokio::select! {
        greeted = welcome(&state, &mut socket, greeting) => greeted,
        () = shutdown.cancelled() => {
            Err(Some(Refused::unavailable("the server is shutting down")))
        }
    };
    match greeted {
        Ok((hello, epoch, identity)) => {
            let client_id = Some(hello.client_id);
            let session = SessionTask::new(state, epoch, socket, identity, client_id);
            Some(session.of_fields(only_fields))
        }
        Err(Some(Refused { error, close })) => {
            let frame = ServerFrame::Error(error).to_text();
            socket.feed(Outgoing {
                frame: SharedFrame::new(frame),
                resume: Resume::Unchanged,
            });
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(close, "no welcome")).await;
            None
        }
        Err(None) => None,
    }
}

/// Reads `hello` and answers `welcome`. `Err(None)` means that the client is gone.
async fn welcome(
    state: &EngineState,
    socket: &mut WebSocket,
    greeting: Greeting,
) -> Result<(Hello, Epoch, (Identity, Present)), Option<Refused>> {
    if let Some(message) = greeting.unwelcome {
        let close = CloseCode::Forbidden;
        return Err(Some(Refused::new(ErrorCode::Forbidden, message, close)));
    }
    let limits = &state.config.limits;
    let hello = match tokio::time::timeout(limits.hello_timeout(), hello(socket)).await {
        Ok(hello) => hello?,
        Err(_) => {
            return Err(Some(Refused {
                close: CloseCode::Timeout,
                ..Refused::protocol("no hello arrived in time")
            }));
        }
    };
    if hello.protocol != PROTOCOL_VERSION {
        return Err(Some(Refused::protocol(format!(
            "this server speaks protocol {PROTOCOL_VERSION}"
        ))));
    }
    let identity = identify(
        state,
        greeting.credential,
        hello.token.clone(),
        greeting.address,
    )
    .await;
    let identity = identity.map_err(|error| Some(error.into()))?;
    let entered = state.principals.enter(SessionId::next(), &identity);
    let present = entered.map_err(|refused| Some(refused.into()))?;
    let out_of_reach = || Refused::unavailable("the database is out of reach; try again");
    let epoch = state.hub.epoch().ok_or_else(|| Some(out_of_reach()))?;
    let db = &state.config.db_pool;
    let client = db.client_state(&hello.client_id.to_string()).await;
    let client = client.map_err(|error| {
        tracing::warn!(%error, "a client could not be welcomed");
        Some(out_of_reach())
    })?;
    if !client.is_open_to(identity.principal.user_id.as_deref()) {
        let close = CloseCode::Forbidden;
        return Err(Some(Refused::new(ErrorCode::Forbidden, OTHER_USER, close)));
    }
    let frame = ServerFrame::Welcome(Welcome {
        protocol: PROTOCOL_VERSION,
        features: greeting.features,
        session_id: Uuid::new_v4(),
        epoch: epoch.to_string(),
        last_mutation: client.chains.last(),
        last_chain: client.chains.last_chain(),
        now: Some(now_ms()),
        heartbeat_ms: limits.heartbeat_ms,
        limits: state.client_limits(),
        user: identity.principal.user_id.clone(),
    });
    socket.feed(Outgoing {
        frame: SharedFrame::new(frame.to_text()),
        resume: Resume::Unchanged,
    });
    socket.flush().await.map_err(|_| None)?;
    socket.gzip = hello.accept.iter().any(|accepted| accepted == "gzip");
    Ok((hello, epoch, (identity, present)))
}

async fn identify(
    state: &EngineState,
    credential: Result<Credential, AuthError>,
    token: Option<String>,
    address: Option<IpAddr>,
) -> Result<Identity, AuthError> {
    let credential = match (credential, token) {
        (Ok(credential @ Credential::Application(_)), _) => credential,
        (_, Some(token)) => Credential::Token(Some(token)),
        (credential, None) => credential?,
    };
    admission::identify(state, credential, address).await
}

async fn hello(socket: &mut WebSocket) -> Result<Hello, Option<Refused>> {
    loop {
        let text = match socket.next().await {
            Incoming::Alive | Incoming::Pong { .. } | Incoming::Handled { .. } => continue,
            Incoming::Disconnected => return Err(None),
            Incoming::Malformed(message) => return Err(Some(Refused::protocol(message))),
            Incoming::TooLarge => {
                limits::reached(Limit::FrameBytes);
                return Err(Some(Refused::new(
                    ErrorCode::TooLarge,
                    "the frame is larger than frame_bytes_max",
                    CloseCode::TooLarge,
                )));
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
