//! Turns what was written into a condition on a table's columns, or says what is wrong with it.

mod names;
mod subquery;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::claim::{Claim, ClaimPath};
use super::class::Class;
use super::condition::{Condition, FILTER_BYTES_MAX, Membership, Table};
use super::error::{FilterError, echo};
use super::like::Pattern;
use super::literal::{self, Given};
use super::params;
use super::scalar::Scalar;
use super::syntax::{CompareOp, Expr, Operand, Term};
use names::Place;
use value::Finite;
use value::schema::ColumnKind;

/// Resolves names, literals, parameters and claims. A claim that is not among `claims`, or does not convert
/// exactly, is null.
///
/// # Errors
/// The first thing that cannot be answered, with its position.
pub(super) fn check(
    expr: &Expr,
    params: &[Box<RawValue>],
    claims: &BTreeMap<ClaimPath, Claim>,
    table: Table<'_>,
) -> Result<Condition, FilterError> {
    params::check(expr, params)?;
    let params = params.iter().map(|param| Given::of_param(param));
    let shared = Shared {
        params: params.collect(),
        claims,
        patterns: RefCell::default(),
        bytes: Cell::new(0),
    };
    let checker = Checker {
        shared: &shared,
        table,
        alias: None,
        around: None,
    };
    checker.condition(expr)
}

/// Checks a condition on one table: the filter's, or that of a subquery.
struct Checker<'a> {
    shared: &'a Shared<'a>,
    table: Table<'a>,
    /// The name by which its columns are qualified, where it is not the entity's own.
    alias: Option<Cow<'a, str>>,
    /// The query around, and how the subquery stands in it.
    around: Option<(&'a Checker<'a>, Membership)>,
}

/// What a filter and its subqueries share.
struct Shared<'a> {
    /// None for one that is neither a text, a number, a boolean nor null.
    params: Vec<Option<Given<'a>>>,
    claims: &'a BTreeMap<ClaimPath, Claim>,
    /// The patterns by their texts: one that is named often is kept once.
    patterns: RefCell<HashMap<Arc<str>, Pattern>>,
    /// The bytes of all values, as often as they are named.
    bytes: Cell<usize>,
}

