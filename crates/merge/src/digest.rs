//! A digest of rows with their metadata: equal where two replicas hold the same, so that a change that one never received
//! is found by comparing and not by trust.

use std::borrow::Cow;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::metadata::Metadata;
use crate::row::Row;
use crate::rules::Rules;

/// The SHA-256 of rows with their metadata, in the order of their keys.
pub fn digest<'a>(rows: impl IntoIterator<Item = (&'a str, &'a Row)>) -> [u8; 32] {
    digest_of(
        rows.into_iter()
            .map(|(key, row)| (key, row, row.metadata())),
    )
}

/// The same of a row as everybody may have folded it who has everything up to the horizon; none of one that may be forgotten.
/// So it is the same whether one has folded and the other has not.
pub fn digest_above(key: &str, mut row: Row, horizon: &Clock, rules: &Rules) -> Option<[u8; 32]> {
    row.fold(horizon);
    let mut metadata = row.metadata();
    if metadata.may_be_forgotten(horizon, rules) {
        if !metadata.is_alive(rules) {
            return None;
        }
        metadata = Metadata::default();
    }
    metadata.settle(horizon);
    Some(digest_of([(key, &row, metadata)]))
}

fn digest_of<'a>(rows: impl IntoIterator<Item = (&'a str, &'a Row, Metadata)>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut member = |bytes: &[u8]| {
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    let mut text = Vec::new();
    for (key, row, metadata) in rows {
        member(key.as_bytes());
        text.clear();
        match metadata == Metadata::default() {
            true => text.extend_from_slice(b"{}"),
            false => write(
                &serde_json::to_value(metadata).unwrap_or_default(),
                &mut text,
            ),
        }
        member(&text);
        text.clear();
        write_members(row.shown_cells(), &mut text);
        member(&text);
    }
    hasher.finalize().into()
}

/// One text for each value: names in their order, whatever the map's own is.
fn write(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Array(values) => {
            text.push(b'[');
            for value in values {
                write(value, text);
                text.push(b',');
            }
            text.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members = members.into_iter();
            write_members(
                members.map(|(name, value)| (name, Cow::Borrowed(value))),
                text,
            );
        }
        other => write_plain(other, text),
    }
}

fn write_members<'a>(
    members: impl Iterator<Item = (&'a String, Cow<'a, Value>)>,
    text: &mut Vec<u8>,
) {
    text.push(b'{');
    for (name, value) in members {
        write_plain(name, text);
        text.push(b':');
        write(&value, text);
        text.push(b',');
    }
    text.push(b'}');
}

fn write_plain(value: &(impl serde::Serialize + ?Sized), text: &mut Vec<u8>) {
    // Neither a text nor a number can fail to be written to memory.
    let _ = serde_json::to_writer(text, value);
}
