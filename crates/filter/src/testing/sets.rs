//! Random conditions on sets, and what they mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use value::schema::{ColumnKind, Schema};

use crate::canonical::canonical;
use crate::{
    Backend, Cell, CompareOp, Condition, Filter, Lookup, Membership, NoSets, RowReader, RowValues,
    Scalar, Set, SetRows, Sets, Table,
};

/// A filter of a condition in any form.
pub fn filter_of(condition: Condition) -> Filter {
    Filter::of(canonical(condition))
}

/// A table of whose rows sets are made. Its columns are numbers and texts.
#[derive(Debug, Clone)]
pub struct SetTable {
    /// Its columns.
    pub schema: Arc<Schema>,
    /// Differs when the table has changed.
    pub fingerprint: Arc<str>,
    /// The database that holds it.
    pub backend: Backend,
}

/// A number below its argument, at random.
pub type Dice<'a> = &'a mut dyn FnMut(usize) -> usize;

/// A filter on the table `of`, with sets of rows of all tables, `depth` inside each other at most.
pub fn random_filter(tables: &[SetTable], of: usize, depth: usize, dice: Dice<'_>) -> Filter {
    filter_of(condition(tables, of, depth, 2, dice))
}

fn condition(
    tables: &[SetTable],
    of: usize,
    depth: usize,
    joins: usize,
    dice: Dice<'_>,
) -> Condition {
    if joins > 0 && dice(3) == 0 {
        let parts: Vec<Condition> = (0..2)
            .map(|_| condition(tables, of, depth, joins - 1, dice))
            .collect();
        return match dice(3) {
            0 => Condition::And(parts),
            1 => Condition::Or(parts),
            _ => Condition::Not(Box::new(Condition::And(parts))),
        };
    }
    if depth > 0 && dice(3) > 0 {
        return member(tables, of, depth, dice);
    }
    let schema = &tables[of].schema;
    let column = dice(schema.columns.len());
    match dice(4) {
        0 => Condition::IsNull {
            column,
            negated: dice(2) == 0,
        },
        1 => Condition::Constant([Some(true), Some(false), None][dice(3)]),
        _ => Condition::Compare {
            column,
            op: [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt][dice(3)],
            value: scalar(&schema.columns[column].kind, dice),
        },
    }
}

fn member(tables: &[SetTable], of: usize, depth: usize, dice: Dice<'_>) -> Condition {
    let inner = dice(tables.len());
    let kind = |table: usize, column: usize| &tables[table].schema.columns[column].kind;
    let membership = [Membership::In, Membership::Exists][dice(2)];
    let wanted = match membership {
        Membership::In => 1,
        Membership::Exists => dice(3),
    };
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    while pairs.len() < wanted {
        let outer = dice(tables[of].schema.columns.len());
        let same: Vec<usize> = (0..tables[inner].schema.columns.len())
            .filter(|column| {
                std::mem::discriminant(kind(inner, *column))
                    == std::mem::discriminant(kind(of, outer))
            })
            .collect();
        if !same.is_empty() {
            pairs.push((outer, same[dice(same.len())]));
        }
    }
    let table = &tables[inner];
    Condition::Member {
        columns: pairs.iter().map(|(outer, _)| *outer).collect(),
        set: Set::new(SetRows {
            window: None,
            schema: table.schema.clone(),
            fingerprint: table.fingerprint.clone(),
            backend: table.backend,
            filter: filter_of(condition(tables, inner, depth - 1, 1, dice)),
            columns: pairs.iter().map(|(_, column)| *column).collect(),
            asked: None,
        }),
        membership,
        negated: dice(2) == 0,
    }
}

fn scalar(kind: &ColumnKind, dice: Dice<'_>) -> Scalar {
    match kind {
        ColumnKind::Int { .. } => Scalar::Int(i64::try_from(dice(4)).unwrap_or_default()),
        _ => Scalar::Text(["", "a", "b"][dice(3)].into()),
    }
}

/// Sets of rows that are all known.
#[derive(Debug, Clone, Default)]
pub struct RowSets(BTreeMap<String, Vec<RowValues>>);

impl RowSets {
    /// Adds the rows of a table.
    pub fn add<'a>(&mut self, table: &SetTable, rows: impl IntoIterator<Item = &'a RawValue>) {
        let seen = Table::new(&table.schema, table.backend);
        let reader = RowReader::new(seen, 0..table.schema.columns.len());
        let rows = rows.into_iter().map(|row| reader.read(row).expect("a row"));
        self.0.insert(table.schema.entity.clone(), rows.collect());
    }

    /// Keeps only the rows of an entity that match a filter without sets.
    pub fn retain(&mut self, entity: &str, filter: &Filter) {
        let rows = self.0.entry(entity.to_owned()).or_default();
        rows.retain(|row| filter.matches(row, &NoSets) == Some(true));
    }

    /// The rows of an entity.
    pub fn rows(&self, entity: &str) -> &[RowValues] {
        self.0.get(entity).map_or(&[], Vec::as_slice)
    }
}

impl Sets for RowSets {
    fn look_up(&self, set: &Set, values: &[&Scalar]) -> Option<Lookup> {
        let rows = self.rows(set.entity()).iter();
        let rows: Vec<&RowValues> = rows
            .filter(|row| set.rows().filter.matches(row, self) == Some(true))
            .collect();
        let columns = &set.rows().columns;
        let has = |row: &RowValues| {
            let mut pairs = columns.iter().zip(values);
            values.len() == columns.len()
                && pairs.all(|(column, value)| row.scalar(*column) == Some(value))
        };
        let is_unequal = |row: &RowValues| {
            let mut cells = columns.iter().map(|column| row.cell(*column));
            cells.any(|cell| !matches!(cell, Cell::Value(_)))
        };
        Some(Lookup {
            found: rows.iter().any(|row| has(row)),
            is_empty: rows.is_empty(),
            has_null: rows.iter().any(|row| is_unequal(row)),
        })
    }
}
