//! Checks subqueries: which set each one means, and which columns are looked up in it.

use std::collections::BTreeMap;

use super::names::Place;
use super::{Checker, Side};
use crate::Filter;
use crate::class::Class;
use crate::condition::{Condition, InnerTable, Membership, Set, SetRows, Table};
use crate::error::{FilterError, echo};
use crate::syntax::{CompareOp, Expr, Name, Operand, Subquery, Term};

/// A column of a subquery's table, and the column of the query around that it equals.
struct Pair {
    inner: usize,
    outer: usize,
}

impl<'a> Checker<'a> {
    /// Whether an operand is among the values that a subquery selects.
    pub(super) fn within_subquery(
        &self,
        operand: &'a Operand,
        subquery: &'a Subquery,
    ) -> Result<Condition, FilterError> {
        let left = self.side(operand)?;
        let inner = self.inner_table(subquery)?;
        let checker = self.inside(&inner, subquery, Membership::In);
        let selected = match &subquery.selected {
            Some(selected) if matches!(selected.term, Term::Column { .. }) => selected,
            Some(other) => {
                let message = "a subquery of IN selects a column";
                return Err(FilterError::bad(other.at, message));
            }
            None => {
                let message = "a subquery of IN selects one column, by its name";
                return Err(FilterError::bad(subquery.at, message));
            }
        };
        let column = checker.column(selected)?;
        let class = checker.class(column, selected.at)?;
        let condition = checker.all(&subquery.condition)?;
        if let Side::Column(outer) = left {
            self.check_same_class((outer, operand.at), &checker, (column, selected.at))?;
            let set = set(&inner, condition, vec![column], &[column])?;
            return Ok(member(vec![outer], set, Membership::In));
        }
        // A value is in the set where a row has it. Where none has, the answer is unknown if some value is null.
        let among = |more: Condition| {
            let both = Condition::And(vec![condition.clone(), more]);
            let set = set(&inner, both, Vec::new(), &[column])?;
            Ok(member(Vec::new(), set, Membership::Exists))
        };
        let unknown_if = |condition| Condition::And(vec![condition, Condition::Constant(None)]);
        let Some(value) = checker.scalar(column, &class, &left, operand.at)? else {
            return Ok(unknown_if(among(Condition::Constant(Some(true)))?));
        };
        let found = among(Condition::Compare {
            column,
            op: CompareOp::Eq,
            value,
        })?;
        let has_null = among(Condition::IsNull {
            column,
            negated: false,
        })?;
        Ok(Condition::Or(vec![found, unknown_if(has_null)]))
    }

    /// Whether a subquery has a row. Equalities with columns of the query around are looked up in its set.
    pub(super) fn exists(&self, subquery: &'a Subquery) -> Result<Condition, FilterError> {
        let inner = self.inner_table(subquery)?;
        let checker = self.inside(&inner, subquery, Membership::Exists);
        if let Some(Operand {
            term: Term::Column { table, name },
            at,
        }) = &subquery.selected
        {
            checker.locate(table.as_ref(), name, *at)?;
        }
        let mut conjuncts = Vec::new();
        subquery
            .condition
            .iter()
            .for_each(|expr| flatten(expr, &mut conjuncts));
        // By the column of the subquery, so that the same set has one form whatever it is compared with.
        let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
        let mut rest = Vec::new();
        for conjunct in conjuncts {
            let Some(Pair { inner, outer }) = checker.pair(conjunct)? else {
                rest.push(checker.condition(conjunct)?);
                continue;
            };
            if *pairs.entry(inner).or_insert(outer) != outer {
                let message = format!(
                    "{} is compared with two columns of the query around; one is supported",
                    checker.name(inner)
                );
                return Err(FilterError::bad(subquery.at, message));
            }
        }
        let (inner_columns, outer_columns): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
        let set = set(
            &inner,
            Condition::And(rest),
            inner_columns.clone(),
            &inner_columns,
        )?;
        Ok(member(outer_columns, set, Membership::Exists))
    }

