//! What the log says, and how a run of its entries becomes changes.
//!
//! The log names rows; the tables say what they are. A reader takes, at one snapshot, the entries
//! that are new to it, keeps the newest entry of each row, and reads the row beside it. Whether the
//! row is there at that snapshot says whether it was put or deleted.

use std::str::FromStr;

use serde_json::value::RawValue;

use crate::cursor::Mark;
use crate::filter::RowError;
use crate::history::{States, Step};
use crate::protocol::{Change, Origin};
use crate::shape::{Outcome, ShapeReader, Verdict};

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
    /// How often the row's new entries say that it came.
    pub came: i64,
    /// How often they say that it went.
    pub went: i64,
    /// The id of the entity's newest truncate among the new entries.
    pub truncated_at: Option<i64>,
    /// Whose mutation made it.
    pub origin: Option<Origin>,
    /// The row as it is; none when it is not there.
    pub row: Option<Box<RawValue>>,
    /// The row's new entries, newest first, without those before a truncate. None where nobody asked
    /// for them, or where they are too large to be looked at.
    pub history: Option<Vec<Step>>,
}

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The row with this key.
    Row(&'a str),
    /// All rows: they are gone.
    Truncate,
    /// The entity: it must be taken anew.
    Reshape,
    /// A row that a later truncate has taken.
    Nothing,
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
    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        if self.action == Action::Reshape {
            return Subject::Reshape;
        }
        if self
            .truncated_at
            .is_some_and(|truncated| self.id < truncated)
        {
            return Subject::Nothing;
        }
        self.key.as_deref().map_or(Subject::Truncate, Subject::Row)
    }

    /// Whether its row came and went since the position of whoever reads: one that was there has gone
    /// once more than it has come, in whatever order the log has it.
    pub fn is_passing(&self) -> bool {
        self.row.is_none() && self.came > 0 && self.came >= self.went
    }

    /// What it means for somebody who wants all rows and has seen everything before the new entries.
    pub fn learn(self) -> Learned {
        let Some(key) = self.row_key() else {
            return self.learn_of_all();
        };
        let outcome = match self.row {
            Some(_) => Outcome::Put,
            None => Outcome::Delete,
        };
        let transient = self.is_passing();
        Learned::new(key, self.row, self.origin, Verdict { outcome, transient })
    }

    /// The same for a shape.
    ///
    /// # Errors
    /// When the row is not what the shape was made for.
    pub fn learn_of(&self, shape: &ShapeReader) -> Result<Learned, RowError> {
        let Some((part, reader)) = shape.part() else {
            return Ok(self.clone().learn());
        };
        let Some(key) = self.row_key() else {
            return Ok(self.learn_of_all());
        };
        let states = States::read(reader, self.row.as_deref(), self.history.as_deref())?;
        let Some(verdict) = part.verdict(&states) else {
            return Ok(Learned::Nothing);
        };
        let row = match (&self.row, verdict.outcome) {
            (Some(row), Outcome::Put) => Some(part.project(row)?.unwrap_or_else(|| row.clone())),
            _ => None,
        };
        Ok(Learned::new(key, row, self.origin, verdict))
    }

    fn row_key(&self) -> Option<String> {
        match self.subject() {
            Subject::Row(key) => Some(key.to_owned()),
            _ => None,
        }
    }

    /// What it means when it is not about one row.
    fn learn_of_all(&self) -> Learned {
        match self.subject() {
            Subject::Reshape => Learned::Reshaped,
            Subject::Truncate => Learned::Change {
                change: Change::Truncate,
                transient: false,
            },
            Subject::Nothing | Subject::Row(_) => Learned::Nothing,
        }
    }
}

impl Learned {
    fn new(
        key: String,
        row: Option<Box<RawValue>>,
        origin: Option<Origin>,
        Verdict { outcome, transient }: Verdict,
    ) -> Self {
        let change = match (outcome, row) {
            (Outcome::Put, Some(row)) => Change::Put { key, row, origin },
            (Outcome::Leave, _) => Change::Leave { key, origin },
            (Outcome::Put | Outcome::Delete, _) => Change::Delete { key, origin },
        };
        Self::Change { change, transient }
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
            came: i64::from(action == Action::Create),
            went: i64::from(action == Action::Delete),
            truncated_at: None,
            origin: None,
            row: row.map(|text| RawValue::from_string(text.to_owned()).expect("JSON")),
            history: None,
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
        passing.came = 1;
        assert!(matches!(
            passing.learn(),
            Learned::Change {
                transient: true,
                ..
            }
        ));
    }

    #[test]
    fn a_row_that_was_there_is_not_in_whatever_order_the_log_has_it() {
        let mut gone = entry(Action::Delete, None);
        (gone.came, gone.went) = (1, 2);
        assert!(matches!(
            gone.learn(),
            Learned::Change {
                transient: false,
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
