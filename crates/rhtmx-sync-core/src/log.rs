//! What the log says, and how a run of its entries becomes changes.
//!
//! The log names rows; the tables say what they are. A reader takes, at one snapshot, the entries
//! that are new to it, keeps the newest entry of each row, and reads the row beside it. Whether the
//! row is there at that snapshot says whether it was put or deleted.

use std::str::FromStr;

use serde_json::value::RawValue;

use crate::cursor::Mark;
use crate::protocol::{Change, Origin};

/// What happened to a row, or to a whole entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A row came.
    Create,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// All rows went.
    Truncate,
    /// The table is not what it was: clients take this entity anew.
    Reshape,
}

impl Action {
    /// Its word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Reshape => "reshape",
        }
    }
}

/// Not an action that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an action of the log: {0:?}")]
pub struct ActionError(pub String);

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(word: &str) -> Result<Self, ActionError> {
        [
            Self::Create,
            Self::Update,
            Self::Delete,
            Self::Truncate,
            Self::Reshape,
        ]
        .into_iter()
        .find(|action| action.as_str() == word)
        .ok_or_else(|| ActionError(word.to_owned()))
    }
}

/// The newest entry of one row (or of one entity, for truncate and reshape) among the entries that
/// are new to a reader, with the row as it is at the reader's snapshot.
#[derive(Debug, Clone)]
pub struct NewestEntry {
    /// The log's id.
    pub id: i64,
    /// What a position must contain to have seen it.
    pub mark: Mark,
    /// The entity.
    pub entity: String,
    /// The row's canonical key; none for truncate and reshape.
    pub key: Option<String>,
    /// What this entry says.
    pub action: Action,
    /// What the row's first new entry says: a row that begins with a create was not there before.
    pub first_action: Action,
    /// The id of the entity's newest truncate among the new entries.
    pub truncated_at: Option<i64>,
    /// Whose mutation made it.
    pub origin: Option<Origin>,
    /// The row as it is; none when it is not there.
    pub row: Option<Box<RawValue>>,
}

/// What a reader learns from one newest entry.
#[derive(Debug, Clone)]
pub enum Learned {
    /// This, of one row or of all.
    Change {
        /// To be told.
        change: Change,
        /// The row came and went between the reader's position and its snapshot: only a reader who
        /// joined in between can know it.
        transient: bool,
    },
    /// The entity must be taken anew.
    Reshaped,
    /// Nothing: a later truncate has taken it all.
    Nothing,
}

impl NewestEntry {
    /// What it means for somebody who has seen everything before the new entries.
    pub fn learn(self) -> Learned {
        if self.action == Action::Reshape {
            return Learned::Reshaped;
        }
        if self
            .truncated_at
            .is_some_and(|truncated| self.id < truncated)
        {
            return Learned::Nothing;
        }
        let change = match (self.key, self.row) {
            (None, _) => {
                return Learned::Change {
                    change: Change::Truncate,
                    transient: false,
                };
            }
            (Some(key), Some(row)) => Change::Put {
                key,
                row,
                origin: self.origin,
            },
            (Some(key), None) => Change::Delete {
                key,
                origin: self.origin,
            },
        };
        let gone = matches!(change, Change::Delete { .. });
        Learned::Change {
            change,
            transient: gone && self.first_action == Action::Create,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: Action, row: Option<&str>) -> NewestEntry {
        NewestEntry {
            id: 5,
            mark: Mark::LogId(5),
            entity: "todos".to_owned(),
            key: Some("1".to_owned()),
            action,
            first_action: action,
            truncated_at: None,
            origin: None,
            row: row.map(|text| RawValue::from_string(text.to_owned()).expect("JSON")),
        }
    }

    #[test]
    fn the_row_decides() {
        let put = entry(Action::Delete, Some("{}")).learn();
        assert!(matches!(
            put,
            Learned::Change {
                change: Change::Put { .. },
                transient: false
            }
        ));
        let gone = entry(Action::Update, None).learn();
        assert!(matches!(
            gone,
            Learned::Change {
                change: Change::Delete { .. },
                transient: false
            }
        ));
    }

    #[test]
    fn a_row_that_came_and_went_is_transient() {
        let mut passing = entry(Action::Delete, None);
        passing.first_action = Action::Create;
        assert!(matches!(
            passing.learn(),
            Learned::Change {
                transient: true,
                ..
            }
        ));
    }

    #[test]
    fn a_truncate_swallows_what_came_before() {
        let mut before = entry(Action::Update, None);
        before.truncated_at = Some(6);
        assert!(matches!(before.learn(), Learned::Nothing));
        let mut after = entry(Action::Create, Some("{}"));
        after.truncated_at = Some(4);
        assert!(matches!(
            after.learn(),
            Learned::Change {
                change: Change::Put { .. },
                ..
            }
        ));
    }

    #[test]
    fn actions_have_one_word_each() {
        for action in [
            Action::Create,
            Action::Update,
            Action::Delete,
            Action::Truncate,
            Action::Reshape,
        ] {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert!("put".parse::<Action>().is_err());
    }
}
