//! Reconstructs what a changed row was, from the row as it is and its entries in the log.
//!
//! Undoing a row's entries, newest first, from the row as it is gives each version of the row since a
//! reader's position, and at the end the row at that position. From these a shape decides which readers
//! receive the row, and which must learn that it left.
//!
//! The entries of one row are in the order of the commits, but within a transaction they need not be in
//! the order of the changes: a user's trigger that writes the row again may be logged before the
//! statement that fired it, and with a deferred key two rows may have one key for a while. On SQLite the
//! log does not say what one transaction was. Records whose order matters, but may be another one, are
//! *unordered*: then only the values that the row held are known, not which of them it held together.

#[cfg(test)]
pub(crate) mod properties;

use std::collections::{BTreeMap, BTreeSet};

use filter::{RowError, RowReader, RowValues};
use serde_json::value::RawValue;

use crate::log::{ChangeKind, UndoRecord};

/// The versions of one row between a reader's position and now.
#[derive(Debug, Clone)]
pub struct RowVersions {
    /// Newest first, at least the row as it is now; none for a row that did not exist.
    versions: Vec<Option<RowValues>>,
    past: Past,
    /// The columns that some record changed; none for all, as when the row was created or deleted.
    changed: Option<BTreeSet<usize>>,
    /// Whether some update changed none: then it may have changed what is known of the row beside its values.
    has_bare_update: bool,
}

/// What is known of a row's past.
#[derive(Debug, Clone)]
enum Past {
    /// Each of its versions; the last of them is the row at the reader's position.
    Exact,
    /// The values that it held, each time of some columns.
    Unordered(Vec<RowValues>),
    /// Nothing.
    Unknown,
}

