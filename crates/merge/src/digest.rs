//! A digest of rows with their metadata: equal where two replicas hold the same, so that a change that one never received
//! is found by comparing and not by trust.

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
pub fn digest_above(key: &str, row: &Row, horizon: &Clock, rules: &Rules) -> Option<[u8; 32]> {
    let mut folded = row.clone();
    folded.fold(horizon);
    let mut metadata = folded.metadata();
    if metadata.may_be_forgotten(horizon, rules) {
        if !metadata.is_alive(rules) {
            return None;
        }
        metadata = Metadata::default();
    }
    metadata.settle(horizon);
    Some(digest_of([(key, &folded, metadata)]))
}

fn digest_of<'a>(rows: impl IntoIterator<Item = (&'a str, &'a Row, Metadata)>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut member = |bytes: &[u8]| {
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    for (key, row, metadata) in rows {
        member(key.as_bytes());
        let metadata = serde_json::to_value(metadata).unwrap_or_default();
        for value in [metadata, Value::Object(row.values())] {
            let mut text = String::new();
            write(&value, &mut text);
            member(text.as_bytes());
        }
    }
    hasher.finalize().into()
}

/// One text for each value: names in their order, whatever the map's own is.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write(value, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in members {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(value, text);
                text.push(',');
            }
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
}
