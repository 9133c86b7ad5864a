//! Conditions that columns of the row are in a set that the session alone decides.

use filter::{Membership, Table};
use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, TableWithJoins, Value,
};

use crate::names::Names;
use crate::parse::bare;
use crate::row::Column;

/// Such a condition, before it is known whether the types fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The row's columns, by position in the schema.
    pub(crate) columns: Vec<usize>,
    /// A query for the set, with the columns `k0`, `k1`, ….
    pub(crate) query: String,
    pub(crate) membership: Membership,
    /// Whether the row must not be in it.
    pub(crate) negated: bool,
}

/// What recognises them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) names: Names<'a>,
    pub(crate) table: Table<'a>,
}

/// None: it is not such a condition. An error says why it almost is one.
type Recognised = Result<Option<Key>, String>;

impl Keys<'_> {
    /// The set behind an expression that names the row, if it is true for the rows in a set, or for those not in it.
    pub(crate) fn recognise(self, expr: &Expr, positive: bool) -> Recognised {
        match bare(expr) {
            Expr::BinaryOp { left, op, right } => self.equality(left, op, right, positive),
            Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => self.within(expr, subquery, positive != *negated),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } if positive => self.within_array(left, right),
            Expr::Exists { subquery, negated } => self.exists(subquery, positive != *negated),
            _ => Ok(None),
        }
    }

    fn is_session(self, expr: &Expr) -> bool {
        self.names.in_expr(expr) == Ok(false)
    }

    /// `column = value`: the value is a set of one, with the same unknowns.
    fn equality(
        self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        positive: bool,
    ) -> Recognised {
        let positive = match op {
            BinaryOperator::Eq => positive,
            BinaryOperator::NotEq => !positive,
            _ => return Ok(None),
        };
        let (column, value) = match (Column::of(left, self.table), Column::of(right, self.table)) {
            (Some(column), None) => (column, right),
            (None, Some(column)) => (column, left),
            _ => return Ok(None),
        };
        if !self.is_session(value) {
            return Ok(None);
        }
        Ok(Some(Key {
            columns: vec![column.position],
            query: format!("SELECT ({value}) AS k0"),
            membership: Membership::In,
            negated: !positive,
        }))
    }

    /// `column = ANY (array)`: an array that is null, like an empty one, has no member.
    fn within_array(self, left: &Expr, array: &Expr) -> Recognised {
        let Some(column) = Column::of(left, self.table) else {
            return Ok(None);
        };
        if !self.is_session(array) || matches!(bare(array), Expr::Subquery(_)) {
            return Ok(None);
        }
        Ok(Some(Key {
            columns: vec![column.position],
            query: format!("SELECT DISTINCT u.k0 FROM pg_catalog.unnest({array}) u(k0)"),
            membership: Membership::In,
            negated: false,
        }))
    }

    /// `… IN (SELECT …)`.
    fn within(self, left: &Expr, subquery: &Query, positive: bool) -> Recognised {
        let parts: Vec<&Expr> = match bare(left) {
            Expr::Tuple(parts) => parts.iter().collect(),
            one => vec![one],
        };
        let columns: Option<Vec<usize>> = parts
            .iter()
            .map(|part| Some(Column::of(part, self.table)?.position))
            .collect();
        if let (Some(columns), false) = (&columns, self.names.in_query(subquery)?) {
            if columns.len() > 1 && !positive {
                return Err("it is NOT IN with several columns".to_owned());
            }
            let names: Vec<String> = (0..columns.len()).map(|at| format!("k{at}")).collect();
            let names = names.join(", ");
            return Ok(Some(Key {
                columns: columns.clone(),
                query: format!("SELECT DISTINCT {names} FROM ({subquery}) q({names})"),
                membership: Membership::In,
                negated: !positive,
            }));
        }
        // Correlated: true when a row has the value and meets the equalities.
        let [left] = parts[..] else {
            return Err(
                "several columns are compared with a subquery that names the row".to_owned(),
            );
        };
        if !positive {
            return Err("it is NOT IN with a subquery that names the row".to_owned());
        }
        let select = simple(subquery)?;
        let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
            &select.projection[..]
        else {
            return Err("a subquery returns several columns".to_owned());
        };
        if !matches!(bare(value), Expr::CompoundIdentifier(_)) || self.names.in_inner(value)? {
            return Err("a subquery that names the row returns no plain column".to_owned());
        }
        let mut equalities = Equalities::default();
        match Column::of(left, self.table) {
            Some(column) => equalities.keys.push((column.position, value.to_string())),
            None if self.is_session(left) => {
                equalities.rest.push(format!("(({left}) = ({value}))"))
            }
            None => return Ok(None),
        }
        self.collect(select, &mut equalities)?;
        Ok(Some(equalities.key(&select.from, false)))
    }

    /// `EXISTS (SELECT …)` with equalities.
    fn exists(self, subquery: &Query, positive: bool) -> Recognised {
        let select = simple(subquery)?;
        // An aggregate makes a row of nothing.
        let is_plain = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                matches!(bare(expr), Expr::Value(_) | Expr::CompoundIdentifier(_))
            }
            SelectItem::Wildcard(_) => true,
            _ => false,
        };
        if !select.projection.iter().all(is_plain) {
            return Err("an EXISTS returns more than columns".to_owned());
        }
        let mut equalities = Equalities::default();
        self.collect(select, &mut equalities)?;
        if equalities.keys.is_empty() {
            return Ok(None);
        }
        Ok(Some(equalities.key(&select.from, !positive)))
    }

    /// Splits the conditions of a subquery into equalities with columns of the row and what does not name the row.
    fn collect(self, select: &Select, equalities: &mut Equalities) -> Result<(), String> {
        if self.names.in_tables(&select.from)? {
            return Err("the tables of a subquery depend on the row".to_owned());
        }
        let mut conditions = Vec::new();
        if let Some(selection) = &select.selection {
            conjuncts(selection, &mut conditions);
        }
        for condition in conditions {
            if !self.names.in_inner(condition)? {
                equalities.rest.push(format!("({condition})"));
                continue;
            }
            let Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } = condition
            else {
                return Err(format!(
                    "a subquery tests the row by more than equality: {condition}"
                ));
            };
            let (column, value) = match (self.outer(left), self.outer(right)) {
                (Some(column), None) => (column, right),
                (None, Some(column)) => (column, left),
                _ => return Err(format!("a subquery compares the row: {condition}")),
            };
            if self.names.in_inner(value)? {
                return Err(format!("a subquery compares the row: {condition}"));
            }
            equalities.keys.push((column.position, value.to_string()));
        }
        Ok(())
    }

    /// The column of the row that an expression within a subquery is.
    fn outer(self, expr: &Expr) -> Option<Column> {
        match bare(expr) {
            Expr::CompoundIdentifier(parts) => {
                Column::named(self.names.outer_column(parts)?, self.table)
            }
            Expr::Cast {
                expr,
                data_type: sqlparser::ast::DataType::Text,
                ..
            } => {
                let column = self.outer(expr)?;
                (column.family == crate::family::Family::Text).then_some(column)
            }
            _ => None,
        }
    }
}

