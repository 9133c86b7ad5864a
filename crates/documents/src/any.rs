//! lib0's `Any`: JSON and a little more, in binary.

use crate::limits::{DEPTH_MAX, Limit, ScanLimits};
use crate::reader::{Fault, FaultKind, Reader};

/// What is open around a value, with how many more come in it.
#[derive(Clone, Copy)]
enum Open {
    Array(u64),
    Object(u64),
}

/// Reads one value to its end. It does not recurse: who nests deep does not reach the end of the stack.
pub(crate) fn skip(reader: &mut Reader<'_>, limits: &ScanLimits) -> Result<(), Fault> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let begin = reader.clone();
        let inner = match reader.byte()? {
            // undefined, null, false, true
            127 | 126 | 121 | 120 => None,
            125 => {
                reader.skip_signed()?;
                None
            }
            124 => {
                reader.take(4)?;
                None
            }
            123 | 122 => {
                reader.take(8)?;
                None
            }
            119 => {
                reader.text()?;
                None
            }
            // A key has a byte for its length, and a value one for its tag.
            118 => Some(Open::Object(reader.count(2)?)),
            117 => Some(Open::Array(reader.count(1)?)),
            116 => {
                binary(reader, limits)?;
                None
            }
            _ => return Err(begin.fault(FaultKind::Tag)),
        };
        if let Some(inner) = inner {
            if open.len() == DEPTH_MAX {
                return Err(begin.fault(FaultKind::TooMany(Limit::Depth)));
            }
            open.push(inner);
        }
        loop {
            match open.last_mut() {
                None => return Ok(()),
                Some(Open::Array(0) | Open::Object(0)) => {
                    open.pop();
                }
                Some(Open::Array(more)) => {
                    *more -= 1;
                    break;
                }
                Some(Open::Object(more)) => {
                    *more -= 1;
                    reader.text()?;
                    break;
                }
            }
        }
    }
}

/// Reads a binary value.
pub(crate) fn binary(reader: &mut Reader<'_>, limits: &ScanLimits) -> Result<(), Fault> {
    let begin = reader.clone();
    let bytes = reader.buffer()?;
    match bytes.len() as u64 <= limits.binary_bytes_max {
        true => Ok(()),
        false => Err(begin.fault(FaultKind::TooMany(Limit::BinaryBytes))),
    }
}
