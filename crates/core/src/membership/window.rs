//! The rows of a window, and how they change.
//!
//! A window is not known from counts: a row may come into it because another left. So some rows behind it are kept as
//! well. All rows that are not kept come behind the last that is, and therefore the next window mostly follows from the
//! rows that have changed:
//!
//! - A changed row that always came behind the last kept row is nothing to it.
//! - The kept rows that have not changed, together with the changed rows that come before what was the last kept one, are
//!   the first of all rows. When they are at least as many as the window has, the window is known.
//! - Otherwise the database must say which rows come next; also where only the database knows the order of two rows that
//!   must be compared.
//!
//! What a window was before the changes follows in the same way from the rows that are first now.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use filter::{Rank, RowError, RowReader, RowValues, Scalar, SetRows, Sets, SetsAtBoth, Window};
use serde_json::value::RawValue;

use super::values::{Sign, Values};
use crate::undo::{Before, RowVersions};

/// Only the database knows what is in the window now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclear;

/// The first rows of those among which a window is: the window, and some behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WindowRows {
    rows: Vec<WindowRow>,
    /// Whether no rows come behind them.
    are_all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct WindowRow {
    key: Values,
    /// The canonical key.
    name: Arc<str>,
    rank: Rank,
}

/// Where a row is for a window.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// It is none of the rows among which the window is.
    Outside,
    At(Rank),
    /// Only the database knows.
    Unclear,
}

/// The changed rows that are not nothing to a window, by their keys: where they are at the other end of the changes.
#[derive(Debug)]
pub(super) struct ChangedRows {
    sign: Sign,
    places: BTreeMap<Vec<Scalar>, (Place, Arc<str>)>,
}

/// How many rows are kept of a window with this limit.
pub(super) fn kept(window: &Window) -> usize {
    window.limit() + window.limit().div_ceil(2)
}

impl WindowRows {
    /// Reads the rows that the database names, in its order, when it was asked for so many.
    ///
    /// # Errors
    /// When one is not a JSON object.
    pub(super) fn read(
        rows: &SetRows,
        window: &Window,
        answer: &[(String, Box<RawValue>)],
        asked: usize,
    ) -> Result<Self, RowError> {
        let reader = RowReader::new(rows.table(), window.columns());
        let mut read = Vec::with_capacity(answer.len());
        for (name, row) in answer {
            let row = reader.read(row)?;
            // A key that cannot be looked up is that of no row of the shape.
            if let Some(key) = key_of(rows, &row) {
                let rank = window.rank(&row);
                let name = name.as_str().into();
                read.push(WindowRow { key, name, rank });
            }
        }
        Ok(Self {
            rows: read,
            are_all: answer.len() < asked,
        })
    }

    /// Those of a window that is not known: no row is nothing to it.
    pub(super) fn any() -> Self {
        Self {
            rows: Vec::new(),
            are_all: true,
        }
    }

    /// The keys of those that are in the window.
    pub(super) fn keys(&self, window: &Window) -> impl Iterator<Item = &Values> {
        self.rows.iter().take(window.limit()).map(|row| &row.key)
    }

    /// The canonical keys of those that are in the window, in their order, where a client cannot tell it from the values.
    pub(super) fn order(&self, window: &Window) -> Option<Vec<&str>> {
        let rows = || self.rows.iter().take(window.limit());
        let mut pairs = rows().zip(rows().skip(1));
        let is_told = pairs.all(|(one, next)| window.is_told(&one.rank, &next.rank));
        (!is_told).then(|| rows().map(|row| &*row.name).collect())
    }

    /// Notes what a changed row is for the window, unless it is nothing to it.
    ///
    /// # Errors
    /// When it is not known which row it was.
    pub(super) fn note(
        &self,
        rows: &SetRows,
        window: &Window,
        (name, versions): (&str, &RowVersions),
        sets: SetsAtBoth<'_>,
        changed: &mut ChangedRows,
    ) -> Result<(), Unclear> {
        let place = |row: Option<&RowValues>, sets: &dyn Sets| Place::of(rows, window, row, sets);
        let now = place(versions.now(), sets.now);
        let key = versions.all().find_map(|row| key_of(rows, row));
        let before = match versions.before() {
            Before::Row(row) => Some(place(row, sets.before)),
            Before::AnyOf(values) if !rows.filter.may_match(values) => Some(Place::Outside),
            Before::AnyOf(_) | Before::Unknown => None,
        };
        if let (Some(before), Before::Row(_)) = (&before, versions.before()) {
            let between = versions.between();
            let between =
                between.flat_map(|row| [sets.before, sets.now].map(|sets| place(row, sets)));
            let mut ever: Vec<Place> = between.collect();
            ever.push(before.clone());
            let stays = ever.iter().all(|place| *place == now);
            let is_opaque = matches!(&now, Place::At(rank) if rank.is_opaque());
            let order = || window.columns().collect();
            if stays && now != Place::Unclear && !(is_opaque && versions.touches(&order())) {
                return Ok(());
            }
            ever.push(now.clone());
            // The place of a kept row is not behind the last.
            if ever.iter().all(|place| self.is_behind(window, place)) {
                return Ok(());
            }
        }
        let key = key.ok_or(Unclear)?;
        let place = match changed.sign {
            Sign::Plus => now,
            Sign::Minus => before.ok_or(Unclear)?,
        };
        let place = (place, name.into());
        changed.places.insert(key.as_slice().to_vec(), place);
        Ok(())
    }

