//! Writes the canonical text of a condition: a filter that says the same.

use std::borrow::Cow;

use value::schema::Schema;

use super::condition::{AskedSet, Condition, Membership, Set, Table};
use super::scalar::{Scalar, quoted};
use super::syntax::quoted as quoted_name;

/// The text of a canonical condition on a table.
pub(super) fn text(condition: &Condition, table: Table<'_>) -> String {
    written(condition, table, true)
}

/// The text with `?` in place of each value and each list.
pub(super) fn outline(condition: &Condition, table: Table<'_>) -> String {
    written(condition, table, false)
}

fn written(condition: &Condition, table: Table<'_>, with_values: bool) -> String {
    let mut writer = Writer {
        schema: table.schema,
        qualifier: &table.schema.entity,
        with_values,
        out: String::new(),
    };
    writer.write(condition);
    writer.out
}

/// Writes conditions on one table.
struct Writer<'a> {
    schema: &'a Schema,
    /// The name by which a subquery right inside qualifies the columns.
    qualifier: &'a str,
    with_values: bool,
    out: String,
}

impl Writer<'_> {
    fn write(&mut self, condition: &Condition) {
        match condition {
            Condition::Constant(Some(true)) => self.out.push_str("TRUE"),
            Condition::Constant(Some(false)) => self.out.push_str("FALSE"),
            Condition::Constant(None) => self.out.push_str("NULL"),
            Condition::Compare { column, op, value } => {
                self.column(*column);
                self.out.push_str(&format!(" {} ", op.sign()));
                self.value(|| value.literal());
            }
            Condition::In {
                column,
                values,
                null,
                negated,
            } => {
                self.column(*column);
                self.out.push_str(&format!(" {}IN (", not(*negated)));
                self.value(|| {
                    let mut literals: Vec<String> = values.iter().map(Scalar::literal).collect();
                    literals.extend(null.then(|| "NULL".to_owned()));
                    literals.join(", ")
                });
                self.out.push(')');
            }
            Condition::IsNull { column, negated } => {
                self.column(*column);
                self.out.push_str(&format!(" IS {}NULL", not(*negated)));
            }
            Condition::Like {
                column,
                pattern,
                negated,
            } => {
                self.column(*column);
                self.out.push_str(&format!(" {}LIKE ", not(*negated)));
                self.value(|| quoted(&pattern.text()));
            }
            Condition::Member {
                columns,
                set,
                membership,
                negated,
            } => self.member(columns, set, *membership, *negated),
            Condition::Not(_) => unreachable!("a canonical condition has no NOT"),
            Condition::And(parts) => self.joined(parts, " AND "),
            Condition::Or(parts) => self.joined(parts, " OR "),
        }
    }

    fn member(&mut self, columns: &[usize], set: &Set, membership: Membership, negated: bool) {
        let rows = set.rows();
        if let Some(asked) = &rows.asked {
            return self.asked(columns, asked, membership, negated);
        }
        match (membership, columns) {
            (Membership::In, [column]) => {
                self.column(*column);
                self.out
                    .push_str(&format!(" {}IN (SELECT {}", not(negated), rows.selected()));
            }
            _ => self
                .out
                .push_str(&format!("{}EXISTS (SELECT 1", not(negated))),
        }
        let entity = &rows.schema.entity;
        self.out.push_str(&format!(" FROM {}", quoted_name(entity)));
        let mut qualifier = Cow::Borrowed(entity.as_str());
        let mut conditions = Vec::new();
        if membership == Membership::Exists {
            if !columns.is_empty() && entity == self.qualifier {
                // The outer table must have another name than the inner one.
                qualifier.to_mut().push_str("_inner");
                self.out
                    .push_str(&format!(" AS {}", quoted_name(&qualifier)));
            }
            let pairs = rows.columns.iter().zip(columns);
            conditions.extend(pairs.map(|(inner, outer)| {
                format!(
                    "{} = {}.{}",
                    quoted_name(&rows.schema.columns[*inner].name),
                    quoted_name(self.qualifier),
                    quoted_name(&self.schema.columns[*outer].name)
                )
            }));
        }
        if !rows.filter.is_everything() {
            let mut inside = Writer {
                schema: &rows.schema,
                qualifier: &qualifier,
                with_values: self.with_values,
                out: String::new(),
            };
            inside.nested(rows.filter.condition(), !conditions.is_empty());
            conditions.push(inside.out);
        }
        let word = if conditions.is_empty() { "" } else { " WHERE " };
        self.out
            .push_str(&format!("{word}{}", conditions.join(" AND ")));
        self.out.push_str(&rows.window_text(self.with_values));
        self.out.push(')');
    }

    /// Membership in a set that the database is asked for. No filter can be written so.
    fn asked(
        &mut self,
        columns: &[usize],
        asked: &AskedSet,
        membership: Membership,
        negated: bool,
    ) {
        let columns = columns.iter();
        let columns: Vec<String> = columns
            .map(|column| quoted_name(&self.schema.columns[*column].name))
            .collect();
        let word = match membership {
            Membership::In => "IN",
            Membership::Exists => "MATCHES",
        };
        self.out.push_str(&format!(
            "({}) {}{word} (ASKED {} OF ",
            columns.join(", "),
            not(negated),
            asked.part
        ));
        self.value(|| quoted(asked.source.name()));
        self.out.push(')');
    }

    fn joined(&mut self, parts: &[Condition], word: &str) {
        for (index, part) in parts.iter().enumerate() {
            self.out.push_str(if index == 0 { "" } else { word });
            self.nested(part, true);
        }
    }

    /// Writes a part of a condition, in parentheses where it would mean something else without them.
    fn nested(&mut self, part: &Condition, is_part: bool) {
        let nested = is_part && matches!(part, Condition::And(_) | Condition::Or(_));
        self.out.push_str(if nested { "(" } else { "" });
        self.write(part);
        self.out.push_str(if nested { ")" } else { "" });
    }

    fn column(&mut self, index: usize) {
        self.out
            .push_str(&quoted_name(&self.schema.columns[index].name));
    }

    fn value(&mut self, text: impl FnOnce() -> String) {
        if self.with_values {
            self.out.push_str(&text());
        } else {
            self.out.push('?');
        }
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}
