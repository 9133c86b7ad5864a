//! Writes: what a client or a program did to a row, and what becomes of it where the row is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::amount::{Amount, AmountError};
use crate::cell::Cell;
use crate::clock::{Clock, NodeId};
use crate::conflict::{Conflict, Stamped};
use crate::counter::Counter;
use crate::metadata::{FIELDS_MAX, RowError};
use crate::order::same;
use crate::row::Row;
use crate::rules::{ColumnMerge, FieldMergeStrategy, Rules};
use crate::set::Set;

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// The row with its values.
    Create(Map<String, Value>),
    /// Some columns' values; of counters also `{"add": 3}`, of sets `{"add": […], "remove": […]}`.
    Update(Map<String, Value>),
    /// The row is gone.
    Delete,
}

/// A write, as its author stamped it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// When it was made.
    pub clock: Clock,
    /// The birth of the row that the author saw; none for a row that has no metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<Clock>,
    /// The newest clock of the row that the author had seen; none if it does not say. It decides what is told as a
    /// conflict and what the strategies take for one, not what the later of two clocks is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Clock>,
    /// What was written.
    pub edit: Edit,
}

/// Why a write is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It is not above the horizon, below which clocks have been folded. Its author may stamp it again.
    #[error("the write is older than {horizon}")]
    Stale {
        /// The horizon.
        horizon: Clock,
    },
    /// There is no such row.
    #[error("there is no such row")]
    Missing,
    /// A value fits no counter or set, or there are too many.
    #[error(transparent)]
    Row(#[from] RowError),
    /// There is no clock above the one that is to be overwritten.
    #[error("there is no later clock")]
    Exhausted,
}

/// Where a write is applied.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The database in whose name increments are kept. None where no other counts: then they go into the number itself,
    /// and a counter has no metadata.
    pub counts_as: Option<NodeId>,
    /// Up to where clocks have been folded, and tombstones purged.
    pub horizon: Option<Clock>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The row as it is now.
    pub row: Row,
    /// What to tell of values that lost: to the authors of those, and under [`FieldMergeStrategy::KeepBoth`] to all.
    pub conflicts: Vec<Conflict>,
}

impl Write {
    /// Applies the write to the row as it is known, if it is. Nothing is changed in place, so a refusal leaves nothing
    /// behind.
    ///
    /// # Errors
    /// When the write is refused.
    pub fn apply(
        &self,
        known: Option<&Row>,
        rules: &Rules,
        site: &Site,
    ) -> Result<Written, WriteError> {
        if let Some(horizon) = site
            .horizon
            .as_ref()
            .filter(|horizon| self.clock <= **horizon)
        {
            return Err(WriteError::Stale {
                horizon: horizon.clone(),
            });
        }
        let part = self.part(known, rules, site)?;
        if known.is_none() {
            // Of a row that is not here and whose creation is older than what is purged, only the purge can be the cause.
            let is_stale = |horizon: &Clock| part.is_stale_at(horizon);
            if site.horizon.as_ref().is_some_and(is_stale) {
                return Err(WriteError::Missing);
            }
        }
        let none = Row::default();
        let before = known.unwrap_or(&none);
        let (part, mut conflicts) = self.by_strategy(part, before, rules)?;
        let mut row = before.clone().joined(&part, rules);
        if site.counts_as.is_none() && row.is_alive(rules) && row.born == part.born {
            self.settle(&mut row, rules)?;
        }
        conflicts.extend(self.lost(&part, before, &row, rules));
        Ok(Written { row, conflicts })
    }

