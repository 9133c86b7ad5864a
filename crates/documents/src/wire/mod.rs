//! The wires of clients that exist: y-protocols' sync and awareness, as y-websocket and Hocuspocus wrap them.

pub mod hocuspocus;
pub mod y_websocket;

use crate::reader::{Fault, FaultKind, Reader};
use crate::writer;

/// A message of y-protocols' sync; the bytes in it have not been scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync<'a> {
    /// A state vector: what is beyond it is asked for, and must be answered even where nothing is.
    Step1(&'a [u8]),
    /// The answer: an update. Only this makes a client say that it is in sync.
    Step2(&'a [u8]),
    /// An update.
    Update(&'a [u8]),
}

impl<'a> Sync<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let at = reader.clone();
        let kind = reader.number()?;
        let bytes = reader.buffer()?;
        match kind {
            0 => Ok(Self::Step1(bytes)),
            1 => Ok(Self::Step2(bytes)),
            2 => Ok(Self::Update(bytes)),
            _ => Err(at.fault(FaultKind::Tag)),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Step1(bytes) => (0, bytes),
            Self::Step2(bytes) => (1, bytes),
            Self::Update(bytes) => (2, bytes),
        };
        writer::number(out, kind);
        writer::buffer(out, bytes);
    }
}
