//! Windows: the first rows of a table in some order.
//!
//! A window is a set of keys, and so a filter names it as it names any set. The order is the database's: columns as they
//! were asked for, then those of the key that are not among them, in the direction of the last. So no two rows are
//! equal in it. A null is above every value, on both databases.

use std::cmp::Ordering;

use super::Condition;
use crate::row::RowValues;
use crate::scalar::{Cell, Scalar};
use crate::syntax::{CompareOp, quoted};
use value::schema::Schema;

/// What a row of a window takes in memory beside the values that order it, in bytes.
const ROW_BYTES: usize = 96;
/// What a value that orders a row takes in memory, in bytes.
const VALUE_BYTES: usize = 48;

/// The first rows in an order.
#[derive(Debug, Clone)]
pub struct Window {
    /// No column twice; the key's are among them.
    pub(crate) order: Vec<OrderColumn>,
    pub(crate) limit: usize,
    /// The values of a row in the order's columns, behind which the window begins; none is null.
    pub(crate) after: Option<Vec<Option<Scalar>>>,
}

/// A column by which rows are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderColumn {
    /// Its position.
    pub column: usize,
    /// Which values come first.
    pub direction: Direction,
    /// Whether Rust knows the database's order of its values. Of others it knows only whether they are equal.
    pub(crate) is_known: bool,
    /// Whether so does a client.
    pub(crate) is_told: bool,
}

/// Which values come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The least.
    Ascending,
    /// The greatest, after nulls.
    Descending,
}

/// The values by which a row is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank(Box<[Cell]>);

impl Window {
    /// The columns by which rows are ordered, those of the key among them. Nulls come last in an ascending one, and
    /// first in a descending one.
    pub fn order(&self) -> &[OrderColumn] {
        &self.order
    }

    /// The most rows that are in it.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The positions of the columns by which rows are ordered.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.order.iter().map(|order| order.column)
    }

    /// The values by which a row is ordered. It must have been read with those columns.
    pub fn rank(&self, row: &RowValues) -> Rank {
        let cells = self.columns().map(|column| row.cell(column).clone());
        Rank(cells.collect())
    }

    /// The order of two rows in the database; none when only the database knows it.
    pub fn compare(&self, one: &Rank, other: &Rank) -> Option<Ordering> {
        let pairs = one.0.iter().zip(&other.0);
        for (order, (one, other)) in self.order.iter().zip(pairs) {
            match order.compare(one, other)? {
                Ordering::Equal => {}
                differs => return Some(differs),
            }
        }
        Some(Ordering::Equal)
    }

    /// Whether a client can tell the order of two rows from their values: it knows neither texts nor decimals well enough.
    pub fn is_told(&self, one: &Rank, other: &Rank) -> bool {
        let mut pairs = self.order.iter().zip(one.0.iter().zip(&other.0));
        let deciding = pairs.find(|(_, (one, other))| one != other || **one == Cell::Foreign);
        deciding.is_none_or(|(order, (one, other))| {
            order.is_told || matches!(one, Cell::Null) != matches!(other, Cell::Null)
        })
    }

    /// Whether a row comes behind the one with which the window begins; none when only the database knows.
    pub fn begins_before(&self, rank: &Rank) -> Option<bool> {
        let Some(after) = &self.after else {
            return Some(true);
        };
        let cell = |value: &Option<Scalar>| value.clone().map_or(Cell::Null, Cell::Value);
        let after = Rank(after.iter().map(cell).collect());
        Some(self.compare(&after, rank)? == Ordering::Less)
    }

    /// The condition that a row comes behind the one with which the window begins; none when it begins with the first
    /// row. An index on the order serves it.
    pub fn condition(&self, schema: &Schema) -> Option<Condition> {
        let after = self.after.as_ref()?;
        let pairs = || self.order.iter().zip(after);
        let mut cases = Vec::new();
        for (index, (order, value)) in pairs().enumerate() {
            let mut parts: Vec<Condition> = pairs()
                .take(index)
                .map(|(order, value)| order.equal(value))
                .collect();
            parts.push(order.behind(value, schema));
            cases.push(Condition::And(parts));
        }
        let (first, value) = pairs().next()?;
        let bound = first.not_before(value, schema);
        Some(Condition::And(vec![bound, Condition::Or(cases)]))
    }

    /// As text.
    pub(super) fn text(&self, schema: &Schema, with_values: bool) -> String {
        let order = self.order.iter().map(|order| {
            let word = match order.direction {
                Direction::Ascending => "ASC",
                Direction::Descending => "DESC",
            };
            format!("{} {word}", quoted(&schema.columns[order.column].name))
        });
        let order: Vec<String> = order.collect();
        let after = match &self.after {
            Some(after) if with_values => format!(" AFTER {after:?}"),
            Some(_) => " AFTER ?".to_owned(),
            None => String::new(),
        };
        format!(" ORDER BY {} LIMIT {}{after}", order.join(", "), self.limit)
    }

    /// The memory that it takes with its rows, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.limit * (ROW_BYTES + VALUE_BYTES * self.order.len())
    }
}

