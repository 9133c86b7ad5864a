//! Parses subqueries: `SELECT … FROM … WHERE …` in parentheses, behind `IN` or `EXISTS`.

use super::Parser;
use crate::condition::{SUBQUERIES_MAX, SUBQUERIES_NESTED_MAX};
use crate::error::FilterError;
use crate::syntax::Subquery;
use crate::token::{Keyword, TokenKind};

impl Parser<'_> {
    /// Whether `EXISTS (` comes next. As in PostgreSQL a column may have this name without quotes.
    pub(super) fn at_exists(&self) -> bool {
        let Some(TokenKind::Name {
            name,
            quoted: false,
        }) = self.peek()
        else {
            return false;
        };
        name.eq_ignore_ascii_case("exists") && self.peek_second() == Some(&TokenKind::Open)
    }

    /// Whether `(SELECT` comes next.
    pub(super) fn at_subquery(&self) -> bool {
        let select = TokenKind::Keyword(Keyword::Select);
        self.peek() == Some(&TokenKind::Open) && self.peek_second() == Some(&select)
    }

    /// Reads a subquery with its parentheses.
    pub(super) fn subquery(&mut self) -> Result<Subquery, FilterError> {
        self.expect(&TokenKind::Open, "an opening parenthesis")?;
        self.enter()?;
        self.enter_subquery()?;
        let at = self.position();
        self.expect(&TokenKind::Keyword(Keyword::Select), "SELECT")?;
        // Whether a value is there twice makes no difference to IN and EXISTS.
        self.eat(Keyword::Distinct);
        let selected = if self.peek() == Some(&TokenKind::Star) {
            self.next += 1;
            None
        } else {
            Some(self.operand()?)
        };
        if self.peek() == Some(&TokenKind::Comma) {
            let message = "a subquery selects one column";
            return Err(FilterError::bad(self.position(), message));
        }
        self.expect(&TokenKind::Keyword(Keyword::From), "FROM")?;
        let entity_at = self.position();
        if self.peek() == Some(&TokenKind::Open) {
            let message = "a subquery reads an entity, by its name";
            return Err(FilterError::bad(entity_at, message));
        }
        let entity = self.name("the name of an entity")?;
        self.check_one_entity()?;
        let alias = if self.eat(Keyword::As) {
            Some(self.name("a name behind AS")?)
        } else if let Some(TokenKind::Name { .. }) = self.peek() {
            Some(self.name("an alias")?)
        } else {
            None
        };
        self.check_one_entity()?;
        let condition = if self.eat(Keyword::Where) {
            Some(self.disjunction()?)
        } else {
            None
        };
        self.expect(&TokenKind::Close, "WHERE, AND, OR or a closing parenthesis")?;
        self.subqueries_open -= 1;
        self.nesting -= 1;
        Ok(Subquery {
            selected,
            entity,
            alias,
            condition,
            at,
            entity_at,
        })
    }

    fn check_one_entity(&self) -> Result<(), FilterError> {
        let message = match self.peek() {
            Some(TokenKind::Comma) => {
                "a subquery reads one entity; for another write IN (SELECT …) in its WHERE"
            }
            Some(TokenKind::Period) => "a subquery reads an entity, by its name without a schema",
            Some(TokenKind::Open) => "a filter cannot call functions",
            _ => return Ok(()),
        };
        Err(FilterError::bad(self.position(), message))
    }

    fn enter_subquery(&mut self) -> Result<(), FilterError> {
        if self.subqueries_open == SUBQUERIES_NESTED_MAX {
            let message =
                format!("at most {SUBQUERIES_NESTED_MAX} subqueries are inside each other");
            return Err(FilterError::too_large(self.position(), message));
        }
        if self.subqueries == SUBQUERIES_MAX {
            let message = format!("a filter has at most {SUBQUERIES_MAX} subqueries");
            return Err(FilterError::too_large(self.position(), message));
        }
        self.subqueries_open += 1;
        self.subqueries += 1;
        Ok(())
    }
}
