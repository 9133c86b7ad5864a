//! Subqueries beside a second evaluator, which reads the text as SQL says: row by row, query inside query.

use std::ops::Not as _;

use proptest::prelude::*;

use super::text_of;
use crate::parse::parse;
use crate::syntax::{Expr, Name, Operand, Subquery, Term};
use crate::testing::queries::{rows, subquery_text};
use crate::testing::sets::RowSets;
use crate::testing::tables::TestTables;
use crate::testing::{raw, test_table};
use crate::{Access, AccessKey, Backend, Cell, Filter, RowReader, RowValues, Scalar, SetKey, Sets};

/// A row, and the query that reads it.
struct Frame<'a> {
    entity: &'a str,
    qualifier: String,
    row: &'a RowValues,
}

struct Reference<'a> {
    tables: &'a TestTables,
    rows: &'a RowSets,
}

impl Reference<'_> {
    /// The truth of a condition; the innermost frame comes last.
    fn truth(&self, expr: &Expr, frames: &[Frame<'_>]) -> Option<bool> {
        let value = |operand| self.value(operand, frames);
        let negate = |truth: Option<bool>, negated: bool| truth.map(|truth| truth != negated);
        match expr {
            Expr::Compare { left, op, right } => {
                let (left, right) = (value(left)?, value(right)?);
                Some(op.holds(left.cmp(&right)))
            }
            Expr::In {
                operand,
                values,
                negated,
            } => {
                let left = value(operand);
                negate(is_among(&left, values.iter().map(value)), *negated)
            }
            Expr::IsNull { operand, negated } => Some(value(operand).is_none() != *negated),
            Expr::InSubquery {
                operand,
                subquery,
                negated,
            } => {
                let left = value(operand);
                let found = self.select(subquery, frames, |frames| {
                    self.value(subquery.selected.as_ref().expect("a column"), frames)
                });
                negate(is_among(&left, found.into_iter()), *negated)
            }
            Expr::Exists(subquery) => Some(!self.select(subquery, frames, |_| ()).is_empty()),
            Expr::Not(inner) => self.truth(inner, frames).map(bool::not),
            Expr::And(parts) => self.all(parts, frames, false),
            Expr::Or(parts) => self.all(parts, frames, true),
            other => panic!("{other} is not made here"),
        }
    }

    fn all(&self, parts: &[Expr], frames: &[Frame<'_>], decisive: bool) -> Option<bool> {
        let truths: Vec<_> = parts.iter().map(|part| self.truth(part, frames)).collect();
        if truths.contains(&Some(decisive)) {
            return Some(decisive);
        }
        if truths.contains(&None) {
            None
        } else {
            Some(!decisive)
        }
    }

    /// What a subquery selects of each of its rows.
    fn select<T>(
        &self,
        subquery: &Subquery,
        frames: &[Frame<'_>],
        selected: impl Fn(&[Frame<'_>]) -> T,
    ) -> Vec<T> {
        let entity = subquery.entity.text.as_str();
        let qualifier = subquery.alias.as_ref().unwrap_or(&subquery.entity);
        let mut found = Vec::new();
        for row in self.rows.rows(entity) {
            let outer = frames.iter().map(|frame| Frame {
                qualifier: frame.qualifier.clone(),
                ..*frame
            });
            let own = Frame {
                entity,
                qualifier: qualifier.text.clone(),
                row,
            };
            let frames: Vec<Frame<'_>> = outer.chain([own]).collect();
            let condition = subquery.condition.as_ref();
            if condition.is_none_or(|condition| self.truth(condition, &frames) == Some(true)) {
                found.push(selected(&frames));
            }
        }
        found
    }

    fn value(&self, operand: &Operand, frames: &[Frame<'_>]) -> Option<Scalar> {
        match &operand.term {
            Term::Number(text) => Some(Scalar::Int(text.parse().expect("a whole number"))),
            Term::Text(text) => Some(Scalar::Text(text.as_str().into())),
            Term::Null => None,
            Term::Column { table, name } => {
                let (row, column) = self.column(table.as_ref(), &name.text, frames);
                match row.cell(column) {
                    Cell::Value(scalar) => Some(scalar.clone()),
                    _ => None,
                }
            }
            other => panic!("{other:?} is not made here"),
        }
    }

    fn column<'b>(
        &self,
        table: Option<&Name>,
        name: &str,
        frames: &[Frame<'b>],
    ) -> (&'b RowValues, usize) {
        let position = |frame: &Frame<'b>| {
            let position = self.tables.0[frame.entity].schema.position(name)?;
            Some((frame.row, position))
        };
        let mut innermost_first = frames.iter().rev();
        match table {
            None => innermost_first.find_map(position),
            Some(table) => innermost_first
                .find(|frame| frame.qualifier == table.text)
                .and_then(position),
        }
        .expect("a column")
    }
}

/// `IN`, of the values that a list or a subquery has.
fn is_among(left: &Option<Scalar>, values: impl Iterator<Item = Option<Scalar>>) -> Option<bool> {
    let equal: Vec<Option<bool>> = values
        .map(|value| Some(*left.as_ref()? == value?))
        .collect();
    if equal.contains(&Some(true)) {
        return Some(true);
    }
    if equal.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn whole_row(json: &str) -> RowValues {
    let table = test_table(Backend::Postgres);
    let columns = 0..table.schema.columns.len();
    RowReader::new(table.table(), columns)
        .read(&raw(json))
        .expect("a row")
}

fn read(text: &str, tables: &TestTables) -> Filter {
    let table = test_table(Backend::Postgres);
    let filter = Filter::new(text, &[], table.table().among(tables));
    filter.unwrap_or_else(|error| panic!("{text}: {error}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_filter_with_subqueries_is_true_for_the_rows_that_sql_says(
        text in subquery_text(),
        of_t in rows("t"),
        of_members in rows("members"),
        of_lists in rows("lists"),
    ) {
        let tables = TestTables::whole(Backend::Postgres);
        let rows = tables.rows(&[("t", &of_t), ("members", &of_members), ("lists", &of_lists)]);
        let filter = read(&text, &tables);
        let expr = parse(&text).expect("a filter");
        let reference = Reference { tables: &tables, rows: &rows };
        for json in &of_t {
            let row = whole_row(json);
            let frame = Frame { entity: "t", qualifier: "t".to_owned(), row: &row };
            let expected = reference.truth(&expr, &[frame]);
            prop_assert_eq!(filter.matches(&row, &rows), expected, "{} of {}", text, json);
            // A row that matches holds an access key, or values of one of the sets.
            if let (Access::Keys { keys, sets }, Some(true)) = (filter.access(|_| 0), expected) {
                let held = |(column, value): &AccessKey| row.scalar(*column) == Some(value);
                let is_in = |(columns, set): &SetKey| {
                    let values: Option<Vec<&Scalar>> = columns.iter().map(|column| row.scalar(*column)).collect();
                    values.is_some_and(|values| rows.look_up(set, &values).expect("a set").found)
                };
                prop_assert!(keys.iter().any(held) || sets.iter().any(is_in), "{} of {}", text, json);
            }
        }
    }

    #[test]
    fn the_text_of_a_filter_with_subqueries_is_the_same_filter(text in subquery_text()) {
        let tables = TestTables::whole(Backend::Postgres);
        let filter = read(&text, &tables);
        let again = text_of(&filter);
        let table = test_table(Backend::Postgres);
        match Filter::new(&again, &[], table.table().among(&tables)) {
            Ok(same) => {
                prop_assert_eq!(text_of(&same), again);
                prop_assert_eq!(same, filter);
            }
            // What was written once may stand in it twice.
            Err(error) => prop_assert_eq!(error.kind, crate::FilterErrorKind::TooLarge, "{}", again),
        }
    }

    /// What a subquery may not read is as if it were not there.
    #[test]
    fn a_subquery_with_rights_is_one_on_the_rows_that_may_be_read(
        text in subquery_text(),
        of_t in rows("t"),
        of_members in rows("members"),
        of_lists in rows("lists"),
    ) {
        let whole = TestTables::whole(Backend::Postgres);
        let mut limited = whole.clone();
        limited.table("members").rows =
            Filter::new("n <> 1", &[], whole.0["members"].table()).expect("a filter");
        limited.table("lists").rows =
            Filter::new("owner = 'a'", &[], whole.0["lists"].table()).expect("a filter");
        let rows = whole.rows(&[("t", &of_t), ("members", &of_members), ("lists", &of_lists)]);
        let mut readable = rows.clone();
        for entity in ["members", "lists"] {
            readable.retain(entity, &limited.0[entity].rows);
        }
        let (by_rights, on_whole) = (read(&text, &limited), read(&text, &whole));
        for json in &of_t {
            let row = whole_row(json);
            prop_assert_eq!(by_rights.matches(&row, &rows), on_whole.matches(&row, &readable), "{}", text);
        }
    }
}
