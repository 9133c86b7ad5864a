//! Writes a policy as an OR of ANDs, and classes its conditions.
//!
//! A row counts when the whole is *true*. So a NOT may be moved inwards: AND, OR and NOT of three values obey De Morgan's
//! laws, and what is left are conditions of which only matters whether they, or their negations, are true.

use filter::{Filter, Table};
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};

use crate::key::{self, Key, Keys};
use crate::names::Names;
use crate::parse::{self, bare};
use crate::row;

/// The most ANDs of a policy; one with more is per row.
const TERMS_MAX: usize = 64;

/// One condition, before it is known whether the types of a key fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// On the row alone, as a filter.
    Row(Filter),
    /// On the session alone, as SQL.
    Session(String),
    Key(Key),
    /// Why it is per row.
    PerRow(String),
}

/// An OR of ANDs.
pub(crate) type Terms = Vec<Vec<Leaf>>;

/// Classes the text of a policy.
pub(crate) fn terms(text: &str, names: Names<'_>, table: Table<'_>) -> Terms {
    let classed = parse::expression(text).and_then(|expr| {
        Classifier {
            names,
            table,
            keys: Keys { names, table },
        }
        .terms(&expr, true)
    });
    match classed {
        Ok(terms) => terms,
        Err(why) => vec![vec![Leaf::PerRow(why)]],
    }
}

struct Classifier<'a> {
    names: Names<'a>,
    table: Table<'a>,
    keys: Keys<'a>,
}

impl Classifier<'_> {
    fn terms(&self, expr: &Expr, positive: bool) -> Result<Terms, String> {
        let expr = bare(expr);
        if let Some(filter) = self.row(expr, positive) {
            return Ok(vec![vec![Leaf::Row(filter)]]);
        }
        let names_row = self.names.in_expr(expr)?;
        if !names_row {
            let sql = if positive {
                format!("{expr}")
            } else {
                format!("NOT ({expr})")
            };
            return Ok(vec![vec![Leaf::Session(sql)]]);
        }
        match expr {
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => self.terms(expr, !positive),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => self.joined(left, right, positive, positive),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => self.joined(left, right, positive, !positive),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } if key::is_literal(right) => {
                let is_true = bare(right).to_string().eq_ignore_ascii_case("true");
                self.terms(left, positive == is_true)
            }
            Expr::IsTrue(inner) if positive => self.terms(inner, true),
            Expr::IsFalse(inner) if positive => self.terms(inner, false),
            Expr::IsNotTrue(inner) if !positive => self.terms(inner, true),
            Expr::IsNotFalse(inner) if !positive => self.terms(inner, false),
            Expr::IsNotDistinctFrom(left, right) => self.distinct(left, right, !positive),
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, positive),
            _ => Ok(vec![vec![self.leaf(expr, positive)]]),
        }
    }

    /// The two sides of an AND, or of an OR.
    fn joined(
        &self,
        left: &Expr,
        right: &Expr,
        positive: bool,
        all: bool,
    ) -> Result<Terms, String> {
        let (left, right) = (self.terms(left, positive)?, self.terms(right, positive)?);
        if all {
            product(&left, &right)
        } else {
            sum(left, right)
        }
    }

    /// `IS DISTINCT FROM`, which is never unknown, by what it is made of.
    fn distinct(&self, left: &Expr, right: &Expr, differ: bool) -> Result<Terms, String> {
        let is_null = |expr: &Expr| Expr::IsNull(Box::new(Expr::Nested(Box::new(expr.clone()))));
        let equal = Expr::BinaryOp {
            left: Box::new(left.clone()),
            op: BinaryOperator::Eq,
            right: Box::new(right.clone()),
        };
        let (left_null, right_null) = (is_null(left), is_null(right));
        let null = |left: bool, right: bool| {
            product(
                &self.terms(&left_null, left)?,
                &self.terms(&right_null, right)?,
            )
        };
        let compared = self.terms(&equal, !differ)?;
        if differ {
            sum(compared, sum(null(true, false)?, null(false, true)?)?)
        } else {
            sum(compared, null(true, true)?)
        }
    }

    fn row(&self, expr: &Expr, positive: bool) -> Option<Filter> {
        let text = row::filter(expr, self.table)?;
        let text = if positive {
            text
        } else {
            format!("NOT {text}")
        };
        Filter::new(&text, &[], self.table).ok()
    }

    fn leaf(&self, expr: &Expr, positive: bool) -> Leaf {
        match self.keys.recognise(expr, positive) {
            Ok(Some(key)) => Leaf::Key(key),
            Ok(None) => Leaf::PerRow(format!(
                "neither the row nor the session decides it alone: {expr}"
            )),
            Err(why) => Leaf::PerRow(why),
        }
    }
}

/// Either of both.
fn sum(mut left: Terms, right: Terms) -> Result<Terms, String> {
    left.extend(right);
    bounded(left)
}

/// Each with each.
fn product(left: &Terms, right: &Terms) -> Result<Terms, String> {
    if left.len() * right.len() > TERMS_MAX {
        return Err("it has too many alternatives".to_owned());
    }
    let pairs = left
        .iter()
        .flat_map(|one| right.iter().map(move |other| (one, other)));
    Ok(pairs
        .map(|(one, other)| [&one[..], &other[..]].concat())
        .collect())
}

fn bounded(terms: Terms) -> Result<Terms, String> {
    if terms.len() > TERMS_MAX {
        return Err("it has too many alternatives".to_owned());
    }
    Ok(terms)
}
