//! What a changed row was, from the row as it is and what the log says was changed.
//!
//! Undoing a row's entries, newest first, from the row as it is gives each of the states that it
//! was in since a reader's position, and the row at that position at the end. From these a shape
//! tells who must hear of the row, and who must hear that it left.
//!
//! The log of one row is in the order of the commits, but within a transaction it need not be in
//! the order of the changes: a user's trigger that writes the row again may be logged before the
//! statement that fired it, and with a deferred key two rows may have one key for a while. On SQLite
//! nobody can tell what one transaction was. Steps whose order matters and may be another are
//! *scattered*: then it is only known which values the row held, not which of them together.

#[cfg(test)]
pub(crate) mod properties;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use crate::filter::{RowError, RowReader, RowValues};
use crate::log::Action;

/// One entry of the log about one row.
#[derive(Debug, Clone)]
pub struct Step {
    /// The log's id.
    pub id: i64,
    /// The transaction; none where the log does not say.
    pub transaction: Option<u64>,
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
    past: Past,
    /// The columns that some step changed; none for all, as when the row came or went.
    changed: Option<BTreeSet<usize>>,
}

/// What is known of a row's past.
#[derive(Debug, Clone)]
enum Past {
    /// Each of its states; the last of them is what it was at the reader's position.
    Exact,
    /// The values that it held, some columns at a time.
    Scattered(Vec<RowValues>),
    /// Nothing.
    Unknown,
}

/// What a row was at the reader's position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before<'a> {
    /// This; none for a row that was not there.
    Row(Option<&'a RowValues>),
    /// Any combination of these values, or it was not there.
    AnyOf(&'a [RowValues]),
    /// Anything.
    Unknown,
}

/// What undoing one step says.
enum Undone {
    Fits,
    /// Another order may be the right one.
    OutOfOrder,
    /// Entries are missing.
    Broken,
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
            past: Past::Exact,
            changed: Some(BTreeSet::new()),
        };
        let Some(history) = history else {
            states.forget();
            return Ok(states);
        };
        let mut walk = Walk::default();
        for step in history {
            match states.undo(reader, step, &mut walk)? {
                Undone::Fits => {}
                Undone::OutOfOrder => {
                    states.scatter(reader, history)?;
                    break;
                }
                Undone::Broken => {
                    states.forget();
                    break;
                }
            }
        }
        Ok(states)
    }

    /// Nothing is known of its past.
    fn forget(&mut self) {
        self.states.truncate(1);
        self.past = Past::Unknown;
        self.changed = None;
    }

    /// Goes back by one step.
    fn undo(
        &mut self,
        reader: &RowReader,
        step: &Step,
        walk: &mut Walk,
    ) -> Result<Undone, RowError> {
        let after = self.states.last().and_then(Option::as_ref);
        let before = match (step.action, &step.old, after) {
            (Action::Create, _, Some(_)) => {
                *walk = Walk::before_create(step);
                self.changed = None;
                None
            }
            (Action::Delete, Some(old), None) => {
                *walk = Walk::default();
                self.changed = None;
                Some(reader.read(old)?)
            }
            (Action::Create, _, None) | (Action::Delete, Some(_), Some(_)) => {
                return Ok(Undone::OutOfOrder);
            }
            (Action::Update, Some(old), Some(after)) => {
                let mut before = after.clone();
                let mut named = BTreeSet::new();
                reader.read_into(old, &mut before, &mut named)?;
                if !walk.takes(step, &named) {
                    return Ok(Undone::OutOfOrder);
                }
                if let Some(changed) = &mut self.changed {
                    changed.append(&mut named);
                }
                Some(before)
            }
            // The row's own creation is logged behind what a trigger of the user's did to it.
            (Action::Update, Some(_), None) if walk.is_created_with(step) => {
                return Ok(Undone::Fits);
            }
            _ => return Ok(Undone::Broken),
        };
        self.states.push(before);
        Ok(Undone::Fits)
    }

    /// Keeps only which values the row held.
    fn scatter(&mut self, reader: &RowReader, history: &[Step]) -> Result<(), RowError> {
        self.forget();
        let mut values: Vec<RowValues> = self.states.iter().flatten().cloned().collect();
        for step in history {
            match (&step.old, step.action) {
                (Some(old), Action::Delete) => values.push(reader.read(old)?),
                (Some(old), Action::Update) => values.push(reader.read_some(old)?),
                (None, Action::Create) => {}
                _ => return Ok(()),
            }
        }
        self.past = Past::Scattered(values);
        Ok(())
    }

    /// What the row is now.
    pub fn now(&self) -> Option<&RowValues> {
        self.states[0].as_ref()
    }

    /// What it was at the reader's position.
    pub(crate) fn before(&self) -> Before<'_> {
        match &self.past {
            Past::Exact => Before::Row(self.states.last().and_then(Option::as_ref)),
            Past::Scattered(values) => Before::AnyOf(values),
            Past::Unknown => Before::Unknown,
        }
    }

    #[cfg(test)]
    pub(crate) fn exactly_before(&self) -> Option<Option<&RowValues>> {
        match self.before() {
            Before::Row(row) => Some(row),
            Before::AnyOf(_) | Before::Unknown => None,
        }
    }

    /// What it was in between, where that is known.
    pub(crate) fn between(&self) -> impl Iterator<Item = Option<&RowValues>> {
        let between = self.states.len().saturating_sub(1).max(1);
        self.states[1..between].iter().map(Option::as_ref)
    }

    /// What it held: every value of every column is in here, where its past is known.
    pub fn all(&self) -> impl Iterator<Item = &RowValues> {
        let scattered = match &self.past {
            Past::Scattered(values) => values.as_slice(),
            Past::Exact | Past::Unknown => &[],
        };
        self.states.iter().flatten().chain(scattered)
    }

    /// Whether it is known which values it held.
    pub fn has_past(&self) -> bool {
        !matches!(self.past, Past::Unknown)
    }

    /// Whether some of these columns may have changed.
    pub(crate) fn touches(&self, columns: &BTreeSet<usize>) -> bool {
        self.changed
            .as_ref()
            .is_none_or(|changed| !changed.is_disjoint(columns))
    }
}

