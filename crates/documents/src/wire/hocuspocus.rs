//! Frames of Hocuspocus' provider: those of several documents over one socket, each with its address.

use super::Sync;
use crate::reader::{Fault, FaultKind, Reader};
use crate::writer;

/// The one byte by which a client answers that it is there.
pub const PONG: [u8; 1] = [10];
/// The one byte that asks for it. Old providers do not know it.
pub const PING: [u8; 1] = [9];

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// To or from one document.
    Document {
        /// The document's name, and behind a NUL the session, where a client has several. What is answered has the same.
        address: &'a str,
        /// What is said.
        message: Message<'a>,
    },
    /// Whether the other end is there.
    Ping,
    /// It is.
    Pong,
}

/// A message to or from one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Of the document.
    Sync(Sync<'a>),
    /// An awareness update, which has not been scanned.
    Awareness(&'a [u8]),
    /// A client's token, and its version where it says that.
    Token {
        /// The token.
        token: &'a str,
        /// The version of the provider.
        version: Option<&'a str>,
    },
    /// To a client: the token is wanted once more.
    TokenWanted,
    /// To a client: the document stays closed, with the reason.
    Denied(&'a str),
    /// To a client: it may write, or only read.
    Authenticated {
        /// Whether it may write.
        may_write: bool,
    },
    /// Asks for all that is known of who is there.
    QueryAwareness,
    /// The application's own.
    Stateless(&'a str),
    /// A client leaves the document, or it is closed to it, with the reason.
    Close(&'a str),
    /// To a client: whether one of its updates is kept.
    SyncStatus {
        /// Whether it is.
        is_kept: bool,
    },
}

impl<'a> Frame<'a> {
    /// Reads a client's frame.
    ///
    /// # Errors
    /// When it is no frame, or one that only servers send each other.
    pub fn read(frame: &'a [u8]) -> Result<Self, Fault> {
        match frame {
            [9] => return Ok(Self::Ping),
            [10] => return Ok(Self::Pong),
            _ => {}
        }
        let mut reader = Reader::new(frame);
        let address = reader.text()?;
        if address.split('\0').next().is_none_or(str::is_empty) {
            return Err(Fault {
                at: 0,
                kind: FaultKind::Empty,
            });
        }
        let at = reader.clone();
        let message = match reader.number()? {
            // 4 is an answer between servers, and means the same.
            0 | 4 => Message::Sync(Sync::read(&mut reader)?),
            1 => Message::Awareness(reader.buffer()?),
            2 => {
                let at = reader.clone();
                if reader.number()? != 0 {
                    return Err(at.fault(FaultKind::Tag));
                }
                let token = reader.text()?;
                let version = match reader.remaining() {
                    0 => None,
                    _ => Some(reader.text()?),
                };
                // Of what later versions add nothing is known.
                return Ok(Self::Document {
                    address,
                    message: Message::Token { token, version },
                });
            }
            3 => Message::QueryAwareness,
            5 => Message::Stateless(reader.text()?),
            7 => Message::Close(match reader.remaining() {
                0 => "",
                _ => reader.text()?,
            }),
            _ => return Err(at.fault(FaultKind::Tag)),
        };
        reader.end()?;
        Ok(Self::Document { address, message })
    }

    /// The frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (address, message) = match self {
            Self::Ping => return PING.to_vec(),
            Self::Pong => return PONG.to_vec(),
            Self::Document { address, message } => (address, message),
        };
        let mut frame = Vec::new();
        writer::buffer(&mut frame, address.as_bytes());
        message.write(&mut frame);
        frame
    }
}

impl Message<'_> {
    fn write(&self, frame: &mut Vec<u8>) {
        let mut text = |numbers: &[u8], text: &str| {
            frame.extend_from_slice(numbers);
            writer::buffer(frame, text.as_bytes());
        };
        match self {
            Self::Sync(sync) => {
                frame.push(0);
                sync.write(frame);
            }
            Self::Awareness(update) => {
                frame.push(1);
                writer::buffer(frame, update);
            }
            Self::Token { token, version } => {
                text(&[2, 0], token);
                if let Some(version) = version {
                    text(&[], version);
                }
            }
            Self::TokenWanted => frame.extend([2, 0]),
            Self::Denied(reason) => text(&[2, 1], reason),
            Self::Authenticated { may_write } => {
                let scope = if *may_write { "read-write" } else { "readonly" };
                text(&[2, 2], scope);
            }
            Self::QueryAwareness => frame.push(3),
            Self::Stateless(payload) => text(&[5], payload),
            Self::Close("") => frame.push(7),
            Self::Close(reason) => text(&[7], reason),
            Self::SyncStatus { is_kept } => frame.extend([8, u8::from(*is_kept)]),
        }
    }
}
