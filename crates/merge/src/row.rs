//! A row with its metadata: the value that merges.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::cell::Cell;
use crate::clock::Clock;
use crate::order::same;
use crate::rules::{ColumnMerge, Deletes, Rules};

/// A row as a replica knows it, or a part of one: a write is a row too, of which only what was written is known.
///
/// What belongs to a birth (the base, the edits, the cells) counts while no later birth is known; the birth itself and
/// the death are maxima. So is every part below: [`Row::join`] never looks at what is "now", and decides nothing early.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The newest creation; none where only a deletion is known.
    pub(crate) born: Option<Clock>,
    /// The newest deletion that is not older than the birth.
    pub(crate) died: Option<Clock>,
    /// The clock of every register that has none of its own; none while the creation itself has not arrived.
    pub(crate) base: Option<Clock>,
    /// The newest edit, kept where it can bring the row back.
    pub(crate) edited: Option<Clock>,
    pub(crate) cells: BTreeMap<String, Cell>,
}

impl Row {
    /// The newest creation; none where only a deletion is known.
    pub fn born(&self) -> Option<&Clock> {
        self.born.as_ref()
    }

    /// The newest deletion, unless the row was created again since.
    pub fn died(&self) -> Option<&Clock> {
        self.died.as_ref()
    }

    /// The clock of a register, or of the row's other registers if it has none of its own.
    pub fn clock(&self, column: &str) -> Option<&Clock> {
        let own = self.cells.get(column).and_then(Cell::own_clock);
        own.or(self.base.as_ref())
    }

    /// The cell of a column.
    pub fn cell(&self, column: &str) -> Option<&Cell> {
        self.cells.get(column)
    }

    /// The newest clock anywhere in the row.
    pub fn newest(&self) -> Option<&Clock> {
        let own = self.cells.values().filter_map(Cell::newest);
        let parts = [&self.born, &self.died, &self.edited];
        own.chain(parts.into_iter().flatten()).max()
    }

    /// Whether the row is there.
    pub fn is_alive(&self, rules: &Rules) -> bool {
        let lives = |clock: Option<&Clock>| clock.is_some() && clock > self.died.as_ref();
        let is_revived = rules.deletes == Deletes::Revive && lives(self.edited.as_ref());
        self.born.is_some() && (lives(self.born.as_ref()) || is_revived)
    }

    /// Whether the row's creation has arrived. Of one whose edits came first, columns without a default may be missing; it
    /// waits, and is not shown.
    pub fn is_whole(&self) -> bool {
        self.base.is_some()
    }

    /// The row's values, if it is there and whole. A column that is not among them is as the table has it.
    pub fn shown(&self, rules: &Rules) -> Option<Map<String, Value>> {
        (self.is_alive(rules) && self.is_whole()).then(|| self.values())
    }

    /// The row with the same values as a new one, for a replica that finds it where it should not be.
    #[must_use]
    pub fn born_again(self, clock: Clock) -> Self {
        let values = self.cells.into_iter();
        let cells = values.map(|(column, cell)| (column, cell.untracked()));
        Self {
            base: Some(clock.clone()),
            born: Some(clock),
            died: None,
            edited: None,
            cells: cells.collect(),
        }
    }

    /// The row, deleted: for a replica that does not find it where it should be.
    #[must_use]
    pub fn dead_since(mut self, clock: Clock, rules: &Rules) -> Self {
        self.died = self.died.max(Some(clock));
        self.normalize(rules);
        self
    }

    /// All values that are known, also those of a row that died.
    pub fn values(&self) -> Map<String, Value> {
        let values = self.cells.iter();
        values
            .map(|(column, cell)| (column.clone(), cell.value()))
            .collect()
    }

    /// The columns and their values, in the order of their names.
    pub(crate) fn shown_cells(&self) -> impl Iterator<Item = (&String, Cow<'_, Value>)> {
        let cells = self.cells.iter();
        cells.map(|(column, cell)| (column, cell.shown()))
    }

    /// Merges another replica's row, or a write, into this one.
    pub fn join(&mut self, other: &Self, rules: &Rules) {
        if other.died > self.died {
            self.died.clone_from(&other.died);
        }
        match self.born.cmp(&other.born) {
            Ordering::Greater => {}
            Ordering::Equal => self.join_birth(other, rules),
            Ordering::Less => {
                self.born.clone_from(&other.born);
                self.base.clone_from(&other.base);
                self.edited.clone_from(&other.edited);
                self.cells.clone_from(&other.cells);
            }
        }
        self.normalize(rules);
    }

    /// The row of both.
    #[must_use]
    pub fn joined(mut self, other: &Self, rules: &Rules) -> Self {
        self.join(other, rules);
        self
    }

