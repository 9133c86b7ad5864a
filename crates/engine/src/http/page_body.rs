//! The body of a page: JSON that is written while it is read, at the client's pace.

use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

/// Chunks that may wait for the client.
const CHUNKS_WAITING_MAX: usize = 2;
/// The size from which text is sent. A smaller page is sent whole, because what is written in several small pieces
/// waits for the client's acknowledgement of the first where the application has not set `TCP_NODELAY`.
const CHUNK_BYTES: usize = 64 * 1024;

/// The client is gone or does not read, or the read failed: the body ends unfinished, which clients see.
#[derive(Debug)]
pub(super) struct Unfinished;

/// Writes `{"rows":[…],"cursor":…,"more":…}`, or the same with `changes`.
pub(super) struct PageBody {
    chunks: mpsc::Sender<Chunk>,
    timeout: Duration,
    /// What is not sent yet.
    text: String,
    is_empty: bool,
}

/// The other end of a [`PageBody`].
pub(super) struct PageResponse(mpsc::Receiver<Chunk>);

enum Chunk {
    /// The whole page, or the last of several chunks.
    Last(String),
    Part(Result<Bytes, std::io::Error>),
}

#[derive(Serialize)]
struct Tail {
    cursor: String,
    more: bool,
}

impl PageResponse {
    /// Waits until the page is written, or is too large to be sent whole. `None` if neither comes.
    pub(super) async fn begin(mut self) -> Option<Response> {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let body = match self.0.recv().await? {
            Chunk::Last(text) => Body::from(text),
            Chunk::Part(Err(_)) => return None,
            first @ Chunk::Part(Ok(_)) => {
                let mut first = Some(first);
                Body::from_stream(stream::poll_fn(move |cx| match first.take() {
                    Some(first) => Poll::Ready(Some(first.into_part())),
                    None => self.0.poll_recv(cx).map(|chunk| Some(chunk?.into_part())),
                }))
            }
        };
        Some((headers, body).into_response())
    }
}

impl Chunk {
    fn into_part(self) -> Result<Bytes, std::io::Error> {
        match self {
            Self::Last(text) => Ok(text.into()),
            Self::Part(part) => part,
        }
    }
}

impl PageBody {
    /// Starts a body whose items are called `name`. A client that takes nothing for `timeout` is given up.
    pub(super) fn start(name: &str, timeout: Duration) -> (Self, PageResponse) {
        let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING_MAX);
        let body = Self {
            chunks,
            timeout,
            text: format!("{{\"{name}\":["),
            is_empty: true,
        };
        (body, PageResponse(waiting))
    }

    /// Writes the items of a JSON array.
    pub(super) async fn items(&mut self, array: &str) -> Result<(), Unfinished> {
        let items = array.strip_prefix('[').unwrap_or(array);
        let items = items.strip_suffix(']').unwrap_or(items);
        if items.is_empty() {
            return Ok(());
        }
        self.item(items).await
    }

    /// Writes one item, or several with commas between them.
    pub(super) async fn item(&mut self, item: &str) -> Result<(), Unfinished> {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
        self.text.push_str(item);
        if self.text.len() < CHUNK_BYTES {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        self.send(Chunk::Part(Ok(text.into()))).await
    }

    /// Ends the body.
    pub(super) async fn finish(mut self, token: &str, more: bool) -> Result<(), Unfinished> {
        let tail = Tail {
            cursor: token.to_owned(),
            more,
        };
        let tail = protocol::json::text(&tail);
        let fields = tail.strip_prefix('{').unwrap_or(&tail);
        self.text.push_str("],");
        self.text.push_str(fields);
        let text = std::mem::take(&mut self.text);
        self.send(Chunk::Last(text)).await
    }

    /// Breaks the connection off, because the rest could not be read.
    pub(super) async fn fail(self) {
        let error = std::io::Error::other("the rest of the page could not be read");
        let _ = self.send(Chunk::Part(Err(error))).await;
    }

    async fn send(&self, chunk: Chunk) -> Result<(), Unfinished> {
        match tokio::time::timeout(self.timeout, self.chunks.send(chunk)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Unfinished),
        }
    }
}
