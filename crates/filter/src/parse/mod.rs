//! Parses tokens into an [`Expr`], by recursive descent.
//!
//! Only the tokens are `sqlparser`'s. Its parser needs megabytes of stack for the nesting that is allowed here
//! (more than a thread of tokio has, in a build without optimisation), and its tree does not say where an
//! operator stood. A test compares the two.
//!
//! From loosest to tightest: `OR`, `AND`, `NOT`, then one comparison, as in PostgreSQL.

mod subquery;

use super::error::FilterError;
use super::syntax::{Expr, Name, Operand, Term};
use super::token::{Keyword, Language, Token, TokenKind, tokens};

/// The deepest nesting of parentheses and `NOT`.
pub const NESTING_MAX: usize = 64;

/// The most columns, literals and parameters of a filter.
pub const OPERANDS_MAX: usize = 1000;

/// Reads a filter's text.
///
/// # Errors
/// When the text is too large, or is not a filter; the error says where.
pub(super) fn parse(text: &str) -> Result<Expr, FilterError> {
    parse_in(text, Language::Filter)
}

/// Reads a policy's text.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_policy(text: &str) -> Result<Expr, FilterError> {
    parse_in(text, Language::Policy)
}

fn parse_in(text: &str, language: Language) -> Result<Expr, FilterError> {
    let tokens = tokens(text, language)?;
    let end = text.chars().count() + 1;
    let mut parser = Parser {
        tokens: &tokens,
        end,
        next: 0,
        nesting: 0,
        operands: 0,
        subqueries: 0,
        subqueries_open: 0,
    };
    let expr = parser.disjunction()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.unexpected("AND, OR or the end")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    /// The position after the last character.
    end: usize,
    next: usize,
    nesting: usize,
    operands: usize,
    /// How many subqueries there are so far.
    subqueries: usize,
    /// How many of them are being read, inside each other.
    subqueries_open: usize,
}

impl<'a> Parser<'a> {
    fn disjunction(&mut self) -> Result<Expr, FilterError> {
        let first = self.conjunction()?;
        if !self.eat(Keyword::Or) {
            return Ok(first);
        }
        let mut parts = vec![first, self.conjunction()?];
        while self.eat(Keyword::Or) {
            parts.push(self.conjunction()?);
        }
        Ok(Expr::Or(parts))
    }

    fn conjunction(&mut self) -> Result<Expr, FilterError> {
        let first = self.negation()?;
        if !self.eat(Keyword::And) {
            return Ok(first);
        }
        let mut parts = vec![first, self.negation()?];
        while self.eat(Keyword::And) {
            parts.push(self.negation()?);
        }
        Ok(Expr::And(parts))
    }

    fn negation(&mut self) -> Result<Expr, FilterError> {
        if !self.eat(Keyword::Not) {
            return self.predicate();
        }
        self.enter()?;
        let inner = Box::new(self.negation()?);
        self.nesting -= 1;
        Ok(Expr::Not(inner))
    }

    fn predicate(&mut self) -> Result<Expr, FilterError> {
        if self.at_exists() {
            self.next += 1;
            let expr = Expr::Exists(Box::new(self.subquery()?));
            return self.uncompared(expr);
        }
        if self.peek() != Some(&TokenKind::Open) {
            let operand = self.operand()?;
            return self.comparison(operand);
        }
        self.next += 1;
        self.enter()?;
        let inner = self.disjunction()?;
        self.nesting -= 1;
        self.expect(&TokenKind::Close, "a closing parenthesis")?;
        match inner {
            // An operand in parentheses may be the left side of a comparison.
            Expr::Operand(operand) => self.comparison(operand),
            inner => self.uncompared(inner),
        }
    }

    /// A condition, behind which no comparison follows.
    fn uncompared(&self, expr: Expr) -> Result<Expr, FilterError> {
        if self.at_comparison() {
            return Err(FilterError::bad(
                self.position(),
                "a condition cannot be compared",
            ));
        }
        Ok(expr)
    }

