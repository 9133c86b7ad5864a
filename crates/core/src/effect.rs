//! What a net change means for a reader, of all rows or of a shape.

use filter::{RowError, SetsAtBoth};
use protocol::{Change, MutationId, RowMetadata};
use serde_json::value::RawValue;

use crate::log::{ChangeKind, NetChange, Subject};
use crate::shape::{RowEffect, RowOp, Selection, ShapeReader};
use crate::undo::RowVersions;

/// What a reader receives for one net change.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all are changes")]
pub enum Effect {
    /// A change of one row or of all.
    Change {
        /// What to send.
        change: Change,
        /// Only a reader that joined between the position and the snapshot needs it, since the row changed
        /// and changed back in between.
        transient: bool,
    },
    /// The entity must be refetched.
    SchemaChanged,
    /// The row is not in the shape, and it is unknown whether it was: the reader must be refetched, because to
    /// name the row would tell its key to one that never had it. Only for a shape with a filter.
    Unclear,
    /// Nothing: the change does not concern the shape, or a later truncate removed the row.
    Nothing,
}

impl NetChange {
    /// The effect on a reader of all rows that has seen everything before the new entries.
    pub fn effect(self) -> Effect {
        let Some(key) = self.row_key() else {
            return self.effect_on_all_rows();
        };
        let op = match self.row {
            Some(_) => RowOp::Put,
            None => RowOp::Delete,
        };
        let transient = self.is_transient();
        Effect::of_row(key, self.row, self.mutation_id, RowEffect { op, transient })
    }

    /// The effect on a reader of a shape.
    ///
    /// # Errors
    /// When the row is not a JSON object.
    pub fn effect_on(&self, shape: &ShapeReader, sets: SetsAtBoth<'_>) -> Result<Effect, RowError> {
        let Some((selection, reader)) = shape.selection() else {
            return Ok(self.clone().effect());
        };
        let Some(key) = self.row_key() else {
            return Ok(self.effect_on_all_rows());
        };
        let versions = RowVersions::read(reader, self.row.as_deref(), self.undo.as_deref())?;
        let effect = match self.kind {
            ChangeKind::Touched => selection.effect_of_sets(&versions, sets),
            _ => selection.effect(&versions, sets),
        };
        let Some(effect) = effect else {
            return Ok(Effect::Nothing);
        };
        let has_no_past = !versions.has_past() && !selection.filter().is_everything();
        if !effect.op.is_here() && (has_no_past || selection.is_unclear(&versions, sets)) {
            return Ok(Effect::Unclear);
        }
        if selection.has_metadata() && effect.op != RowOp::Leave && self.row.is_some() {
            return self.effect_on_fields(selection, key, effect);
        }
        if effect.op == RowOp::Delete {
            let RowEffect { transient, .. } = effect;
            let change = selection.deletion_of(key, self.mutation_id, self.metadata.as_deref());
            return Ok(Effect::Change { change, transient });
        }
        let row = match (&self.row, effect.op) {
            (Some(row), RowOp::Put) => Some(selection.project(row)?.unwrap_or_else(|| row.clone())),
            _ => None,
        };
        Ok(Effect::of_row(key, row, self.mutation_id, effect))
    }

    /// The effect of a row that is put or patched for a reader of a shape with metadata.
    fn effect_on_fields(
        &self,
        selection: &Selection,
        key: String,
        RowEffect { op, transient }: RowEffect,
    ) -> Result<Effect, RowError> {
        let (Some(row), Some(metadata)) = (&self.row, &self.metadata) else {
            return Ok(Effect::Unclear);
        };
        let columns = selection.columns_of(row)?;
        let change = selection.change_of(
            (op, self.undo.as_deref()),
            (key, self.mutation_id),
            (row, metadata),
            columns.as_deref(),
        )?;
        Ok(Effect::Change { change, transient })
    }

    fn row_key(&self) -> Option<String> {
        match self.subject() {
            Subject::Row(key) => Some(key.to_owned()),
            _ => None,
        }
    }

    /// The effect of a change that is not about one row.
    fn effect_on_all_rows(&self) -> Effect {
        match self.subject() {
            Subject::SchemaChange => Effect::SchemaChanged,
            Subject::Truncate => Effect::Change {
                change: Change::Truncate,
                transient: false,
            },
            Subject::Nothing | Subject::Row(_) => Effect::Nothing,
        }
    }
}

impl Effect {
    fn of_row(
        key: String,
        row: Option<Box<RawValue>>,
        mutation_id: Option<MutationId>,
        RowEffect { op, transient }: RowEffect,
    ) -> Self {
        let change = match (op, row) {
            (RowOp::Put, Some(row)) => Change::Put {
                key,
                row,
                metadata: RowMetadata::default(),
                mutation_id,
            },
            (RowOp::Leave, _) => Change::Leave { key, mutation_id },
            (RowOp::Put | RowOp::Patch | RowOp::Delete, _) => Change::Delete {
                key,
                hlc: None,
                mutation_id,
            },
        };
        Self::Change { change, transient }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::CommitId;
    use crate::log::ChangeKind;

    fn net_change(kind: ChangeKind, row: Option<&str>) -> NetChange {
        NetChange {
            id: 5,
            commit_id: CommitId::LogId(5),
            entity: "todos".to_owned(),
            key: Some("1".to_owned()),
            kind,
            created: i64::from(kind == ChangeKind::Create),
            deleted: i64::from(kind == ChangeKind::Delete),
            truncated_at: None,
            mutation_id: None,
            row: row.map(|text| RawValue::from_string(text.to_owned()).expect("JSON")),
            metadata: None,
            undo: None,
        }
    }

    #[test]
    fn a_change_is_a_put_if_its_row_exists_and_otherwise_a_delete() {
        let put = net_change(ChangeKind::Delete, Some("{}")).effect();
        assert!(matches!(
            put,
            Effect::Change {
                change: Change::Put { .. },
                transient: false
            }
        ));
        let gone = net_change(ChangeKind::Update, None).effect();
        assert!(matches!(
            gone,
            Effect::Change {
                change: Change::Delete { .. },
                transient: false
            }
        ));
    }

    #[test]
    fn a_row_created_and_deleted_is_transient() {
        let mut change = net_change(ChangeKind::Delete, None);
        change.created = 1;
        assert!(matches!(
            change.effect(),
            Effect::Change {
                transient: true,
                ..
            }
        ));
    }

    #[test]
    fn an_existing_row_is_never_transient() {
        let mut gone = net_change(ChangeKind::Delete, None);
        (gone.created, gone.deleted) = (1, 2);
        assert!(matches!(
            gone.effect(),
            Effect::Change {
                transient: false,
                ..
            }
        ));
    }

    #[test]
    fn a_change_before_a_truncate_has_no_effect() {
        let mut before = net_change(ChangeKind::Update, None);
        before.truncated_at = Some(6);
        assert!(matches!(before.effect(), Effect::Nothing));
    }

    #[test]
    fn a_row_that_exists_after_a_truncate_is_put() {
        // A user's trigger on truncate may write rows before the truncate itself is logged.
        for truncated_at in [4, 6] {
            let mut after = net_change(ChangeKind::Create, Some("{}"));
            after.truncated_at = Some(truncated_at);
            assert!(matches!(
                after.effect(),
                Effect::Change {
                    change: Change::Put { .. },
                    ..
                }
            ));
        }
    }
}
