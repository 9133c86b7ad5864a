//! The writes of a mutation.

use serde_json::{Value, json};

pub(crate) fn create(entity: &str, values: Value) -> Value {
    json!({ "entity": entity, "op": "create", "values": values })
}

pub(crate) fn update(entity: &str, key: impl Into<Value>, values: Value) -> Value {
    json!({ "entity": entity, "op": "update", "key": key.into(), "values": values })
}

pub(crate) fn upsert(entity: &str, values: Value) -> Value {
    json!({ "entity": entity, "op": "upsert", "values": values })
}

pub(crate) fn delete(entity: &str, key: impl Into<Value>) -> Value {
    json!({ "entity": entity, "op": "delete", "key": key.into() })
}

/// A note of this id.
pub(crate) fn note(id: u64, body: &str) -> Value {
    create("notes", json!({ "id": id, "body": body }))
}
