//! A row's metadata as JSON, which is kept beside the row in a table of the engine's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::amount::AmountError;
use crate::cell::Cell;
use crate::clock::{Clock, NodeId};
use crate::counter::{Counter, Sums};
use crate::row::Row;
use crate::rules::{ColumnMerge, Deletes, Rules};
use crate::set::{Element, Set, SetError};

/// How many fields a row's metadata may name: as many as a PostgreSQL table has columns.
pub const FIELDS_MAX: usize = 1600;

/// Why metadata and values do not make a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A counter's value.
    #[error("the counter {column:?}: {error}")]
    Counter {
        /// The column.
        column: String,
        /// What is wrong with it.
        error: AmountError,
    },
    /// A set's value.
    #[error("the set {column:?}: {error}")]
    Set {
        /// The column.
        column: String,
        /// What is wrong with it.
        error: SetError,
    },
    /// What is known of a field is for another kind of column, or comes without a value.
    #[error("the metadata of {column:?} does not fit its column")]
    Metadata {
        /// The column.
        column: String,
    },
    /// More than [`FIELDS_MAX`] fields.
    #[error("a row has at most {FIELDS_MAX} fields")]
    TooManyFields,
}

/// What is known of a row beside its values. Empty for a row that was never edited by its fields: such rows have no
/// metadata.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The birth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Clock>,
    /// The death.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    died: Option<Clock>,
    /// The clock of every field that is not named; none is the birth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Clock>,
    /// Of a row whose creation has not arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    /// The newest edit, where no field tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edited: Option<Clock>,
    /// What fields have of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, Mark>,
}

impl Metadata {
    /// The newest clock in it.
    pub fn newest(&self) -> Option<&Clock> {
        let parts = [&self.born, &self.died, &self.base, &self.edited];
        let fields = self.fields.values().filter_map(Mark::newest);
        fields.chain(parts.into_iter().flatten()).max()
    }

    /// Whether nothing is known but that the row was there before anything was stamped: it need not be kept.
    pub fn is_empty(&self) -> bool {
        let born = Some(Clock::ground()).filter(|ground| self.born.as_ref() == Some(ground));
        *self
            == Self {
                born,
                ..Self::default()
            }
    }

    /// Folds every clock up to the horizon into the base, as [`Row::fold`] does with the row of this metadata. It takes no
    /// values, so nobody has to read the row. Returns whether it is smaller now: the base alone moves with each horizon.
    pub fn fold(&mut self, horizon: &Clock) -> bool {
        let is_only_dead = self.born.is_none() && self.died.is_some() && self.fields.is_empty();
        if self.partial || is_only_dead {
            return false;
        }
        let before = (self.fields.clone(), self.edited.clone());
        self.fields.retain(|_, mark| match mark {
            Mark::Other(OtherMark::Set(elements)) => {
                elements.retain(|_, element| element.fold(horizon));
                !elements.is_empty()
            }
            _ => true,
        });
        if self.died.is_some() {
            // An edit that has brought the row back still has, without its clock.
            let newest = self.registers().max().max(self.edited.as_ref());
            let gone = self.born.as_ref().max(self.died.as_ref());
            self.edited = newest.filter(|newest| Some(*newest) > gone).cloned();
        }
        let base = self.base.clone().or_else(|| self.born.clone());
        self.fields.retain(
            |_, mark| !matches!(mark, Mark::Register(clock) if Some(&*clock) <= base.as_ref()),
        );
        if self.registers().next().is_some() && base.as_ref() < Some(horizon) {
            self.base = Some(horizon.clone());
            self.fields
                .retain(|_, mark| !matches!(mark, Mark::Register(clock) if *clock <= *horizon));
        }
        let newest = self.registers().max().cloned();
        let is_told = |edited: &Clock| newest.as_ref() == Some(edited);
        let is_folded = |edited: &Clock| self.died.is_none() && edited <= horizon;
        self.edited
            .take_if(|edited| is_told(edited) || is_folded(edited));
        before != (self.fields.clone(), self.edited.clone())
    }

