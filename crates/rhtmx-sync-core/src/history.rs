//! What a changed row was, from the row as it is and what the log says was changed.
//!
//! Undoing a row's entries, newest first, from the row as it is gives each of the states that it
//! was in since a reader's position, and the row at that position at the end. From these a shape
//! tells who must hear of the row, and who must hear that it left.

#[cfg(test)]
pub(crate) mod properties;

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use crate::filter::{RowError, RowReader, RowValues};
use crate::log::Action;

/// One entry of the log about one row.
#[derive(Debug, Clone)]
pub struct Step {
    /// The log's id.
    pub id: i64,
    /// What it says.
    pub action: Action,
    /// What the row held before, as a JSON object: of an update the columns that changed, of a
    /// delete all. Values of columns that nobody asked for may be replaced.
    pub old: Option<Box<RawValue>>,
}

/// The states of one row between a reader's position and now.
#[derive(Debug, Clone)]
pub struct States {
    /// Newest first, so at least what it is now; none for a row that was not there.
    states: Vec<Option<RowValues>>,
    /// Whether the last of them is what it was at the reader's position.
    complete: bool,
    /// The columns that some step changed; none for all, as when the row came or went.
    changed: Option<BTreeSet<usize>>,
}

impl States {
    /// The states of a row that is `row` now and that these steps, newest first, made what it is.
    /// None for a history that is not known.
    ///
    /// # Errors
    /// When the row or what was changed is not a JSON object.
    pub fn read(
        reader: &RowReader,
        row: Option<&RawValue>,
        history: Option<&[Step]>,
    ) -> Result<Self, RowError> {
        let now = row.map(|row| reader.read(row)).transpose()?;
        let mut states = Self {
            states: vec![now],
            complete: history.is_some(),
            changed: history.map(|_| BTreeSet::new()),
        };
        for step in history.unwrap_or_default() {
            if !states.undo(reader, step)? {
                states.complete = false;
                states.changed = None;
                break;
            }
        }
        Ok(states)
    }

    /// Goes back by one step. False when it does not fit: entries are missing.
    fn undo(&mut self, reader: &RowReader, step: &Step) -> Result<bool, RowError> {
        let after = self.states.last().and_then(Option::as_ref);
        let before = match (step.action, &step.old, after) {
            (Action::Create, ..) => {
                self.changed = None;
                None
            }
            (Action::Delete, Some(old), _) => {
                self.changed = None;
                Some(reader.read(old)?)
            }
            (Action::Update, Some(old), Some(after)) => {
                let mut before = after.clone();
                let mut named = BTreeSet::new();
                reader.read_into(old, &mut before, &mut named)?;
                if let Some(changed) = &mut self.changed {
                    changed.append(&mut named);
                }
                Some(before)
            }
            _ => return Ok(false),
        };
        self.states.push(before);
        Ok(true)
    }

    /// What the row is now.
    pub fn now(&self) -> Option<&RowValues> {
        self.states[0].as_ref()
    }

    /// What it was at the reader's position, where that is known.
    pub(crate) fn before(&self) -> Option<Option<&RowValues>> {
        let oldest = self.states.last().expect("at least one");
        self.complete.then_some(oldest.as_ref())
    }

    /// What it was in between.
    pub(crate) fn between(&self) -> impl Iterator<Item = Option<&RowValues>> {
        let between = self.states.len().saturating_sub(1).max(1);
        self.states[1..between].iter().map(Option::as_ref)
    }

    /// Everything that it was and is, where it was there.
    pub fn all(&self) -> impl Iterator<Item = &RowValues> {
        self.states.iter().flatten()
    }

    /// Whether it is known what it was at the reader's position.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether some of these columns may have changed.
    pub(crate) fn touches(&self, columns: &BTreeSet<usize>) -> bool {
        self.changed
            .as_ref()
            .is_none_or(|changed| !changed.is_disjoint(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Backend;
    use crate::filter::tests::{raw, test_table};

    fn reader() -> RowReader {
        RowReader::new(test_table(Backend::Postgres).table(), [1, 2])
    }

    fn states(row: Option<&str>, steps: &[(Action, Option<&str>)]) -> States {
        let steps = steps.iter().map(|(action, old)| Step {
            id: 0,
            action: *action,
            old: old.map(raw),
        });
        let steps: Vec<Step> = steps.collect();
        let row = row.map(raw);
        States::read(&reader(), row.as_deref(), Some(&steps)).expect("rows")
    }

    fn read(row: &str) -> RowValues {
        reader().read(&raw(row)).expect("a row")
    }

    #[test]
    fn updates_are_taken_back_newest_first() {
        let now = r#"{"id":1,"n":3,"t":"c"}"#;
        let steps = [
            (Action::Update, Some(r#"{"n":2}"#)),
            (Action::Update, Some(r#"{"n":1,"t":null}"#)),
        ];
        let found = states(Some(now), &steps);
        assert_eq!(found.now(), Some(&read(now)));
        assert_eq!(
            found.between().collect::<Vec<_>>(),
            [Some(&read(r#"{"n":2,"t":"c"}"#))]
        );
        assert_eq!(found.before(), Some(Some(&read(r#"{"n":1,"t":null}"#))));
        assert!(found.touches(&BTreeSet::from([2])));
        assert!(!found.touches(&BTreeSet::from([0, 3])));
        let nothing = states(Some(now), &[]);
        assert_eq!(nothing.before(), Some(Some(&read(now))));
        assert_eq!(nothing.between().count(), 0);
    }

    #[test]
    fn rows_come_and_go() {
        let old = r#"{"id":1,"n":7,"t":"x"}"#;
        let gone = states(None, &[(Action::Delete, Some(old))]);
        assert_eq!((gone.now(), gone.before()), (None, Some(Some(&read(old)))));
        let passed = states(None, &[(Action::Delete, Some(old)), (Action::Create, None)]);
        assert_eq!(passed.before(), Some(None));
        assert_eq!(passed.between().collect::<Vec<_>>(), [Some(&read(old))]);
        let again = [
            (Action::Create, None),
            (Action::Delete, Some(old)),
            (Action::Update, Some(r#"{"n":6}"#)),
        ];
        let again = states(Some("{}"), &again);
        assert_eq!(again.before(), Some(Some(&read(r#"{"n":6,"t":"x"}"#))));
        assert!(again.touches(&BTreeSet::from([5])), "it is another row");
        // SQLite's `REPLACE` may be logged as a delete alone, of a row that stays.
        for steps in [[(Action::Create, None)], [(Action::Delete, Some(old))]] {
            assert!(states(Some("{}"), &steps).touches(&BTreeSet::from([5])));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_known() {
        for steps in [
            [(Action::Update, Some("{}"))],
            [(Action::Delete, None)],
            [(Action::Truncate, None)],
        ] {
            let broken = states(None, &steps);
            assert_eq!(broken.before(), None);
            assert!(broken.touches(&BTreeSet::new()));
        }
        let unknown = States::read(&reader(), Some(&raw("{}")), None).expect("a row");
        assert!(!unknown.is_complete());
        let unreadable = [Step {
            id: 0,
            action: Action::Update,
            old: Some(raw("[1]")),
        }];
        assert!(States::read(&reader(), Some(&raw("{}")), Some(&unreadable)).is_err());
    }
}
