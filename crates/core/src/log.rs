//! What the log says: the kinds of changes, and the net change of each row in a run of entries.
//!
//! The log names rows; the tables say what they are. A reader takes, at one snapshot, the entries that are
//! new to it, keeps the newest entry of each row, and reads the row with it. The row was put if it exists at
//! that snapshot, and deleted if it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use protocol::{MutationId, RowMetadata};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cursor::CommitId;

/// What happened to a row, or to a whole entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A row was created.
    Create,
    /// A row changed.
    Update,
    /// A row was deleted.
    Delete,
    /// All rows were deleted.
    Truncate,
    /// The table's schema changed: clients refetch this entity.
    SchemaChange,
    /// Rows changed that cannot be read at the moment: clients refetch this entity. Readers make this of the
    /// entries of such rows; it is not in the log.
    Unread,
    /// The row did not change, but sets that decide who sees it did. Readers make this of such rows; it is not in the
    /// log.
    Touched,
}

impl ChangeKind {
    const ALL: [Self; 7] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::SchemaChange,
        Self::Unread,
        Self::Touched,
    ];

    /// The kind's word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::SchemaChange => "schema_change",
            Self::Unread => "unread",
            Self::Touched => "touched",
        }
    }
}

/// The word is not a kind of change that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of change in the log: {0:?}")]
pub struct ChangeKindError(pub String);

impl FromStr for ChangeKind {
    type Err = ChangeKindError;

    fn from_str(word: &str) -> Result<Self, ChangeKindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| ChangeKindError(word.to_owned()))
    }
}

/// One entry of the log as a means to undo a change of one row.
#[derive(Debug, Clone)]
pub struct UndoRecord {
    /// The log's id.
    pub id: i64,
    /// The transaction; none where the log does not say.
    pub transaction: Option<u64>,
    /// What happened.
    pub kind: ChangeKind,
    /// The row's previous values, as a JSON object: for an update the columns that changed, for a delete all
    /// of them. Values of columns that no filter needs may be replaced.
    pub old: Option<Box<RawValue>>,
}

/// The entries of one row (or of one entity, for a truncate and a schema change) that are new to a reader,
/// folded into the newest of them, with the row as it is at the reader's snapshot.
#[derive(Debug, Clone)]
pub struct NetChange {
    /// The log's id of the newest entry.
    pub id: i64,
    /// What a position must contain to have seen it.
    pub commit_id: CommitId,
    /// The entity.
    pub entity: String,
    /// The row's canonical key; none for a truncate and a schema change.
    pub key: Option<String>,
    /// What the newest entry says.
    pub kind: ChangeKind,
    /// How often the row was created, according to its new entries.
    pub created: i64,
    /// How often it was deleted.
    pub deleted: i64,
    /// The id of the entity's newest truncate among the new entries.
    pub truncated_at: Option<i64>,
    /// The mutation that wrote the newest entry.
    pub mutation_id: Option<MutationId>,
    /// The row as it is; none when it does not exist.
    pub row: Option<Box<RawValue>>,
    /// What is known of the row beside its values; none when it was not read.
    pub metadata: Option<Box<RowMetadata>>,
    /// The row's new entries, newest first, without those before a truncate: a row that a truncate has in
    /// its past did not exist there. None when they were not requested, or are too large.
    pub undo: Option<Vec<UndoRecord>>,
}

/// The columns that changed, where all of a row's entries are updates of it; none where not, or where they cannot be read.
pub fn changed_columns(records: &[UndoRecord]) -> Option<BTreeSet<String>> {
    let mut changed = BTreeSet::new();
    for record in records {
        if record.kind != ChangeKind::Update {
            return None;
        }
        let old: BTreeMap<String, IgnoredAny> =
            serde_json::from_str(record.old.as_ref()?.get()).ok()?;
        changed.extend(old.into_keys());
    }
    Some(changed)
}

/// What a net change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The row with this key.
    Row(&'a str),
    /// All rows, which are gone.
    Truncate,
    /// The entity, which must be refetched.
    SchemaChange,
    /// Nothing any more: a later truncate removed the row.
    Nothing,
}

impl NetChange {
    /// What the change is about.
    pub fn subject(&self) -> Subject<'_> {
        if matches!(self.kind, ChangeKind::SchemaChange | ChangeKind::Unread) {
            return Subject::SchemaChange;
        }
        if self
            .truncated_at
            .is_some_and(|truncated| self.order() < truncated)
        {
            return Subject::Nothing;
        }
        self.key.as_deref().map_or(Subject::Truncate, Subject::Row)
    }

    /// Forgets whose mutation it was, unless it was this client's: that is told to the author alone.
    pub fn tell_origin_to(&mut self, author: Option<Uuid>) {
        let is_own = |origin: &MutationId| Some(origin.client_id) == author;
        self.mutation_id = self.mutation_id.filter(is_own);
    }

    /// Its place among the changes of a drain, in ids of the log. A row that exists though its newest entry comes
    /// before a truncate was written by a user's trigger, after the truncate and before the entry of it: it
    /// belongs behind that.
    pub fn order(&self) -> i64 {
        match (&self.row, self.truncated_at) {
            (Some(_), Some(truncated)) => self.id.max(truncated),
            _ => self.id,
        }
    }

    /// Whether the row was created and deleted since the reader's position. A row that existed before was
    /// deleted once more than it was created, in whatever order the log has the entries.
    pub fn is_transient(&self) -> bool {
        self.row.is_none() && self.created > 0 && self.created >= self.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_word_of_its_own() {
        for kind in ChangeKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("put".parse::<ChangeKind>().is_err());
    }
}