    /// Folds the oldest half of the clocks of fields, however young they are: an edit that comes later and was made
    /// before the youngest of them loses, also to a value that was written before it. Returns whether there was anything
    /// to fold.
    pub fn fold_older_half(&mut self) -> bool {
        let mut clocks: Vec<Clock> = self.registers().cloned().collect();
        clocks.sort_unstable();
        let Some(middle) = clocks.get(clocks.len().saturating_sub(1) / 2) else {
            return false;
        };
        self.fold(middle)
    }

    fn registers(&self) -> impl Iterator<Item = &Clock> {
        self.fields.values().filter_map(|mark| match mark {
            Mark::Register(clock) => Some(clock),
            Mark::Other(_) => None,
        })
    }

    /// Whether it is of a row that is there.
    pub fn is_alive(&self, rules: &Rules) -> bool {
        let lives = |clock: Option<&Clock>| clock.is_some() && clock > self.died.as_ref();
        let edited = self.registers().max().max(self.edited.as_ref());
        self.died.is_none()
            || lives(self.born.as_ref())
            || rules.deletes == Deletes::Revive && lives(edited)
    }

    /// Whether the metadata may be forgotten where there is one database, and every write up to the horizon is refused:
    /// it is of a row that is gone ([`Row::may_be_purged`]), or says nothing that a later write could not do without.
    pub fn may_be_forgotten(&self, horizon: &Clock, rules: &Rules) -> bool {
        let is_old = self.newest().is_none_or(|newest| newest <= horizon);
        let is_alive = self.is_alive(rules);
        let ground = Clock::ground();
        let is_of_ground = self.born.as_ref().is_none_or(|born| *born == ground);
        is_old && (!is_alive || is_of_ground && !self.partial && self.fields.is_empty())
    }

    /// Drops the base where it is not above the horizon: it says no more than the horizon does.
    pub(crate) fn settle(&mut self, horizon: &Clock) {
        self.base.take_if(|base| *base <= *horizon);
    }

    /// Forgets the fields that are none any more, such as those of a dropped column.
    pub fn retain(&mut self, is_field: impl Fn(&str) -> bool) {
        self.fields.retain(|field, _| is_field(field));
    }
}

/// What one field has of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Mark {
    Register(Clock),
    Other(OtherMark),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum OtherMark {
    Counter {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set: Option<Clock>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        sums: BTreeMap<NodeId, Sums>,
        /// Whether the number to which was added is null, or unknown.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        null: bool,
    },
    Set(BTreeMap<String, Element>),
}

impl Mark {
    fn newest(&self) -> Option<&Clock> {
        match self {
            Self::Register(clock) => Some(clock),
            Self::Other(OtherMark::Counter { set, .. }) => set.as_ref(),
            Self::Other(OtherMark::Set(elements)) => {
                elements.values().filter_map(Element::newest).max()
            }
        }
    }
}

impl Row {
    /// A row that is in the table and has no metadata: it was there before anything was stamped, so that every stamp is
    /// above it.
    ///
    /// # Errors
    /// When a value does not fit its column.
    pub fn untracked(values: &Map<String, Value>, rules: &Rules) -> Result<Self, RowError> {
        Self::new(&Metadata::default(), values, rules)
    }

    /// The row of a table's values and what is known beside them.
    ///
    /// # Errors
    /// When a value does not fit its column, or the metadata does not fit the values.
    pub fn new(
        metadata: &Metadata,
        values: &Map<String, Value>,
        rules: &Rules,
    ) -> Result<Self, RowError> {
        if values.len() > FIELDS_MAX || metadata.fields.len() > FIELDS_MAX {
            return Err(RowError::TooManyFields);
        }
        let mut row = Self {
            born: metadata.born.clone(),
            died: metadata.died.clone(),
            edited: metadata.edited.clone(),
            ..Self::default()
        };
        let only_died = row.died.is_some() && values.is_empty() && metadata.fields.is_empty();
        if row.born.is_none() && !only_died {
            row.born = Some(Clock::ground());
        }
        if row.born.is_some() && !metadata.partial {
            row.base = metadata.base.clone().or_else(|| row.born.clone());
        }
        if let Some(column) = metadata
            .fields
            .keys()
            .find(|column| !values.contains_key(*column))
        {
            return Err(RowError::Metadata {
                column: column.clone(),
            });
        }
        for (column, value) in values {
            let mark = metadata.fields.get(column);
            if row.base.is_none() && mark.is_none() {
                return Err(RowError::Metadata {
                    column: column.clone(),
                });
            }
            row.cells
                .insert(column.clone(), cell(column, value, mark, rules)?);
        }
        row.normalize(rules);
        Ok(row)
    }

