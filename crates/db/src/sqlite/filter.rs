//! A filter as SQL for SQLite, for reads of tables.
//!
//! A column in SQLite may contain a value of any type, and any two values can be compared. Values that are
//! not of the column's kind must not match, so comparisons that could be true for them test the value's type
//! as well. This is right for canonical conditions only: under a `NOT` it would be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use filter::{CompareOp, Condition, Membership, Pattern, Piece, Scalar, Set};
use value::Real;
use value::schema::ColumnKind;

use super::statement::{Statement, Value};
use super::time_limit::IN_TIME;
use crate::entity::Entity;
use crate::quote::ident;
use crate::sets;

/// How conditions on an entity's table are written.
#[derive(Clone, Copy)]
pub(super) struct Predicates<'a> {
    entity: &'a Entity,
    others: &'a BTreeMap<String, Arc<Entity>>,
    without_itself: bool,
    has_time_limit: bool,
}

impl<'a> Predicates<'a> {
    /// On this entity's table, with sets of rows of the others.
    pub(super) fn new(entity: &'a Entity, others: &'a BTreeMap<String, Arc<Entity>>) -> Self {
        Self {
            entity,
            others,
            without_itself: false,
            has_time_limit: false,
        }
    }

    /// The same, but none is true for any row once the [time](super::time_limit) of the statement is up.
    pub(super) fn in_time(self) -> Self {
        Self {
            has_time_limit: true,
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

    /// Appends a condition on the table with the alias `t`. It is true for the rows for which the filter is true,
    /// but may be false where the filter is unknown.
    pub(super) fn write(self, statement: Statement, condition: &Condition) -> Statement {
        let writer = Writer {
            how: self,
            entity: self.entity,
            level: 0,
        };
        writer.condition(self.limit(statement), condition)
    }

    fn limit(self, statement: Statement) -> Statement {
        match self.has_time_limit {
            true => statement.sql(format!("{IN_TIME} AND ")),
            false => statement,
        }
    }
}

/// Writes conditions on the table of one level of subqueries.
#[derive(Clone, Copy)]
struct Writer<'a> {
    how: Predicates<'a>,
    /// The entity that columns are of.
    entity: &'a Entity,
    /// How many subqueries they are inside of.
    level: usize,
}

/// A set's rows, as the subqueries on them need them.
struct Members<'a> {
    /// On their table.
    writer: Writer<'a>,
    set: &'a Set,
    /// The set's columns.
    names: Vec<String>,
    /// That they contain values of their kinds.
    guards: Vec<String>,
}

