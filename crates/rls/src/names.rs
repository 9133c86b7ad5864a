//! Which names of an expression are columns of the policy's own row.
//!
//! PostgreSQL writes a policy so that names cannot be confused: outside of subqueries a column stands alone, within them
//! every column has the name of its table or alias in front, and no alias equals the name of the policy's table.

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, Join, JoinConstraint, JoinOperator, LimitClause, ObjectName, ObjectNamePart, OrderBy,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Subscript,
    TableFactor, TableWithJoins,
};

/// The name of the policy's table and of its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) table: &'a str,
    pub(crate) columns: &'a [String],
}

/// Whether something names the row; an error says why that is unknown.
pub(crate) type Mentions = Result<bool, String>;

impl Names<'_> {
    /// Whether an expression outside of subqueries names a column of the row.
    pub(crate) fn in_expr(self, expr: &Expr) -> Mentions {
        self.expr(expr, false)
    }

    /// Whether an expression within a subquery names a column of the row.
    pub(crate) fn in_inner(self, expr: &Expr) -> Mentions {
        self.expr(expr, true)
    }

    /// Whether a subquery names a column of the row.
    pub(crate) fn in_query(self, query: &Query) -> Mentions {
        let plain = query.locks.is_empty()
            && query.fetch.is_none()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !plain {
            return unknown("a subquery of this form");
        }
        let mut found = self.set(&query.body)?;
        if let Some(with) = &query.with {
            for table in &with.cte_tables {
                found |= self.in_query(&table.query)?;
            }
        }
        if let Some(order) = &query.order_by {
            found |= self.order(order)?;
        }
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                found |= self.all(limit.iter(), true)?;
                found |= self.all(offset.iter().map(|offset| &offset.value), true)?;
            }
            Some(_) => return unknown("a limit of this form"),
        }
        Ok(found)
    }

    /// Whether the tables of a subquery name a column of the row.
    pub(crate) fn in_tables(self, from: &[TableWithJoins]) -> Mentions {
        let mut found = false;
        for table in from {
            found |= self.table(&table.relation)?;
            for join in &table.joins {
                found |= self.join(join)?;
            }
        }
        Ok(found)
    }

    /// The column of the row that a name within a subquery means.
    pub(crate) fn outer_column(self, parts: &[Ident]) -> Option<&str> {
        match parts {
            [table, column] if table.value == self.table => Some(&column.value),
            _ => None,
        }
    }

    fn all<'e>(self, exprs: impl IntoIterator<Item = &'e Expr>, inner: bool) -> Mentions {
        let mut found = false;
        for expr in exprs {
            found |= self.expr(expr, inner)?;
        }
        Ok(found)
    }

    fn expr(self, expr: &Expr, inner: bool) -> Mentions {
        match expr {
            Expr::Identifier(_) if inner => unknown("a name without its table"),
            Expr::Identifier(name) => match self.columns.contains(&name.value) {
                true => Ok(true),
                false => unknown("a name that is not a column"),
            },
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => Ok(parts[0].value == self.table),
            Expr::CompoundFieldAccess { root, access_chain } => {
                let mut found = self.expr(root, inner)?;
                for access in access_chain {
                    found |= match access {
                        AccessExpr::Subscript(Subscript::Index { index }) => {
                            self.expr(index, inner)?
                        }
                        AccessExpr::Dot(Expr::Identifier(_)) => false,
                        AccessExpr::Dot(_) | AccessExpr::Subscript(_) => {
                            return unknown("an access of this form");
                        }
                    };
                }
                Ok(found)
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
            } => self.expr(one, inner),
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::BinaryOp { left, right, .. }
            | Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. } => self.all([&**left, &**right], inner),
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => self.all([&**timestamp, &**time_zone], inner),
            Expr::InList { expr, list, .. } => Ok(self.expr(expr, inner)? | self.all(list, inner)?),
            Expr::InSubquery { expr, subquery, .. } => {
                Ok(self.expr(expr, inner)? | self.in_query(subquery)?)
            }
            Expr::Between {
                expr, low, high, ..
            } => self.all([&**expr, &**low, &**high], inner),
            Expr::Value(_) | Expr::TypedString(_) => Ok(false),
            Expr::Function(function) => self.function(function, inner),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                let mut found = self.all(operand.as_deref(), inner)?;
                found |= self.all(else_result.as_deref(), inner)?;
                for when in conditions {
                    found |= self.all([&when.condition, &when.result], inner)?;
                }
                Ok(found)
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => self.in_query(subquery),
            Expr::Tuple(parts) => self.all(parts, inner),
            Expr::Array(array) => self.all(&array.elem, inner),
            Expr::Extract { expr, .. } => self.expr(expr, inner),
            _ => unknown("an expression of this form"),
        }
    }

    fn function(self, function: &Function, inner: bool) -> Mentions {
        let plain = function.over.is_none()
            && function.within_group.is_empty()
            && function.null_treatment.is_none()
            && matches!(function.parameters, FunctionArguments::None);
        if !plain {
            return unknown("a function call of this form");
        }
        let mut found = self.all(function.filter.as_deref(), inner)?;
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => found |= self.in_query(query)?,
            FunctionArguments::List(list) if list.clauses.is_empty() => {
                found |= self.arguments(&list.args, inner)?;
            }
            FunctionArguments::List(_) => return unknown("a function call of this form"),
        }
        Ok(found)
    }

    fn arguments(self, arguments: &[FunctionArg], inner: bool) -> Mentions {
        let mut found = false;
        for argument in arguments {
            let (FunctionArg::Unnamed(value) | FunctionArg::Named { arg: value, .. }) = argument
            else {
                return unknown("an argument of this form");
            };
            found |= match value {
                FunctionArgExpr::Expr(expr) => self.expr(expr, inner)?,
                FunctionArgExpr::QualifiedWildcard(name) => self.is_table(name),
                FunctionArgExpr::Wildcard => false,
                FunctionArgExpr::WildcardWithOptions(_) => {
                    return unknown("an argument of this form");
                }
            };
        }
        Ok(found)
    }

    /// Whether a name is that of the policy's table, as a whole row.
    fn is_table(self, name: &ObjectName) -> bool {
        matches!(&name.0[..], [ObjectNamePart::Identifier(one)] if one.value == self.table)
    }

    fn set(self, set: &SetExpr) -> Mentions {
        match set {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.in_query(query),
            SetExpr::SetOperation { left, right, .. } => Ok(self.set(left)? | self.set(right)?),
            SetExpr::Values(values) => {
                let rows = values.rows.iter();
                self.all(rows.flat_map(|row| row.iter()), true)
            }
            _ => unknown("a subquery of this form"),
        }
    }

    fn select(self, select: &Select) -> Mentions {
        let plain = select.top.is_none()
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
        if !plain {
            return unknown("a subquery of this form");
        }
        let mut found = self.in_tables(&select.from)?;
        for item in &select.projection {
            found |= match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expr(expr, true)?
                }
                SelectItem::Wildcard(_) => false,
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => self.is_table(name),
                _ => return unknown("a column of this form"),
            };
        }
        found |= self.all(select.selection.iter().chain(&select.having), true)?;
        match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => {
                found |= self.all(exprs, true)?;
            }
            _ => return unknown("a grouping of this form"),
        }
        Ok(found)
    }

    fn order(self, order: &OrderBy) -> Mentions {
        match &order.kind {
            OrderByKind::Expressions(exprs) => self.all(exprs.iter().map(|by| &by.expr), true),
            OrderByKind::All(_) => unknown("an order of this form"),
        }
    }

    fn join(self, join: &Join) -> Mentions {
        let found = self.table(&join.relation)?;
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            _ => return unknown("a join of this form"),
        };
        Ok(match constraint {
            JoinConstraint::On(expr) => self.expr(expr, true)? | found,
            JoinConstraint::Using(_) | JoinConstraint::Natural | JoinConstraint::None => found,
        })
    }

    fn table(self, factor: &TableFactor) -> Mentions {
        match factor {
            TableFactor::Table {
                args: None,
                sample: None,
                json_path: None,
                ..
            } => Ok(false),
            TableFactor::Table {
                args: Some(args),
                sample: None,
                json_path: None,
                ..
            } => self.arguments(&args.args, true),
            TableFactor::Function { args, .. } => self.arguments(args, true),
            TableFactor::UNNEST { array_exprs, .. } => self.all(array_exprs, true),
            TableFactor::Derived {
                subquery,
                sample: None,
                ..
            } => self.in_query(subquery),
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => self.in_tables(std::slice::from_ref(table_with_joins)),
            _ => unknown("a table of this form"),
        }
    }
}

fn unknown(what: &str) -> Mentions {
    Err(format!("{what} is not understood"))
}
