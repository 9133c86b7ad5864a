//! A plan in words.

use std::fmt::Write as _;

use filter::Table;

use crate::plan::{Condition, Plan, Question};

impl Plan {
    /// Each policy with the class of its conditions, by what they are asked, and why one is per row.
    pub fn explain(&self, table: Table<'_>) -> String {
        let mut text = String::new();
        for policy in &self.policies {
            let kind = if policy.permissive {
                "permissive"
            } else {
                "restrictive"
            };
            let source = policy
                .text
                .split_whitespace()
                .collect::<Vec<&str>>()
                .join(" ");
            let _ = writeln!(text, "policy {:?} ({kind}): {source}", policy.name);
            for (number, term) in policy.terms.iter().enumerate() {
                for (position, condition) in term.iter().enumerate() {
                    let word = match (number, position) {
                        (0, 0) => "   ",
                        (_, 0) => "or ",
                        _ => "and",
                    };
                    let _ = writeln!(text, "  {word} {}", self.condition(condition, table));
                }
            }
        }
        text
    }

    fn condition(&self, condition: &Condition, table: Table<'_>) -> String {
        match condition {
            Condition::Row(filter) => format!("row: {}", filter.text(table)),
            Condition::Session(question) => format!("session: {}", self.asked(*question)),
            Condition::Key {
                columns,
                question,
                negated,
                ..
            } => {
                let names = columns
                    .iter()
                    .map(|column| table.schema.columns[*column].name.as_str());
                let names: Vec<&str> = names.collect();
                let not = if *negated { "not in" } else { "in" };
                format!("key({}) {not}: {}", names.join(", "), self.asked(*question))
            }
            Condition::PerRow(why) => format!("per row: {why}"),
        }
    }

    fn asked(&self, question: usize) -> &str {
        match &self.questions[question] {
            Question::Bit(expr) => expr,
            Question::Keys { query, .. } => query,
        }
    }
}
