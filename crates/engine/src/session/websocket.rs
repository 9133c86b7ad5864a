//! A WebSocket whose outgoing frames are shared.
//!
//! The library reads, answers pings and closes. Frames bypass it: it would copy each into a buffer of every
//! connection, which then stays as large as the largest frame. A server's frames are not masked (RFC 6455,
//! 5.1), so every client receives the same bytes, behind a header of a few bytes of its own. A frame may be in pieces:
//! they are written one after another, so that a change that many frames contain exists once.
//!
//! The two interleave only between frames: what the library has to send is flushed before what is queued
//! here, and the library is never used while a frame from here is half written.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::pin;

use bytes::{Buf, Bytes};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::CloseCode;
use protocol::version::GZIP_BYTES_MIN;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::transport::{Disconnected, Incoming, Outgoing, Transport};
use crate::shared_frame::{UnzipError, unzip};

/// The read buffer of an idle connection; it grows for larger frames. The library's default of 128 KiB would
/// be most of what a connection costs.
const READ_BUFFER_BYTES: usize = 512;
/// Frames are flushed when more than this is queued.
const UNSENT_BYTES_MAX: usize = 16 * 1024;
/// A frame of up to this many times the limit is still read, so that the client learns why it is refused; a
/// larger one cuts the connection.
const READ_LIMIT_FACTOR: usize = 4;

/// What a ping bears whose answer is to be told from those of others.
const MARK: &[u8] = b"arrived?";

/// A WebSocket.
pub(crate) struct WebSocket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    unsent: Unsent,
    frame_bytes_max: usize,
    pub(crate) gzip: bool,
}

impl WebSocket {
    /// Takes the server's side of an upgraded connection.
    pub(crate) async fn new(upgraded: Upgraded, frame_bytes_max: usize) -> Self {
        let bytes_max = Some(frame_bytes_max.saturating_mul(READ_LIMIT_FACTOR));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(bytes_max)
            .max_frame_size(bytes_max);
        let io = TokioIo::new(upgraded);
        Self {
            stream: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await,
            unsent: Unsent::default(),
            frame_bytes_max,
            gzip: false,
        }
    }

    /// Queues a ping whose answer bears a mark.
    pub(crate) fn ping_marked(&mut self) {
        self.unsent.push(Opcode::Ping, &[Bytes::from_static(MARK)]);
    }

    /// Queues a text; the next flush sends it.
    pub(crate) fn feed_text(&mut self, text: String) {
        self.unsent.push(Opcode::Text, &[Bytes::from(text)]);
    }

    fn read(&self, message: Message) -> Incoming {
        match message {
            Message::Text(text) if text.len() > self.frame_bytes_max => Incoming::TooLarge,
            Message::Text(text) => Incoming::Frame(text.as_str().to_owned()),
            Message::Binary(bytes) => match unzip(&bytes, self.frame_bytes_max) {
                Ok(text) => Incoming::Frame(text),
                Err(UnzipError::TooLarge) => Incoming::TooLarge,
                Err(UnzipError::Malformed) => {
                    Incoming::Malformed("a binary frame must be gzipped text")
                }
            },
            Message::Ping(_) => Incoming::Alive,
            Message::Pong(mark) => Incoming::Pong {
                is_marked: *mark == *MARK,
            },
            Message::Close(_) => Incoming::Disconnected,
            Message::Frame(_) => unreachable!("the library returns whole messages"),
        }
    }
}

impl Transport for WebSocket {
    const ANSWERS: bool = true;

    fn feed(&mut self, outgoing: Outgoing<'_>) {
        let frame = outgoing.frame;
        let zips = self.gzip && frame.len() > GZIP_BYTES_MIN;
        match zips.then(|| frame.gzipped()).flatten() {
            Some(zipped) => self.unsent.push(Opcode::Binary, &[zipped]),
            None => self.unsent.push(Opcode::Text, frame.pieces()),
        }
    }

    fn ping(&mut self) {
        self.unsent.push(Opcode::Ping, &[]);
    }

    fn is_full(&self) -> bool {
        self.unsent.remaining() > UNSENT_BYTES_MAX
    }

