//! Reads lib0's encoding from a slice, and knows where.

use thiserror::Error;

use crate::limits::Limit;

/// The greatest number that Yjs writes: JavaScript has no greater whole ones.
const NUMBER_MAX: u64 = (1 << 53) - 1;
/// A number has no more bytes than this, also where it begins with useless zeros.
const NUMBER_BYTES_MAX: usize = 8;

/// What is wrong with bytes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("byte {at}: {kind}")]
pub struct Fault {
    /// The place, from 0.
    pub at: usize,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Ended,
    /// There are more bytes than belong to it.
    #[error("there are more bytes than belong to it")]
    Trailing,
    /// A number is too large.
    #[error("a number is too large")]
    Number,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A value that must be JSON is none.
    #[error("a value is not JSON")]
    Json,
    /// More things are announced than there are bytes for.
    #[error("more is announced than there are bytes for")]
    Count,
    /// A struct, or a range, has no length.
    #[error("a length is zero")]
    Empty,
    /// A clock is beyond what documents can hold.
    #[error("a clock is too large")]
    Clock,
    /// The same client comes twice.
    #[error("a client comes twice")]
    Twice,
    /// A tag that Yjs does not know.
    #[error("an unknown tag")]
    Tag,
    /// There is more of something than is taken.
    #[error("too many {0}")]
    TooMany(Limit),
}

/// A place in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn fault(&self, kind: FaultKind) -> Fault {
        Fault { at: self.at, kind }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        let byte = self.bytes.get(self.at).copied();
        let byte = byte.ok_or_else(|| self.fault(FaultKind::Ended))?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Fault> {
        let ended = self.fault(FaultKind::Ended);
        let length = usize::try_from(length).map_err(|_| ended)?;
        let end = self.at.checked_add(length).ok_or(ended)?;
        let taken = self.bytes.get(self.at..end).ok_or(ended)?;
        self.at = end;
        Ok(taken)
    }

    /// A number without a sign, at most 2^53 - 1.
    pub(crate) fn number(&mut self) -> Result<u64, Fault> {
        let begin = self.clone();
        let mut number = 0_u64;
        for index in 0..NUMBER_BYTES_MAX {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return match number <= NUMBER_MAX {
                    true => Ok(number),
                    false => Err(begin.fault(FaultKind::Number)),
                };
            }
        }
        Err(begin.fault(FaultKind::Number))
    }

    /// A number with a sign, of which the value does not matter.
    pub(crate) fn skip_signed(&mut self) -> Result<(), Fault> {
        let begin = self.clone();
        for _ in 0..NUMBER_BYTES_MAX {
            if self.byte()? & 0x80 == 0 {
                return Ok(());
            }
        }
        Err(begin.fault(FaultKind::Number))
    }

    /// How many things come, each of which has at least so many bytes.
    pub(crate) fn count(&mut self, bytes_of_each: usize) -> Result<u64, Fault> {
        let begin = self.clone();
        let count = self.number()?;
        let fits = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(bytes_of_each));
        match fits {
            Some(bytes) if bytes <= self.remaining() => Ok(count),
            _ => Err(begin.fault(FaultKind::Count)),
        }
    }

    pub(crate) fn buffer(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.number()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        let begin = self.clone();
        let bytes = self.buffer()?;
        str::from_utf8(bytes).map_err(|_| begin.fault(FaultKind::Text))
    }

    pub(crate) fn end(&self) -> Result<(), Fault> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(self.fault(FaultKind::Trailing)),
        }
    }
}
