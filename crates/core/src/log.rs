//! What the log says: the kinds of changes, and the net change of each row among a run of entries.
//!
//! The log names rows; the tables say what they are. A reader takes, at one snapshot, the entries that are
//! new to it, keeps the newest entry of each row, and reads the row beside it. Whether the row exists at
//! that snapshot says whether it was put or deleted.

use std::str::FromStr;

use protocol::MutationId;
use serde_json::value::RawValue;

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
}

impl ChangeKind {
    /// Every kind.
    const ALL: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::SchemaChange,
    ];

    /// Its word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::SchemaChange => "schema_change",
        }
    }
}

/// Not a kind of change that this version knows.
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

/// One entry of the log about one row, with what undoes it.
#[derive(Debug, Clone)]
pub struct UndoRecord {
    /// The log's id.
    pub id: i64,
    /// The transaction; none where the log does not say.
    pub transaction: Option<u64>,
    /// What it says.
    pub kind: ChangeKind,
    /// What the row held before, as a JSON object: of an update the columns that changed, of a delete all
    /// of them. Values of columns that nobody asked for may be replaced.
    pub old: Option<Box<RawValue>>,
}

/// The newest entry of one row (or of one entity, for a truncate and a schema change) among the entries
/// that are new to a reader, with the row as it is at the reader's snapshot.
#[derive(Debug, Clone)]
pub struct NetChange {
    /// The log's id.
    pub id: i64,
    /// What a position must contain to have seen it.
    pub commit_id: CommitId,
    /// The entity.
    pub entity: String,
    /// The row's canonical key; none for a truncate and a schema change.
    pub key: Option<String>,
    /// What the entry says.
    pub kind: ChangeKind,
    /// How often the row's new entries say that it was created.
    pub created: i64,
    /// How often they say that it was deleted.
    pub deleted: i64,
    /// The id of the entity's newest truncate among the new entries.
    pub truncated_at: Option<i64>,
    /// The mutation that made it.
    pub mutation_id: Option<MutationId>,
    /// The row as it is; none when it does not exist.
    pub row: Option<Box<RawValue>>,
    /// The row's new entries, newest first, without those before a truncate. None where nobody asked for
    /// them, or where they are too large to be looked at.
    pub undo: Option<Vec<UndoRecord>>,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The row with this key.
    Row(&'a str),
    /// All rows: they are gone.
    Truncate,
    /// The entity: it must be refetched.
    SchemaChange,
    /// A row that a later truncate removed.
    Nothing,
}

impl NetChange {
    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        if self.kind == ChangeKind::SchemaChange {
            return Subject::SchemaChange;
        }
        if self
            .truncated_at
            .is_some_and(|truncated| self.id < truncated)
        {
            return Subject::Nothing;
        }
        self.key.as_deref().map_or(Subject::Truncate, Subject::Row)
    }

    /// Whether its row was created and deleted since the reader's position. A row that existed before was
    /// deleted once more than it was created, in whatever order the log has it.
    pub fn is_transient(&self) -> bool {
        self.row.is_none() && self.created > 0 && self.created >= self.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_word_each() {
        for kind in ChangeKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("put".parse::<ChangeKind>().is_err());
    }
}
