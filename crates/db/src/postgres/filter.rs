//! A filter as SQL for PostgreSQL, for reads of tables and for what a writer may write.
//!
//! It names the schema of every operator and type, because writes run with the role's own search path.
//!
//! Every value but an enum's label is a parameter with a cast to the type in which Rust compares, so that neither
//! the choice of operators nor a database session's settings change the result, and so that the columns need no
//! cast and an index can serve them.

use std::collections::BTreeMap;
use std::sync::Arc;

use filter::{Condition, Membership, Scalar, Set};
use value::schema::{Column, ColumnKind};

use super::rls::group::Asked;
use crate::entity::Entity;
use crate::quote::{ident, portable_literal};
use crate::sets;

/// A predicate on the table with the alias `t`, and its parameters, all of them texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Predicate {
    pub(super) sql: String,
    pub(super) params: Vec<String>,
}

/// How conditions on an entity's table are written.
#[derive(Clone, Copy)]
pub(super) struct Predicates<'a> {
    entity: &'a Entity,
    others: &'a BTreeMap<String, Arc<Entity>>,
    asked: Option<&'a Asked>,
    without_itself: bool,
}

impl<'a> Predicates<'a> {
    /// On this entity's table, with sets of rows of the others.
    pub(super) fn new(entity: &'a Entity, others: &'a BTreeMap<String, Arc<Entity>>) -> Self {
        Self {
            entity,
            others,
            asked: None,
            without_itself: false,
        }
    }

    /// The same, with what groups were answered for their sets. Without an answer, no condition on such a set is true.
    pub(super) fn with_asked(self, asked: &'a Asked) -> Self {
        Self {
            asked: Some(asked),
            ..self
        }
    }

    /// The same, but the row that is tested makes no part of a set.
    pub(super) fn without_itself(self) -> Self {
        Self {
            without_itself: true,
            ..self
        }
    }

    /// Writes a canonical condition as SQL.
    pub(super) fn write(self, condition: &Condition) -> Predicate {
        self.write_with(condition, |number| format!("${number}"))
    }

    /// The same, with parameter `number`, counted from 1, as `placeholder` says.
    pub(super) fn write_with(
        self,
        condition: &Condition,
        placeholder: impl Fn(usize) -> String,
    ) -> Predicate {
        let mut writer = Writer {
            how: self,
            placeholder: &placeholder,
            entity: self.entity,
            level: 0,
            written: Predicate {
                sql: String::new(),
                params: Vec::new(),
            },
        };
        writer.condition(condition);
        writer.written
    }
}

