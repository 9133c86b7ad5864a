//! Whether a filter and its parameters fit each other.

use serde_json::value::RawValue;

use super::error::FilterError;
use super::syntax::{Expr, Operand, Subquery, Term};

/// The most bytes of JSON that the parameters may have together.
pub const PARAMS_BYTES_MAX: usize = 64 * 1024;

/// Checks that each parameter is used, and that none is missing.
///
/// # Errors
/// When one is missing or unused, or when they are too large.
pub(super) fn check(expr: &Expr, params: &[Box<RawValue>]) -> Result<(), FilterError> {
    let bytes: usize = params.iter().map(|param| param.get().len()).sum();
    if bytes > PARAMS_BYTES_MAX {
        let message = format!("parameters have at most {PARAMS_BYTES_MAX} bytes together");
        return Err(FilterError::too_large_throughout(message));
    }
    let mut used = vec![false; params.len()];
    let mut missing = None;
    for_each_operand(expr, &mut |operand| {
        if let Term::Param(number) = operand.term {
            match used.get_mut(number - 1) {
                Some(used) => *used = true,
                None => missing = missing.or(Some((number, operand.at))),
            }
        }
    });
    if let Some((number, at)) = missing {
        let message = format!(
            "there is no parameter ${number}, only {} given",
            params.len()
        );
        return Err(FilterError::bad(at, message));
    }
    match used.iter().position(|used| !used) {
        Some(index) => Err(FilterError::bad_request(format!(
            "parameter ${} is not used",
            index + 1
        ))),
        None => Ok(()),
    }
}

/// Visits every operand of a condition.
pub(super) fn for_each_operand(expr: &Expr, visit: &mut impl FnMut(&Operand)) {
    match expr {
        Expr::Operand(operand) | Expr::IsNull { operand, .. } => visit(operand),
        Expr::Compare { left, right, .. } => [left, right].into_iter().for_each(visit),
        Expr::InSubquery {
            operand, subquery, ..
        } => {
            visit(operand);
            for_each_operand_inside(subquery, visit);
        }
        Expr::Exists(subquery) => for_each_operand_inside(subquery, visit),
        Expr::Like {
            operand, pattern, ..
        } => [operand, pattern].into_iter().for_each(visit),
        Expr::InClaim { operand, claim, .. } => [operand, claim].into_iter().for_each(visit),
        Expr::Between {
            operand, low, high, ..
        } => {
            [operand, low, high].into_iter().for_each(visit);
        }
        Expr::In {
            operand, values, ..
        } => {
            visit(operand);
            values.iter().for_each(visit);
        }
        Expr::Not(inner) => for_each_operand(inner, visit),
        Expr::And(parts) | Expr::Or(parts) => {
            for part in parts {
                for_each_operand(part, visit);
            }
        }
    }
}

fn for_each_operand_inside(subquery: &Subquery, visit: &mut impl FnMut(&Operand)) {
    subquery.selected.iter().for_each(&mut *visit);
    if let Some(condition) = &subquery.condition {
        for_each_operand(condition, visit);
    }
}
