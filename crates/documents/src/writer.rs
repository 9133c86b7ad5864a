//! Writes lib0's encoding.

use crate::awareness::AwarenessEntry;

pub(crate) fn number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

pub(crate) fn buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An awareness update with these entries.
pub fn awareness_update<'a>(entries: impl IntoIterator<Item = AwarenessEntry<'a>>) -> Vec<u8> {
    let (mut count, mut body) = (0, Vec::new());
    for entry in entries {
        count += 1;
        number(&mut body, entry.client);
        number(&mut body, entry.clock);
        buffer(&mut body, entry.state.unwrap_or("null").as_bytes());
    }
    let mut update = Vec::with_capacity(body.len() + 2);
    number(&mut update, count);
    update.append(&mut body);
    update
}

/// A state vector, in the order of its clients, so that equal ones have equal bytes.
pub fn state_vector(clocks: &std::collections::BTreeMap<u64, u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    number(&mut bytes, clocks.len() as u64);
    for (client, clock) in clocks {
        number(&mut bytes, *client);
        number(&mut bytes, *clock);
    }
    bytes
}
