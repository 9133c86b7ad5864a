//! A filter as it was written: names are not columns yet, and literals have no type.

use std::borrow::Cow;
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
    /// `IN (SELECT …)`.
    InSubquery {
        operand: Operand,
        subquery: Box<Subquery>,
        negated: bool,
    },
    /// `EXISTS (SELECT …)`.
    Exists(Box<Subquery>),
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

/// `SELECT … FROM … WHERE …`, which reads one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subquery {
    /// What it selects; none for `*`.
    pub(super) selected: Option<Operand>,
    /// The entity whose rows it reads.
    pub(super) entity: Name,
    /// The name by which its columns are qualified; none for the entity's own.
    pub(super) alias: Option<Name>,
    /// Which rows; none for all.
    pub(super) condition: Option<Expr>,
    /// Where its `SELECT` stands, in characters from 1.
    pub(super) at: usize,
    /// Where its entity stands.
    pub(super) entity_at: usize,
}

/// A name of a column, an entity or an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) quoted: bool,
}

impl Name {
    /// Whether it means what has this name: it is spelled alike or, without quotes, in lower case, as PostgreSQL reads
    /// names.
    pub(super) fn means(&self, name: &str) -> bool {
        self.text == name || self.folded() == name
    }

    /// The name that it gives to something, as PostgreSQL folds names.
    pub(super) fn folded(&self) -> Cow<'_, str> {
        if self.quoted {
            Cow::Borrowed(&self.text)
        } else {
            Cow::Owned(self.text.to_ascii_lowercase())
        }
    }
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
    /// A column's name, behind that of its table where it is qualified.
    Column { table: Option<Name>, name: Name },
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
            Self::InSubquery {
                operand,
                subquery,
                negated,
            } => write!(f, "{operand}{} IN ({subquery})", not(negated)),
            Self::Exists(subquery) => write!(f, "EXISTS ({subquery})"),
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

impl fmt::Display for Subquery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT ")?;
        match &self.selected {
            Some(operand) => operand.fmt(f)?,
            None => f.write_str("*")?,
        }
        write!(f, " FROM {}", self.entity)?;
        if let Some(alias) = &self.alias {
            write!(f, " AS {alias}")?;
        }
        match &self.condition {
            Some(condition) => write!(f, " WHERE {condition}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quoted {
            f.write_str(&quoted(&self.text))
        } else {
            f.write_str(&self.text)
        }
    }
}

/// A name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            Term::Column {
                table: Some(table),
                name,
            } => write!(f, "{table}.{name}"),
            Term::Column { table: None, name } => name.fmt(f),
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