    /// Whether a row at this place comes behind the last kept row, for sure.
    fn is_behind(&self, window: &Window, place: &Place) -> bool {
        match place {
            Place::Outside => true,
            Place::Unclear => false,
            Place::At(rank) => self
                .last()
                .is_some_and(|last| window.compare(rank, &last.rank) == Some(Ordering::Greater)),
        }
    }

    /// The last kept row, when there may be others behind it.
    fn last(&self) -> Option<&WindowRow> {
        self.rows.last().filter(|_| !self.are_all)
    }

    /// The first rows at the other end of these changes.
    ///
    /// # Errors
    /// When only the database knows.
    pub(super) fn with(&self, window: &Window, changed: &ChangedRows) -> Result<Self, Unclear> {
        let is_changed = |row: &&WindowRow| changed.places.contains_key(row.key.as_slice());
        let unchanged = self.rows.iter().filter(|row| !is_changed(row));
        let mut rows: Vec<WindowRow> = unchanged.cloned().collect();
        let last = self.last();
        for (key, (place, name)) in &changed.places {
            let rank = match place {
                Place::Outside => continue,
                Place::Unclear => return Err(Unclear),
                Place::At(rank) => rank,
            };
            if let Some(last) = last
                && window.compare(rank, &last.rank).ok_or(Unclear)? == Ordering::Greater
            {
                // Other rows may come before it.
                continue;
            }
            let index = position(window, &rows, rank)?;
            let row = WindowRow {
                key: key.iter().cloned().collect(),
                name: name.clone(),
                rank: rank.clone(),
            };
            rows.insert(index, row);
        }
        if !self.are_all && rows.len() < window.limit() {
            return Err(Unclear);
        }
        let are_all = self.are_all && rows.len() <= kept(window);
        rows.truncate(kept(window));
        Ok(Self { rows, are_all })
    }

    /// The keys that are in one of two windows and not in the other: those of this one, those of the other.
    pub(super) fn differences<'a>(
        &'a self,
        window: &'a Window,
        other: &'a Self,
    ) -> (Vec<&'a Values>, Vec<&'a Values>) {
        let mine: HashSet<&Values> = self.keys(window).collect();
        let others: HashSet<&Values> = other.keys(window).collect();
        let without = |one: &'a Self, other: &HashSet<&Values>| {
            let keys = one.keys(window);
            keys.filter(|key| !other.contains(key)).collect()
        };
        (without(self, &others), without(other, &mine))
    }
}

impl ChangedRows {
    /// None yet: of changes since a window that is known (plus), or up to one (minus).
    pub(super) fn new(sign: Sign) -> Self {
        Self {
            sign,
            places: BTreeMap::new(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds those of what follows.
    pub(super) fn add(&mut self, next: Self) {
        self.places.extend(next.places);
    }
}

impl Place {
    fn of(rows: &SetRows, window: &Window, row: Option<&RowValues>, sets: &dyn Sets) -> Self {
        let Some(row) = row.filter(|row| rows.filter.matches(row, sets) == Some(true)) else {
            return Self::Outside;
        };
        let rank = window.rank(row);
        match window.begins_before(&rank) {
            Some(true) => Self::At(rank),
            Some(false) => Self::Outside,
            None => Self::Unclear,
        }
    }
}

fn key_of(rows: &SetRows, row: &RowValues) -> Option<Values> {
    let key = rows.columns.iter().map(|column| row.scalar(*column));
    key.map(Option::<&Scalar>::cloned).collect()
}

/// Where a row belongs among others.
fn position(window: &Window, rows: &[WindowRow], rank: &Rank) -> Result<usize, Unclear> {
    let (mut low, mut high) = (0, rows.len());
    while low < high {
        let middle = low.midpoint(high);
        match window.compare(rank, &rows[middle].rank).ok_or(Unclear)? {
            Ordering::Less => high = middle,
            Ordering::Greater => low = middle + 1,
            // Two rows are never equal in the database.
            Ordering::Equal => return Err(Unclear),
        }
    }
    Ok(low)
}