struct Writer<'a> {
    how: Predicates<'a>,
    placeholder: &'a dyn Fn(usize) -> String,
    /// The entity that columns are of.
    entity: &'a Entity,
    /// How many subqueries they are inside of.
    level: usize,
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
            Condition::Member {
                columns,
                set,
                membership,
                negated,
            } => self.member(columns, set, *membership, *negated),
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

    /// Membership in a set. An index serves it, or it is looked up in a hash of the set: `<> ALL` never is.
    fn member(&mut self, columns: &[usize], set: &Set, membership: Membership, negated: bool) {
        if set.asked().is_some() {
            return self.asked_member(columns, set, membership, negated);
        }
        let Some(inner) = sets::entity_of(set, self.how.others) else {
            return self.push("NULL::pg_catalog.bool");
        };
        self.push(if negated { "(NOT " } else { "(" });
        let values: Vec<String> = columns.iter().map(|column| self.name(*column)).collect();
        let outer = std::mem::replace(&mut self.entity, inner);
        self.level += 1;
        let members: Vec<String> = set.rows().columns.iter().map(|it| self.name(*it)).collect();
        let from = format!(
            "FROM {} {}",
            inner.relation.as_deref().unwrap_or_default(),
            self.alias()
        );
        let equal = |(value, member)| format!("{member} OPERATOR(pg_catalog.=) {value} AND ");
        match membership {
            Membership::In if !columns.is_empty() => self.push(&format!(
                "{} OPERATOR(pg_catalog.=) ANY (SELECT {} {from} WHERE ",
                row(&values),
                members.join(", ")
            )),
            _ => {
                let equal: String = values.iter().zip(&members).map(equal).collect();
                self.push(&format!("EXISTS (SELECT 1 {from} WHERE {equal}"));
            }
        }
        if self.how.without_itself && inner.relation == self.how.entity.relation {
            self.another_row();
        }
        self.condition(set.rows().filter.condition());
        self.push("))");
        self.level -= 1;
        self.entity = outer;
    }

    /// Membership in a set whose values were asked: they are parameters.
    fn asked_member(
        &mut self,
        columns: &[usize],
        set: &Set,
        membership: Membership,
        negated: bool,
    ) {
        let Some(contents) = self.how.asked.and_then(|asked| asked.contents(set)) else {
            return self.push("NULL::pg_catalog.bool");
        };
        if columns.is_empty() || contents.is_empty() {
            let is_member = !contents.is_empty();
            return self.push(if is_member != negated {
                "true"
            } else {
                "false"
            });
        }
        let null = membership == Membership::In && contents.has_null();
        self.push(if negated { "(NOT " } else { "(" });
        if let ([column], Membership::In) = (columns, membership) {
            let name = self.name(*column);
            let values = array(contents.values().flatten(), null);
            let values = self.value(*column, values, "[]");
            self.push(&format!("{name} OPERATOR(pg_catalog.=) ANY ({values})"));
        } else {
            let names: Vec<String> = columns.iter().map(|column| self.name(*column)).collect();
            let arrays = columns.iter().enumerate().map(|(at, column)| {
                let values = contents.values().filter_map(|values| values.get(at));
                let array = self.value(*column, array(values, null), "[]");
                format!("pg_catalog.unnest({array})")
            });
            let arrays: Vec<String> = arrays.collect();
            let members: Vec<String> = (0..columns.len()).map(|at| format!("v.k{at}")).collect();
            let from = format!(
                "FROM ROWS FROM ({}) v({})",
                arrays.join(", "),
                members.join(", ").replace("v.", "")
            );
            match membership {
                Membership::In => self.push(&format!(
                    "{} OPERATOR(pg_catalog.=) ANY (SELECT {} {from})",
                    row(&names),
                    members.join(", ")
                )),
                Membership::Exists => {
                    let pairs = names.iter().zip(&members);
                    let equal: Vec<String> = pairs
                        .map(|(name, member)| format!("{member} OPERATOR(pg_catalog.=) {name}"))
                        .collect();
                    self.push(&format!(
                        "EXISTS (SELECT 1 {from} WHERE {})",
                        equal.join(" AND ")
                    ));
                }
            }
        }
        self.push(")");
    }

    /// That the row is not the one that is tested, of the same table.
    fn another_row(&mut self) {
        let entity = self.entity;
        let key = entity.schema.key.iter().map(|&index| {
            let column = &entity.schema.columns[index];
            let (name, cast) = (ident(&column.name), entity.key_cast(index));
            let equality = entity.equality(index);
            format!("{}.{name}{cast} {equality} t.{name}{cast}", self.alias())
        });
        let key: Vec<String> = key.collect();
        self.push(&format!("NOT ({}) AND ", key.join(" AND ")));
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
        let Column { name, kind, .. } = &self.entity.schema.columns[column];
        let name = format!("{}.{}", self.alias(), ident(name));
        match kind {
            ColumnKind::Enum(_) => format!("{name}::{}", self.entity.base_types[column]),
            _ => name,
        }
    }

    /// The table that columns are of.
    fn alias(&self) -> String {
        match self.level {
            0 => "t".to_owned(),
            level => format!("s{level}"),
        }
    }

    /// The value of a column's type, or the array of such values, that `text` stands for.
    fn value(&mut self, column: usize, text: String, array: &str) -> String {
        let sql_type = self.sql_type(column);
        match self.entity.schema.columns[column].kind {
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
        let name = match self.entity.schema.columns[column].kind {
            ColumnKind::Bool => "bool",
            ColumnKind::Int { .. } => "int8",
            ColumnKind::Float => "float8",
            ColumnKind::Numeric => "numeric",
            ColumnKind::Text { .. } => "text",
            ColumnKind::Uuid => "uuid",
            ColumnKind::Date => "date",
            ColumnKind::Timestamp => "timestamp",
            ColumnKind::TimestampTz => "timestamptz",
            _ => return self.entity.base_types[column].clone(),
        };
        format!("pg_catalog.{name}")
    }
}

/// One value, or the row of several.
fn row(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
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
