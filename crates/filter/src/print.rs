//! Writes the canonical text of a condition: a filter that says the same.

use super::condition::Condition;
use super::scalar::{Scalar, quoted};
use super::set::{Membership, Set};

/// The text of a canonical condition. `names` are those of the columns.
pub(super) fn text(condition: &Condition, names: &[&str]) -> String {
    let mut writer = Writer {
        names,
        with_values: true,
        out: String::new(),
    };
    writer.write(condition);
    writer.out
}

/// The text with `?` in place of each value and each list.
pub(super) fn outline(condition: &Condition, names: &[&str]) -> String {
    let mut writer = Writer {
        names,
        with_values: false,
        out: String::new(),
    };
    writer.write(condition);
    writer.out
}

struct Writer<'a> {
    names: &'a [&'a str],
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
        for column in columns {
            self.column(*column);
        }
        self.out
            .push_str(&format!(" {}{membership:?} ", not(negated)));
        self.value(|| format!("{:?} {}", rows.columns, set.name()));
    }

    fn joined(&mut self, parts: &[Condition], word: &str) {
        for (index, part) in parts.iter().enumerate() {
            self.out.push_str(if index == 0 { "" } else { word });
            let nested = matches!(part, Condition::And(_) | Condition::Or(_));
            self.out.push_str(if nested { "(" } else { "" });
            self.write(part);
            self.out.push_str(if nested { ")" } else { "" });
        }
    }

    fn column(&mut self, index: usize) {
        let name = self.names[index].replace('"', "\"\"");
        self.out.push_str(&format!("\"{name}\""));
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
