//! What a set holds, and by how much it differs from what it held.

use std::hash::{Hash, Hasher, RandomState};

use filter::{RowError, RowReader, RowValues, Scalar, SetRows, Sets};
use hashbrown::{Equivalent, HashMap};
use serde_json::value::RawValue;

/// The values that one row gives to a set, one for each of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Values {
    One(Scalar),
    Several(Box<[Scalar]>),
}

/// Values that are looked up.
pub(super) struct LookedUp<'a>(pub(super) &'a [&'a Scalar]);

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
}

/// By how much a set has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Difference {
    pub(super) rows: i64,
    pub(super) with_null: i64,
    pub(super) counts: HashMap<Values, i64, RandomState>,
}

impl Values {
    pub(super) fn as_slice(&self) -> &[Scalar] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

impl FromIterator<Scalar> for Values {
    fn from_iter<I: IntoIterator<Item = Scalar>>(values: I) -> Self {
        let mut values: Vec<Scalar> = values.into_iter().collect();
        match values.len() {
            1 => Self::One(values.remove(0)),
            _ => Self::Several(values.into()),
        }
    }
}

// Both are hashed alike, so that values can be looked up without being copied.
impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().iter().for_each(|value| value.hash(state));
    }
}

impl Hash for LookedUp<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|value| value.hash(state));
    }
}

impl Equivalent<Values> for LookedUp<'_> {
    fn equivalent(&self, values: &Values) -> bool {
        self.0.iter().copied().eq(values.as_slice())
    }
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

    /// The number of different values.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether it holds no row at all.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

/// Whether a difference is yet to be added to what is known, or to be taken off it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    pub(super) fn add(self, count: u64, change: i64) -> u64 {
        let change = if self == Self::Minus { -change } else { change };
        count.saturating_add_signed(change)
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

    pub(super) fn is_nothing(&self) -> bool {
        self.rows == 0 && self.with_null == 0 && self.counts.is_empty()
    }

    /// By how much the number of rows with these values has changed.
    pub(super) fn count(&self, values: &[&Scalar]) -> i64 {
        let count = self.counts.get(&LookedUp(values));
        count.copied().unwrap_or_default()
    }
}
