//! What PostgreSQL answered, and whether a row is visible by it.

use std::collections::{BTreeSet, HashSet};

use filter::{Membership, NoSets, RowReader, RowValues, Scalar, Table};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::plan::{Condition, Plan, PlannedPolicy, Question};

/// The answers to a plan's questions, for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// One for each question.
    Each(Vec<Answer>),
    /// The canonical keys of the rows that the role sees: some condition is per row, or a question failed.
    Visible(BTreeSet<String>),
    /// That could not be asked, either: nothing is visible.
    Denied,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Bit`].
    Bit(bool),
    /// To [`Question::Keys`].
    Keys(KeySet),
}

/// A set of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: HashSet<Box<[Scalar]>>,
    has_null: bool,
    is_empty: bool,
}

impl Answer {
    /// Reads the text that a question's statement returned; none when it is not an answer.
    pub fn read(question: &Question, text: &str, table: Table<'_>) -> Option<Self> {
        match question {
            Question::Bit(_) => Some(Self::Bit(text == "t")),
            Question::Keys { columns, .. } => KeySet::read(text, columns, table).map(Self::Keys),
        }
    }
}

impl KeySet {
    /// Reads a JSON array of arrays of texts, for these columns of a table.
    fn read(text: &str, columns: &[usize], table: Table<'_>) -> Option<Self> {
        let rows: Vec<Vec<Option<String>>> = serde_json::from_str(text).ok()?;
        if rows.len() > Question::KEYS_MAX {
            return None;
        }
        let readers = columns.iter().map(|column| {
            let name = Value::from(table.schema.columns[*column].name.as_str());
            (*column, name.to_string(), RowReader::new(table, [*column]))
        });
        let readers: Vec<(usize, String, RowReader)> = readers.collect();
        let mut set = Self {
            is_empty: rows.is_empty(),
            ..Self::default()
        };
        for row in rows {
            if row.len() != columns.len() {
                return None;
            }
            let mut key = Vec::with_capacity(columns.len());
            for (value, (column, name, reader)) in row.into_iter().zip(&readers) {
                let Some(value) = value else { continue };
                let row = format!("{{{name}:{}}}", Value::from(value));
                let row = reader.read(&RawValue::from_string(row).ok()?).ok()?;
                key.push(row.scalar(*column)?.clone());
            }
            if key.len() == columns.len() {
                set.keys.insert(key.into());
            } else {
                set.has_null = true;
            }
        }
        Some(set)
    }

    /// The keys, without those with a null.
    pub fn keys(&self) -> impl Iterator<Item = &[Scalar]> {
        self.keys.iter().map(|key| &**key)
    }

    /// Whether in some key a value is null.
    pub fn has_null(&self) -> bool {
        self.has_null
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the values in these columns of a row are in it; none is SQL's unknown.
    fn contains(&self, row: &RowValues, columns: &[usize], membership: Membership) -> Option<bool> {
        let key: Option<Vec<Scalar>> = columns
            .iter()
            .map(|column| row.scalar(*column).cloned())
            .collect();
        let found = key.as_ref().is_some_and(|key| self.keys.contains(&key[..]));
        match membership {
            Membership::Exists => Some(found),
            Membership::In if found => Some(true),
            Membership::In if self.is_empty => Some(false),
            Membership::In if key.is_none() || self.has_null => None,
            Membership::In => Some(false),
        }
    }
}

impl Plan {
    /// The columns that have to be read of a row, by position in the schema.
    pub fn columns(&self) -> BTreeSet<usize> {
        let columns = self.conditions().flat_map(|condition| match condition {
            Condition::Row(filter) => filter.columns().collect(),
            Condition::Key { columns, .. } => columns.clone(),
            Condition::Session(_) | Condition::PerRow(_) => Vec::new(),
        });
        columns.collect()
    }

    /// Whether a group sees a row: its values, read with [`Plan::columns`], and its canonical key.
    pub fn is_visible(&self, row: &RowValues, key: &str, answers: &Answers) -> bool {
        let answers = match answers {
            Answers::Denied => return false,
            Answers::Visible(keys) => return keys.contains(key),
            Answers::Each(answers) => answers,
        };
        let allows = |policy: &PlannedPolicy| {
            let is_true = |condition: &Condition| condition.is_true(row, answers);
            policy.terms.iter().any(|term| term.iter().all(is_true))
        };
        let (mut permissive, mut restrictive) = (
            self.policies.iter().filter(|policy| policy.permissive),
            self.policies.iter().filter(|policy| !policy.permissive),
        );
        permissive.any(allows) && restrictive.all(allows)
    }
}

impl Condition {
    fn is_true(&self, row: &RowValues, answers: &[Answer]) -> bool {
        match self {
            Self::Row(filter) => filter.matches(row, &NoSets) == Some(true),
            Self::Session(question) => answers.get(*question) == Some(&Answer::Bit(true)),
            Self::Key {
                columns,
                question,
                membership,
                negated,
            } => match answers.get(*question) {
                Some(Answer::Keys(keys)) => {
                    keys.contains(row, columns, *membership) == Some(!negated)
                }
                _ => false,
            },
            Self::PerRow(_) => false,
        }
    }
}