    /// Reads what follows an operand: a comparison, or nothing.
    fn comparison(&mut self, operand: Operand) -> Result<Expr, FilterError> {
        match self.one_comparison(operand)? {
            operand @ Expr::Operand(_) => Ok(operand),
            condition => self.uncompared(condition),
        }
    }

    fn one_comparison(&mut self, operand: Operand) -> Result<Expr, FilterError> {
        if let Some(TokenKind::Compare(op)) = self.peek() {
            let op = *op;
            self.next += 1;
            return Ok(Expr::Compare {
                left: operand,
                op,
                right: self.operand()?,
            });
        }
        if self.eat(Keyword::Is) {
            let negated = self.eat(Keyword::Not);
            self.expect(&TokenKind::Keyword(Keyword::Null), "NULL")?;
            return Ok(Expr::IsNull { operand, negated });
        }
        let negated = self.eat(Keyword::Not);
        if self.eat(Keyword::In) {
            if let Some(TokenKind::Claim(_)) = self.peek() {
                return Ok(Expr::InClaim {
                    operand,
                    claim: self.operand()?,
                    negated,
                });
            }
            if self.at_subquery() {
                return Ok(Expr::InSubquery {
                    operand,
                    subquery: Box::new(self.subquery()?),
                    negated,
                });
            }
            return Ok(Expr::In {
                operand,
                values: self.list()?,
                negated,
            });
        }
        if self.eat(Keyword::Like) {
            return Ok(Expr::Like {
                operand,
                pattern: self.operand()?,
                negated,
            });
        }
        if self.eat(Keyword::Between) {
            let low = self.operand()?;
            self.expect(&TokenKind::Keyword(Keyword::And), "AND")?;
            return Ok(Expr::Between {
                operand,
                low,
                high: self.operand()?,
                negated,
            });
        }
        if negated {
            return Err(self.unexpected("IN, LIKE or BETWEEN"));
        }
        Ok(Expr::Operand(operand))
    }

    fn list(&mut self) -> Result<Vec<Operand>, FilterError> {
        self.expect(&TokenKind::Open, "an opening parenthesis")?;
        let mut values = vec![self.operand()?];
        while self.peek() == Some(&TokenKind::Comma) {
            self.next += 1;
            values.push(self.operand()?);
        }
        self.expect(&TokenKind::Close, "a comma or a closing parenthesis")?;
        Ok(values)
    }

    fn operand(&mut self) -> Result<Operand, FilterError> {
        if self.peek() == Some(&TokenKind::Open) {
            self.next += 1;
            self.enter()?;
            let inner = self.operand()?;
            self.nesting -= 1;
            self.expect(&TokenKind::Close, "a closing parenthesis")?;
            return Ok(inner);
        }
        self.operands += 1;
        if self.operands > OPERANDS_MAX {
            let message = format!("a filter has at most {OPERANDS_MAX} columns and values");
            return Err(FilterError::too_large(self.position(), message));
        }
        let at = self.position();
        let term = self.term()?;
        Ok(Operand { term, at })
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let term = match self.peek() {
            Some(TokenKind::Name { .. }) if self.peek_second() == Some(&TokenKind::Open) => {
                return Err(FilterError::bad(
                    self.position(),
                    "a filter cannot call functions",
                ));
            }
            Some(TokenKind::Name { .. }) => return self.column(),
            Some(TokenKind::Number(text)) => Term::Number(text.clone()),
            Some(TokenKind::Text(text)) => Term::Text(text.clone()),
            Some(TokenKind::Param(number)) => Term::Param(*number),
            Some(TokenKind::Claim(path)) => Term::Claim(path.clone()),
            Some(TokenKind::Keyword(Keyword::True)) => Term::Bool(true),
            Some(TokenKind::Keyword(Keyword::False)) => Term::Bool(false),
            Some(TokenKind::Keyword(Keyword::Null)) => Term::Null,
            Some(TokenKind::Minus) => match self.peek_second() {
                Some(TokenKind::Number(text)) => {
                    self.next += 1;
                    Term::Number(format!("-{text}"))
                }
                _ => {
                    return Err(FilterError::bad(
                        self.position(),
                        "a filter cannot calculate",
                    ));
                }
            },
            Some(TokenKind::Keyword(Keyword::Select)) => {
                return Err(FilterError::bad(
                    self.position(),
                    "a subquery stands behind IN or EXISTS, in parentheses of its own",
                ));
            }
            Some(TokenKind::Keyword(
                word @ (Keyword::Distinct | Keyword::From | Keyword::Where | Keyword::As),
            )) => {
                let message = format!(
                    "{} is not supported here; write a column of this name in quotes",
                    word.spelling()
                );
                return Err(FilterError::bad(self.position(), message));
            }
            _ => return Err(self.unexpected("a column, a literal or a parameter")),
        };
        self.next += 1;
        Ok(term)
    }

