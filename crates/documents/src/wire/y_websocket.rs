//! Frames of y-websocket, and of y-sweet, whose client speaks the same and one more.
//!
//! Each WebSocket frame is one message, in binary: the client reads one and drops what follows.

use super::Sync;
use crate::reader::{Fault, FaultKind, Reader};
use crate::writer;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Of the document.
    Sync(Sync<'a>),
    /// An awareness update, which has not been scanned.
    Awareness(&'a [u8]),
    /// The document may not be read or written, with the reason. The client writes it to its console.
    Denied(&'a str),
    /// Asks for all that is known of who is there.
    QueryAwareness,
    /// y-sweet: sent back once everything before it is kept.
    Durable(&'a [u8]),
}

/// Goes to a client for which there is nothing: one that hears nothing for 30 s begins again.
pub const KEEP_ALIVE: [u8; 3] = [1, 1, 0];

impl<'a> Message<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// When it is no message, or more than one.
    pub fn read(frame: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(frame);
        let at = reader.clone();
        let message = match reader.number()? {
            0 => Self::Sync(Sync::read(&mut reader)?),
            1 => Self::Awareness(reader.buffer()?),
            2 => {
                let at = reader.clone();
                match reader.number()? {
                    0 => Self::Denied(reader.text()?),
                    _ => return Err(at.fault(FaultKind::Tag)),
                }
            }
            3 => {
                // That of y-sweet has a buffer.
                if reader.remaining() > 0 {
                    reader.buffer()?;
                }
                Self::QueryAwareness
            }
            102 => Self::Durable(reader.buffer()?),
            _ => return Err(at.fault(FaultKind::Tag)),
        };
        reader.end()?;
        Ok(message)
    }

    /// The frame.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        match self {
            Self::Sync(sync) => {
                writer::number(&mut frame, 0);
                sync.write(&mut frame);
            }
            Self::Awareness(update) => {
                writer::number(&mut frame, 1);
                writer::buffer(&mut frame, update);
            }
            Self::Denied(reason) => {
                frame.extend([2, 0]);
                writer::buffer(&mut frame, reason.as_bytes());
            }
            Self::QueryAwareness => writer::number(&mut frame, 3),
            Self::Durable(version) => {
                writer::number(&mut frame, 102);
                writer::buffer(&mut frame, version);
            }
        }
        frame
    }
}
