//! Conditions on the row alone, in the language of filters.

use filter::Table;
use sqlparser::ast::{BinaryOperator, DataType, Expr, UnaryOperator, Value};

use crate::family::Family;
use crate::parse::bare;

/// The filter that says the same as an expression, for each row one of true, false and unknown; none when there is none.
pub(crate) fn filter(expr: &Expr, table: Table<'_>) -> Option<String> {
    let both = |left: &Expr, word: &str, right: &Expr| {
        Some(format!(
            "({} {word} {})",
            filter(left, table)?,
            filter(right, table)?
        ))
    };
    match bare(expr) {
        Expr::Value(value) => match &value.value {
            Value::Boolean(true) => Some("TRUE".to_owned()),
            Value::Boolean(false) => Some("FALSE".to_owned()),
            _ => None,
        },
        Expr::Identifier(_) => {
            let column = Column::of(expr, table)?;
            (column.family == Family::Bool).then_some(column.name)
        }
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => Some(format!("(NOT {})", filter(expr, table)?)),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => both(left, "AND", right),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Or,
            right,
        } => both(left, "OR", right),
        Expr::BinaryOp { left, op, right } => compare(left, op, right, table),
        Expr::IsNull(one) => Some(format!("({} IS NULL)", name_of(one, table)?)),
        Expr::IsNotNull(one) => Some(format!("({} IS NOT NULL)", name_of(one, table)?)),
        // These are never unknown.
        Expr::IsTrue(one) => truth(one, table, "= TRUE", "AND", "IS NOT NULL"),
        Expr::IsFalse(one) => truth(one, table, "= FALSE", "AND", "IS NOT NULL"),
        Expr::IsNotTrue(one) => truth(one, table, "= FALSE", "OR", "IS NULL"),
        Expr::IsNotFalse(one) => truth(one, table, "= TRUE", "OR", "IS NULL"),
        Expr::AnyOp {
            left,
            compare_op: BinaryOperator::Eq,
            right,
            ..
        } => list(left, "IN", right, table),
        Expr::AllOp {
            left,
            compare_op: BinaryOperator::NotEq,
            right,
        } => list(left, "NOT IN", right, table),
        _ => None,
    }
}

/// A column that is compared by value.
pub(crate) struct Column {
    /// Its position in the schema.
    pub(crate) position: usize,
    /// Its name as a filter spells it.
    name: String,
    pub(crate) family: Family,
}

impl Column {
    /// The column that an expression is, perhaps cast to another type of its family: a `varchar` is compared as `text`.
    pub(crate) fn of(expr: &Expr, table: Table<'_>) -> Option<Self> {
        match bare(expr) {
            Expr::Identifier(ident) => Self::named(&ident.value, table),
            Expr::Cast {
                expr,
                data_type: DataType::Text,
                ..
            } => Self::of(expr, table).filter(|column| column.family == Family::Text),
            _ => None,
        }
    }

    /// The column of this name.
    pub(crate) fn named(name: &str, table: Table<'_>) -> Option<Self> {
        let position = table.schema.position(name)?;
        let family = Family::of_column(table, position)?;
        Some(Self {
            position,
            name: quoted(name),
            family,
        })
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of a column of any type.
fn name_of(expr: &Expr, table: Table<'_>) -> Option<String> {
    match bare(expr) {
        Expr::Identifier(ident) => {
            table.schema.position(&ident.value)?;
            Some(quoted(&ident.value))
        }
        _ => None,
    }
}

fn truth(one: &Expr, table: Table<'_>, is: &str, word: &str, null: &str) -> Option<String> {
    let column = Column::of(one, table).filter(|column| column.family == Family::Bool)?;
    let name = column.name;
    Some(format!("({name} {is} {word} {name} {null})"))
}

fn compare(left: &Expr, op: &BinaryOperator, right: &Expr, table: Table<'_>) -> Option<String> {
    let (op, mirrored) = match op {
        BinaryOperator::Eq => ("=", "="),
        BinaryOperator::NotEq => ("<>", "<>"),
        BinaryOperator::Lt => ("<", ">"),
        BinaryOperator::LtEq => ("<=", ">="),
        BinaryOperator::Gt => (">", "<"),
        BinaryOperator::GtEq => (">=", "<="),
        BinaryOperator::PGLikeMatch => ("LIKE", ""),
        BinaryOperator::PGNotLikeMatch => ("NOT LIKE", ""),
        _ => return None,
    };
    if let Some(column) = Column::of(left, table) {
        return Some(format!(
            "({} {op} {})",
            column.name,
            literal(right, &column.family)?
        ));
    }
    let column = Column::of(right, table).filter(|_| !mirrored.is_empty())?;
    Some(format!(
        "({} {mirrored} {})",
        column.name,
        literal(left, &column.family)?
    ))
}

fn list(left: &Expr, word: &str, right: &Expr, table: Table<'_>) -> Option<String> {
    let column = Column::of(left, table)?;
    let Expr::Array(array) = bare(right) else {
        return None;
    };
    let values = array
        .elem
        .iter()
        .map(|value| literal(value, &column.family));
    let values: Vec<String> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| format!("({} {word} ({}))", column.name, values.join(", ")))
}

/// A literal of a type of this family, as a filter spells it.
fn literal(expr: &Expr, family: &Family) -> Option<String> {
    match bare(expr) {
        Expr::Cast {
            expr, data_type, ..
        } => (Family::of_type(&data_type.to_string().to_lowercase()) == *family
            || matches!(family, Family::Enum(_)) && names_enum(data_type, family))
        .then(|| literal_of(expr, family))?,
        other => literal_of(other, family),
    }
}

fn names_enum(data_type: &DataType, family: &Family) -> bool {
    Family::of_type(&data_type.to_string()) == *family
}

fn literal_of(expr: &Expr, family: &Family) -> Option<String> {
    let Expr::Value(value) = bare(expr) else {
        return None;
    };
    match (&value.value, family) {
        (Value::SingleQuotedString(text), Family::Int | Family::Numeric) => {
            let sign_and_digits = text.strip_prefix('-').unwrap_or(text);
            let is_number = sign_and_digits
                .chars()
                .all(|one| one.is_ascii_digit() || one == '.');
            (is_number && !sign_and_digits.is_empty()).then(|| text.clone())
        }
        (Value::SingleQuotedString(text), family) if *family != Family::Bool => {
            Some(format!("'{}'", text.replace('\'', "''")))
        }
        (Value::Number(number, _), Family::Int | Family::Numeric) => Some(number.to_string()),
        (Value::Boolean(true), Family::Bool) => Some("TRUE".to_owned()),
        (Value::Boolean(false), Family::Bool) => Some("FALSE".to_owned()),
        _ => None,
    }
}
