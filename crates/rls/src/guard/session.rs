//! Expressions that the session alone decides, in the few forms that people write them.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, GroupByExpr, ObjectNamePart, Query, Select, SelectItem, SetExpr,
};

use crate::parse::bare;
use crate::uses::Sources;

/// PostgreSQL's own functions that are known to depend on their arguments and on settings alone.
const FUNCTIONS: [&str; 6] = [
    "current_setting",
    "coalesce",
    "nullif",
    "lower",
    "upper",
    "btrim",
];

/// What an expression is for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Decides {
    /// It is the same for everybody.
    Nobody,
    /// The session decides.
    Session,
}

/// Whether the session decides the value of an expression alone, or nobody does. None when that is not certain.
pub(super) fn decides(expr: &Expr, sources: &Sources) -> Option<Decides> {
    match bare(expr) {
        Expr::Value(_) => Some(Decides::Nobody),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
            ..
        } if is_own_type(data_type) => decides(expr, sources),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Arrow | BinaryOperator::LongArrow,
            right,
        } => Some(decides(left, sources)?.max(decides(right, sources)?)),
        Expr::Function(function) => of_function(function, sources),
        Expr::Subquery(query) => of_query(query, sources),
        _ => None,
    }
}

/// A type of PostgreSQL's own, which no domain, and no cast of somebody's, stands behind.
fn is_own_type(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Text
            | DataType::Uuid
            | DataType::SmallInt(_)
            | DataType::Int(_)
            | DataType::Integer(_)
            | DataType::BigInt(_)
            | DataType::Numeric(_)
            | DataType::Date
            | DataType::JSON
            | DataType::JSONB
            | DataType::Varchar(None)
            | DataType::CharacterVarying(None)
    )
}

fn of_function(function: &Function, sources: &Sources) -> Option<Decides> {
    let is_plain = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && matches!(function.parameters, FunctionArguments::None);
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    if !is_plain || !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
        return None;
    }
    let mut decided = match &function.name.0[..] {
        [ObjectNamePart::Identifier(name)] => {
            let name = name.value.to_lowercase();
            if !FUNCTIONS.contains(&name.as_str()) {
                return None;
            }
            match name == "current_setting" {
                true => Decides::Session,
                false => Decides::Nobody,
            }
        }
        // One that is known: what it reads, and whether it is volatile, is among what the texts use.
        [
            ObjectNamePart::Identifier(schema),
            ObjectNamePart::Identifier(name),
        ] if sources.has_function(&schema.value, &name.value) => Decides::Session,
        _ => return None,
    };
    for argument in &list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
            return None;
        };
        decided = decided.max(decides(argument, sources)?);
    }
    Some(decided)
}

/// `SELECT f() AS x`, which is evaluated once for a statement.
fn of_query(query: &Query, sources: &Sources) -> Option<Decides> {
    let SetExpr::Select(select) = &*query.body else {
        return None;
    };
    let plain_query = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty();
    if !plain_query || !is_of_one_row(select) {
        return None;
    }
    match &select.projection[..] {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => {
            decides(expr, sources)
        }
        _ => None,
    }
}

fn is_of_one_row(select: &Select) -> bool {
    let ungrouped =
        matches!(&select.group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    ungrouped
        && select.from.is_empty()
        && select.selection.is_none()
        && select.having.is_none()
        && select.distinct.is_none()
}