    /// A column's name, or that of its table, a period and its own.
    fn column(&mut self) -> Result<Term, FilterError> {
        let first = self.name("a column")?;
        if self.peek() != Some(&TokenKind::Period) {
            return Ok(Term::Column {
                table: None,
                name: first,
            });
        }
        self.next += 1;
        let name = self.name("a column's name")?;
        if let Some(TokenKind::Open) = self.peek() {
            return Err(FilterError::bad(
                self.position(),
                "a filter cannot call functions",
            ));
        }
        Ok(Term::Column {
            table: Some(first),
            name,
        })
    }

    fn name(&mut self, expected: &str) -> Result<Name, FilterError> {
        let Some(TokenKind::Name { name, quoted }) = self.peek() else {
            return Err(self.unexpected(expected));
        };
        self.next += 1;
        Ok(Name {
            text: name.clone(),
            quoted: *quoted,
        })
    }

    /// Goes one level deeper. An error ends the parse, so only success needs to come back up.
    fn enter(&mut self) -> Result<(), FilterError> {
        if self.nesting == NESTING_MAX {
            let message = format!("a filter is nested at most {NESTING_MAX} deep");
            return Err(FilterError::too_large(self.position(), message));
        }
        self.nesting += 1;
        Ok(())
    }

    fn at_comparison(&self) -> bool {
        use Keyword::{Between, In, Is, Like, Not};
        matches!(
            self.peek(),
            Some(TokenKind::Compare(_) | TokenKind::Keyword(In | Between | Is | Like | Not))
        )
    }

    fn peek(&self) -> Option<&'a TokenKind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn peek_second(&self) -> Option<&'a TokenKind> {
        self.tokens.get(self.next + 1).map(|token| &token.kind)
    }

    fn position(&self) -> usize {
        self.tokens
            .get(self.next)
            .map_or(self.end, |token| token.at)
    }

