//! Evaluates conditions on a row in SQL's three-valued logic. None is SQL's unknown.

use super::condition::{Condition, Membership, NoSets, Set, Sets};
use super::row::RowValues;
use super::scalar::{Cell, Scalar};

/// The truth of a condition for a row.
pub(super) fn truth(condition: &Condition, row: &RowValues, sets: &dyn Sets) -> Option<bool> {
    match condition {
        Condition::Constant(truth) => *truth,
        Condition::Compare { column, op, value } => {
            scalar(row, *column).map(|found| op.holds(found.cmp(value)))
        }
        Condition::In {
            column,
            values,
            null,
            negated,
        } => {
            let found = values.contains(scalar(row, *column)?);
            if *null && !found {
                None
            } else {
                Some(found != *negated)
            }
        }
        Condition::IsNull { column, negated } => {
            Some((read(row, *column) == &Cell::Null) != *negated)
        }
        Condition::Like {
            column,
            pattern,
            negated,
        } => {
            let Scalar::Text(text) = scalar(row, *column)? else {
                return None;
            };
            // In a `LIKE` of SQLite a text ends at its first null character, so a text with one matches no
            // pattern here.
            (!text.contains('\0')).then(|| pattern.matches(text) != *negated)
        }
        Condition::Member {
            columns,
            set,
            membership,
            negated,
        } => is_member(columns, set, *membership, row, sets).map(|member| member != *negated),
        Condition::Not(inner) => truth(inner, row, sets).map(|truth| !truth),
        Condition::And(parts) => all(parts, row, sets, true),
        Condition::Or(parts) => all(parts, row, sets, false),
    }
}

/// Whether a row's values in `columns` are in a set; none is SQL's unknown.
fn is_member(
    columns: &[usize],
    set: &Set,
    membership: Membership,
    row: &RowValues,
    sets: &dyn Sets,
) -> Option<bool> {
    let values = columns.iter().map(|column| scalar(row, *column));
    let values: Option<Vec<&Scalar>> = values.collect();
    // Values that are not there are looked up as no values: then only the rest of the answer counts.
    let lookup = sets.look_up(set, values.as_deref().unwrap_or_default())?;
    let found = match &values {
        Some(values) if values.is_empty() => !lookup.is_empty,
        Some(_) => lookup.found,
        None => false,
    };
    match membership {
        Membership::Exists => Some(found),
        Membership::In if found => Some(true),
        Membership::In if lookup.is_empty => Some(false),
        Membership::In if values.is_none() || lookup.has_null => None,
        Membership::In => Some(false),
    }
}

/// Whether a condition may be true for a row of which each column holds one of these values. It may when
/// each of its parts may, on its own. For canonical conditions, which have no `NOT`.
pub(super) fn is_possible(condition: &Condition, values: &[RowValues]) -> bool {
    match condition {
        Condition::Constant(truth) => *truth == Some(true),
        Condition::And(parts) => parts.iter().all(|part| is_possible(part, values)),
        Condition::Or(parts) => parts.iter().any(|part| is_possible(part, values)),
        Condition::Compare { column, .. }
        | Condition::In { column, .. }
        | Condition::IsNull { column, .. }
        | Condition::Like { column, .. } => values
            .iter()
            .filter(|row| row.cell(*column) != &Cell::Unread)
            .any(|row| truth(condition, row, &NoSets) == Some(true)),
        // What a set was is not looked at.
        Condition::Member { .. } | Condition::Not(_) => true,
    }
}

/// `neutral` when every part is that, its opposite when some part is the opposite, otherwise unknown.
fn all(parts: &[Condition], row: &RowValues, sets: &dyn Sets, neutral: bool) -> Option<bool> {
    let mut result = Some(neutral);
    for part in parts {
        match truth(part, row, sets) {
            Some(truth) if truth == neutral => {}
            Some(truth) => return Some(truth),
            None => result = None,
        }
    }
    result
}

fn read(row: &RowValues, column: usize) -> &Cell {
    let cell = row.cell(column);
    debug_assert_ne!(cell, &Cell::Unread, "column {column} was not read");
    cell
}

fn scalar(row: &RowValues, column: usize) -> Option<&Scalar> {
    match read(row, column) {
        Cell::Value(scalar) => Some(scalar),
        Cell::Unread | Cell::Null | Cell::Foreign => None,
    }
}