impl OrderColumn {
    fn compare(self, one: &Cell, other: &Cell) -> Option<Ordering> {
        let ascending = match (one, other) {
            (Cell::Null, Cell::Null) => Ordering::Equal,
            (Cell::Null, Cell::Value(_) | Cell::Foreign) => Ordering::Greater,
            (Cell::Value(_) | Cell::Foreign, Cell::Null) => Ordering::Less,
            (Cell::Value(one), Cell::Value(other)) if one == other => Ordering::Equal,
            (Cell::Value(one), Cell::Value(other)) if self.is_known => one.cmp(other),
            _ => return None,
        };
        Some(match self.direction {
            Direction::Ascending => ascending,
            Direction::Descending => ascending.reverse(),
        })
    }

    fn equal(self, value: &Option<Scalar>) -> Condition {
        match value {
            Some(value) => self.compared(CompareOp::Eq, value),
            None => self.null(false),
        }
    }

    /// That the column comes behind a value.
    fn behind(self, value: &Option<Scalar>, schema: &Schema) -> Condition {
        match (self.direction, value) {
            (Direction::Ascending, Some(value)) => {
                self.or_null(self.compared(CompareOp::Gt, value), schema)
            }
            (Direction::Descending, Some(value)) => self.compared(CompareOp::Lt, value),
            (Direction::Ascending, None) => Condition::Constant(Some(false)),
            (Direction::Descending, None) => self.null(true),
        }
    }

    /// That it does not come before a value.
    fn not_before(self, value: &Option<Scalar>, schema: &Schema) -> Condition {
        match (self.direction, value) {
            (Direction::Ascending, Some(value)) => {
                self.or_null(self.compared(CompareOp::Ge, value), schema)
            }
            (Direction::Descending, Some(value)) => self.compared(CompareOp::Le, value),
            (Direction::Ascending, None) => self.null(false),
            (Direction::Descending, None) => Condition::Constant(Some(true)),
        }
    }

    fn or_null(self, compared: Condition, schema: &Schema) -> Condition {
        if schema.columns[self.column].nullable {
            Condition::Or(vec![compared, self.null(false)])
        } else {
            compared
        }
    }

    fn compared(self, op: CompareOp, value: &Scalar) -> Condition {
        Condition::Compare {
            column: self.column,
            op,
            value: value.clone(),
        }
    }

    fn null(self, negated: bool) -> Condition {
        Condition::IsNull {
            column: self.column,
            negated,
        }
    }
}

impl Rank {
    /// Whether it has a value of which Rust does not even know whether another is equal.
    pub fn is_opaque(&self) -> bool {
        self.0.iter().any(|cell| matches!(cell, Cell::Foreign))
    }
}