    /// The write as a row of which only what was written is known. For increments and edits of a set it needs the row,
    /// for it says what they make of it.
    ///
    /// # Errors
    /// When a value fits no counter or set, or there are too many.
    pub fn part(&self, known: Option<&Row>, rules: &Rules, site: &Site) -> Result<Row, RowError> {
        let clock = &self.clock;
        let mut part = match &self.edit {
            Edit::Delete => Row {
                died: Some(clock.clone()),
                ..Row::default()
            },
            Edit::Create(values) => {
                let mut part = Row::untracked(values, rules)?;
                part.born = Some(clock.clone());
                part.base = Some(clock.clone());
                part
            }
            Edit::Update(values) if values.len() > FIELDS_MAX => {
                return Err(RowError::TooManyFields);
            }
            Edit::Update(values) => {
                let born = self.born.clone().unwrap_or_else(Clock::ground);
                let same_birth = known.filter(|known| known.born.as_ref() == Some(&born));
                let mut part = Row {
                    born: Some(born),
                    edited: Some(clock.clone()),
                    ..Row::default()
                };
                for (column, value) in values {
                    let before = same_birth.and_then(|row| row.cells.get(column));
                    let cell = self.cell(column, value, before, rules, site)?;
                    part.cells.insert(column.clone(), cell);
                }
                part
            }
        };
        part.normalize(rules);
        Ok(part)
    }

    /// Increments where one database alone counts: its number is the whole truth, so there is nothing to merge.
    fn settle(&self, row: &mut Row, rules: &Rules) -> Result<(), RowError> {
        let Edit::Update(values) = &self.edit else {
            return Ok(());
        };
        for (column, value) in values {
            let Some([add]) =
                members(value, &["add"]).filter(|_| rules.merge(column) == ColumnMerge::Counter)
            else {
                continue;
            };
            let empty = Cell::Counter(Counter::default());
            if let Cell::Counter(counter) = row.cells.entry(column.clone()).or_insert(empty) {
                let done = Amount::of(add).and_then(|amount| counter.settle(amount));
                done.map_err(|error| RowError::Counter {
                    column: column.clone(),
                    error,
                })?;
            }
        }
        Ok(())
    }

    fn cell(
        &self,
        column: &str,
        value: &Value,
        before: Option<&Cell>,
        rules: &Rules,
        site: &Site,
    ) -> Result<Cell, RowError> {
        match rules.merge(column) {
            ColumnMerge::Register | ColumnMerge::Text => {
                let (clock, value) = (Some(self.clock.clone()), value.clone());
                Ok(Cell::Register { clock, value })
            }
            ColumnMerge::Max(_) | ColumnMerge::Min(_) => Ok(Cell::Extreme {
                value: value.clone(),
            }),
            ColumnMerge::Counter => {
                let before = match before {
                    Some(Cell::Counter(counter)) => counter.clone(),
                    _ => Counter::default(),
                };
                let counter = self.count(before, value, site);
                let counter = counter.map_err(|error| RowError::Counter {
                    column: column.to_owned(),
                    error,
                })?;
                Ok(Cell::Counter(counter))
            }
            ColumnMerge::Set => {
                let mut set = match before {
                    Some(Cell::Set(set)) => set.clone(),
                    _ => Set::default(),
                };
                let done = match members(value, &["add", "remove"]) {
                    Some([add, remove]) => set.edit(add, remove, &self.clock),
                    None => set.assign(value, &self.clock),
                };
                done.map_err(|error| RowError::Set {
                    column: column.to_owned(),
                    error,
                })?;
                Ok(Cell::Set(set))
            }
        }
    }

    fn count(
        &self,
        mut counter: Counter,
        value: &Value,
        site: &Site,
    ) -> Result<Counter, AmountError> {
        let Some([add]) = members(value, &["add"]) else {
            return Counter::set(value, Some(self.clock.clone()));
        };
        let amount = Amount::of(add)?;
        if let Some(database) = &site.counts_as {
            counter.add(amount, database)?;
        }
        Ok(counter)
    }

