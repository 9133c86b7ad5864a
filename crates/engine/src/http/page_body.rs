//! The body of a page: JSON that is written while it is read, at the client's pace.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

use super::page_token::PageToken;

/// Chunks that may wait for the client.
const CHUNKS_WAITING_MAX: usize = 2;

/// The client is gone or does not read, or the read failed: the body ends unfinished, which clients see.
#[derive(Debug)]
pub(super) struct Unfinished;

/// Writes `{"rows":[…],"cursor":…,"more":…}`, or the same with `changes`.
pub(super) struct PageBody {
    chunks: mpsc::Sender<Result<Bytes, std::io::Error>>,
    timeout: Duration,
    is_empty: bool,
}

#[derive(Serialize)]
struct Tail {
    cursor: String,
    more: bool,
}

impl PageBody {
    /// Starts a body whose items are called `name`. A client that takes nothing for `timeout` is given up.
    pub(super) fn start(name: &str, timeout: Duration) -> (Self, Response) {
        let (chunks, mut waiting) = mpsc::channel(CHUNKS_WAITING_MAX);
        let opening = Bytes::from(format!("{{\"{name}\":["));
        // There is room: nothing has been sent yet.
        let _ = chunks.try_send(Ok(opening));
        let body = Body::from_stream(stream::poll_fn(move |cx| waiting.poll_recv(cx)));
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let body_writer = Self {
            chunks,
            timeout,
            is_empty: true,
        };
        (body_writer, (headers, body).into_response())
    }

    /// Writes the items of a JSON array.
    pub(super) async fn items(&mut self, array: &str) -> Result<(), Unfinished> {
        let items = array.strip_prefix('[').unwrap_or(array);
        let items = items.strip_suffix(']').unwrap_or(items);
        if items.is_empty() {
            return Ok(());
        }
        let comma = if std::mem::take(&mut self.is_empty) {
            ""
        } else {
            ","
        };
        self.send(Ok(Bytes::from(format!("{comma}{items}")))).await
    }

    /// Ends the body.
    pub(super) async fn finish(self, token: &PageToken, more: bool) -> Result<(), Unfinished> {
        let tail = Tail {
            cursor: token.to_string(),
            more,
        };
        let tail = protocol::json::text(&tail);
        let fields = tail.strip_prefix('{').unwrap_or(&tail);
        self.send(Ok(Bytes::from(format!("],{fields}")))).await
    }

    /// Breaks the connection off, because the rest could not be read.
    pub(super) async fn fail(self) {
        let error = std::io::Error::other("the rest of the page could not be read");
        let _ = self.send(Err(error)).await;
    }

    async fn send(&self, chunk: Result<Bytes, std::io::Error>) -> Result<(), Unfinished> {
        match tokio::time::timeout(self.timeout, self.chunks.send(chunk)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Unfinished),
        }
    }
}