    fn eat(&mut self, keyword: Keyword) -> bool {
        let found = self.peek() == Some(&TokenKind::Keyword(keyword));
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, kind: &TokenKind, name: &str) -> Result<(), FilterError> {
        if self.peek() != Some(kind) {
            return Err(self.unexpected(name));
        }
        self.next += 1;
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> FilterError {
        let found = if self.peek().is_none() {
            ", not the end"
        } else {
            ""
        };
        FilterError::bad(self.position(), format!("expected {expected}{found}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FilterErrorKind;

    #[test]
    fn operators_bind_as_in_postgresql() {
        for (text, read) in [
            ("a", "a"),
            (
                "a = 1 OR b = 2 AND NOT c = 3",
                "a = 1 OR b = 2 AND NOT c = 3",
            ),
            ("(a = 1 OR b = 2) AND c", "(a = 1 OR b = 2) AND c"),
            ("((a = 1) AND ((b != 2)))", "a = 1 AND b <> 2"),
            ("(a) = ((-1.5))", "a = -1.5"),
            ("not not a is not null", "NOT NOT a IS NOT NULL"),
            ("NOT a BETWEEN 1 AND 2 AND b", "NOT a BETWEEN 1 AND 2 AND b"),
            ("a not between $1 and $2", "a NOT BETWEEN $1 AND $2"),
            (
                "a IN (1,'x',(null)) OR \"B\" NOT IN (true)",
                "a IN (1, 'x', NULL) OR \"B\" NOT IN (TRUE)",
            ),
            (
                "a LIKE 'x%' AND a NOT LIKE $1",
                "a LIKE 'x%' AND a NOT LIKE $1",
            ),
            ("(a OR b) OR c", "(a OR b) OR c"),
            ("a AND (b AND c)", "a AND (b AND c)"),
            ("1 >= a", "1 >= a"),
        ] {
            let expr = parse(text).expect(text);
            assert_eq!(expr.to_string(), read);
        }
        let grouped = parse("a OR b AND NOT c = 1").expect("a filter");
        let Expr::Or(parts) = &grouped else {
            panic!("{grouped:?}")
        };
        assert!(matches!(&parts[1], Expr::And(parts) if matches!(&parts[1], Expr::Not(_))));
    }

    #[test]
    fn an_error_names_the_position_at_which_a_text_stops_being_a_filter() {
        for (text, position, words) in [
            ("", 1, "expected a column"),
            ("a =", 4, "not the end"),
            ("a = 1 b", 7, "expected AND"),
            ("a = 1 = 2", 7, "condition"),
            ("(a = 1) = TRUE", 9, "condition"),
            ("(a AND b) IS NULL", 11, "condition"),
            ("a IS NULL IS NULL", 11, "condition"),
            ("a IN ()", 7, "expected a column"),
            ("a IN 1", 6, "opening"),
            ("a IN (1, (2, 3))", 12, "closing"),
            ("(a, b) = (1, 2)", 3, "closing"),
            ("a IN (b = 1)", 9, "comma"),
            ("lower(a) = 'x'", 1, "functions"),
            ("a = now()", 5, "functions"),
            ("a = -b", 5, "calculate"),
            ("a - 1 = 2", 3, "expected AND"),
            ("a = 1 - 1", 7, "expected AND"),
            ("a = date '2026-11-20'", 10, "expected AND"),
            ("a IS TRUE", 6, "NULL"),
            ("a NOT = 1", 7, "IN, LIKE"),
            ("a LIKE 'x' escape '!'", 12, "expected AND"),
            ("a = 'x' 'y'", 9, "expected AND"),
            ("(a = 1", 7, "closing"),
            ("a = 1)", 6, "expected AND"),
            ("a BETWEEN 1 OR 2", 13, "AND"),
            ("AND", 1, "expected a column"),
            ("NOT", 4, "not the end"),
            ("a = =", 5, "expected a column"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(
                (error.kind, error.position),
                (FilterErrorKind::Bad, Some(position)),
                "{text}"
            );
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_filter_beyond_a_bound_is_too_large() {
        let ors = |count| vec!["a=1"; count].join(" OR ");
        let deep = |word: &str, end: &str, levels| {
            format!("{}a = 1{}", word.repeat(levels), end.repeat(levels))
        };
        for text in [
            ors(10_000),
            ors(OPERANDS_MAX / 2 + 1),
            deep("(", ")", 1000),
            deep("NOT ", "", 1000),
            deep("(", ")", NESTING_MAX + 1),
            deep("NOT (", ")", NESTING_MAX / 2 + 1),
            format!("a = {}1{}", "(".repeat(1000), ")".repeat(1000)),
            format!("a IN ({})", vec!["1"; OPERANDS_MAX].join(",")),
            "x".repeat(1024 * 1024),
        ] {
            let error = parse(&text).expect_err("too large");
            assert_eq!(error.kind, FilterErrorKind::TooLarge, "{error}");
        }
        for text in [
            ors(OPERANDS_MAX / 2),
            deep("(", ")", NESTING_MAX),
            deep("NOT ", "", NESTING_MAX),
            deep("NOT (", ")", NESTING_MAX / 2),
        ] {
            assert!(parse(&text).is_ok());
        }
    }
}
