//! How sets change from one position to the next, level by level: a set's rows may depend on other sets, which are
//! known by then.
//!
//! Of each set one state is known in full: the one before, for the live stream, or the one now, for a reader that
//! resumes. The difference between the two follows from the entries of the log on the set's table, and from the rows
//! that did not change but that the sets inside moved in or out. Where it does not follow (what a row was is not
//! known), the caller must [ask](super::Question) for the set as it is.

use std::collections::{BTreeMap, BTreeSet};

use filter::{Filter, Lookup, RowReader, Scalar, Set, SetChange, Sets, SetsAtBoth, Window};
use serde_json::value::RawValue;

use super::backfill::Since;
use super::contents::{Contents, Difference, Part};
use super::known::Known;
use super::values::Sign;
use super::window::{ChangedRows, Unclear, WindowRows};
use crate::log::{NetChange, Subject};
use crate::undo::{Before, RowVersions};

/// The differences of sets between two positions, as far as they have been found.
#[derive(Debug)]
pub(super) struct Advance {
    sign: Sign,
    differences: BTreeMap<Set, Difference>,
    changes: BTreeMap<Set, SetChange>,
    /// Sets that may have changed and changed back in between, also.
    pub(super) stirred: BTreeSet<Set>,
    /// Sets whose states are not both known.
    pub(super) unknown: BTreeSet<Set>,
}

/// Why a difference does not follow from the entries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inexact;

impl From<Unclear> for Inexact {
    fn from(_: Unclear) -> Self {
        Self
    }
}

/// The states of sets at one of the two positions.
#[derive(Debug, Clone, Copy)]
pub struct SetView<'a> {
    known: &'a Known,
    /// None for the position at which they are known.
    advance: Option<&'a Advance>,
    unknown: Option<&'a BTreeSet<Set>>,
}

impl<'a> SetView<'a> {
    /// Sets that nothing changes.
    pub(super) fn of(known: &'a Known) -> Self {
        Self {
            known,
            advance: None,
            unknown: None,
        }
    }
}

impl Sets for SetView<'_> {
    fn look_up(&self, set: &Set, values: &[&Scalar]) -> Option<Lookup> {
        if self.unknown.is_some_and(|unknown| unknown.contains(set)) {
            return None;
        }
        let difference = self.advance.and_then(|advance| {
            let difference = advance.differences.get(set)?;
            Some((difference, advance.sign))
        });
        self.known.look_up(set, values, difference)
    }
}

impl Advance {
    /// An advance whose sets are known as they were (plus), or as they are (minus).
    pub(super) fn new(sign: Sign) -> Self {
        Self {
            sign,
            differences: BTreeMap::new(),
            changes: BTreeMap::new(),
            stirred: BTreeSet::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// The sets before and now.
    pub(super) fn views<'a>(&'a self, known: &'a Known) -> (SetView<'a>, SetView<'a>) {
        let at_known = SetView {
            known,
            advance: None,
            unknown: Some(&self.unknown),
        };
        let at_other = SetView {
            advance: Some(self),
            ..at_known
        };
        match self.sign {
            Sign::Plus => (at_known, at_other),
            Sign::Minus => (at_other, at_known),
        }
    }

    /// How a set has changed, if it has.
    pub(super) fn change(&self, set: &Set) -> Option<&SetChange> {
        self.changes.get(set)
    }

    /// The sets that have changed, and how.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&Set, &SetChange)> {
        self.changes.iter()
    }

    /// The rows of a set's table, as a filter, that the sets inside it may have moved in or out.
    pub(super) fn touched_rows(&self, set: &Set) -> Option<Filter> {
        set.rows().filter.touched(&|inner| self.change(inner))
    }

