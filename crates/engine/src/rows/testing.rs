//! A table, shapes and changes of it, for tests.

use std::sync::Arc;

use filter::Backend;
use protocol::SelectionRequest;
use serde_json::value::RawValue;
use sync_core::cursor::CommitId;
use sync_core::log::{ChangeKind, NetChange, UndoRecord};
use sync_core::policy::ReadScope;
use sync_core::shape::{Catalog, CurrentTable, Others, Shape};
use value::schema::{Collation, Column, ColumnKind, Schema};

/// `todos(id, list_id, owner, done, title)`.
pub(super) fn todos(fingerprint: &str) -> CurrentTable {
    let columns = [
        ("id", ColumnKind::INT8),
        ("list_id", ColumnKind::INT8),
        ("owner", ColumnKind::INT8),
        ("done", ColumnKind::Bool),
        ("title", ColumnKind::Text { chars_max: None }),
    ];
    let columns = columns.into_iter().map(|(name, kind)| Column {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        nullable: true,
        has_default: false,
        generated: false,
        collation: Collation::Bytes,
        logged: true,
    });
    let schema = Schema {
        entity: "todos".to_owned(),
        columns: columns.collect(),
        key: vec![0],
    };
    CurrentTable {
        has_records: false,
        schema: Arc::new(schema),
        fingerprint: fingerprint.into(),
        backend: Backend::Postgres,
        fields: None,
    }
}

pub(super) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

pub(super) fn shape(filter: &str) -> Shape {
    let request = SelectionRequest {
        filter: Some(filter.to_owned()),
        ..SelectionRequest::default()
    };
    Shape::resolve(&todos("1"), &request, &ReadScope::Everything, Others::NONE).expect("a shape")
}

/// `todos`, and `members` with the same columns.
#[derive(Debug)]
struct Tables;

impl Catalog for Tables {
    fn table(&self, entity: &str) -> Option<CurrentTable> {
        let table = todos("1");
        let schema = Schema {
            entity: entity.to_owned(),
            ..(*table.schema).clone()
        };
        ["todos", "members"]
            .contains(&entity)
            .then(|| CurrentTable {
                has_records: false,
                schema: Arc::new(schema),
                ..table
            })
    }
}

/// The same, of a filter whose subqueries may read `members`.
pub(super) fn shape_among(filter: &str) -> Shape {
    let request = SelectionRequest {
        filter: Some(filter.to_owned()),
        ..SelectionRequest::default()
    };
    let others = Others {
        catalog: &Tables,
        scope_of: &|_| ReadScope::Everything,
    };
    Shape::resolve(&todos("1"), &request, &ReadScope::Everything, others).expect("a shape")
}

/// An update of a row to `row`, in which `old` was different.
pub(super) fn update(row: &str, old: &str) -> NetChange {
    NetChange {
        id: 5,
        commit_id: CommitId::LogId(5),
        entity: "todos".to_owned(),
        key: Some("1".to_owned()),
        kind: ChangeKind::Update,
        created: 0,
        deleted: 0,
        truncated_at: None,
        mutation_id: None,
        row: Some(raw(row)),
        metadata: None,
        undo: Some(vec![UndoRecord {
            id: 5,
            transaction: Some(5),
            kind: ChangeKind::Update,
            old: Some(raw(old)),
        }]),
    }
}