    async fn flush(&mut self) -> Result<(), Disconnected> {
        self.stream.flush().await.map_err(|_| Disconnected)?;
        if self.unsent.has_remaining() {
            let io = self.stream.get_mut();
            io.write_all_buf(&mut self.unsent)
                .await
                .map_err(|_| Disconnected)?;
            io.flush().await.map_err(|_| Disconnected)?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Incoming {
        match self.stream.next().await {
            Some(Ok(Message::Close(_))) => {
                // The library has queued the answer. A client that closes and reads nothing is not waited for.
                let _ = futures_util::poll!(pin!(self.stream.flush()));
                Incoming::Disconnected
            }
            Some(Ok(message)) => self.read(message),
            // The library stops at its own limit, which is above `frame_bytes_max`.
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => Incoming::TooLarge,
            Some(Err(_)) | None => Incoming::Disconnected,
        }
    }

    async fn close(&mut self, code: CloseCode, reason: &'static str) {
        let frame = CloseFrame {
            code: WireCode::from(code as u16),
            reason: Utf8Bytes::from_static(reason),
        };
        if self.flush().await.is_err()
            || self.stream.send(Message::Close(Some(frame))).await.is_err()
        {
            return;
        }
        // Read and discard what the client still has in flight: closing over unread bytes would reset the
        // connection and lose the last frames.
        while let Some(Ok(message)) = self.stream.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    }
}

/// The kind of a frame (RFC 6455, 11.8).
#[derive(Debug, Clone, Copy)]
enum Opcode {
    Text = 0x1,
    Binary = 0x2,
    Ping = 0x9,
}

/// Frames that wait to be written, each a header and pieces of shared bytes.
#[derive(Debug, Default)]
struct Unsent {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

/// A piece of a frame; the first has the header.
#[derive(Debug)]
struct Piece {
    header: [u8; HEADER_BYTES_MAX],
    /// The bytes of the header from here to `header_end` are still to be written.
    header_at: u8,
    header_end: u8,
    payload: Bytes,
}

const HEADER_BYTES_MAX: usize = 10;

impl Piece {
    /// The first piece of a whole message of `length` bytes in one unmasked frame (RFC 6455, 5.2).
    fn first(opcode: Opcode, length: usize, payload: Bytes) -> Self {
        let mut header = [0; HEADER_BYTES_MAX];
        header[0] = 0x80 | opcode as u8;
        let length = length as u64;
        let header_end = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short), _) if short < 126 => {
                header[1] = short;
                2
            }
            (_, Ok(medium)) => {
                header[1] = 126;
                header[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            _ => {
                header[1] = 127;
                header[2..10].copy_from_slice(&length.to_be_bytes());
                10
            }
        };
        Self {
            header,
            header_at: 0,
            header_end,
            payload,
        }
    }

    /// A piece after the first.
    fn next(payload: Bytes) -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_at: 0,
            header_end: 0,
            payload,
        }
    }

    fn header(&self) -> &[u8] {
        &self.header[usize::from(self.header_at)..usize::from(self.header_end)]
    }

    fn len(&self) -> usize {
        self.header().len() + self.payload.len()
    }

    fn advance(&mut self, bytes: usize) {
        let of_header = bytes.min(self.header().len());
        self.header_at += of_header as u8;
        self.payload.advance(bytes - of_header);
    }
}

impl Unsent {
    fn push(&mut self, opcode: Opcode, payload: &[Bytes]) {
        let length = payload.iter().map(Bytes::len).sum();
        let mut payload = payload.iter().cloned();
        let first = Piece::first(opcode, length, payload.next().unwrap_or_default());
        let pieces = std::iter::once(first).chain(payload.map(Piece::next));
        for piece in pieces {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Unsent {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.front() {
            Some(piece) if piece.header().is_empty() => &piece.payload,
            Some(piece) => piece.header(),
            None => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self
            .pieces
            .iter()
            .flat_map(|piece| [piece.header(), &piece.payload])
            .filter(|chunk| !chunk.is_empty());
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(
            bytes <= self.bytes,
            "more bytes were written than were queued"
        );
        self.bytes -= bytes;
        while let Some(piece) = self.pieces.front_mut() {
            let length = piece.len();
            if bytes < length {
                piece.advance(bytes);
                return;
            }
            bytes -= length;
            self.pieces.pop_front();
        }
        // An idle connection keeps no memory.
        self.pieces = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::WebSocket as ClientSocket;

    use super::*;

    /// The messages that a client reads from these bytes.
    fn read_by_a_client(bytes: Vec<u8>, count: usize) -> Vec<Message> {
        let stream = std::io::Cursor::new(bytes);
        let mut client = ClientSocket::from_raw_socket(stream, Role::Client, None);
        (0..count)
            .map(|_| client.read().expect("a frame"))
            .collect()
    }

    proptest! {
        #[test]
        fn frames_arrive_whole_however_the_writes_are_split(
            lengths in vec(prop_oneof![0_usize..200, 65_530_usize..65_540], 1..6),
            steps in vec(1_usize..70_000, 1..40),
            slices_max in 1_usize..5,
        ) {
            let mut unsent = Unsent::default();
            for (index, length) in lengths.iter().enumerate() {
                let opcode = if index % 2 == 0 { Opcode::Text } else { Opcode::Binary };
                let payload = Bytes::from(vec![b'a' + index as u8; *length]);
                let (one, other) = (payload.slice(..length / 3), payload.slice(length / 3..));
                unsent.push(opcode, &[one, other]);
            }
            let mut written = Vec::new();
            let mut steps = steps.into_iter().cycle();
            while unsent.has_remaining() {
                let before = unsent.remaining();
                let mut slices = vec![IoSlice::new(&[]); slices_max];
                let count = unsent.chunks_vectored(&mut slices);
                prop_assert!(count > 0 && slices[0].starts_with(unsent.chunk()));
                let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = steps.next().expect("endless").min(offered.len());
                written.extend_from_slice(&offered[..taken]);
                unsent.advance(taken);
                prop_assert_eq!(unsent.remaining(), before - taken);
            }
            let read = read_by_a_client(written, lengths.len());
            for (index, (message, length)) in read.iter().zip(&lengths).enumerate() {
                prop_assert_eq!(message.is_text(), index % 2 == 0);
                prop_assert_eq!(message.clone().into_data(), vec![b'a' + index as u8; *length]);
            }
            prop_assert_eq!(unsent.pieces.capacity(), 0);
        }
    }
}