    /// Merges what is known of the same birth.
    fn join_birth(&mut self, other: &Self, rules: &Rules) {
        let mut cells = BTreeMap::new();
        let columns: BTreeSet<&String> = self.cells.keys().chain(other.cells.keys()).collect();
        for column in columns {
            let ours = (self.cells.get(column), self.base.as_ref());
            let theirs = (other.cells.get(column), other.base.as_ref());
            if let Some(cell) = Cell::joined(ours, theirs, rules.merge(column)) {
                cells.insert(column.clone(), cell);
            }
        }
        if other.base > self.base {
            self.base.clone_from(&other.base);
        }
        self.cells = cells;
        // What was the base of one is no edit, which normalizing would take it for.
        self.drop_old_clocks();
        if other.edited > self.edited {
            self.edited.clone_from(&other.edited);
        }
    }

    /// Brings the row into its one form: without what cannot matter any more, whatever is still to come.
    pub(crate) fn normalize(&mut self, rules: &Rules) {
        let Self {
            born,
            died,
            base,
            edited,
            cells,
        } = self;
        if *died < *born {
            *died = None;
        }
        match rules.deletes {
            Deletes::Win => {
                *edited = None;
                if born.is_some() && died.is_some() {
                    *base = None;
                    cells.clear();
                }
            }
            Deletes::Revive => {
                let newest = cells.values().filter_map(Cell::own_clock).max();
                let newest = newest.max(edited.as_ref());
                *edited = newest
                    .filter(|newest| Some(*newest) > born.as_ref().max(died.as_ref()))
                    .cloned();
            }
        }
        self.drop_old_clocks();
    }

    /// Drops the clocks that the base stands for.
    fn drop_old_clocks(&mut self) {
        let base = self.base.as_ref();
        for cell in self.cells.values_mut() {
            if let Cell::Register { clock, .. } = cell {
                clock.take_if(|clock| Some(&*clock) <= base);
            }
        }
    }

    /// Folds every clock up to the horizon into the base, so that metadata stays small. Sound only where no write at or
    /// below the horizon can arrive any more: one authority refuses them, and of several databases each must have all
    /// that the others have admitted up to there ([`Peers::frontier`](crate::Peers::frontier)).
    ///
    /// Counters, the greatest and the least need no clocks. The marks of a set's elements stay, but for those that were
    /// removed: a peer that has not folded yet knows the elements by them.
    pub fn fold(&mut self, horizon: &Clock) {
        if !self.is_whole() {
            return;
        }
        for cell in self.cells.values_mut() {
            if let Cell::Set(set) = cell {
                set.fold(horizon);
            }
        }
        // Also where all clocks are younger, so that a write before the folding leaves the same as one after it.
        let has_clocks = self.cells.values().any(|cell| cell.own_clock().is_some());
        if has_clocks && self.base.as_ref() < Some(horizon) {
            self.base = Some(horizon.clone());
            self.drop_old_clocks();
        }
        // Who knows of no deletion will hear of none that old.
        if self.died.is_none() {
            self.edited.take_if(|edited| *edited <= *horizon);
        }
    }

    /// The columns in which this row shows something else than one that it has merged, because what stands here is newer or
    /// greater: who sent that one lacks it.
    pub fn ahead_of<'a>(
        &'a self,
        merged: &'a Self,
        rules: &'a Rules,
    ) -> impl Iterator<Item = &'a str> {
        let is_ahead = |column: &str, ours: &Cell, theirs: &Cell| {
            let (here, there) = (ours.value(), theirs.value());
            match rules.merge(column) {
                ColumnMerge::Register | ColumnMerge::Text => {
                    let clock_here = ours.own_clock().or(self.base.as_ref());
                    clock_here > theirs.own_clock().or(merged.base.as_ref()) && here != there
                }
                ColumnMerge::Max(comparison) | ColumnMerge::Min(comparison) => {
                    !comparison.is_same(&here, &there)
                }
                ColumnMerge::Counter | ColumnMerge::Set => !same(&here, &there),
            }
        };
        let both = self.cells.iter().filter_map(|(column, ours)| {
            let theirs = merged.cells.get(column)?;
            Some((column.as_str(), ours, theirs))
        });
        both.filter(move |(column, ours, theirs)| is_ahead(column, ours, theirs))
            .map(|(column, _, _)| column)
    }

    /// Whether the row is a tombstone that everybody has, up to the horizon, so that it may be forgotten. From then on
    /// [`Row::is_stale_at`] keeps away what would bring it back.
    pub fn may_be_purged(&self, horizon: &Clock, rules: &Rules) -> bool {
        !self.is_alive(rules) && self.newest().is_some_and(|newest| newest <= horizon)
    }

    /// Whether a row that is not known here comes from before the horizon: it was there, died and was purged, and who
    /// sends it must begin again from what is here. What came into being or was edited since is welcome, if it is whole.
    pub fn is_stale_at(&self, horizon: &Clock) -> bool {
        let is_old = self.newest().is_none_or(|newest| newest <= horizon);
        let is_only_an_edit = self.born.is_some() && !self.is_whole() && self.died.is_none();
        is_old || is_only_an_edit && self.born.as_ref() <= Some(horizon)
    }
}
