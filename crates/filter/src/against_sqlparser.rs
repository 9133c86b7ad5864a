//! Compares the parser of filters with `sqlparser`'s own.

use proptest::prelude::*;
use sqlparser::ast::{self, BinaryOperator, UnaryOperator};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::error::FilterErrorKind;
use super::parse::parse;
use super::syntax::{CompareOp, Expr, Name, Operand, Subquery, Term};
use super::testing::arbitrary;

/// The filter that `sqlparser` reads; none when the text is not one.
fn read(text: &str) -> Option<Expr> {
    // Its recursion needs more stack than a test has.
    let read = |text: String| {
        let mut parser = Parser::new(&PostgreSqlDialect {})
            .with_recursion_limit(1000)
            .try_with_sql(&text)
            .ok()?;
        let expr = parser.parse_expr().ok()?;
        (parser.peek_token().token == sqlparser::tokenizer::Token::EOF).then(|| of_expr(expr))?
    };
    let text = spaced(text);
    let thread = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || read(text));
    thread.expect("a thread").join().expect("no panic")
}

/// The text with a space between a comparison and a minus, which `sqlparser` would take for one operator.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    let (mut quote, mut before) = (None, ' ');
    for character in text.chars() {
        match quote {
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            None if character == '-' && matches!(before, '=' | '<' | '>') => spaced.push(' '),
            _ => {}
        }
        spaced.push(character);
        before = character;
    }
    spaced
}

fn of_expr(expr: ast::Expr) -> Option<Expr> {
    Some(match expr {
        ast::Expr::Nested(inner) => of_expr(*inner)?,
        ast::Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => Expr::Not(Box::new(of_expr(*expr)?)),
        ast::Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => Expr::And(joined(*left, *right, &BinaryOperator::And)?),
        ast::Expr::BinaryOp {
            left,
            op: BinaryOperator::Or,
            right,
        } => Expr::Or(joined(*left, *right, &BinaryOperator::Or)?),
        ast::Expr::BinaryOp { left, op, right } => {
            let op = match op {
                BinaryOperator::Eq => CompareOp::Eq,
                BinaryOperator::NotEq => CompareOp::Ne,
                BinaryOperator::Lt => CompareOp::Lt,
                BinaryOperator::LtEq => CompareOp::Le,
                BinaryOperator::Gt => CompareOp::Gt,
                BinaryOperator::GtEq => CompareOp::Ge,
                _ => return None,
            };
            Expr::Compare {
                left: of_operand(*left)?,
                op,
                right: of_operand(*right)?,
            }
        }
        ast::Expr::IsNull(operand) => Expr::IsNull {
            operand: of_operand(*operand)?,
            negated: false,
        },
        ast::Expr::IsNotNull(operand) => Expr::IsNull {
            operand: of_operand(*operand)?,
            negated: true,
        },
        ast::Expr::InList {
            expr,
            list,
            negated,
        } => Expr::In {
            operand: of_operand(*expr)?,
            values: list.into_iter().map(of_operand).collect::<Option<_>>()?,
            negated,
        },
        ast::Expr::Between {
            expr,
            negated,
            low,
            high,
        } => Expr::Between {
            operand: of_operand(*expr)?,
            low: of_operand(*low)?,
            high: of_operand(*high)?,
            negated,
        },
        ast::Expr::Like {
            negated,
            any: false,
            expr,
            pattern,
            escape_char: None,
        } => Expr::Like {
            operand: of_operand(*expr)?,
            pattern: of_operand(*pattern)?,
            negated,
        },
        ast::Expr::InSubquery {
            expr,
            subquery,
            negated,
        } => Expr::InSubquery {
            operand: of_operand(*expr)?,
            subquery: Box::new(of_query(*subquery)?),
            negated,
        },
        ast::Expr::Exists { subquery, negated } => {
            let exists = Expr::Exists(Box::new(of_query(*subquery)?));
            if negated {
                Expr::Not(Box::new(exists))
            } else {
                exists
            }
        }
        other => Expr::Operand(of_operand(other)?),
    })
}

fn of_query(query: ast::Query) -> Option<Subquery> {
    let ast::SetExpr::Select(select) = *query.body else {
        return None;
    };
    let [selected] = <[_; 1]>::try_from(select.projection).ok()?;
    let [ast::TableWithJoins { relation, joins }] = <[_; 1]>::try_from(select.from).ok()?;
    let ast::TableFactor::Table { name, alias, .. } = relation else {
        return None;
    };
    let [ast::ObjectNamePart::Identifier(entity)] = <[_; 1]>::try_from(name.0).ok()? else {
        return None;
    };
    if !joins.is_empty() {
        return None;
    }
    Some(Subquery {
        selected: match selected {
            ast::SelectItem::Wildcard(_) => None,
            ast::SelectItem::UnnamedExpr(expr) => Some(of_operand(expr)?),
            _ => return None,
        },
        entity: of_name(entity),
        alias: alias.map(|alias| of_name(alias.name)),
        condition: match select.selection {
            Some(condition) => Some(of_expr(condition)?),
            None => None,
        },
        at: 0,
        entity_at: 0,
    })
}

