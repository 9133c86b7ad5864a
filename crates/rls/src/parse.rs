//! Reads the text that PostgreSQL writes for an expression.

use sqlparser::ast::Expr;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

/// The longest text that is read, in bytes; a longer policy is per row.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The most expressions inside each other.
const NESTING_MAX: usize = 60;
/// The most conditions joined by AND or OR. A chain of them is as deep as it is long.
const JOINED_MAX: usize = 300;

/// Reads one expression.
///
/// # Errors
/// Why it is not read, for a person.
pub(crate) fn expression(text: &str) -> Result<Expr, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err("it is too long".to_owned());
    }
    let joined = text.matches(" AND ").count() + text.matches(" OR ").count();
    if joined > JOINED_MAX {
        return Err("it has too many conditions".to_owned());
    }
    let read = |text: &str| {
        let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(NESTING_MAX);
        let mut parser = parser.try_with_sql(text).ok()?;
        let expr = parser.parse_expr().ok()?;
        (parser.peek_token().token == Token::EOF).then_some(expr)
    };
    let expr = read(text).ok_or("its syntax is not understood")?;
    // What is asked is written from what was read.
    if read(&expr.to_string()).as_ref() != Some(&expr) {
        return Err("its syntax is not understood for certain".to_owned());
    }
    Ok(expr)
}

/// An expression without the parentheses around it.
pub(crate) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}