    /// What the strategies make of the part: the server's value stays, or the client's is stamped above it. From then on
    /// the later clock wins everywhere, so that replicas agree that never heard of the strategy.
    fn by_strategy(
        &self,
        mut part: Row,
        before: &Row,
        rules: &Rules,
    ) -> Result<(Row, Vec<Conflict>), WriteError> {
        let mut conflicts = Vec::new();
        if part.born != before.born || part.is_whole() {
            return Ok((part, conflicts));
        }
        let part_born = part.born.clone();
        let columns: Vec<String> = part.cells.keys().cloned().collect();
        for column in columns {
            let Some(current) = before.clock(&column) else {
                continue;
            };
            let strategy = rules.strategy(&column);
            let Some(Cell::Register {
                clock: Some(clock),
                value,
            }) = part.cells.get_mut(&column)
            else {
                continue;
            };
            let is_unseen = self.has_not_seen(current, &part_born, before);
            match strategy {
                FieldMergeStrategy::ServerWins if is_unseen => {
                    let lost = Stamped {
                        value: value.clone(),
                        hlc: clock.clone(),
                    };
                    conflicts.extend(Conflict::of(&column, kept(before, &column), lost, strategy));
                    part.cells.remove(&column);
                }
                // What the author wrote itself is as its own clocks say.
                FieldMergeStrategy::ClientWins
                    if *current >= *clock && !current.is_of(&self.clock.node()) =>
                {
                    *clock = Clock::after(Some(current), clock.millis(), &clock.node())
                        .map_err(|_| WriteError::Exhausted)?;
                }
                _ => {}
            }
        }
        part.normalize(rules);
        Ok((part, conflicts))
    }

    /// Whether the author wrote without knowing of a clock in the row. What the row was born with is known to who knows of
    /// the birth, and so is what the author wrote.
    fn has_not_seen(&self, current: &Clock, born: &Option<Clock>, before: &Row) -> bool {
        let birth = before.born.as_ref().filter(|_| *born == before.born);
        Some(current) > self.seen.as_ref().max(birth) && !current.is_of(&self.clock.node())
    }

    /// The registers whose values lost: those of the write that are not what the row holds now, and those of the row that
    /// the author had not seen.
    fn lost(&self, part: &Row, before: &Row, after: &Row, rules: &Rules) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (column, cell) in &part.cells {
            let Cell::Register { clock, value } = cell else {
                continue;
            };
            let strategy = rules.strategy(column);
            let written = Stamped {
                value: value.clone(),
                hlc: clock.clone().unwrap_or_else(|| self.clock.clone()),
            };
            let is_there = after.born == part.born
                && after.is_alive(rules)
                && matches!(after.cells.get(column), Some(Cell::Register { value: now, .. }) if now == value);
            if !is_there {
                let kept = kept(after, column).filter(|_| after.is_alive(rules));
                conflicts.extend(Conflict::of(column, kept, written, strategy));
                continue;
            }
            let was_unseen = |current: &&Clock| {
                before.is_alive(rules) && self.has_not_seen(current, &part.born, before)
            };
            if let Some(current) = before.clock(column).filter(was_unseen)
                && let Some(Cell::Register { value: old, .. }) = before.cells.get(column)
                && !same(old, value)
            {
                let lost = Stamped {
                    value: old.clone(),
                    hlc: current.clone(),
                };
                conflicts.extend(Conflict::of(column, Some(written), lost, strategy));
            }
        }
        conflicts
    }
}

fn kept(row: &Row, column: &str) -> Option<Stamped> {
    let value = row.cells.get(column)?.value();
    Some(Stamped {
        value,
        hlc: row.clock(column)?.clone(),
    })
}

/// The members of an object that has some of these and no others; null stands for one that is not there.
fn members<'a, const N: usize>(value: &'a Value, names: &[&str; N]) -> Option<[&'a Value; N]> {
    let object = value.as_object()?;
    let fits = !object.is_empty() && object.keys().all(|name| names.contains(&&**name));
    fits.then(|| names.map(|name| object.get(name).unwrap_or(&Value::Null)))
}
