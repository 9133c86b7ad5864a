//! A strict client of protocol version 1.

mod connection;
mod frame;
mod options;
mod pushes;
mod replica;
mod rows;
mod sending;
mod subscription;
#[cfg(test)]
mod tests;
mod transcript;
mod view;
mod waiting;

use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub use self::connection::{Closed, ConnectError, gzip};
pub use self::frame::Violation;
pub use self::options::{ClientOptions, SubscriptionId};
pub use self::pushes::{PushOutcome, Rejection};
pub use self::replica::ClientState;
pub use self::subscription::{Phase, SavedSubscription, Subscription};

use self::connection::Connection;
use self::replica::Replica;
use self::transcript::Transcript;

/// How long a client waits before it asks an unavailable server again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A client that keeps a copy of the rows exactly as the protocol says, and panics when the server
/// breaks a rule.
///
/// It reads only while one of its methods waits, so a test is a slow reader by doing nothing. It keeps track
/// of the frames that it sends, including those of [`send_json`](Self::send_json);
/// [`send_text`](Self::send_text) and [`send_binary`](Self::send_binary) are for what no client should send.
/// Sending to a broken connection does not fail: the next wait returns [`Closed`], or panics with it.
///
/// A `changes` frame with a `shape` concerns the subscriptions that are live when it arrives.
#[derive(Debug)]
pub struct SyncClient {
    options: ClientOptions,
    connection: Connection,
    replica: Replica,
    closed: Option<Closed>,
    transcript: Transcript,
    /// The client itself panicked, with the transcript in the message.
    failed: bool,
}

/// Connecting.
impl SyncClient {
    /// Connects to `ws://…/api/sync/ws`, sends `hello` and waits for `welcome`. A server that is `unavailable` is asked
    /// again, as by every client: the database of a busy machine may be slow to connect.
    pub async fn connect(url: &str, options: ClientOptions) -> Self {
        let deadline = Instant::now() + options.patience;
        loop {
            match Self::try_connect(url, options.clone()).await {
                Ok(client) => return client,
                Err(error) if error.is_unavailable() && Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => panic!("could not connect to {url}: {error}"),
            }
        }
    }

    /// Like [`connect`](Self::connect), for connections that may be refused.
    pub async fn try_connect(url: &str, options: ClientOptions) -> Result<Self, ConnectError> {
        let mut client = Self::open(url, options).await?;
        client.hello().await?;
        Ok(client)
    }

    /// Connects without sending `hello`.
    pub async fn open(url: &str, options: ClientOptions) -> Result<Self, ConnectError> {
        let replica = Replica::new(options.client_id, options.client_id_shared);
        Self::with_replica(url, options, replica).await
    }

    /// Sends `hello` after [`open`](Self::open), and waits for `welcome`.
    pub async fn hello(&mut self) -> Result<(), ConnectError> {
        let mut hello =
            json!({ "type": "hello", "protocol": 1, "client_id": self.options.client_id });
        if let Some(token) = &self.options.token {
            hello["token"] = json!(token);
        }
        if self.options.gzip {
            hello["accept"] = json!(["gzip"]);
        }
        self.send_json(hello).await;
        let welcome = self.try_wait_for(|frame| frame["type"] == "welcome").await;
        welcome.map(drop).map_err(|closed| ConnectError::Closed {
            closed,
            error: self.replica.errors.last().cloned(),
        })
    }

    /// Continues from the state of [`into_state`](Self::into_state), with its client id: resumes every
    /// subscription from its cursor, and pushes unanswered mutations again, from `last_mutation + 1`. A server that is
    /// `unavailable` is asked again.
    pub async fn reconnect(url: &str, options: ClientOptions, state: &ClientState) -> Self {
        let deadline = Instant::now() + options.patience;
        loop {
            match Self::try_reconnect(url, options.clone(), state).await {
                Ok(client) => return client,
                Err(error) if error.is_unavailable() && Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => panic!("could not connect to {url} again: {error}"),
            }
        }
    }

    /// Like [`reconnect`](Self::reconnect), for a server that may be down.
    pub async fn try_reconnect(
        url: &str,
        options: ClientOptions,
        state: &ClientState,
    ) -> Result<Self, ConnectError> {
        let options = ClientOptions {
            client_id: state.client_id,
            ..options
        };
        let replica = Replica::restore(state, options.client_id_shared);
        let mut client = Self::with_replica(url, options, replica).await?;
        client.hello().await?;
        for (id, saved) in &state.subscriptions {
            let mut subscribe = saved.request.clone();
            subscribe["id"] = id.to_json();
            if let Some(cursor) = &saved.cursor {
                let shape = saved.shape.as_deref();
                let shape = shape.map_or_else(String::new, |shape| format!(".{shape}"));
                subscribe["cursor"] = json!(format!("{cursor}{shape}"));
            }
            client.send_json(subscribe).await;
        }
        for (mutation, writes) in client.replica.pushes.unanswered.clone() {
            client.send_push(mutation, writes).await;
        }
        Ok(client)
    }

    /// What a client would store on disk. Changes that are held back are not part of it.
    pub fn state(&self) -> ClientState {
        self.replica.save()
    }

    /// Drops the connection without a close, and returns the state.
    pub fn into_state(self) -> ClientState {
        self.state()
    }

    /// Closes the connection as a browser tab would.
    pub async fn close(mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        self.connection.send(Message::Close(Some(frame))).await;
    }

    async fn with_replica(
        url: &str,
        options: ClientOptions,
        replica: Replica,
    ) -> Result<Self, ConnectError> {
        let connection = Connection::open(url, &options).await?;
        let transcript = Transcript::default();
        Ok(Self {
            options,
            connection,
            replica,
            closed: None,
            transcript,
            failed: false,
        })
    }
}

impl Drop for SyncClient {
    fn drop(&mut self) {
        if thread::panicking() && !self.failed {
            eprintln!("{}", self.transcript);
        }
    }
}
