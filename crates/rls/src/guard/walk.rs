//! Finds every place in which a text names a table, and what must be true there of a row.
//!
//! A row that a WHERE, or the ON of a join, leaves out before anything else is done with it cannot change what a SELECT returns.
//! So each place needs, in the SELECT in which it stands, a condition on its own row that is joined by AND with all others:
//!
//! - of the WHERE, whatever joins there are: what is joined to the row is left out with it, and what would be joined to nothing
//!   in its place is left out, too, as a comparison with null is not true;
//! - of the ON of an inner join, on either side of it, or of a left join on its right side.
//!
//! Every expression is walked. What is not understood has no result, as in [`crate::names`].

use filter::Table;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause, ObjectName, ObjectNamePart,
    OrderByKind, Query, Select, SelectItem, SetExpr, Subscript, TableAlias, TableFactor,
    TableWithJoins,
};

use super::Candidate;
use super::session::{self, Decides};
use crate::catalog::TableName;
use crate::family::Family;
use crate::parse::bare;
use crate::scan::{self, Piece};
use crate::uses::Sources;

/// Something is not understood, or a row may count whatever it holds.
struct Unguarded;

type Walked = Result<(), Unguarded>;

/// For each place in which an expression, which was read from this text, names the table, what guards it there.
pub(super) fn places(
    expr: &Expr,
    text: &str,
    name: &TableName,
    sources: &Sources,
    table: Table<'_>,
) -> Option<Vec<Vec<Candidate>>> {
    let mut walk = Walk {
        name,
        sources,
        table,
        places: Vec::new(),
        named: 0,
    };
    walk.expr(expr).ok()?;
    (walk.named == mentions(text, &name.name)).then_some(walk.places)
}

/// How often a text has a word that is not the qualifier of another.
fn mentions(text: &str, name: &str) -> usize {
    let pieces = scan::pieces(text);
    let is_it = |at: &usize| {
        let is_qualifier = pieces.get(at + 1) == Some(&Piece::Symbol("."));
        matches!(&pieces[*at], Piece::Word(word) if word == name) && !is_qualifier
    };
    (0..pieces.len()).filter(is_it).count()
}

struct Walk<'w> {
    name: &'w TableName,
    sources: &'w Sources,
    table: Table<'w>,
    places: Vec<Vec<Candidate>>,
    /// How often a table of this name has been found, of whatever schema.
    named: usize,
}

/// Something that a FROM names.
struct Source<'e> {
    alias: Option<&'e str>,
    is_table: bool,
    /// What is true of each of its rows that counts.
    conditions: Vec<&'e Expr>,
}

