//! What a set holds, and by how much it differs from what it held.

use std::hash::RandomState;

use filter::{RowError, RowReader, RowValues, Scalar, SetRows, Sets, Window};
use hashbrown::HashMap;
use serde_json::value::RawValue;

use super::values::{LookedUp, Sign, Values};
use super::window::WindowRows;

/// What a row is for a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// It is not one of the set's rows.
    Nothing,
    /// It is, with a null among its values.
    Null,
    Values(Values),
}

/// What a set holds: a multiset, because the same values may come from several rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub(super) rows: u64,
    pub(super) with_null: u64,
    pub(super) counts: HashMap<Values, u64, RandomState>,
    /// Of a window: its rows in their order.
    pub(super) window: WindowRows,
}

/// By how much a set has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Difference {
    pub(super) rows: i64,
    pub(super) with_null: i64,
    pub(super) counts: HashMap<Values, i64, RandomState>,
    /// The rows of a window that has changed, as they are after it.
    pub(super) window: Option<WindowRows>,
}

impl Part {
    /// What a row is for the set of these rows. The row must have been read with their evaluated columns.
    pub(super) fn of(rows: &SetRows, row: Option<&RowValues>, sets: &dyn Sets) -> Self {
        let Some(row) = row.filter(|row| rows.filter.matches(row, sets) == Some(true)) else {
            return Self::Nothing;
        };
        let values = rows.columns.iter().map(|column| row.scalar(*column));
        let values: Option<Values> = values.map(Option::<&Scalar>::cloned).collect();
        values.map_or(Self::Null, Self::Values)
    }
}

impl Contents {
    /// Reads what the database answers: the different values, each with the number of rows that have them.
    ///
    /// # Errors
    /// When one is not a JSON object.
    pub fn read(rows: &SetRows, answer: &[(Box<RawValue>, u64)]) -> Result<Self, RowError> {
        let reader = RowReader::new(rows.table(), rows.columns.iter().copied());
        let mut contents = Self::default();
        for (values, count) in answer {
            let row = reader.read(values)?;
            contents.rows += count;
            let values = rows.columns.iter().map(|column| row.scalar(*column));
            match values.map(Option::<&Scalar>::cloned).collect() {
                Some(values) => *contents.counts.entry(values).or_default() += count,
                None => contents.with_null += count,
            }
        }
        Ok(contents)
    }

    /// Reads the rows of a window that the database was asked for, so many.
    ///
    /// # Errors
    /// When one is not a JSON object.
    pub(super) fn read_window(
        rows: &SetRows,
        window: &Window,
        answer: &[(String, Box<RawValue>)],
        asked: usize,
    ) -> Result<Self, RowError> {
        let read = WindowRows::read(rows, window, answer, asked)?;
        Ok(Self::of_window(window, read))
    }

    /// What a window holds whose rows are these.
    pub(super) fn of_window(window: &Window, rows: WindowRows) -> Self {
        let counts = rows.keys(window).map(|key| (key.clone(), 1));
        let counts: HashMap<Values, u64, RandomState> = counts.collect();
        Self {
            rows: counts.len() as u64,
            with_null: 0,
            counts,
            window: rows,
        }
    }

    /// So many rows without values.
    pub(super) fn of_rows(rows: u64) -> Self {
        Self {
            rows,
            ..Self::default()
        }
    }

    /// Different values, each of one row, and a row with a null if there is one.
    pub(super) fn of_values(values: impl Iterator<Item = Values>, has_null: bool) -> Self {
        let counts: HashMap<Values, u64, RandomState> = values.map(|values| (values, 1)).collect();
        let with_null = u64::from(has_null);
        Self {
            rows: counts.len() as u64 + with_null,
            with_null,
            counts,
            ..Self::default()
        }
    }

    /// The different values, without those of rows with a null.
    pub fn values(&self) -> impl Iterator<Item = &[Scalar]> {
        self.counts.keys().map(Values::as_slice)
    }

    /// Whether in some row a value is null.
    pub fn has_null(&self) -> bool {
        self.with_null > 0
    }

    /// Whether some row has these values.
    pub(super) fn holds(&self, values: &[Scalar]) -> bool {
        let wanted: Vec<&Scalar> = values.iter().collect();
        self.counts.contains_key(&LookedUp(&wanted))
    }

    /// The number of different values.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether it holds no row at all.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a difference.
    pub(super) fn add(&mut self, difference: &Difference) {
        self.rows = Sign::Plus.add(self.rows, difference.rows);
        self.with_null = Sign::Plus.add(self.with_null, difference.with_null);
        for (values, change) in &difference.counts {
            let before = self.counts.get(values).copied().unwrap_or_default();
            match Sign::Plus.add(before, *change) {
                0 => drop(self.counts.remove(values)),
                now => drop(self.counts.insert(values.clone(), now)),
            }
        }
    }
}

impl Difference {
    /// The difference between what a set held and what it holds.
    pub(super) fn between(before: &Contents, now: &Contents) -> Self {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut difference = Self {
            rows: signed(now.rows) - signed(before.rows),
            with_null: signed(now.with_null) - signed(before.with_null),
            counts: HashMap::default(),
            window: None,
        };
        for (values, count) in &now.counts {
            let was = before.counts.get(values).copied().unwrap_or_default();
            difference.change(values, signed(*count) - signed(was));
        }
        for (values, count) in &before.counts {
            if !now.counts.contains_key(values) {
                difference.change(values, -signed(*count));
            }
        }
        difference
    }

    /// The difference between a window before and now.
    pub(super) fn of_windows(window: &Window, before: &WindowRows, now: &WindowRows) -> Self {
        let mut difference = Self::default();
        if before == now {
            return difference;
        }
        let (left, entered) = before.differences(window, now);
        for (keys, by) in [(left, -1), (entered, 1)] {
            for key in keys {
                difference.change(key, by);
                difference.rows += by;
            }
        }
        difference.window = Some(now.clone());
        difference
    }

    /// Adds that a row was one thing for the set, and is another.
    pub(super) fn replace(&mut self, before: &Part, now: &Part) {
        if before == now {
            return;
        }
        self.put(before, -1);
        self.put(now, 1);
    }

    fn put(&mut self, part: &Part, by: i64) {
        match part {
            Part::Nothing => return,
            Part::Null => self.with_null += by,
            Part::Values(values) => self.change(values, by),
        }
        self.rows += by;
    }

    fn change(&mut self, values: &Values, by: i64) {
        if by == 0 {
            return;
        }
        let change = self.counts.entry(values.clone()).or_default();
        *change += by;
        if *change == 0 {
            self.counts.remove(values);
        }
    }

    /// Adds what follows.
    pub(super) fn add(&mut self, next: &Self) {
        self.rows += next.rows;
        self.with_null += next.with_null;
        for (values, change) in &next.counts {
            self.change(values, *change);
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        let is_same = self.rows == 0 && self.with_null == 0 && self.counts.is_empty();
        is_same && self.window.is_none()
    }

    /// By how much the number of rows with these values has changed.
    pub(super) fn count(&self, values: &[&Scalar]) -> i64 {
        let count = self.counts.get(&LookedUp(values));
        count.copied().unwrap_or_default()
    }
}
