//! For tests: tables for subqueries to read, and their rows in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use value::schema::{Collation, Column, ColumnKind, Schema};

use super::sets::{RowSets, SetTable};
use super::{raw, test_table};
use crate::{Backend, Filter, InnerTable, Tables};

/// The tables that subqueries may read, by their entities.
#[derive(Debug, Clone)]
pub struct TestTables(pub BTreeMap<String, InnerTable>);

impl TestTables {
    /// The test table `t`, `members` and `lists`, all whole.
    pub fn whole(backend: Backend) -> Self {
        let schemas = [test_table(backend).schema, members(), lists()];
        let tables = schemas.map(|schema| {
            let table = InnerTable {
                fingerprint: format!("{} 1", schema.entity).into(),
                backend,
                visible: None,
                rows: Filter::everything(),
                partial: BTreeMap::new(),
                schema: Arc::new(schema),
            };
            (table.schema.entity.clone(), table)
        });
        Self(tables.into())
    }

    /// The table of an entity that exists.
    pub fn table(&mut self, entity: &str) -> &mut InnerTable {
        self.0.get_mut(entity).expect("a table")
    }

    /// Rows of these tables, each as JSON.
    pub fn rows(&self, rows: &[(&str, &[String])]) -> RowSets {
        let mut sets = RowSets::default();
        for (entity, rows) in rows {
            let rows: Vec<_> = rows.iter().map(|row| raw(row)).collect();
            let InnerTable {
                schema,
                fingerprint,
                backend,
                ..
            } = self.0[*entity].clone();
            let table = SetTable {
                schema,
                fingerprint,
                backend,
            };
            sets.add(&table, rows.iter().map(|row| &**row));
        }
        sets
    }
}

impl Tables for TestTables {
    fn find(&self, entity: &str) -> Option<InnerTable> {
        self.0.get(entity).cloned()
    }
}

fn members() -> Schema {
    let text = || ColumnKind::Text { chars_max: None };
    schema(
        "members",
        [
            ("id", ColumnKind::INT8),
            ("list_id", ColumnKind::INT4),
            ("user_id", text()),
            ("n", ColumnKind::INT4),
            ("secret", ColumnKind::INT4),
        ],
    )
}

fn lists() -> Schema {
    let text = || ColumnKind::Text { chars_max: None };
    schema(
        "lists",
        [
            ("id", ColumnKind::INT8),
            ("parent_id", ColumnKind::INT4),
            ("owner", text()),
            ("u", ColumnKind::Uuid),
        ],
    )
}

fn schema<const N: usize>(entity: &str, columns: [(&str, ColumnKind); N]) -> Schema {
    let column = |(name, kind): (&str, ColumnKind)| Column {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        nullable: true,
        has_default: false,
        generated: false,
        collation: Collation::Deterministic,
        logged: true,
    };
    Schema {
        entity: entity.to_owned(),
        columns: columns.into_iter().map(column).collect(),
        key: vec![0],
    }
}
