//! Shapes whose readers are sent what is known of the rows beside their values, because rows merge by their fields.

use std::collections::BTreeSet;
use std::sync::Arc;

use filter::RowError;
use merge::Rules;
use protocol::{
    Change, MODE_FIELDS, MODE_RECORDS, MODE_ROWS, MutationId, RowMetadata, SelectionRequest,
};
use serde_json::value::RawValue;

use super::{CurrentTable, ResolveError, RowOp, Selection, Shape};
use crate::log::{UndoRecord, changed_columns};
use crate::metadata;
use crate::undo::RowVersions;

/// What is sent of a row's metadata.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    /// How the rows merge.
    rules: Arc<Rules>,
    /// Whether rows are sent whole, each with a clock that is later with each change of it.
    as_records: bool,
}

/// What is to be sent of the rows' metadata, if it is asked for.
pub(super) fn requested(
    table: &CurrentTable,
    request: &SelectionRequest,
) -> Result<Option<Fields>, ResolveError> {
    let refused = |message| Err(ResolveError::Mode(message));
    let as_records = match request.mode.as_deref() {
        None | Some(MODE_ROWS) => return Ok(None),
        Some(MODE_FIELDS) => false,
        Some(MODE_RECORDS) if table.has_records => true,
        Some(_) => return refused("`mode` is `rows` or `fields`"),
    };
    match &table.fields {
        Some(rules) => Ok(Some(Fields {
            rules: rules.clone(),
            as_records,
        })),
        None => refused("the rows of this entity do not merge by their fields"),
    }
}

/// Makes a request one for metadata, where nothing else can be asked for.
///
/// # Errors
/// When it asks for something else.
pub fn of_fields_alone(request: &mut SelectionRequest) -> Result<(), ResolveError> {
    let mode = request.mode.get_or_insert_with(|| MODE_FIELDS.to_owned());
    match mode.as_str() {
        MODE_FIELDS => Ok(()),
        _ => Err(ResolveError::Mode("here, `mode` is `fields`")),
    }
}

impl Shape {
    /// Whether its readers are sent what is known of the rows beside their values.
    pub fn has_metadata(&self) -> bool {
        self.selection().is_some_and(Selection::has_metadata)
    }
}

impl Selection {
    /// Whether its readers are sent what is known of the rows beside their values.
    pub fn has_metadata(&self) -> bool {
        self.fields.is_some()
    }

    /// How the rows merge, as far as its columns go; none where metadata is not sent.
    pub fn rules(&self) -> Option<Rules> {
        let mut rules = Rules::clone(&self.fields.as_ref()?.rules);
        if let Some(names) = self.column_names() {
            rules
                .columns
                .retain(|name, _| names.contains(&name.as_str()));
        }
        Some(rules)
    }

    /// Whether its readers are sent whole rows, each with a clock that is later with each change of it.
    pub fn sends_records(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.as_records)
    }

    /// What is told of a row's metadata to those who are sent these columns of the row; none for all.
    pub fn metadata_of(
        &self,
        metadata: &RowMetadata,
        columns: Option<&BTreeSet<usize>>,
    ) -> RowMetadata {
        let all = self.schema.columns.len();
        let is_whole = columns.is_none_or(|columns| columns.len() == all);
        // What is kept of a column that has been dropped since concerns nobody.
        let told = metadata::of_columns(metadata, |name| self.is_sent(name, columns), is_whole);
        RowMetadata {
            newest: metadata.newest.clone().filter(|_| self.sends_records()),
            ..told
        }
    }

    /// What the readers are sent of a changed row that they may see: these columns of it, none for all, and its metadata. A
    /// patch where `op` says so and the row's entries, `undo`, tell what changed.
    ///
    /// # Errors
    /// When the row is not a JSON object.
    pub fn change_of(
        &self,
        (op, undo): (RowOp, Option<&[UndoRecord]>),
        (key, mutation_id): (String, Option<MutationId>),
        (row, metadata): (&RawValue, &RowMetadata),
        columns: Option<&BTreeSet<usize>>,
    ) -> Result<Change, RowError> {
        let metadata = self.metadata_of(metadata, columns);
        let changed = match op {
            RowOp::Patch => undo.and_then(changed_columns),
            _ => None,
        };
        if let Some(changed) = changed {
            return Ok(Change::Patch {
                key,
                values: self.patch(row, columns, &changed)?,
                metadata,
                mutation_id,
            });
        }
        let row = match columns {
            Some(columns) => self.project_to(row, columns)?,
            None => row.to_owned(),
        };
        Ok(Change::Put {
            key,
            row,
            metadata,
            mutation_id,
        })
    }

    /// What the readers are sent of a row that is gone, with what is known of it.
    pub fn deletion_of(
        &self,
        key: String,
        mutation_id: Option<MutationId>,
        metadata: Option<&RowMetadata>,
    ) -> Change {
        let hlc = metadata.and_then(|known| known.newest.clone());
        Change::Delete {
            key,
            hlc: hlc.filter(|_| self.sends_records()),
            mutation_id,
        }
    }

    /// The values of a patch for those who are sent these columns of the row, of which some have `changed`.
    fn patch(
        &self,
        row: &RawValue,
        columns: Option<&BTreeSet<usize>>,
        changed: &BTreeSet<String>,
    ) -> Result<Box<RawValue>, RowError> {
        filter::project(row, |name| {
            let position = self.position(name);
            // A column that is not in the log may have changed.
            let unlogged = || position.is_some_and(|it| !self.schema.columns[it].logged);
            self.is_sent(name, columns) && (changed.contains(name) || unlogged())
        })
    }

    /// Whether those who have the row can be sent what has changed in it, and no more.
    pub(super) fn may_patch(&self, versions: &RowVersions) -> bool {
        // Which columns are sent of the row may have changed with it.
        let named: BTreeSet<usize> = self
            .partial
            .iter()
            .flat_map(|partial| partial.named())
            .collect();
        self.has_metadata()
            && !self.sends_records()
            && versions.only_updates()
            && !versions.touches(&named)
    }

    /// Whether an update that changed no column is sent: metadata may have changed. It may be that of a column that the
    /// reader may not see, whose changes nobody tells it.
    pub(super) fn shows_bare_updates(&self) -> bool {
        self.has_metadata() && !self.is_guarded
    }

    fn is_sent(&self, name: &str, columns: Option<&BTreeSet<usize>>) -> bool {
        let position = self.position(name);
        position.is_some_and(|it| columns.is_none_or(|columns| columns.contains(&it)))
    }

    fn position(&self, name: &str) -> Option<usize> {
        let mut columns = self.schema.columns.iter();
        columns.position(|column| column.name == name)
    }
}