    /// What is to be kept beside the row's values.
    pub fn metadata(&self) -> Metadata {
        let fields = self.cells.iter();
        let fields = fields
            .filter_map(|(column, cell)| Some((column.clone(), mark(cell, self.is_whole())?)));
        let newest = self.cells.values().filter_map(Cell::own_clock).max();
        Metadata {
            born: self.born.clone(),
            died: self.died.clone(),
            base: self
                .base
                .clone()
                .filter(|base| Some(base) != self.born.as_ref()),
            partial: self.born.is_some() && !self.is_whole(),
            edited: self.edited.clone().filter(|edited| Some(edited) != newest),
            fields: fields.collect(),
        }
    }
}

fn cell(column: &str, value: &Value, mark: Option<&Mark>, rules: &Rules) -> Result<Cell, RowError> {
    let column = || column.to_owned();
    match (rules.merge(&column()), mark) {
        (ColumnMerge::Register | ColumnMerge::Text, None | Some(Mark::Register(_))) => {
            let clock = match mark {
                Some(Mark::Register(clock)) => Some(clock.clone()),
                _ => None,
            };
            Ok(Cell::Register {
                clock,
                value: value.clone(),
            })
        }
        // In a part of a row, a mark says that there is a value: any mark will do.
        (ColumnMerge::Max(_) | ColumnMerge::Min(_), None | Some(Mark::Register(_))) => {
            Ok(Cell::Extreme {
                value: value.clone(),
            })
        }
        (ColumnMerge::Counter, mark) => {
            let (set, sums, null) = match mark {
                None => (None, BTreeMap::new(), value.is_null()),
                Some(Mark::Other(OtherMark::Counter { set, sums, null })) => {
                    (set.clone(), sums.clone(), *null)
                }
                Some(_) => return Err(RowError::Metadata { column: column() }),
            };
            let counter = Counter::shown(value, set, sums, !null);
            let counter = counter.map_err(|error| RowError::Counter {
                column: column(),
                error,
            })?;
            Ok(Cell::Counter(counter))
        }
        (ColumnMerge::Set, mark) => {
            let edited = match mark {
                None => BTreeMap::new(),
                Some(Mark::Other(OtherMark::Set(edited))) => edited.clone(),
                Some(_) => return Err(RowError::Metadata { column: column() }),
            };
            let set = Set::shown(value, edited);
            let set = set.map_err(|error| RowError::Set {
                column: column(),
                error,
            })?;
            Ok(Cell::Set(set))
        }
        _ => Err(RowError::Metadata { column: column() }),
    }
}

fn mark(cell: &Cell, is_whole: bool) -> Option<Mark> {
    match cell {
        Cell::Register { clock, .. } => clock.clone().map(Mark::Register),
        Cell::Extreme { .. } if is_whole => None,
        Cell::Extreme { .. } => Some(Mark::Register(Clock::ground())),
        Cell::Counter(counter) => {
            let (set, sums) = (counter.set_at().cloned(), counter.sums().clone());
            let has_marks = set.is_some() || !sums.is_empty() || !is_whole;
            let null = !counter.has_start();
            has_marks.then_some(Mark::Other(OtherMark::Counter { set, sums, null }))
        }
        Cell::Set(set) => {
            let marks = set
                .marks()
                .map(|(text, element)| (text.clone(), element.clone()));
            let marks: BTreeMap<_, _> = marks.collect();
            (!marks.is_empty() || !is_whole).then_some(Mark::Other(OtherMark::Set(marks)))
        }
    }
}