/// What has been met on the way back.
#[derive(Debug, Default)]
struct Walk {
    /// The columns that newer updates named, with the transaction of the oldest of those.
    named: BTreeMap<usize, Option<u64>>,
    /// The transaction of the creation that was undone last.
    created: Option<Option<u64>>,
}

impl Walk {
    fn before_create(step: &Step) -> Self {
        Self {
            created: Some(step.transaction),
            ..Self::default()
        }
    }

    /// Notes what an update named. False when a newer one of the same transaction named it too: which
    /// of the two came first is not known.
    fn takes(&mut self, step: &Step, named: &BTreeSet<usize>) -> bool {
        named.iter().all(|&column| {
            let newer = self.named.insert(column, step.transaction);
            newer.is_none_or(|newer| !may_be_one(newer, step.transaction))
        })
    }

    fn is_created_with(&self, step: &Step) -> bool {
        self.created
            .is_some_and(|created| may_be_one(created, step.transaction))
    }
}

/// Whether two steps may be of one transaction.
fn may_be_one(one: Option<u64>, other: Option<u64>) -> bool {
    one.is_none() || other.is_none() || one == other
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
        of_transactions(
            row,
            steps
                .iter()
                .zip(1..)
                .map(|(step, number)| (Some(number), *step)),
        )
    }

    fn of_transactions<'a>(
        row: Option<&str>,
        steps: impl IntoIterator<Item = (Option<u64>, (Action, Option<&'a str>))>,
    ) -> States {
        let steps = steps.into_iter().map(|(transaction, (action, old))| Step {
            id: 0,
            transaction,
            action,
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
        assert_eq!(
            found.exactly_before(),
            Some(Some(&read(r#"{"n":1,"t":null}"#)))
        );
        assert!(found.touches(&BTreeSet::from([2])));
        assert!(!found.touches(&BTreeSet::from([0, 3])));
        let nothing = states(Some(now), &[]);
        assert_eq!(nothing.exactly_before(), Some(Some(&read(now))));
        assert_eq!(nothing.between().count(), 0);
    }

    #[test]
    fn rows_come_and_go() {
        let old = r#"{"id":1,"n":7,"t":"x"}"#;
        let gone = states(None, &[(Action::Delete, Some(old))]);
        assert_eq!(
            (gone.now(), gone.exactly_before()),
            (None, Some(Some(&read(old))))
        );
        let passed = states(None, &[(Action::Delete, Some(old)), (Action::Create, None)]);
        assert_eq!(passed.exactly_before(), Some(None));
        assert_eq!(passed.between().collect::<Vec<_>>(), [Some(&read(old))]);
        let again = [
            (Action::Create, None),
            (Action::Delete, Some(old)),
            (Action::Update, Some(r#"{"n":6}"#)),
        ];
        let again = states(Some("{}"), &again);
        assert_eq!(
            again.exactly_before(),
            Some(Some(&read(r#"{"n":6,"t":"x"}"#)))
        );
        assert!(again.touches(&BTreeSet::from([5])), "it is another row");
        // SQLite's `REPLACE` may be logged as a delete alone, of a row that stays.
        for steps in [[(Action::Create, None)], [(Action::Delete, Some(old))]] {
            assert!(states(Some("{}"), &steps).touches(&BTreeSet::from([5])));
        }
    }

    #[test]
    fn the_order_within_a_transaction_is_not_believed() {
        let now = r#"{"id":1,"n":3,"t":"c"}"#;
        let update = |old| (Action::Update, Some(old));
        // A trigger of the user's made 3 of 2, and was logged first. It held 1 before.
        let twice = [update(r#"{"n":1}"#), update(r#"{"n":2,"t":"b"}"#)];
        for transaction in [Some(7), None] {
            let steps = twice.iter().map(|&step| (transaction, step));
            let found = of_transactions(Some(now), steps);
            assert_eq!(found.exactly_before(), None);
            let held: Vec<_> = found
                .all()
                .map(|row| row.scalar(1).map(ToString::to_string))
                .collect();
            assert!(held.contains(&Some("1".to_owned())), "{held:?}");
            assert!(found.has_past());
        }
        // Other columns do not disturb each other in any order.
        let apart = [update(r#"{"n":1}"#), update(r#"{"t":"b"}"#)];
        let found = of_transactions(Some(now), apart.iter().map(|&step| (Some(7), step)));
        let before = read(r#"{"id":1,"n":1,"t":"b"}"#);
        assert_eq!(found.exactly_before(), Some(Some(&before)));
        // What a trigger did to a row that was just created is logged before its creation.
        let created = [(Action::Create, None), update(r#"{"n":1}"#)];
        let found = of_transactions(Some(now), created.iter().map(|&step| (Some(7), step)));
        assert_eq!(found.exactly_before(), Some(None));
        // With a deferred key two rows have one name for a while.
        let swapped = [(Action::Delete, Some(r#"{"n":9}"#)), (Action::Create, None)];
        let found = of_transactions(Some(now), swapped.iter().map(|&step| (Some(7), step)));
        assert_eq!(found.exactly_before(), None);
        assert_eq!(found.all().count(), 3, "as it is, once more, and as it was");
    }

    #[test]
    fn what_does_not_fit_is_not_known() {
        for steps in [
            [(Action::Update, Some("{}"))],
            [(Action::Delete, None)],
            [(Action::Truncate, None)],
        ] {
            let broken = states(None, &steps);
            assert_eq!(broken.exactly_before(), None);
            assert!(broken.touches(&BTreeSet::new()));
        }
        let unknown = States::read(&reader(), Some(&raw("{}")), None).expect("a row");
        assert!(!unknown.has_past());
        let unreadable = [Step {
            id: 0,
            transaction: None,
            action: Action::Update,
            old: Some(raw("[1]")),
        }];
        assert!(States::read(&reader(), Some(&raw("{}")), Some(&unreadable)).is_err());
    }
}
