//! A filter as it was written: names are not columns yet, and literals have no type.

use std::cmp::Ordering;
use std::fmt;

use super::claim::ClaimPath;

/// A condition as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// A column, a literal or a parameter where a condition is expected.
    Operand(Operand),
    /// Two operands with an operator between them.
    Compare {
        left: Operand,
        op: CompareOp,
        right: Operand,
    },
    /// `IN (…)`.
    In {
        operand: Operand,
        values: Vec<Operand>,
        negated: bool,
    },
    /// `IN auth.…`, a claim that is a list.
    InClaim {
        operand: Operand,
        claim: Operand,
        negated: bool,
    },
    /// `BETWEEN low AND high`.
    Between {
        operand: Operand,
        low: Operand,
        high: Operand,
        negated: bool,
    },
    /// `IS NULL`.
    IsNull { operand: Operand, negated: bool },
    /// `LIKE`.
    Like {
        operand: Operand,
        pattern: Operand,
        negated: bool,
    },
    /// `NOT`.
    Not(Box<Expr>),
    /// Two or more, joined by `AND`.
    And(Vec<Expr>),
    /// Two or more, joined by `OR`.
    Or(Vec<Expr>),
}

/// A column, a literal, a parameter or a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operand {
    pub(super) term: Term,
    /// Where it begins, in characters from 1.
    pub(super) at: usize,
}

/// What an operand is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// A column's name.
    Column { name: String, quoted: bool },
    /// A number, as it was written, with its sign.
    Number(String),
    /// A text in single quotes.
    Text(String),
    /// `TRUE` or `FALSE`.
    Bool(bool),
    /// `NULL`.
    Null,
    /// `$1` is 1.
    Param(usize),
    /// `auth.…`, in a policy.
    Claim(ClaimPath),
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl CompareOp {
    /// Every operator.
    #[cfg(any(test, feature = "testing"))]
    pub(super) const ALL: [Self; 6] = [Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge];

    /// The operator in SQL, for both databases.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    /// Whether the operator needs an order, not only equality.
    pub(super) fn needs_order(self) -> bool {
        !matches!(self, Self::Eq | Self::Ne)
    }

    /// Whether the operator holds between two values of this order.
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }

    /// The operator that holds exactly when this one does not.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Lt => Self::Ge,
            Self::Le => Self::Gt,
            Self::Gt => Self::Le,
            Self::Ge => Self::Lt,
        }
    }

    /// The operator that says the same with its sides exchanged.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Eq | Self::Ne => self,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Self::Operand(operand) => operand.fmt(f),
            Self::Compare { left, op, right } => write!(f, "{left} {} {right}", op.sign()),
            Self::In {
                operand,
                values,
                negated,
            } => {
                write!(f, "{operand}{} IN (", not(negated))?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Self::InClaim {
                operand,
                claim,
                negated,
            } => write!(f, "{operand}{} IN {claim}", not(negated)),
            Self::Between {
                operand,
                low,
                high,
                negated,
            } => {
                write!(f, "{operand}{} BETWEEN {low} AND {high}", not(negated))
            }
            Self::IsNull { operand, negated } => write!(f, "{operand} IS{} NULL", not(negated)),
            Self::Like {
                operand,
                pattern,
                negated,
            } => {
                write!(f, "{operand}{} LIKE {pattern}", not(negated))
            }
            Self::Not(inner) => match **inner {
                Self::And(_) | Self::Or(_) => write!(f, "NOT ({inner})"),
                _ => write!(f, "NOT {inner}"),
            },
            Self::And(parts) => write_joined(f, parts, " AND ", |part| {
                matches!(part, Self::And(_) | Self::Or(_))
            }),
            Self::Or(parts) => write_joined(f, parts, " OR ", |part| matches!(part, Self::Or(_))),
        }
    }
}

/// Writes parts with a word between them, and parentheses around those that `nested` accepts.
fn write_joined<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    parts: &[T],
    word: &str,
    nested: impl Fn(&T) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { word })?;
        if nested(part) {
            write!(f, "({part})")?;
        } else {
            part.fmt(f)?;
        }
    }
    Ok(())
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            Term::Column { name, quoted: true } => write!(f, "\"{}\"", name.replace('"', "\"\"")),
            Term::Column {
                name,
                quoted: false,
            } => f.write_str(name),
            Term::Number(text) => f.write_str(text),
            Term::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Term::Bool(true) => f.write_str("TRUE"),
            Term::Bool(false) => f.write_str("FALSE"),
            Term::Null => f.write_str("NULL"),
            Term::Param(number) => write!(f, "${number}"),
            Term::Claim(path) => path.fmt(f),
        }
    }
}
