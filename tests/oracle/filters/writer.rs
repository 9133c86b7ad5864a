//! Random filters over columns with known values.

use filter::Backend;
use serde_json::{Value, json};

use super::random::Random;
use super::subject::Subject;
use super::values::{self, Sort};

/// A filter as a client sends it, and as typed into the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) params: Vec<Value>,
    /// With literals in place of parameters.
    pub(crate) plain: String,
}

pub(crate) struct Writer<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) backend: Backend,
    pub(crate) subjects: &'a [Subject],
    /// The values that rows hold, for each subject.
    pub(crate) pools: &'a [Vec<String>],
    /// False: all values are literals in the text.
    pub(crate) with_params: bool,
}

impl Writer<'_> {
    pub(crate) fn filter(&mut self) -> Written {
        let mut out = Written::default();
        self.condition(&mut out, 3);
        out
    }

    fn condition(&mut self, out: &mut Written, depth: usize) {
        if depth == 0 || self.random.once_in(2) {
            return self.atom(out);
        }
        match self.random.below(5) {
            0 => {
                self.word(out, "NOT ");
                self.condition(out, depth - 1);
            }
            kind => {
                // Without parentheses the parsers decide the precedence.
                let grouped = !self.random.once_in(3);
                both(out, if grouped { "(" } else { "" });
                self.condition(out, depth - 1);
                for _ in 0..=self.random.below(2) {
                    self.word(out, if kind < 3 { " AND " } else { " OR " });
                    self.condition(out, depth - 1);
                }
                both(out, if grouped { ")" } else { "" });
            }
        }
    }

    /// A comparison of a column with something.
    fn atom(&mut self, out: &mut Written) {
        let index = self.random.below(self.subjects.len());
        let subject = &self.subjects[index];
        let plain_from = out.plain.len();
        let name = if subject.name.contains(' ') || self.random.once_in(3) {
            format!("\"{}\"", subject.name)
        } else if self.random.once_in(8) {
            subject.name.to_uppercase()
        } else {
            subject.name.to_owned()
        };
        let compares_value = match subject.sort {
            Some(sort) => self.comparison(out, index, sort, &name),
            None if self.random.once_in(20) => {
                both(out, &format!("{name} = 'x'"));
                true
            }
            None => self.null(out, &name),
        };
        if self.backend == Backend::Sqlite && compares_value {
            // A value of another kind than the column's neither matches nor fails to match.
            let atom = out.plain.split_off(plain_from);
            let kind = super::sqlite::is_of_kind(subject);
            out.plain
                .push_str(&format!("CASE WHEN {kind} THEN {atom} END"));
        }
    }

    fn null(&mut self, out: &mut Written, name: &str) -> bool {
        let not = *self.random.pick(&["", "NOT "]);
        out.text.push_str(&format!("{name} IS {not}NULL"));
        // Filters test a value of a composite type itself, IS NULL tests its fields.
        out.plain.push_str(&match (self.backend, not) {
            (Backend::Sqlite, _) => format!("{name} IS {not}NULL"),
            (Backend::Postgres, "") => format!("{name} IS NOT DISTINCT FROM NULL"),
            (Backend::Postgres, _) => format!("{name} IS DISTINCT FROM NULL"),
        });
        false
    }

    /// Returns whether it compares with more than null.
    fn comparison(&mut self, out: &mut Written, index: usize, sort: Sort, name: &str) -> bool {
        let subject = &self.subjects[index];
        let not = *self.random.pick(&["", "NOT "]);
        // An operator that core rejects must be rejected by the server too.
        let ordered = subject.ordered || self.random.once_in(30);
        match self.random.below(12) {
            0 => return self.null(out, name),
            1 | 2 => {
                self.named(out, index, name);
                both(out, &format!(" {not}IN ("));
                for item in 0..=self.random.below(4) {
                    both(out, if item == 0 { "" } else { ", " });
                    self.literal(out, index, sort, true);
                }
                both(out, ")");
            }
            3 if ordered => {
                self.named(out, index, name);
                both(out, &format!(" {not}BETWEEN "));
                self.literal(out, index, sort, false);
                self.word(out, " AND ");
                self.literal(out, index, sort, false);
            }
            3..=6 if matches!(sort, Sort::Text { .. }) => self.like(out, index, name, not),
            7 if sort == Sort::Bool => both(out, name),
            8 if self.random.once_in(10) => {
                let constant = *self.random.pick(&["TRUE", "FALSE", "NULL"]);
                both(out, constant);
                return false;
            }
            _ => {
                let ops: &[&str] = if ordered {
                    &["=", "<>", "!=", "<", "<=", ">", ">="]
                } else {
                    &["=", "<>"]
                };
                let op = *self.random.pick(ops);
                // PostgreSQL would take `!=-` for an operator.
                let space = if op == "!=" {
                    " "
                } else {
                    *self.random.pick(&["", " "])
                };
                if self.random.once_in(4) {
                    self.literal(out, index, sort, false);
                    both(out, &format!("{space}{op}{space}"));
                    self.named(out, index, name);
                } else {
                    self.named(out, index, name);
                    both(out, &format!("{space}{op}{space}"));
                    self.literal(out, index, sort, false);
                }
            }
        }
        true
    }

    fn named(&self, out: &mut Written, index: usize, name: &str) {
        both(out, name);
        out.plain.push_str(self.subjects[index].cast);
    }

    fn like(&mut self, out: &mut Written, index: usize, name: &str, not: &str) {
        both(out, &format!("{name} {not}LIKE "));
        let pattern = self.pattern(index);
        let quoted = quote(&pattern);
        let escape = match self.backend {
            Backend::Postgres => "",
            Backend::Sqlite => " ESCAPE '\\'",
        };
        self.given(
            out,
            json!(pattern),
            quoted.clone(),
            format!("{quoted}{escape}"),
        );
    }

    fn literal(&mut self, out: &mut Written, index: usize, sort: Sort, in_list: bool) {
        if self.random.once_in(25) {
            return self.given(out, Value::Null, "NULL".to_owned(), "NULL".to_owned());
        }
        let value = if self.random.once_in(4) {
            values::value(self.random, sort)
        } else {
            self.random.pick(&self.pools[index]).clone()
        };
        let spelled = values::rewritten(self.random, sort, &value);
        let is_number = value.ends_with(|last: char| last.is_ascii_digit());
        match sort {
            Sort::Bool => {
                let word = value.to_uppercase();
                self.given(out, json!(value == "true"), word.clone(), word);
            }
            Sort::Int { .. } | Sort::Numeric | Sort::Float4 | Sort::Float8 if is_number => {
                // In a list PostgreSQL compares float4 with float4, alone with double precision; the
                // plain text must not leave it that choice.
                let plain = match self.backend {
                    Backend::Sqlite => value,
                    Backend::Postgres if in_list && sort == Sort::Float4 => {
                        format!("{spelled}::float8")
                    }
                    Backend::Postgres => spelled.clone(),
                };
                self.given(out, json!(spelled), spelled, plain);
            }
            _ => {
                let plain = match (self.backend, sort) {
                    (Backend::Sqlite, _) => super::sqlite::literal(&value, sort),
                    (_, Sort::Float4) => format!("{}::float8", quote(&spelled)),
                    _ => quote(&spelled),
                };
                self.given(out, json!(spelled), quote(&spelled), plain);
            }
        }
    }

    /// A parameter, or the same value as a literal.
    fn given(&mut self, out: &mut Written, param: Value, literal: String, plain: String) {
        out.plain.push_str(&plain);
        if self.with_params && self.random.once_in(2) {
            out.params.push(param);
            out.text.push_str(&format!("${}", out.params.len()));
        } else {
            out.text.push_str(&literal);
        }
    }

    /// A pattern close to a value of a row.
    fn pattern(&mut self, index: usize) -> String {
        let mut pattern = String::new();
        let value = self.random.pick(&self.pools[index]).clone();
        for character in value.chars() {
            match self.random.below(8) {
                0 => pattern.push('%'),
                1 => pattern.push('_'),
                2 => pattern.push_str(["%", "_", "%%", "%_%"][self.random.below(4)]),
                3 => pattern.extend(['\\', character]),
                _ if "%_\\".contains(character) => pattern.extend(['\\', character]),
                _ => pattern.push(character),
            }
        }
        if self.random.once_in(3) {
            pattern + "%"
        } else {
            pattern
        }
    }

    fn word(&mut self, out: &mut Written, word: &str) {
        match self.random.below(6) {
            0 => both(out, &word.to_lowercase()),
            1 => both(out, &word.replacen(' ', "\n\t", 1)),
            _ => both(out, word),
        }
    }
}

fn both(out: &mut Written, words: &str) {
    out.text.push_str(words);
    out.plain.push_str(words);
}

/// A text literal.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