    /// Takes the difference of a set that follows from these entries, and from these rows, which did not change.
    pub(super) fn take<'a>(
        &mut self,
        set: &Set,
        known: &Known,
        entries: impl IntoIterator<Item = &'a NetChange>,
        touched: &[(String, Box<RawValue>)],
    ) -> Result<(), Inexact> {
        if let Some(window) = &set.rows().window {
            let Some(first) = known.window(set) else {
                return Ok(());
            };
            let changed = self.changed_rows(set, window, first, known, entries, touched)?;
            return self.take_window(set, window, known, &changed);
        }
        let (difference, stirred) = self.difference(set, known, entries, touched)?;
        if stirred {
            self.stirred.insert(set.clone());
        }
        self.set(set, known, difference);
        Ok(())
    }

    /// The same for a window of which these rows have changed.
    fn take_window(
        &mut self,
        set: &Set,
        window: &Window,
        known: &Known,
        changed: &ChangedRows,
    ) -> Result<(), Inexact> {
        let Some(first) = known.window(set).filter(|_| !changed.is_empty()) else {
            return Ok(());
        };
        self.stirred.insert(set.clone());
        let other = first.with(window, changed)?;
        let (before, now) = match self.sign {
            Sign::Plus => (first, &other),
            Sign::Minus => (&other, first),
        };
        self.set(set, known, Difference::of_windows(window, before, now));
        Ok(())
    }

    /// The rows of a window that the changes have not left as they were, after them.
    pub(super) fn changed_window(&self, set: &Set) -> Option<&WindowRows> {
        self.differences.get(set)?.window.as_ref()
    }

    /// What these entries, and these rows, which did not change, say of a set, whatever it holds.
    pub(super) fn since<'a>(
        &self,
        set: &Set,
        known: &Known,
        entries: impl IntoIterator<Item = &'a NetChange>,
        touched: &[(String, Box<RawValue>)],
    ) -> Result<Since, Inexact> {
        if let Some(window) = &set.rows().window {
            let all = WindowRows::any();
            let changed = self.changed_rows(set, window, &all, known, entries, touched)?;
            return Ok(Since::Window(changed));
        }
        let (difference, _) = self.difference(set, known, entries, touched)?;
        Ok(Since::Set(difference))
    }

    /// The rows that are not nothing to a window whose first rows are these.
    fn changed_rows<'a>(
        &self,
        set: &Set,
        window: &Window,
        first: &WindowRows,
        known: &Known,
        entries: impl IntoIterator<Item = &'a NetChange>,
        touched: &[(String, Box<RawValue>)],
    ) -> Result<ChangedRows, Inexact> {
        let rows = set.rows();
        let mut changed = ChangedRows::new(self.sign);
        let (was, is) = self.views(known);
        let sets = SetsAtBoth {
            before: &was,
            now: &is,
        };
        let reader = RowReader::new(rows.table(), rows.evaluated_columns());
        let mut with_entry: BTreeSet<&str> = BTreeSet::new();
        let entries = entries.into_iter();
        for entry in entries.filter(|entry| entry.entity == set.entity()) {
            let key = match entry.subject() {
                Subject::Nothing => continue,
                Subject::SchemaChange | Subject::Truncate => return Err(Inexact),
                Subject::Row(key) => key,
            };
            with_entry.insert(key);
            let (row, undo) = (entry.row.as_deref(), entry.undo.as_deref());
            let versions = RowVersions::read(&reader, row, undo).map_err(|_| Inexact)?;
            first.note(rows, window, (key, &versions), sets, &mut changed)?;
        }
        let unchanged = touched.iter();
        for (key, row) in unchanged.filter(|(key, _)| !with_entry.contains(&**key)) {
            let versions = RowVersions::read(&reader, Some(row), Some(&[])).map_err(|_| Inexact)?;
            first.note(rows, window, (key, &versions), sets, &mut changed)?;
        }
        Ok(changed)
    }

    /// The difference of a set that follows from these entries, and from these rows, which did not change; and whether
    /// the set may have changed and changed back. What the set holds does not matter for that.
    fn difference<'a>(
        &self,
        set: &Set,
        known: &Known,
        entries: impl IntoIterator<Item = &'a NetChange>,
        touched: &[(String, Box<RawValue>)],
    ) -> Result<(Difference, bool), Inexact> {
        let mut stirred = false;
        let mut difference = Difference::default();
        let (before, now) = self.views(known);
        let sets = SetsAtBoth {
            before: &before,
            now: &now,
        };
        let reader = RowReader::new(set.rows().table(), set.rows().evaluated_columns());
        let mut changed: BTreeSet<&str> = BTreeSet::new();
        let entries = entries.into_iter();
        for entry in entries.filter(|entry| entry.entity == set.entity()) {
            match entry.subject() {
                Subject::Nothing => continue,
                Subject::SchemaChange | Subject::Truncate => return Err(Inexact),
                Subject::Row(key) => changed.insert(key),
            };
            let (row, undo) = (entry.row.as_deref(), entry.undo.as_deref());
            let versions = RowVersions::read(&reader, row, undo).map_err(|_| Inexact)?;
            stirred |= take_row(&mut difference, set, &versions, sets)?;
        }
        let unchanged = touched.iter();
        for (_, row) in unchanged.filter(|(key, _)| !changed.contains(&**key)) {
            let versions = RowVersions::read(&reader, Some(row), Some(&[])).map_err(|_| Inexact)?;
            stirred |= take_row(&mut difference, set, &versions, sets)?;
        }
        Ok((difference, stirred))
    }

    /// Takes a set as the database says it is. Only where sets are known as they were.
    pub(super) fn take_contents(&mut self, set: &Set, known: &Known, now: &Contents) {
        self.take_difference(set, known, known.difference(set, now), false);
    }

    /// Takes how a set differs from what is known, as it was; `is_next` when it was nothing else in between.
    pub(super) fn take_difference(
        &mut self,
        set: &Set,
        known: &Known,
        difference: Difference,
        is_next: bool,
    ) {
        if !is_next || !difference.is_nothing() {
            self.stirred.insert(set.clone());
        }
        self.set(set, known, difference);
    }

    fn set(&mut self, set: &Set, known: &Known, difference: Difference) {
        if difference.is_nothing() || !known.contains(set) {
            return;
        }
        let change = known.change(set, &difference, self.sign);
        if !change.is_nothing() {
            self.changes.insert(set.clone(), change);
        }
        self.differences.insert(set.clone(), difference);
    }

    /// The differences, to be added to what was known.
    pub(super) fn into_differences(self) -> BTreeMap<Set, Difference> {
        self.differences
    }
}

/// Adds what a row was and is for a set. Returns whether it ever was one of the set's rows and not always the same.
fn take_row(
    difference: &mut Difference,
    set: &Set,
    versions: &RowVersions,
    sets: SetsAtBoth<'_>,
) -> Result<bool, Inexact> {
    let rows = set.rows();
    let before = match versions.before() {
        Before::Row(row) => Part::of(rows, row, sets.before),
        Before::AnyOf(values) if !rows.filter.may_match(values) => Part::Nothing,
        Before::AnyOf(_) | Before::Unknown => return Err(Inexact),
    };
    let now = Part::of(rows, versions.now(), sets.now);
    let between = versions.between();
    let mut between =
        between.flat_map(|row| [sets.before, sets.now].map(|sets| Part::of(rows, row, sets)));
    let stirred = before != now || between.any(|part| part != now);
    difference.replace(&before, &now);
    Ok(stirred)
}
