//! A row's values.

use super::scalar::{Cell, Scalar};

/// The values of a row, by the position of their column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowValues {
    pub(super) cells: Vec<Cell>,
}

impl RowValues {
    /// A row with this many columns, none of which has been read.
    pub(super) fn unread(columns: usize) -> Self {
        Self {
            cells: vec![Cell::Unread; columns],
        }
    }

    /// The cell in the column at `position`.
    pub fn cell(&self, position: usize) -> &Cell {
        self.cells.get(position).unwrap_or(&Cell::Unread)
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, position: usize, cell: Cell) {
        self.cells[position] = cell;
    }

    /// The value in the column at `position`, if it can be compared; an index of shapes looks it up.
    pub fn scalar(&self, position: usize) -> Option<&Scalar> {
        match self.cell(position) {
            Cell::Value(scalar) => Some(scalar),
            Cell::Unread | Cell::Null | Cell::Foreign => None,
        }
    }
}