/// A row at the reader's position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before<'a> {
    /// This; none for a row that did not exist.
    Row(Option<&'a RowValues>),
    /// Any combination of these values, or it did not exist.
    AnyOf(&'a [RowValues]),
    /// Anything.
    Unknown,
}

/// How undoing one record went.
enum Undone {
    Fits,
    /// The records may belong in another order.
    OutOfOrder,
    /// Records are missing.
    Broken,
}

impl RowVersions {
    /// The versions of a row that is `row` now, by undoing these records, newest first. `records` are none
    /// when they are not known.
    ///
    /// # Errors
    /// When the row or a record's previous values are not a JSON object.
    pub fn read(
        reader: &RowReader,
        row: Option<&RawValue>,
        records: Option<&[UndoRecord]>,
    ) -> Result<Self, RowError> {
        let now = row.map(|row| reader.read(row)).transpose()?;
        let mut versions = Self {
            versions: vec![now],
            past: Past::Exact,
            changed: Some(BTreeSet::new()),
            has_bare_update: false,
        };
        let Some(records) = records else {
            versions.forget();
            return Ok(versions);
        };
        let mut undo = Undo::default();
        for record in records {
            match versions.undo_one(reader, record, &mut undo)? {
                Undone::Fits => {}
                Undone::OutOfOrder => {
                    versions.keep_values(reader, records)?;
                    break;
                }
                Undone::Broken => {
                    versions.forget();
                    break;
                }
            }
        }
        Ok(versions)
    }

    /// Keeps only the row as it is now.
    fn forget(&mut self) {
        self.versions.truncate(1);
        self.past = Past::Unknown;
        self.changed = None;
    }

    /// Goes back by one record.
    fn undo_one(
        &mut self,
        reader: &RowReader,
        record: &UndoRecord,
        undo: &mut Undo,
    ) -> Result<Undone, RowError> {
        let after = self.versions.last().and_then(Option::as_ref);
        let before = match (record.kind, &record.old, after) {
            (ChangeKind::Create, _, Some(_)) => {
                *undo = Undo::before_create(record);
                self.changed = None;
                None
            }
            (ChangeKind::Delete, Some(old), None) => {
                *undo = Undo::default();
                self.changed = None;
                Some(reader.read(old)?)
            }
            (ChangeKind::Create, _, None) | (ChangeKind::Delete, Some(_), Some(_)) => {
                return Ok(Undone::OutOfOrder);
            }
            (ChangeKind::Update, Some(old), Some(after)) => {
                let mut before = after.clone();
                let mut named = BTreeSet::new();
                reader.read_into(old, &mut before, &mut named)?;
                if !undo.takes(record, &named) {
                    return Ok(Undone::OutOfOrder);
                }
                self.has_bare_update |= named.is_empty();
                if let Some(changed) = &mut self.changed {
                    changed.append(&mut named);
                }
                Some(before)
            }
            // A row's creation is logged after the changes that a user's trigger made to it.
            (ChangeKind::Update, Some(_), None) if undo.is_created_with(record) => {
                return Ok(Undone::Fits);
            }
            _ => return Ok(Undone::Broken),
        };
        self.versions.push(before);
        Ok(Undone::Fits)
    }

    /// Keeps only the values that the row held.
    fn keep_values(&mut self, reader: &RowReader, records: &[UndoRecord]) -> Result<(), RowError> {
        self.forget();
        let mut values: Vec<RowValues> = self.versions.iter().flatten().cloned().collect();
        for record in records {
            match (&record.old, record.kind) {
                (Some(old), ChangeKind::Delete) => values.push(reader.read(old)?),
                (Some(old), ChangeKind::Update) => values.push(reader.read_some(old)?),
                (None, ChangeKind::Create) => {}
                _ => return Ok(()),
            }
        }
        self.past = Past::Unordered(values);
        Ok(())
    }

    /// The row as it is now.
    pub fn now(&self) -> Option<&RowValues> {
        self.versions[0].as_ref()
    }

    /// The row at the reader's position.
    pub(crate) fn before(&self) -> Before<'_> {
        match &self.past {
            Past::Exact => Before::Row(self.versions.last().and_then(Option::as_ref)),
            Past::Unordered(values) => Before::AnyOf(values),
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

    /// The versions in between, where they are known.
    pub(crate) fn between(&self) -> impl Iterator<Item = Option<&RowValues>> {
        let between = self.versions.len().saturating_sub(1).max(1);
        self.versions[1..between].iter().map(Option::as_ref)
    }

    /// Row values in which every value that the row held occurs, where its past is known.
    pub fn all(&self) -> impl Iterator<Item = &RowValues> {
        let unordered = match &self.past {
            Past::Unordered(values) => values.as_slice(),
            Past::Exact | Past::Unknown => &[],
        };
        self.versions.iter().flatten().chain(unordered)
    }

    /// Whether the values that the row held are known.
    pub fn has_past(&self) -> bool {
        !matches!(self.past, Past::Unknown)
    }

    /// Whether the row existed from the reader's position until now, and all that changed is known.
    pub(crate) fn only_updates(&self) -> bool {
        self.changed.is_some()
    }

    /// Whether some update changed no column.
    pub(crate) fn has_bare_update(&self) -> bool {
        self.has_bare_update
    }

    /// Whether some of these columns may have changed.
    pub(crate) fn touches(&self, columns: &BTreeSet<usize>) -> bool {
        self.changed
            .as_ref()
            .is_none_or(|changed| !changed.is_disjoint(columns))
    }
}

/// What has been undone since the last create or delete.
#[derive(Debug, Default)]
struct Undo {
    /// The columns that newer updates named, with the transaction of the oldest of those.
    named: BTreeMap<usize, Option<u64>>,
    /// The transaction of the creation that was undone last.
    created: Option<Option<u64>>,
}

impl Undo {
    fn before_create(record: &UndoRecord) -> Self {
        Self {
            created: Some(record.transaction),
            ..Self::default()
        }
    }

    /// Notes the columns that an update named. False when a newer update of the same transaction named one of
    /// them too: which of the two was first is not known.
    fn takes(&mut self, record: &UndoRecord, named: &BTreeSet<usize>) -> bool {
        named.iter().all(|&column| {
            let newer = self.named.insert(column, record.transaction);
            newer.is_none_or(|newer| !may_be_one(newer, record.transaction))
        })
    }

    fn is_created_with(&self, record: &UndoRecord) -> bool {
        self.created
            .is_some_and(|created| may_be_one(created, record.transaction))
    }
}

/// Whether two records may be of one transaction.
fn may_be_one(one: Option<u64>, other: Option<u64>) -> bool {
    one.is_none() || other.is_none() || one == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use filter::Backend;
    use filter::testing::{raw, test_table};

    fn reader() -> RowReader {
        RowReader::new(test_table(Backend::Postgres).table(), [1, 2])
    }

    fn versions(row: Option<&str>, records: &[(ChangeKind, Option<&str>)]) -> RowVersions {
        of_transactions(
            row,
            records
                .iter()
                .zip(1..)
                .map(|(record, number)| (Some(number), *record)),
        )
    }

    fn of_transactions<'a>(
        row: Option<&str>,
        records: impl IntoIterator<Item = (Option<u64>, (ChangeKind, Option<&'a str>))>,
    ) -> RowVersions {
        let records = records
            .into_iter()
            .map(|(transaction, (kind, old))| UndoRecord {
                id: 0,
                transaction,
                kind,
                old: old.map(raw),
            });
        let records: Vec<UndoRecord> = records.collect();
        let row = row.map(raw);
        RowVersions::read(&reader(), row.as_deref(), Some(&records)).expect("rows")
    }

    fn read(row: &str) -> RowValues {
        reader().read(&raw(row)).expect("a row")
    }

    #[test]
    fn updates_are_undone_newest_first() {
        let now = r#"{"id":1,"n":3,"t":"c"}"#;
        let records = [
            (ChangeKind::Update, Some(r#"{"n":2}"#)),
            (ChangeKind::Update, Some(r#"{"n":1,"t":null}"#)),
        ];
        let found = versions(Some(now), &records);
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
        let nothing = versions(Some(now), &[]);
        assert_eq!(nothing.exactly_before(), Some(Some(&read(now))));
        assert_eq!(nothing.between().count(), 0);
    }

    #[test]
    fn creates_and_deletes_are_undone() {
        let old = r#"{"id":1,"n":7,"t":"x"}"#;
        let gone = versions(None, &[(ChangeKind::Delete, Some(old))]);
        assert_eq!(
            (gone.now(), gone.exactly_before()),
            (None, Some(Some(&read(old))))
        );
        let passed = versions(
            None,
            &[(ChangeKind::Delete, Some(old)), (ChangeKind::Create, None)],
        );
        assert_eq!(passed.exactly_before(), Some(None));
        assert_eq!(passed.between().collect::<Vec<_>>(), [Some(&read(old))]);
        let again = [
            (ChangeKind::Create, None),
            (ChangeKind::Delete, Some(old)),
            (ChangeKind::Update, Some(r#"{"n":6}"#)),
        ];
        let again = versions(Some("{}"), &again);
        assert_eq!(
            again.exactly_before(),
            Some(Some(&read(r#"{"n":6,"t":"x"}"#)))
        );
        assert!(again.touches(&BTreeSet::from([5])), "it is another row");
        // SQLite's `REPLACE` may be logged as a delete alone, of a row that stays.
        for records in [
            [(ChangeKind::Create, None)],
            [(ChangeKind::Delete, Some(old))],
        ] {
            assert!(versions(Some("{}"), &records).touches(&BTreeSet::from([5])));
        }
    }

    #[test]
    fn the_order_within_a_transaction_is_not_relied_on() {
        let now = r#"{"id":1,"n":3,"t":"c"}"#;
        let update = |old| (ChangeKind::Update, Some(old));
        // A user's trigger changed 2 to 3, and was logged first. Before, the row held 1.
        let twice = [update(r#"{"n":1}"#), update(r#"{"n":2,"t":"b"}"#)];
        for transaction in [Some(7), None] {
            let records = twice.iter().map(|&record| (transaction, record));
            let found = of_transactions(Some(now), records);
            assert_eq!(found.exactly_before(), None);
            let held: Vec<_> = found
                .all()
                .map(|row| row.scalar(1).map(ToString::to_string))
                .collect();
            assert!(held.contains(&Some("1".to_owned())), "{held:?}");
            assert!(found.has_past());
        }
        // Updates of different columns may be undone in any order.
        let apart = [update(r#"{"n":1}"#), update(r#"{"t":"b"}"#)];
        let found = of_transactions(Some(now), apart.iter().map(|&record| (Some(7), record)));
        let before = read(r#"{"id":1,"n":1,"t":"b"}"#);
        assert_eq!(found.exactly_before(), Some(Some(&before)));
        // The change of a trigger to a row that was just created is logged before its creation.
        let created = [(ChangeKind::Create, None), update(r#"{"n":1}"#)];
        let found = of_transactions(Some(now), created.iter().map(|&record| (Some(7), record)));
        assert_eq!(found.exactly_before(), Some(None));
        // With a deferred key two rows have one key for a while.
        let swapped = [
            (ChangeKind::Delete, Some(r#"{"n":9}"#)),
            (ChangeKind::Create, None),
        ];
        let found = of_transactions(Some(now), swapped.iter().map(|&record| (Some(7), record)));
        assert_eq!(found.exactly_before(), None);
        assert_eq!(
            found.all().count(),
            3,
            "the row as it is, twice, and as it was"
        );
    }

    #[test]
    fn a_row_whose_records_do_not_fit_has_no_known_past() {
        for records in [
            [(ChangeKind::Update, Some("{}"))],
            [(ChangeKind::Delete, None)],
            [(ChangeKind::Truncate, None)],
        ] {
            let broken = versions(None, &records);
            assert_eq!(broken.exactly_before(), None);
            assert!(broken.touches(&BTreeSet::new()));
        }
        let unknown = RowVersions::read(&reader(), Some(&raw("{}")), None).expect("a row");
        assert!(!unknown.has_past());
        let unreadable = [UndoRecord {
            id: 0,
            transaction: None,
            kind: ChangeKind::Update,
            old: Some(raw("[1]")),
        }];
        assert!(RowVersions::read(&reader(), Some(&raw("{}")), Some(&unreadable)).is_err());
    }
}