/// An operand: a column, a value that the client gave, or one that is known of the principal.
enum Side<'a> {
    Column(usize),
    Given(Given<'a>),
    Claim(&'a Claim),
}

/// What a claim has that does not exist.
const NO_CLAIM: &Claim = &Claim::Null;

impl<'a> Checker<'a> {
    fn condition(&self, expr: &'a Expr) -> Result<Condition, FilterError> {
        Ok(match expr {
            Expr::Operand(operand) => self.alone(operand)?,
            Expr::Compare { left, op, right } => self.compare(left, *op, right)?,
            Expr::Between {
                operand,
                low,
                high,
                negated,
            } => {
                let low = self.compare(operand, CompareOp::Ge, low)?;
                let high = self.compare(operand, CompareOp::Le, high)?;
                negate(*negated, Condition::And(vec![low, high]))
            }
            Expr::In {
                operand,
                values,
                negated,
            } => self.within(operand, values, *negated)?,
            Expr::InClaim {
                operand,
                claim,
                negated,
            } => self.within_claim(operand, claim, *negated)?,
            Expr::InSubquery {
                operand,
                subquery,
                negated,
            } => negate(*negated, self.within_subquery(operand, subquery)?),
            Expr::Exists(subquery) => self.exists(subquery)?,
            Expr::IsNull { operand, negated } => {
                if let Side::Claim(claim) = self.side(operand)? {
                    return Ok(constant((*claim == Claim::Null) != *negated));
                }
                let column = self.column(operand)?;
                self.check_null(column, operand.at)?;
                Condition::IsNull {
                    column,
                    negated: *negated,
                }
            }
            Expr::Like {
                operand,
                pattern,
                negated,
            } => self.like(operand, pattern, *negated)?,
            Expr::Not(inner) => Condition::Not(Box::new(self.condition(inner)?)),
            Expr::And(parts) => Condition::And(self.conditions(parts)?),
            Expr::Or(parts) => Condition::Or(self.conditions(parts)?),
        })
    }

    fn conditions(&self, parts: &'a [Expr]) -> Result<Vec<Condition>, FilterError> {
        parts.iter().map(|part| self.condition(part)).collect()
    }

    /// An operand that stands for a condition.
    fn alone(&self, operand: &'a Operand) -> Result<Condition, FilterError> {
        match self.side(operand)? {
            Side::Column(column) if self.class(column, operand.at)? == Class::Bool => {
                Ok(Condition::Compare {
                    column,
                    op: CompareOp::Eq,
                    value: Scalar::Bool(true),
                })
            }
            Side::Given(Given::Bool(value)) => Ok(Condition::Constant(Some(value))),
            Side::Given(Given::Null) => Ok(Condition::Constant(None)),
            Side::Claim(Claim::Bool(value)) => Ok(constant(*value)),
            Side::Claim(_) => Ok(Condition::Constant(None)),
            Side::Column(_) | Side::Given(_) => Err(FilterError::bad(
                operand.at,
                "this is not a condition; compare it with something",
            )),
        }
    }

    fn compare(
        &self,
        left: &'a Operand,
        op: CompareOp,
        right: &'a Operand,
    ) -> Result<Condition, FilterError> {
        let (column, op, value, column_at, value_at) = match (self.side(left)?, self.side(right)?) {
            (Side::Column(_), Side::Column(_)) => {
                return Err(self.two_columns(left, right));
            }
            (Side::Given(_), Side::Given(_)) => {
                return Err(FilterError::bad(
                    left.at,
                    "one side of a comparison must be a column",
                ));
            }
            (Side::Column(column), value) => (column, op, value, left.at, right.at),
            (value, Side::Column(column)) => (column, op.mirrored(), value, right.at, left.at),
            (one, other) => return compare_values(&one, op, &other, left.at),
        };
        let class = self.class(column, column_at)?;
        if op.needs_order() && !class.is_ordered() {
            let message = format!(
                "{} has no order here: texts are ordered only in the collation \"C\"",
                self.name(column)
            );
            return Err(FilterError::bad(column_at, message));
        }
        Ok(match self.scalar(column, &class, &value, value_at)? {
            Some(value) => Condition::Compare { column, op, value },
            None => Condition::Constant(None),
        })
    }

    fn within(
        &self,
        operand: &'a Operand,
        values: &'a [Operand],
        negated: bool,
    ) -> Result<Condition, FilterError> {
        let column = match self.side(operand)? {
            Side::Column(column) => column,
            left => return self.value_within(&left, values, negated, operand.at),
        };
        let class = self.class(column, operand.at)?;
        let mut found = BTreeSet::new();
        let mut null = false;
        for value in values {
            let side = self.side(value)?;
            if matches!(side, Side::Column(_)) {
                return Err(FilterError::bad(
                    value.at,
                    "a list holds values, not columns",
                ));
            }
            match self.scalar(column, &class, &side, value.at)? {
                Some(value) => {
                    found.insert(value);
                }
                None => null = true,
            }
        }
        Ok(Condition::In {
            column,
            values: found,
            null,
            negated,
        })
    }

    /// A value, not a column, in a list of which a claim is part.
    fn value_within(
        &self,
        left: &Side<'a>,
        values: &'a [Operand],
        negated: bool,
        at: usize,
    ) -> Result<Condition, FilterError> {
        let mut any = Vec::with_capacity(values.len());
        for value in values {
            let right = self.side(value)?;
            if let (Side::Given(_), Side::Given(_)) | (_, Side::Column(_)) = (left, &right) {
                return Err(FilterError::bad(at, "expected a column here"));
            }
            any.push(compare_values(left, CompareOp::Eq, &right, at)?);
        }
        Ok(negate(negated, Condition::Or(any)))
    }

    /// Whether an operand is in a list that is a claim. Anything else than a list is null; an empty list holds
    /// nothing, not even null.
    fn within_claim(
        &self,
        operand: &'a Operand,
        claim: &'a Operand,
        negated: bool,
    ) -> Result<Condition, FilterError> {
        let left = self.side(operand)?;
        let class = match &left {
            Side::Column(column) => Some((*column, self.class(*column, operand.at)?)),
            Side::Given(_) | Side::Claim(_) => None,
        };
        let Side::Claim(Claim::List(members)) = self.side(claim)? else {
            return Ok(Condition::Constant(None));
        };
        if members.is_empty() {
            return Ok(constant(negated));
        }
        let Some((column, class)) = class else {
            let equal =
                |member| compare_values(&left, CompareOp::Eq, &Side::Claim(member), claim.at);
            let any: Result<Vec<Condition>, FilterError> = members.iter().map(equal).collect();
            return Ok(negate(negated, Condition::Or(any?)));
        };
        let exact = |member| literal::scalar(&class, &Given::of_claim(member));
        let values: BTreeSet<Scalar> = members.iter().filter_map(exact).collect();
        Ok(Condition::In {
            column,
            null: members.iter().any(|member| exact(member).is_none()),
            values,
            negated,
        })
    }

    fn like(
        &self,
        operand: &'a Operand,
        pattern: &'a Operand,
        negated: bool,
    ) -> Result<Condition, FilterError> {
        if let Side::Claim(claim) = self.side(operand)? {
            let pattern = match &pattern.term {
                Term::Text(text) if !text.contains('\0') => {
                    self.pattern(text.as_str().into(), pattern.at)?
                }
                _ => return Err(not_a_pattern(pattern.at)),
            };
            return Ok(match claim {
                Claim::Text(text) if !text.contains('\0') => {
                    constant(pattern.matches(text) != negated)
                }
                _ => Condition::Constant(None),
            });
        }
        let column = self.column(operand)?;
        if !self.class(column, operand.at)?.is_text() {
            let message = format!("LIKE is for texts, and {} is not one", self.name(column));
            return Err(FilterError::bad(operand.at, message));
        }
        match self.side(pattern)? {
            Side::Given(Given::Null) => Ok(Condition::Constant(None)),
            Side::Given(Given::Text(text)) if !text.contains('\0') => {
                let pattern = self.pattern(text, pattern.at)?;
                Ok(Condition::Like {
                    column,
                    pattern,
                    negated,
                })
            }
            _ => Err(not_a_pattern(pattern.at)),
        }
    }

    fn pattern(&self, text: Arc<str>, at: usize) -> Result<Pattern, FilterError> {
        if let Some(pattern) = self.shared.patterns.borrow().get(&text) {
            return Ok(pattern.clone());
        }
        let pattern = Pattern::read(&text).map_err(|fault| FilterError::bad(at, fault))?;
        self.shared
            .patterns
            .borrow_mut()
            .insert(text, pattern.clone());
        Ok(pattern)
    }

    /// Counts a value that the filter names. A short text may name a large parameter many times.
    fn count(&self, value_bytes: usize, at: usize) -> Result<(), FilterError> {
        let bytes = self.shared.bytes.get() + value_bytes;
        self.shared.bytes.set(bytes);
        if bytes > FILTER_BYTES_MAX {
            let message = format!(
                "the values of a filter have at most {FILTER_BYTES_MAX} bytes together, each counted as often as it is named"
            );
            return Err(FilterError::too_large(at, message));
        }
        Ok(())
    }

    fn side(&self, operand: &'a Operand) -> Result<Side<'a>, FilterError> {
        let side = self.resolve(operand)?;
        match &side {
            Side::Column(_) => {}
            Side::Given(given) => self.count(given.words().len(), operand.at)?,
            Side::Claim(claim) => self.count(bytes(claim), operand.at)?,
        }
        Ok(side)
    }

    fn resolve(&self, operand: &'a Operand) -> Result<Side<'a>, FilterError> {
        match &operand.term {
            Term::Column { table, name } => {
                let place = self.locate(table.as_ref(), name, operand.at)?;
                match place {
                    Place { levels: 0, column } => Ok(Side::Column(column)),
                    outer => Err(self.outer_column(outer, operand.at)),
                }
            }
            Term::Param(number) => self.shared.params[number - 1]
                .clone()
                .map(Side::Given)
                .ok_or_else(|| {
                    let message = format!(
                        "parameter ${number} is neither a text, a number, a boolean nor null"
                    );
                    FilterError::bad(operand.at, message)
                }),
            Term::Claim(path) => Ok(Side::Claim(
                self.shared.claims.get(path).unwrap_or(NO_CLAIM),
            )),
            literal => Ok(Side::Given(
                Given::of_term(literal).expect("every other term is a literal"),
            )),
        }
    }

    fn column(&self, operand: &'a Operand) -> Result<usize, FilterError> {
        match self.side(operand)? {
            Side::Column(column) => Ok(column),
            Side::Given(_) | Side::Claim(_) => {
                Err(FilterError::bad(operand.at, "expected a column here"))
            }
        }
    }

    fn class(&self, column: usize, at: usize) -> Result<Class, FilterError> {
        self.check_logged(column, at)?;
        Class::of(self.table, column).map_err(|reason| {
            FilterError::bad(
                at,
                format!("{} cannot be compared: {reason}", self.name(column)),
            )
        })
    }

    /// `IS NULL` works for all types whose null can be told from their values in JSON.
    fn check_null(&self, column: usize, at: usize) -> Result<(), FilterError> {
        self.check_logged(column, at)?;
        if self.table.schema.columns[column].kind != ColumnKind::Json {
            return Ok(());
        }
        let message = format!(
            "{} may hold JSON's own null, which is not SQL's",
            self.name(column)
        );
        Err(FilterError::bad(at, message))
    }

    /// A column without previous values in the log cannot be in a filter: it would be unknown which
    /// shapes a row has left.
    fn check_logged(&self, column: usize, at: usize) -> Result<(), FilterError> {
        if self.table.column(column).logged {
            return Ok(());
        }
        let message = format!(
            "{} is computed when it is read, so the log does not have it",
            self.name(column)
        );
        Err(FilterError::bad(at, message))
    }

    /// The value of a column's class that stands opposite the column; none for null.
    fn scalar(
        &self,
        column: usize,
        class: &Class,
        side: &Side<'_>,
        at: usize,
    ) -> Result<Option<Scalar>, FilterError> {
        match side {
            Side::Given(given) => self.value(column, class, given, at),
            Side::Claim(claim) => Ok(literal::scalar(class, &Given::of_claim(claim))),
            Side::Column(_) => Err(FilterError::bad(at, "expected a value here")),
        }
    }

    fn value(
        &self,
        column: usize,
        class: &Class,
        given: &Given<'_>,
        at: usize,
    ) -> Result<Option<Scalar>, FilterError> {
        if *given == Given::Null {
            return Ok(None);
        }
        literal::scalar(class, given).map(Some).ok_or_else(|| {
            let message = format!(
                "{} is compared with {}, not {}",
                self.name(column),
                class.expected(),
                echo(given.words())
            );
            FilterError::bad(at, message)
        })
    }

    fn name(&self, column: usize) -> String {
        echo(&self.table.schema.columns[column].name)
    }
}

fn negate(negated: bool, condition: Condition) -> Condition {
    if negated {
        Condition::Not(Box::new(condition))
    } else {
        condition
    }
}

fn constant(truth: bool) -> Condition {
    Condition::Constant(Some(truth))
}

fn not_a_pattern(at: usize) -> FilterError {
    FilterError::bad(at, "a pattern is a text without the character U+0000")
}

/// Compares two values, at least one of them a claim. Nothing is converted: values of two types are null together, and
/// texts have no order.
fn compare_values(
    left: &Side<'_>,
    op: CompareOp,
    right: &Side<'_>,
    at: usize,
) -> Result<Condition, FilterError> {
    let is_text = |side: &Side<'_>| matches!(side, Side::Given(Given::Text(_)));
    if op.needs_order() && (is_text(left) || is_text(right)) {
        let message = "claims that are texts have no order; compare them with = or <>";
        return Err(FilterError::bad(at, message));
    }
    let ordering = match (given(left), given(right)) {
        (Some(Given::Bool(left)), Some(Given::Bool(right))) => Some(left.cmp(&right)),
        (Some(Given::Text(left)), Some(Given::Text(right))) => {
            (!op.needs_order()).then(|| left.cmp(&right))
        }
        (Some(Given::Number(left)), Some(Given::Number(right))) => {
            let numbers = (Finite::read(left), Finite::read(right));
            numbers
                .0
                .zip(numbers.1)
                .map(|(left, right)| left.cmp(&right))
        }
        _ => None,
    };
    Ok(Condition::Constant(
        ordering.map(|ordering| op.holds(ordering)),
    ))
}

/// The memory of a claim's values, in bytes.
fn bytes(claim: &Claim) -> usize {
    match claim {
        Claim::Null | Claim::Bool(_) | Claim::Other => 1,
        Claim::Number(digits) => digits.len(),
        Claim::Text(text) => text.len(),
        Claim::List(members) => members.iter().map(bytes).sum(),
    }
}

fn given<'a>(side: &Side<'a>) -> Option<Given<'a>> {
    match side {
        Side::Given(given) => Some(given.clone()),
        Side::Claim(claim) => Some(Given::of_claim(claim)),
        Side::Column(_) => None,
    }
}