impl Walk<'_> {
    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) -> Walked {
        exprs.into_iter().try_for_each(|expr| self.expr(expr))
    }

    fn expr(&mut self, expr: &Expr) -> Walked {
        match expr {
            Expr::Identifier(_) | Expr::Value(_) | Expr::TypedString(_) => Ok(()),
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => Ok(()),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                access_chain.iter().try_for_each(|access| match access {
                    AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
                    AccessExpr::Dot(Expr::Identifier(_)) => Ok(()),
                    AccessExpr::Dot(_) | AccessExpr::Subscript(_) => Err(Unguarded),
                })
            }
            Expr::IsFalse(one)
            | Expr::IsNotFalse(one)
            | Expr::IsTrue(one)
            | Expr::IsNotTrue(one)
            | Expr::IsNull(one)
            | Expr::IsNotNull(one)
            | Expr::IsUnknown(one)
            | Expr::IsNotUnknown(one)
            | Expr::Nested(one)
            | Expr::UnaryOp { expr: one, .. }
            | Expr::Cast {
                expr: one,
                format: None,
                ..
            } => self.expr(one),
            Expr::BinaryOp {
                op: BinaryOperator::PGCustomBinaryOperator(_),
                ..
            } => Err(Unguarded),
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::BinaryOp { left, right, .. }
            | Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. } => self.all([&**left, &**right]),
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => self.all([&**timestamp, &**time_zone]),
            Expr::InList { expr, list, .. } => {
                self.expr(expr)?;
                self.all(list)
            }
            Expr::InSubquery { expr, subquery, .. } => {
                self.expr(expr)?;
                self.query(subquery)
            }
            Expr::Between {
                expr, low, high, ..
            } => self.all([&**expr, &**low, &**high]),
            Expr::Function(function) => self.function(function),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                self.all(operand.as_deref())?;
                self.all(else_result.as_deref())?;
                let mut conditions = conditions.iter();
                conditions.try_for_each(|when| self.all([&when.condition, &when.result]))
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => self.query(subquery),
            Expr::Tuple(parts) => self.all(parts),
            Expr::Array(array) => self.all(&array.elem),
            Expr::Extract { expr, .. } => self.expr(expr),
            _ => Err(Unguarded),
        }
    }

    fn function(&mut self, function: &Function) -> Walked {
        let is_plain = function.over.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, FunctionArguments::None);
        if !is_plain {
            return Err(Unguarded);
        }
        self.all(function.filter.as_deref())?;
        match &function.args {
            FunctionArguments::None => Ok(()),
            FunctionArguments::Subquery(query) => self.query(query),
            FunctionArguments::List(list) if list.clauses.is_empty() => self.arguments(&list.args),
            FunctionArguments::List(_) => Err(Unguarded),
        }
    }

    fn arguments(&mut self, arguments: &[FunctionArg]) -> Walked {
        arguments.iter().try_for_each(|argument| {
            let (FunctionArg::Unnamed(value) | FunctionArg::Named { arg: value, .. }) = argument
            else {
                return Err(Unguarded);
            };
            match value {
                FunctionArgExpr::Expr(expr) => self.expr(expr),
                FunctionArgExpr::Wildcard => Ok(()),
                _ => Err(Unguarded),
            }
        })
    }

    fn query(&mut self, query: &Query) -> Walked {
        let is_plain = query.with.is_none()
            && query.locks.is_empty()
            && query.fetch.is_none()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !is_plain {
            return Err(Unguarded);
        }
        self.set(&query.body)?;
        match query.order_by.as_ref().map(|order| &order.kind) {
            None => {}
            Some(OrderByKind::Expressions(exprs)) => self.all(exprs.iter().map(|by| &by.expr))?,
            Some(OrderByKind::All(_)) => return Err(Unguarded),
        }
        match &query.limit_clause {
            None => Ok(()),
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                self.all(limit)?;
                self.all(offset.as_ref().map(|offset| &offset.value))
            }
            Some(_) => Err(Unguarded),
        }
    }

    fn set(&mut self, set: &SetExpr) -> Walked {
        match set {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.set(left)?;
                self.set(right)
            }
            SetExpr::Values(values) => self.all(values.rows.iter().flat_map(|row| row.iter())),
            _ => Err(Unguarded),
        }
    }

    fn select(&mut self, select: &Select) -> Walked {
        let is_plain = select.top.is_none()
            && select.exclude.is_none()
            && select.into.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.named_window.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none();
        if !is_plain {
            return Err(Unguarded);
        }
        let mut from = Vec::new();
        for table in &select.from {
            self.tables(table, &mut from)?;
        }
        for condition in conjuncts(select.selection.as_ref()) {
            from.iter_mut()
                .for_each(|source| source.conditions.push(condition));
        }
        self.guard(&from)?;
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expr(expr)?;
                }
                SelectItem::Wildcard(_) => {}
                _ => return Err(Unguarded),
            }
        }
        self.all(select.selection.iter().chain(&select.having))?;
        match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => self.all(exprs),
            _ => Err(Unguarded),
        }
    }

    /// Notes what guards the table among the sources of one FROM.
    fn guard(&mut self, from: &[Source<'_>]) -> Walked {
        for (at, source) in from.iter().enumerate() {
            let mut others = from[at + 1..].iter();
            // A name that two have may mean either.
            if others.any(|other| other.alias.is_some() && other.alias == source.alias) {
                return Err(Unguarded);
            }
        }
        for source in from.iter().filter(|source| source.is_table) {
            let alias = source.alias.ok_or(Unguarded)?;
            let conditions = source.conditions.iter();
            let place: Vec<Candidate> = conditions
                .filter_map(|condition| self.candidate(condition, alias))
                .collect();
            if place.is_empty() {
                return Err(Unguarded);
            }
            self.places.push(place);
        }
        Ok(())
    }

    /// `alias.column = value`, where the session decides about the value.
    fn candidate(&self, condition: &Expr, alias: &str) -> Option<Candidate> {
        let Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } = condition
        else {
            return None;
        };
        let one = self.column(left, alias).map(|column| (column, right));
        let ((column, family), value) =
            one.or_else(|| self.column(right, alias).map(|column| (column, left)))?;
        let decides = session::decides(value, self.sources)?;
        Some(Candidate {
            column,
            expr: value.to_string(),
            family,
            is_of_session: decides == Decides::Session,
        })
    }

    /// The column of the table that an expression is, where its values are compared as PostgreSQL compares them. A `varchar` is
    /// compared as `text`.
    fn column(&self, expr: &Expr, alias: &str) -> Option<(usize, Family)> {
        let (name, is_cast) = match bare(expr) {
            Expr::Cast {
                expr,
                data_type: sqlparser::ast::DataType::Text,
                format: None,
                ..
            } => (bare(expr), true),
            other => (other, false),
        };
        let Expr::CompoundIdentifier(parts) = name else {
            return None;
        };
        let [of, column] = &parts[..] else {
            return None;
        };
        let columns = &self.table.schema.columns;
        let position = columns.iter().position(|it| it.name == column.value)?;
        let family = Family::of_column(self.table, position)?;
        let is_compared = match family {
            Family::Text => true,
            Family::Int | Family::Numeric | Family::Uuid | Family::Date => !is_cast,
            // Labels may be added, and two values tell few groups apart.
            Family::Bool | Family::Enum(_) => false,
        };
        let is_it = of.value == alias && is_compared && columns[position].logged;
        is_it.then_some((position, family))
    }

    /// Adds the sources of a FROM, each with what joins say of it.
    fn tables<'e>(&mut self, table: &'e TableWithJoins, from: &mut Vec<Source<'e>>) -> Walked {
        let first = from.len();
        self.factor(&table.relation, from)?;
        for join in &table.joins {
            let joined = from.len();
            self.factor(&join.relation, from)?;
            let Some(on) = self.on(join)? else { continue };
            let guarded = match &join.join_operator {
                JoinOperator::Join(_) | JoinOperator::Inner(_) => first,
                JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => joined,
                _ => continue,
            };
            for condition in conjuncts(Some(on)) {
                let sources = from[guarded..].iter_mut();
                sources.for_each(|source| source.conditions.push(condition));
            }
        }
        Ok(())
    }

    /// The ON of a join.
    fn on<'e>(&mut self, join: &'e Join) -> Result<Option<&'e Expr>, Unguarded> {
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            _ => return Err(Unguarded),
        };
        match constraint {
            JoinConstraint::On(expr) => {
                self.expr(expr)?;
                Ok(Some(expr))
            }
            JoinConstraint::Using(_) | JoinConstraint::None => Ok(None),
            JoinConstraint::Natural => Err(Unguarded),
        }
    }

    fn factor<'e>(&mut self, factor: &'e TableFactor, from: &mut Vec<Source<'e>>) -> Walked {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version: None,
                with_ordinality: _,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let is_table = match args {
                    None => self.is_table(name)?,
                    Some(args) => {
                        self.arguments(&args.args)?;
                        false
                    }
                };
                // Columns may have other names behind an alias.
                if is_table && alias.as_ref().is_some_and(|it| !it.columns.is_empty()) {
                    return Err(Unguarded);
                }
                let last = match name.0.last() {
                    Some(ObjectNamePart::Identifier(last)) => Some(last.value.as_str()),
                    _ => None,
                };
                from.push(Source {
                    alias: alias_of(alias.as_ref()).or(last),
                    is_table,
                    conditions: Vec::new(),
                });
                Ok(())
            }
            TableFactor::Function { args, alias, .. } => {
                self.arguments(args)?;
                from.push(Source {
                    alias: alias_of(alias.as_ref()),
                    is_table: false,
                    conditions: Vec::new(),
                });
                Ok(())
            }
            TableFactor::UNNEST {
                array_exprs, alias, ..
            } => {
                self.all(array_exprs)?;
                from.push(Source {
                    alias: alias_of(alias.as_ref()),
                    is_table: false,
                    conditions: Vec::new(),
                });
                Ok(())
            }
            TableFactor::Derived {
                subquery,
                alias,
                sample: None,
                ..
            } => {
                self.query(subquery)?;
                from.push(Source {
                    alias: alias_of(alias.as_ref()),
                    is_table: false,
                    conditions: Vec::new(),
                });
                Ok(())
            }
            // With an alias the names within it mean nothing outside.
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self.tables(table_with_joins, from),
            _ => Err(Unguarded),
        }
    }

    /// Whether a name is the table's. PostgreSQL writes every table with its schema.
    fn is_table(&mut self, name: &ObjectName) -> Result<bool, Unguarded> {
        match &name.0[..] {
            [ObjectNamePart::Identifier(name)] if name.value != self.name.name => Ok(false),
            [
                ObjectNamePart::Identifier(schema),
                ObjectNamePart::Identifier(name),
            ] => {
                let is_named = name.value == self.name.name;
                self.named += usize::from(is_named);
                Ok(is_named && schema.value == self.name.schema)
            }
            _ => Err(Unguarded),
        }
    }
}

fn alias_of(alias: Option<&TableAlias>) -> Option<&str> {
    alias.map(|alias| alias.name.value.as_str())
}

/// The conditions that must all be true.
fn conjuncts(expr: Option<&Expr>) -> Vec<&Expr> {
    match expr.map(bare) {
        None => Vec::new(),
        Some(Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        }) => {
            let mut all = conjuncts(Some(left));
            all.extend(conjuncts(Some(right)));
            all
        }
        Some(other) => vec![other],
    }
}
