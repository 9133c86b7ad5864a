//! Writes of rows.

use std::collections::BTreeMap;

use db::write::{TableScope, TableWrite};
use merge::Clock;
use protocol::{Op, Write};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sync_core::mutation;
use sync_core::mutation::fields::{Receipt, Stamp};
use sync_core::policy::WriteColumns;
use uuid::Uuid;

use super::{Crdt, CrdtError};
use crate::clock::now_ms;

/// A write of one row, for a batch. `values` is a JSON object of columns, or what serialises to one.
#[derive(Debug, Clone)]
pub struct RowWrite {
    entity: String,
    op: Op,
    key: Option<Value>,
    values: Result<BTreeMap<String, Box<RawValue>>, String>,
}

impl RowWrite {
    /// Inserts a row that is not there, or is deleted. The values have the whole key.
    pub fn insert(entity: impl Into<String>, values: impl Serialize) -> Self {
        Self {
            entity: entity.into(),
            op: Op::Create,
            key: None,
            values: columns(&values),
        }
    }

    /// Sets some columns of a row that is there. `key` is a text or a number, or an array for a key of several columns. Of a
    /// counter a value may be `{"add": 3}`, of a set `{"add": […], "remove": […]}`.
    pub fn update(
        entity: impl Into<String>,
        key: impl Into<Value>,
        values: impl Serialize,
    ) -> Self {
        Self {
            entity: entity.into(),
            op: Op::Update,
            key: Some(key.into()),
            values: columns(&values),
        }
    }

    /// Inserts a row, or sets these columns of the one that has its key.
    pub fn put(entity: impl Into<String>, values: impl Serialize) -> Self {
        Self {
            entity: entity.into(),
            op: Op::Upsert,
            key: None,
            values: columns(&values),
        }
    }

    /// Deletes a row that is there.
    pub fn delete(entity: impl Into<String>, key: impl Into<Value>) -> Self {
        Self {
            entity: entity.into(),
            op: Op::Delete,
            key: Some(key.into()),
            values: Ok(BTreeMap::new()),
        }
    }

    fn write(&self) -> Result<Write, CrdtError> {
        Ok(Write {
            entity: self.entity.clone(),
            op: self.op,
            key: self.key.clone(),
            values: self.values.clone().map_err(CrdtError::Values)?,
            hlc: None,
            born: None,
            seen: None,
            resolves: BTreeMap::new(),
        })
    }
}

fn columns(values: &impl Serialize) -> Result<BTreeMap<String, Box<RawValue>>, String> {
    let raw = to_raw_value(values).map_err(|error| error.to_string())?;
    serde_json::from_str(raw.get()).map_err(|error| error.to_string())
}

impl Crdt {
    /// The write as it is given to the database.
    pub(super) fn check(&self, row: &RowWrite, clock: &Clock) -> Result<TableWrite, CrdtError> {
        let state = self.state();
        let write = row.write()?;
        let table = self.entity(&write.entity)?;
        let not_fields = || CrdtError::NotFields(write.entity.clone());
        let rules = table.fields.clone().ok_or_else(not_fields)?;
        let mut receipt = Receipt::new(state.config.clock, now_ms(), Uuid::nil(), 0);
        let mut checked = mutation::check_fields(
            &write,
            table.schema.clone(),
            WriteColumns::ALL,
            &rules,
            &mut receipt,
        )
        .map_err(CrdtError::rejected)?;
        if checked.key.is_none() {
            return Err(CrdtError::NoKey(write.entity));
        }
        if let Some(fields) = &mut checked.fields {
            fields.stamp = Stamp::Own {
                clock: clock.clone(),
            };
            // No clock is this one, so the one that it gets is told.
            fields.said = Some(Clock::ground());
        }
        let scope = TableScope::default();
        let write = TableWrite::new(checked, table, scope, state.entities.all());
        write.ok_or_else(|| CrdtError::NoTable(row.entity.clone()))
    }
}
