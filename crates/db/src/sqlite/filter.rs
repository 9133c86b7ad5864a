//! A filter as SQL for SQLite, for reads of tables.
//!
//! A column in SQLite may contain a value of any type, and any two values can be compared. Values that are
//! not of the column's kind must not match, so comparisons that could be true for them test the value's type
//! as well. This is right for canonical conditions only: under a `NOT` it would be wrong.

use filter::{CompareOp, Condition, Pattern, Piece, Scalar};
use value::Real;
use value::schema::{ColumnKind, Schema};

use super::statement::{Statement, Value};
use crate::quote::ident;

/// Appends a condition on the table with the alias `t`. It is true for the rows for which the filter is true,
/// but may be false where the filter is unknown.
pub(super) fn predicate(statement: Statement, condition: &Condition, schema: &Schema) -> Statement {
    match condition {
        Condition::And(parts) => joined(statement, parts, " AND ", schema),
        Condition::Or(parts) => joined(statement, parts, " OR ", schema),
        Condition::Not(_) => unreachable!("a canonical condition has no NOT"),
        Condition::Constant(truth) => statement.sql(match truth {
            Some(true) => "(1 = 1)",
            Some(false) => "(1 = 0)",
            None => "(1 = NULL)",
        }),
        Condition::Compare {
            column,
            op: CompareOp::Eq,
            value,
        } => statement
            .sql(format!("{} = ", name(schema, *column)))
            .value(param(value)),
        Condition::Compare { column, op, value } => statement
            .sql(format!("({} {} ", name(schema, *column), op.sign()))
            .value(param(value))
            .sql(format!(" AND {})", guard(schema, *column))),
        Condition::In {
            column,
            values,
            null,
            negated,
        } => {
            let null = match (null, values.is_empty()) {
                (true, true) => "NULL",
                (true, false) => ", NULL",
                (false, _) => "",
            };
            let guard = if *negated {
                format!(" AND {}", guard(schema, *column))
            } else {
                String::new()
            };
            statement
                .sql(format!("({} {}IN (", name(schema, *column), not(*negated)))
                .values(values.iter().map(param))
                .sql(format!("{null}){guard})"))
        }
        // Not written yet, and never true.
        Condition::Member { .. } => statement.sql("(1 = NULL)"),
        Condition::IsNull { column, negated } => statement.sql(format!(
            "{} IS {}NULL",
            name(schema, *column),
            not(*negated)
        )),
        Condition::Like {
            column,
            pattern,
            negated,
        } => statement
            // Unlike LIKE, GLOB is always case-sensitive.
            .sql(format!("({} {}GLOB ", name(schema, *column), not(*negated)))
            .value(Value::Text(glob(pattern)))
            // For GLOB a text ends at its first null character.
            .sql(format!(
                " AND {} AND instr({}, char(0)) = 0)",
                guard(schema, *column),
                name(schema, *column)
            )),
    }
}

fn joined(mut statement: Statement, parts: &[Condition], word: &str, schema: &Schema) -> Statement {
    for (index, part) in parts.iter().enumerate() {
        statement = statement.sql(if index == 0 { "(" } else { word });
        statement = predicate(statement, part, schema);
    }
    statement.sql(")")
}

fn name(schema: &Schema, column: usize) -> String {
    format!("t.{}", ident(&schema.columns[column].name))
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

/// The condition that the column contains a value of its kind.
fn guard(schema: &Schema, column: usize) -> String {
    let name = name(schema, column);
    match schema.columns[column].kind {
        ColumnKind::Bool => format!("{name} IN (0, 1)"),
        ColumnKind::Int { .. } => format!("typeof({name}) = 'integer'"),
        ColumnKind::Float | ColumnKind::Numeric => {
            format!("typeof({name}) IN ('integer', 'real')")
        }
        _ => format!("typeof({name}) = 'text'"),
    }
}

fn param(value: &Scalar) -> Value {
    match value {
        Scalar::Bool(value) => Value::Integer(i64::from(*value)),
        Scalar::Int(value) | Scalar::Real(Real::Whole(value)) => Value::Integer(*value),
        Scalar::Double(value) | Scalar::Real(Real::Double(value)) => Value::Real(value.value()),
        other => Value::Text(other.to_string()),
    }
}

/// The pattern in the syntax of `GLOB`, where brackets escape special characters.
fn glob(pattern: &Pattern) -> String {
    let mut glob = String::new();
    for piece in pattern.pieces() {
        match piece {
            Piece::Run => glob.push('*'),
            Piece::One => glob.push('?'),
            Piece::Char(special @ ('*' | '?' | '[')) => glob.extend(['[', special, ']']),
            Piece::Char(other) => glob.push(other),
        }
    }
    glob
}