/// The equalities of a subquery with columns of the row, and its other conditions.
#[derive(Default)]
struct Equalities {
    keys: Vec<(usize, String)>,
    rest: Vec<String>,
}

impl Equalities {
    fn key(self, from: &[TableWithJoins], negated: bool) -> Key {
        let items = self.keys.iter().enumerate();
        let items: Vec<String> = items
            .map(|(at, (_, value))| format!("({value}) AS k{at}"))
            .collect();
        let not_null = self
            .keys
            .iter()
            .map(|(_, value)| format!("(({value}) IS NOT NULL)"));
        let conditions: Vec<String> = self.rest.iter().cloned().chain(not_null).collect();
        let from: Vec<String> = from.iter().map(ToString::to_string).collect();
        Key {
            query: format!(
                "SELECT DISTINCT {} FROM {} WHERE {}",
                items.join(", "),
                from.join(", "),
                conditions.join(" AND ")
            ),
            columns: self.keys.into_iter().map(|(column, _)| column).collect(),
            membership: Membership::Exists,
            negated,
        }
    }
}

fn conjuncts<'e>(expr: &'e Expr, found: &mut Vec<&'e Expr>) {
    match bare(expr) {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            conjuncts(left, found);
            conjuncts(right, found);
        }
        other => found.push(other),
    }
}

/// The `SELECT` of a subquery that has rows of its tables and nothing else.
fn simple(query: &Query) -> Result<&Select, String> {
    let SetExpr::Select(select) = &*query.body else {
        return Err("a subquery that names the row is no plain SELECT".to_owned());
    };
    let plain_query = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    let ungrouped =
        matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    if plain_query && ungrouped && select.having.is_none() && !select.from.is_empty() {
        Ok(select)
    } else {
        Err("a subquery that names the row groups, orders or limits".to_owned())
    }
}

/// Whether an expression is the literal true or false.
pub(crate) fn is_literal(expr: &Expr) -> bool {
    matches!(bare(expr), Expr::Value(value) if matches!(value.value, Value::Boolean(_)))
}
