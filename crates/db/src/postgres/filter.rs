//! A filter as SQL for PostgreSQL, for reads of tables and for what a writer may write.
//!
//! It names the schema of every operator and type, because writes run with the role's own search path.
//!
//! Every value but an enum's label is a parameter with a cast to the type in which Rust compares, so that neither
//! the choice of operators nor a database session's settings change the result, and so that the columns need no
//! cast and an index can serve them.

use filter::{Condition, Scalar};
use value::schema::{Column, ColumnKind, Schema};

use crate::entity::Entity;
use crate::quote::{ident, portable_literal};

/// A predicate on the table with the alias `t`, and its parameters, all of them texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Predicate {
    pub(super) sql: String,
    pub(super) params: Vec<String>,
}

/// Writes a canonical condition on an entity's table as SQL.
pub(super) fn predicate(condition: &Condition, entity: &Entity) -> Predicate {
    predicate_with(condition, entity, |number| format!("${number}"))
}

/// The same, with parameter `number`, counted from 1, as `placeholder` says.
pub(super) fn predicate_with(
    condition: &Condition,
    entity: &Entity,
    placeholder: impl Fn(usize) -> String,
) -> Predicate {
    let mut writer = Writer {
        placeholder: &placeholder,
        schema: &entity.schema,
        base_types: &entity.base_types,
        written: Predicate {
            sql: String::new(),
            params: Vec::new(),
        },
    };
    writer.condition(condition);
    writer.written
}

struct Writer<'a> {
    placeholder: &'a dyn Fn(usize) -> String,
    schema: &'a Schema,
    base_types: &'a [String],
    written: Predicate,
}

impl Writer<'_> {
    fn condition(&mut self, condition: &Condition) {
        match condition {
            Condition::And(parts) => self.joined(parts, " AND "),
            Condition::Or(parts) => self.joined(parts, " OR "),
            Condition::Not(inner) => {
                self.push("NOT ");
                self.condition(inner);
            }
            Condition::Constant(truth) => self.push(match truth {
                Some(true) => "true",
                Some(false) => "false",
                None => "NULL::pg_catalog.bool",
            }),
            Condition::Compare { column, op, value } => {
                let name = self.name(*column);
                let value = self.value(*column, value.to_string(), "");
                let sign = op.sign();
                self.push(&format!("{name} OPERATOR(pg_catalog.{sign}) {value}"));
            }
            Condition::In {
                column,
                values,
                null,
                negated,
            } => {
                let name = self.name(*column);
                let values = self.value(*column, array(values, *null), "[]");
                let (op, any) = if *negated {
                    ("<>", "ALL")
                } else {
                    ("=", "ANY")
                };
                self.push(&format!(
                    "{name} OPERATOR(pg_catalog.{op}) {any} ({values})"
                ));
            }
            Condition::IsNull { column, negated } => {
                // Unlike IS NULL, it tests a value of a composite type itself, not its fields.
                let name = self.name(*column);
                let not = if *negated { "" } else { "NOT " };
                self.push(&format!("{name} IS {not}DISTINCT FROM NULL"));
            }
            // Not written yet, and never true.
            Condition::Member { .. } => self.push("NULL::pg_catalog.bool"),
            Condition::Like {
                column,
                pattern,
                negated,
            } => {
                let name = self.name(*column);
                let placeholder = self.bind(pattern.text());
                // The operators behind LIKE and NOT LIKE.
                let op = if *negated { "!~~" } else { "~~" };
                self.push(&format!(
                    "{name} OPERATOR(pg_catalog.{op}) {placeholder}::pg_catalog.text"
                ));
            }
        }
    }

    fn joined(&mut self, parts: &[Condition], word: &str) {
        for (index, part) in parts.iter().enumerate() {
            self.push(if index == 0 { "(" } else { word });
            self.condition(part);
        }
        self.push(")");
    }

    fn push(&mut self, sql: &str) {
        self.written.sql.push_str(sql);
    }

    /// A column. A domain over an enum has no operators of its own; an index serves the cast to the enum,
    /// too.
    fn name(&self, column: usize) -> String {
        let Column { name, kind, .. } = &self.schema.columns[column];
        match kind {
            ColumnKind::Enum(_) => format!("t.{}::{}", ident(name), self.base_types[column]),
            _ => format!("t.{}", ident(name)),
        }
    }

    /// The value of a column's type, or the array of such values, that `text` stands for.
    fn value(&mut self, column: usize, text: String, array: &str) -> String {
        let sql_type = self.sql_type(column);
        match self.schema.columns[column].kind {
            // A literal is read by the type's input function; a cast from text may be the type's owner's.
            ColumnKind::Enum(_) => format!("{}::{sql_type}{array}", portable_literal(&text)),
            _ => format!("{}::pg_catalog.text::{sql_type}{array}", self.bind(text)),
        }
    }

    fn bind(&mut self, param: String) -> String {
        self.written.params.push(param);
        (self.placeholder)(self.written.params.len())
    }

    /// The type in which Rust compares a column; an enum is compared in its own type.
    fn sql_type(&self, column: usize) -> String {
        let name = match self.schema.columns[column].kind {
            ColumnKind::Bool => "bool",
            ColumnKind::Int { .. } => "int8",
            ColumnKind::Float => "float8",
            ColumnKind::Numeric => "numeric",
            ColumnKind::Text { .. } => "text",
            ColumnKind::Uuid => "uuid",
            ColumnKind::Date => "date",
            ColumnKind::Timestamp => "timestamp",
            ColumnKind::TimestampTz => "timestamptz",
            _ => return self.base_types[column].clone(),
        };
        format!("pg_catalog.{name}")
    }
}

/// The text of an array, so that there is one parameter however many values there are.
fn array<'a>(values: impl IntoIterator<Item = &'a Scalar>, null: bool) -> String {
    let quoted = |value: &Scalar| {
        let text = value.to_string().replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    let mut items: Vec<String> = values.into_iter().map(quoted).collect();
    items.extend(null.then(|| "NULL".to_owned()));
    format!("{{{}}}", items.join(","))
}
