//! Reads which window somebody asks for.

use serde_json::value::RawValue;
use value::schema::{Collation, ColumnKind};

use super::class::{Class, Form};
use super::condition::{Direction, OrderColumn, Table, Window};
use super::error::{FilterError, echo};
use super::literal::{self, Given};
use super::reader;
use super::scalar::Scalar;

/// By how many columns rows may be ordered, without those of the key that are added.
pub const ORDER_COLUMNS_MAX: usize = 8;

/// A window as it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct WindowRequest<'a> {
    /// The columns by which rows are ordered, the first first.
    pub order: &'a [(&'a str, Direction)],
    /// The most rows.
    pub limit: usize,
    /// The values of the row behind which it begins: those of the order's columns, then those of the key's others.
    pub after: Option<&'a [Box<RawValue>]>,
}

impl Window {
    /// Reads a window of a table's rows. `is_partial` says which columns may be read in some rows only.
    ///
    /// # Errors
    /// When the rows cannot be ordered or identified like that, or the values do not fit.
    pub fn new(
        request: WindowRequest<'_>,
        table: Table<'_>,
        is_partial: impl Fn(usize) -> bool,
    ) -> Result<Self, FilterError> {
        if request.limit == 0 {
            return Err(FilterError::bad_request("`limit` is at least 1"));
        }
        if request.order.len() > ORDER_COLUMNS_MAX {
            let message = format!("`order` names at most {ORDER_COLUMNS_MAX} columns");
            return Err(FilterError::bad_request(message));
        }
        let mut order: Vec<OrderColumn> = Vec::new();
        for (name, direction) in request.order {
            let fail = |what| Err(in_order(name, what));
            let Some(column) = table.position(name) else {
                return fail("there is no such column");
            };
            if order.iter().any(|other| other.column == column) {
                return fail("the column is named twice");
            }
            if is_partial(column) {
                return fail("the column may be read in some rows only");
            }
            order.push(order_column(table, column, *direction).map_err(|why| in_order(name, why))?);
        }
        let last = order.last().map(|order| order.direction);
        let direction = last.unwrap_or(Direction::Ascending);
        for &column in &table.schema.key {
            let name = &table.schema.columns[column].name;
            if let Err(why) = Class::of(table, column) {
                let message =
                    format!("`limit` needs a key whose values are compared: {name:?}: {why}");
                return Err(FilterError::bad_request(message));
            }
            if order.iter().all(|other| other.column != column) {
                order.push(
                    order_column(table, column, direction).map_err(|why| in_order(name, why))?,
                );
            }
        }
        let after = request.after.map(|after| values(table, &order, after));
        Ok(Self {
            after: after.transpose()?,
            order,
            limit: request.limit,
        })
    }
}

fn in_order(name: &str, what: &str) -> FilterError {
    FilterError::bad_request(format!("in `order`: {}: {what}", echo(name)))
}

fn order_column(
    table: Table<'_>,
    column: usize,
    direction: Direction,
) -> Result<OrderColumn, &'static str> {
    let described = table.column(column);
    if !described.logged {
        return Err("the log does not have the previous values of the column");
    }
    let is_known = match (Class::of(table, column), &described.kind) {
        (Ok(class), _) => class.is_ordered(),
        (Err(_), ColumnKind::Text { .. } | ColumnKind::Timestamp | ColumnKind::TimestampTz) => {
            false
        }
        (Err(_), _) => return Err("rows cannot be ordered by values of its type"),
    };
    let is_plain = matches!(
        described.kind,
        ColumnKind::Bool
            | ColumnKind::Int { .. }
            | ColumnKind::Float
            | ColumnKind::Uuid
            | ColumnKind::Date
            | ColumnKind::Timestamp
            | ColumnKind::TimestampTz
    );
    Ok(OrderColumn {
        column,
        direction,
        is_known,
        is_told: is_known && is_plain,
    })
}

/// How the values of a column are compared with those of `after`: by the database alone where different texts are equal.
fn class_of(table: Table<'_>, column: usize) -> Result<Class, &'static str> {
    let described = table.column(column);
    let is_text = matches!(described.kind, ColumnKind::Text { .. });
    Class::of(table, column).or_else(|why| match &*described.type_name {
        "bpchar" | "citext" => Err(why),
        _ if is_text && described.collation == Collation::Other => Ok(Class::Text {
            form: Form::Any,
            ordered: false,
        }),
        _ => Err(why),
    })
}

fn values(
    table: Table<'_>,
    order: &[OrderColumn],
    after: &[Box<RawValue>],
) -> Result<Vec<Option<Scalar>>, FilterError> {
    if after.len() != order.len() {
        let names = order.iter().map(|it| table.column(it.column).name.as_str());
        let names: Vec<&str> = names.collect();
        return Err(FilterError::bad_request(format!(
            "`after` has a value for each of {names:?}"
        )));
    }
    let pairs = order.iter().zip(after);
    let read = pairs.map(|(order, json)| {
        let name = &table.column(order.column).name;
        let fail =
            |what: &str| FilterError::bad_request(format!("in `after`: column {name:?}: {what}"));
        if json.get() == "null" {
            return Ok(None);
        }
        let class = class_of(table, order.column)
            .map_err(|why| fail(&format!("{why}; ask for a larger `limit`")))?;
        let given = Given::of_param(json);
        let literal = given.and_then(|given| literal::scalar(&class, &given));
        let literal = literal.ok_or_else(|| fail(&format!("expected {}", class.expected())))?;
        // As rows have it: the text of a `float4` is not that double.
        Ok(Some(reader::scalar(&class, json.get()).unwrap_or(literal)))
    });
    read.collect()
}
