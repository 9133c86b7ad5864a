//! Brings conditions that say the same in different words into one form.
//!
//! Negations move down to the comparisons. Nested `AND`s and `OR`s are flattened. `BETWEEN` becomes two
//! comparisons, an `IN` with one value or a pattern without wildcards an equality, equalities of one
//! column under `OR` an `IN`. Constants are folded, operands sorted and kept once. Every step is an
//! identity of three-valued logic, so the form is true, false and unknown for the same rows. It is not a
//! decision procedure: `a > 1` and `a > 1 AND a > 0` stay two.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::Condition;
use super::scalar::Scalar;
use super::syntax::CompareOp;

/// The one form of a condition.
pub(super) fn canonical(condition: Condition) -> Condition {
    normal(condition, false)
}

/// `AND` or `OR`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    And,
    Or,
}

fn normal(condition: Condition, negate: bool) -> Condition {
    match condition {
        Condition::Constant(truth) => Condition::Constant(truth.map(|truth| truth != negate)),
        Condition::Compare { column, op, value } => {
            compare(column, if negate { op.negated() } else { op }, value)
        }
        Condition::In {
            column,
            values,
            null,
            negated,
        } => within(column, values, null, negated != negate),
        Condition::IsNull { column, negated } => Condition::IsNull {
            column,
            negated: negated != negate,
        },
        Condition::Like {
            column,
            pattern,
            negated,
        } => match pattern.only_text() {
            Some(text) => {
                let op = if negated == negate {
                    CompareOp::Eq
                } else {
                    CompareOp::Ne
                };
                compare(column, op, Scalar::Text(text.into()))
            }
            None => Condition::Like {
                column,
                pattern,
                negated: negated != negate,
            },
        },
        Condition::Member {
            columns,
            set,
            membership,
            negated,
        } => {
            let negated = negated != negate;
            if set.rows().filter.is_nothing() {
                // Nothing is in an empty set, not even something unknown.
                return Condition::Constant(Some(negated));
            }
            Condition::Member {
                columns,
                set,
                membership,
                negated,
            }
        }
        Condition::Not(inner) => normal(*inner, !negate),
        Condition::And(parts) => join(if negate { Join::Or } else { Join::And }, parts, negate),
        Condition::Or(parts) => join(if negate { Join::And } else { Join::Or }, parts, negate),
    }
}

fn compare(column: usize, op: CompareOp, value: Scalar) -> Condition {
    use CompareOp::{Eq, Ge, Gt, Le, Lt, Ne};
    // A boolean has two values, so every comparison is an equality.
    let (op, value) = match (op, value) {
        (Ne, Scalar::Bool(value)) => (Eq, Scalar::Bool(!value)),
        (Lt, Scalar::Bool(true)) | (Le, Scalar::Bool(false)) => (Eq, Scalar::Bool(false)),
        (Gt, Scalar::Bool(false)) | (Ge, Scalar::Bool(true)) => (Eq, Scalar::Bool(true)),
        other => other,
    };
    Condition::Compare { column, op, value }
}

fn within(column: usize, values: BTreeSet<Scalar>, null: bool, negated: bool) -> Condition {
    if values.is_empty() {
        // An `IN` is never written empty, so its list held only nulls.
        return Condition::Constant(None);
    }
    if values.len() == 1 && !null {
        let op = if negated {
            CompareOp::Ne
        } else {
            CompareOp::Eq
        };
        let value = values.into_iter().next().expect("one value");
        return compare(column, op, value);
    }
    Condition::In {
        column,
        values,
        null,
        negated,
    }
}

fn join(join: Join, parts: Vec<Condition>, negate: bool) -> Condition {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match (join, normal(part, negate)) {
            (Join::And, Condition::And(inner)) | (Join::Or, Condition::Or(inner)) => {
                flat.extend(inner);
            }
            (_, part) => flat.push(part),
        }
    }
    let neutral = join == Join::And;
    if flat.contains(&Condition::Constant(Some(!neutral))) {
        return Condition::Constant(Some(!neutral));
    }
    flat.retain(|part| *part != Condition::Constant(Some(neutral)));
    let mut parts = gather(flat, join);
    parts.sort_unstable();
    parts.dedup();
    match parts.len() {
        0 => Condition::Constant(Some(neutral)),
        1 => parts.remove(0),
        _ if neutral => Condition::And(parts),
        _ => Condition::Or(parts),
    }
}

/// Gathers a column's equalities under `OR`, or its inequalities under `AND`, into one list.
fn gather(parts: Vec<Condition>, join: Join) -> Vec<Condition> {
    let wanted_op = if join == Join::Or {
        CompareOp::Eq
    } else {
        CompareOp::Ne
    };
    let wanted_negated = join == Join::And;
    let mut lists: BTreeMap<usize, (BTreeSet<Scalar>, bool)> = BTreeMap::new();
    let mut rest = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Condition::Compare { column, op, value } if op == wanted_op => {
                lists.entry(column).or_default().0.insert(value);
            }
            Condition::In {
                column,
                values,
                null,
                negated,
            } if negated == wanted_negated => {
                let list = lists.entry(column).or_default();
                list.0.extend(values);
                list.1 |= null;
            }
            other => rest.push(other),
        }
    }
    let lists = lists.into_iter();
    rest.extend(lists.map(|(column, (values, null))| within(column, values, null, wanted_negated)));
    rest
}
