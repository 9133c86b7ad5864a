//! What items hold.

use crate::any;
use crate::json;
use crate::limits::ScanLimits;
use crate::reader::{Fault, FaultKind, Reader};

/// What an item's content says of it.
pub(crate) struct Content {
    /// By how much it advances the clock.
    pub(crate) length: u64,
    /// Whether it is a document within the document.
    pub(crate) is_document: bool,
    /// Whether every library can read it.
    pub(crate) is_mergeable: bool,
}

/// Reads the content with this number.
pub(crate) fn scan(
    reader: &mut Reader<'_>,
    number: u8,
    limits: &ScanLimits,
) -> Result<Content, Fault> {
    let begin = reader.clone();
    let (mut is_document, mut is_mergeable) = (false, true);
    let length = match number {
        // Deleted
        1 => reader.number()?,
        // JSON, as old documents have it
        2 => {
            let count = reader.count(1)?;
            for _ in 0..count {
                let at = reader.clone();
                let text = reader.text()?;
                if text != "undefined" {
                    is_mergeable &= json::check(text).map_err(|kind| at.fault(kind))?;
                }
            }
            count
        }
        // Binary
        3 => {
            any::binary(reader, limits)?;
            1
        }
        // String
        4 => {
            let text = reader.text()?;
            text.chars().map(|char| char.len_utf16() as u64).sum()
        }
        // Embed
        5 => {
            is_mergeable = json_text(reader)?;
            1
        }
        // Format
        6 => {
            reader.text()?;
            is_mergeable = json_text(reader)?;
            1
        }
        // Type
        7 => {
            let at = reader.clone();
            // yrs reads a byte where Yjs reads a number, which it writes in one.
            match reader.byte()? {
                // Array, map, text, XML fragment, XML text
                0 | 1 | 2 | 4 | 6 => {}
                // XML element
                3 => {
                    reader.text()?;
                }
                // XML hook: yrs does not read its name, and takes what follows for something else.
                5 => {
                    reader.text()?;
                    is_mergeable = false;
                }
                _ => return Err(at.fault(FaultKind::Tag)),
            }
            1
        }
        // Any
        8 => {
            let count = reader.count(1)?;
            for _ in 0..count {
                any::skip(reader, limits)?;
            }
            count
        }
        // Document
        9 => {
            reader.text()?;
            any::skip(reader, limits)?;
            is_document = true;
            1
        }
        _ => return Err(begin.fault(FaultKind::Tag)),
    };
    match length {
        0 => Err(begin.fault(FaultKind::Empty)),
        _ => Ok(Content {
            length,
            is_document,
            is_mergeable,
        }),
    }
}

fn json_text(reader: &mut Reader<'_>) -> Result<bool, Fault> {
    let at = reader.clone();
    let text = reader.text()?;
    json::check(text).map_err(|kind| at.fault(kind))
}