fn of_name(name: ast::Ident) -> Name {
    Name {
        quoted: name.quote_style.is_some(),
        text: name.value,
    }
}

/// The parts of `a AND b AND c`, which leans to the left; a part in parentheses stays apart.
fn joined(left: ast::Expr, right: ast::Expr, word: &BinaryOperator) -> Option<Vec<Expr>> {
    let mut parts = vec![of_expr(right)?];
    let mut left = left;
    loop {
        match left {
            ast::Expr::BinaryOp {
                left: inner,
                op,
                right,
            } if op == *word => {
                parts.push(of_expr(*right)?);
                left = *inner;
            }
            other => {
                parts.push(of_expr(other)?);
                break;
            }
        }
    }
    parts.reverse();
    Some(parts)
}

fn of_operand(expr: ast::Expr) -> Option<Operand> {
    let term = match expr {
        ast::Expr::Nested(inner) => return of_operand(*inner),
        ast::Expr::Identifier(name) => Term::Column {
            table: None,
            name: of_name(name),
        },
        ast::Expr::CompoundIdentifier(names) => {
            let [table, name] = <[_; 2]>::try_from(names).ok()?;
            Term::Column {
                table: Some(of_name(table)),
                name: of_name(name),
            }
        }
        ast::Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match of_operand(*expr)?.term {
            Term::Number(text) if !text.starts_with('-') => Term::Number(format!("-{text}")),
            _ => return None,
        },
        ast::Expr::Value(value) => match value.value {
            ast::Value::Number(text, false) => Term::Number(text),
            ast::Value::SingleQuotedString(text) => Term::Text(text),
            ast::Value::Boolean(value) => Term::Bool(value),
            ast::Value::Null => Term::Null,
            ast::Value::Placeholder(text) => Term::Param(text.strip_prefix('$')?.parse().ok()?),
            _ => return None,
        },
        _ => return None,
    };
    Some(Operand { term, at: 0 })
}

/// The expression without positions, which `sqlparser` does not keep.
pub(super) fn without_positions(expr: Expr) -> Expr {
    let operand = |operand: Operand| Operand { at: 0, ..operand };
    let operands = |operands: Vec<Operand>| operands.into_iter().map(operand).collect();
    let parts = |parts: Vec<Expr>| parts.into_iter().map(without_positions).collect();
    match expr {
        Expr::Operand(one) => Expr::Operand(operand(one)),
        Expr::Compare { left, op, right } => Expr::Compare {
            left: operand(left),
            op,
            right: operand(right),
        },
        Expr::In {
            operand: one,
            values,
            negated,
        } => Expr::In {
            operand: operand(one),
            values: operands(values),
            negated,
        },
        Expr::InClaim { .. } => unreachable!("only a policy has claims"),
        Expr::InSubquery {
            operand: one,
            subquery,
            negated,
        } => Expr::InSubquery {
            operand: operand(one),
            subquery: Box::new(subquery_without_positions(*subquery)),
            negated,
        },
        Expr::Exists(subquery) => Expr::Exists(Box::new(subquery_without_positions(*subquery))),
        Expr::Between {
            operand: one,
            low,
            high,
            negated,
        } => Expr::Between {
            operand: operand(one),
            low: operand(low),
            high: operand(high),
            negated,
        },
        Expr::IsNull {
            operand: one,
            negated,
        } => Expr::IsNull {
            operand: operand(one),
            negated,
        },
        Expr::Like {
            operand: one,
            pattern,
            negated,
        } => Expr::Like {
            operand: operand(one),
            pattern: operand(pattern),
            negated,
        },
        Expr::Not(inner) => Expr::Not(Box::new(without_positions(*inner))),
        Expr::And(list) => Expr::And(parts(list)),
        Expr::Or(list) => Expr::Or(parts(list)),
    }
}

fn subquery_without_positions(subquery: Subquery) -> Subquery {
    Subquery {
        selected: subquery
            .selected
            .map(|operand| Operand { at: 0, ..operand }),
        condition: subquery.condition.map(without_positions),
        at: 0,
        entity_at: 0,
        ..subquery
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_written_expression_is_read_back_by_both_parsers(expr in arbitrary::expr()) {
        let text = expr.to_string();
        match parse(&text) {
            Ok(ours) => prop_assert_eq!(&without_positions(ours), &expr, "{}", text),
            Err(error) => prop_assert_eq!(error.kind, FilterErrorKind::TooLarge, "{}: {}", text, error),
        }
        prop_assert_eq!(read(&text), Some(expr), "{}", text);
    }

    #[test]
    fn a_text_that_we_accept_is_read_alike_by_sqlparser(text in arbitrary::token_soup()) {
        if let Ok(ours) = parse(&text) {
            prop_assert_eq!(read(&text), Some(without_positions(ours)), "{}", text);
        }
    }
}