impl Writer<'_> {
    fn condition(self, statement: Statement, condition: &Condition) -> Statement {
        match condition {
            Condition::And(parts) => self.joined(statement, parts, " AND "),
            Condition::Or(parts) => self.joined(statement, parts, " OR "),
            Condition::Not(_) => unreachable!("a canonical condition has no NOT"),
            Condition::Constant(truth) => statement.sql(match truth {
                Some(true) => "(1 = 1)",
                Some(false) => "(1 = 0)",
                None => UNKNOWN,
            }),
            Condition::Compare {
                column,
                op: CompareOp::Eq,
                value,
            } => statement
                .sql(format!("{} = ", self.name(*column)))
                .value(param(value)),
            Condition::Compare { column, op, value } => statement
                .sql(format!("({} {} ", self.name(*column), op.sign()))
                .value(param(value))
                .sql(format!(" AND {})", self.guard(*column))),
            Condition::In {
                column,
                values,
                null,
                negated,
            } => {
                let null = match (null, values.is_empty()) {
                    (true, true) => "NULL",
                    (true, false) => ", NULL",
                    (false, _) => "",
                };
                let guard = if *negated {
                    format!(" AND {}", self.guard(*column))
                } else {
                    String::new()
                };
                statement
                    .sql(format!("({} {}IN (", self.name(*column), not(*negated)))
                    .values(values.iter().map(param))
                    .sql(format!("{null}){guard})"))
            }
            Condition::Member {
                columns,
                set,
                membership,
                negated,
            } => self.member(statement, columns, set, (*membership, *negated)),
            Condition::IsNull { column, negated } => {
                statement.sql(format!("{} IS {}NULL", self.name(*column), not(*negated)))
            }
            Condition::Like {
                column,
                pattern,
                negated,
            } => statement
                // Unlike LIKE, GLOB is always case-sensitive.
                .sql(format!("({} {}GLOB ", self.name(*column), not(*negated)))
                .value(Value::Text(glob(pattern)))
                // For GLOB a text ends at its first null character.
                .sql(format!(
                    " AND {} AND instr({}, char(0)) = 0)",
                    self.guard(*column),
                    self.name(*column)
                )),
        }
    }

    fn joined(self, mut statement: Statement, parts: &[Condition], word: &str) -> Statement {
        for (index, part) in parts.iter().enumerate() {
            statement = statement.sql(if index == 0 { "(" } else { word });
            statement = self.condition(statement, part);
        }
        statement.sql(")")
    }

    /// Membership in a set. A value that is not of its column's kind equals none, and in a set it makes `NOT IN`
    /// unknown, as a null does.
    fn member(
        self,
        statement: Statement,
        columns: &[usize],
        set: &Set,
        (membership, negated): (Membership, bool),
    ) -> Statement {
        let Some(inner) = sets::entity_of(set, self.how.others) else {
            return statement.sql(UNKNOWN);
        };
        let writer = Writer {
            entity: inner,
            level: self.level + 1,
            ..self
        };
        let of_set = set.rows().columns.iter();
        let members = Members {
            writer,
            set,
            names: of_set.clone().map(|column| writer.name(*column)).collect(),
            guards: of_set.map(|column| writer.guard(*column)).collect(),
        };
        let names: Vec<String> = columns.iter().map(|column| self.name(*column)).collect();
        let guards: Vec<String> = columns.iter().map(|column| self.guard(*column)).collect();
        match (membership, names.as_slice()) {
            (Membership::In, [name]) => {
                let guard = &guards[0];
                let statement = statement.sql("(");
                if !negated {
                    let statement = statement.sql(format!("{guard} AND {name} IN "));
                    let found = members.guards.join(" AND ");
                    return members
                        .select(statement, &members.names[0], &found)
                        .sql(")");
                }
                let statement = members.select(statement.sql("NOT EXISTS "), "1", "");
                let statement = statement.sql(format!(" OR ({guard} AND {name} NOT IN "));
                let statement = members.select(statement, &members.names[0], "");
                let foreign = format!("NOT coalesce({}, 0)", members.guards[0]);
                members
                    .select(statement.sql(" AND NOT EXISTS "), "1", &foreign)
                    .sql("))")
            }
            _ => {
                let equal = members.names.iter().zip(&names);
                let equal = equal.map(|(member, value)| format!("{member} = {value}"));
                let all: Vec<String> = equal
                    .chain(members.guards.iter().cloned())
                    .chain(guards)
                    .collect();
                let statement = statement.sql(format!("({}EXISTS ", not(negated)));
                members.select(statement, "1", &all.join(" AND ")).sql(")")
            }
        }
    }

    fn name(self, column: usize) -> String {
        let alias = match self.level {
            0 => "t".to_owned(),
            level => format!("s{level}"),
        };
        format!(
            "{alias}.{}",
            ident(&self.entity.schema.columns[column].name)
        )
    }

    /// The condition that the column contains a value of its kind.
    fn guard(self, column: usize) -> String {
        let name = self.name(column);
        match self.entity.schema.columns[column].kind {
            ColumnKind::Bool => format!("{name} IN (0, 1)"),
            ColumnKind::Int { .. } => format!("typeof({name}) = 'integer'"),
            ColumnKind::Float | ColumnKind::Numeric => {
                format!("typeof({name}) IN ('integer', 'real')")
            }
            _ => format!("typeof({name}) = 'text'"),
        }
    }
}

impl Members<'_> {
    /// Appends a subquery for something of the set's rows for which `more` holds, too.
    fn select(&self, statement: Statement, what: &str, more: &str) -> Statement {
        let Writer {
            entity, level, how, ..
        } = self.writer;
        let relation = entity.relation.as_deref().unwrap_or_default();
        let mut statement =
            how.limit(statement.sql(format!("(SELECT {what} FROM {relation} s{level} WHERE ")));
        if !more.is_empty() {
            statement = statement.sql(format!("{more} AND "));
        }
        if how.without_itself && entity.relation == how.entity.relation {
            let key = entity.schema.key_columns().map(|column| {
                let name = ident(&column.name);
                format!("s{level}.{name} COLLATE BINARY IS t.{name}")
            });
            let key: Vec<String> = key.collect();
            statement = statement.sql(format!("NOT ({}) AND ", key.join(" AND ")));
        }
        let filter = self.set.rows().filter.condition();
        self.writer.condition(statement, filter).sql(")")
    }
}

/// A condition that is unknown.
const UNKNOWN: &str = "(1 = NULL)";

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn param(value: &Scalar) -> Value {
    match value {
        Scalar::Bool(value) => Value::Integer(i64::from(*value)),
        Scalar::Int(value) | Scalar::Real(Real::Whole(value)) => Value::Integer(*value),
        Scalar::Double(value) | Scalar::Real(Real::Double(value)) => Value::Real(value.value()),
        other => Value::Text(other.to_string()),
    }
}

/// The pattern in the syntax of `GLOB`, where brackets escape special characters.
fn glob(pattern: &Pattern) -> String {
    let mut glob = String::new();
    for piece in pattern.pieces() {
        match piece {
            Piece::Run => glob.push('*'),
            Piece::One => glob.push('?'),
            Piece::Char(special @ ('*' | '?' | '[')) => glob.extend(['[', special, ']']),
            Piece::Char(other) => glob.push(other),
        }
    }
    glob
}