    /// The columns that a conjunct says are equal, one of the subquery and one of the query right around.
    fn pair(&self, conjunct: &'a Expr) -> Result<Option<Pair>, FilterError> {
        let (
            Some((around, _)),
            Expr::Compare {
                left,
                op: CompareOp::Eq,
                right,
            },
        ) = (self.around, conjunct)
        else {
            return Ok(None);
        };
        let place = |operand: &Operand| match &operand.term {
            Term::Column { table, name } => self.locate(table.as_ref(), name, operand.at).map(Some),
            _ => Ok(None),
        };
        let (inner, outer) = match (place(left)?, place(right)?) {
            (Some(one), Some(other)) if one.levels == 0 => ((one, left.at), (other, right.at)),
            (Some(one), Some(other)) => ((other, right.at), (one, left.at)),
            _ => return Ok(None),
        };
        let (
            (
                Place {
                    levels: 0,
                    column: inner,
                },
                inner_at,
            ),
            (
                Place {
                    levels: 1,
                    column: outer,
                },
                outer_at,
            ),
        ) = (inner, outer)
        else {
            return Ok(None);
        };
        around.check_same_class((outer, outer_at), self, (inner, inner_at))?;
        Ok(Some(Pair { inner, outer }))
    }

    /// A condition that may be missing: then every row counts.
    fn all(&self, condition: &'a Option<Expr>) -> Result<Condition, FilterError> {
        let condition = condition.as_ref();
        condition.map_or(Ok(Condition::Constant(Some(true))), |expr| {
            self.condition(expr)
        })
    }

    /// The table that a subquery reads. One that may not be read is as one that does not exist.
    fn inner_table(&self, subquery: &Subquery) -> Result<InnerTable, FilterError> {
        let Some(others) = self.table.others else {
            let message = "a subquery cannot stand here";
            return Err(FilterError::bad(subquery.at, message));
        };
        let name = &subquery.entity;
        let folded = || others.find(&name.folded());
        others.find(&name.text).or_else(folded).ok_or_else(|| {
            let message = format!("there is no entity {}", echo(&name.text));
            FilterError::bad(subquery.entity_at, message)
        })
    }

    /// The checker of a subquery's condition.
    fn inside<'b>(
        &'b self,
        inner: &'b InnerTable,
        subquery: &'b Subquery,
        membership: Membership,
    ) -> Checker<'b> {
        Checker {
            shared: self.shared,
            table: Table {
                others: self.table.others,
                ..inner.table()
            },
            alias: subquery.alias.as_ref().map(Name::folded),
            around: Some((self, membership)),
        }
    }

    /// Checks that the values of two columns, given with where they are named, can be compared: the databases convert
    /// some, but not all, and not alike.
    fn check_same_class(
        &self,
        (outer, outer_at): (usize, usize),
        inner: &Checker<'_>,
        (column, inner_at): (usize, usize),
    ) -> Result<(), FilterError> {
        let one = self.class(outer, outer_at)?;
        let other = inner.class(column, inner_at)?;
        // Labels of two types are two, even when they are spelled alike.
        let are_alike = match (&one, &other) {
            (Class::Enum(_), Class::Enum(_)) => {
                let type_name = |table: Table<'_>, column| table.column(column).type_name.clone();
                one == other && type_name(self.table, outer) == type_name(inner.table, column)
            }
            _ => one.equals_as(&other),
        };
        if are_alike {
            return Ok(());
        }
        let message = format!(
            "{} and {} are of different types, {} and {}, and are not compared",
            self.qualified(Place {
                levels: 0,
                column: outer
            }),
            inner.qualified(Place { levels: 0, column }),
            one.name(),
            other.name()
        );
        Err(FilterError::bad(inner_at, message))
    }
}

/// The set that a subquery means, of the rows that count for it. A row in which one of the columns `read` may not be
/// read does not count.
fn set(
    inner: &InnerTable,
    condition: Condition,
    columns: Vec<usize>,
    read: &[usize],
) -> Result<Set, FilterError> {
    let asked = Filter::of_checked(condition)?.concealing(&inner.partial)?;
    let readable = read.iter().filter_map(|column| inner.partial.get(column));
    let filter = readable.fold(asked.and(inner.rows.clone()), |filter, readable| {
        filter.and(readable.clone())
    });
    Ok(Set::new(SetRows {
        window: None,
        schema: inner.schema.clone(),
        fingerprint: inner.fingerprint.clone(),
        backend: inner.backend,
        filter,
        columns,
        asked: None,
    }))
}

fn member(columns: Vec<usize>, set: Set, membership: Membership) -> Condition {
    Condition::Member {
        columns,
        set,
        membership,
        negated: false,
    }
}

/// The parts of which all must hold.
fn flatten<'a>(expr: &'a Expr, conjuncts: &mut Vec<&'a Expr>) {
    match expr {
        Expr::And(parts) => parts.iter().for_each(|part| flatten(part, conjuncts)),
        other => conjuncts.push(other),
    }
}
