//! How an entity's rows merge: by what strategy, what its columns are, and what a deletion means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::order::Comparison;

/// What happens when two wrote the same field and neither had seen the other's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldMergeStrategy {
    /// The later clock wins.
    #[default]
    LastWriteWins,
    /// What the server has is kept.
    ServerWins,
    /// What the client wrote is kept, under a clock above the one that it overwrites.
    ClientWins,
    /// The later clock wins, and the other value is kept beside it until somebody resolves the conflict.
    KeepBoth,
}

/// What a deletion means for a row that somebody edits without having seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletes {
    /// The row stays deleted.
    #[default]
    Win,
    /// A later edit brings it back, with the values that it had.
    Revive,
}

/// What a column's values are for the merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnMerge {
    /// One value, with a clock.
    #[default]
    Register,
    /// A number to which concurrent increments add up.
    Counter,
    /// An array as a set, in which adding wins.
    Set,
    /// The greatest value that was written.
    Max(Comparison),
    /// The least value that was written.
    Min(Comparison),
    /// The text of a document. Documents merge by themselves; where there are none, it is a register.
    Text,
}

/// How a column merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnRule {
    /// What its values are.
    pub merge: ColumnMerge,
    /// Another strategy than the entity's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<FieldMergeStrategy>,
}

/// How the rows of an entity merge. All replicas of an entity must have the same, so clients are told them as JSON:
/// `{"strategy": "last_write_wins", "deletes": "win", "columns": {"best": {"merge": {"max": "number"}}}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// For the columns that have none of their own.
    pub strategy: FieldMergeStrategy,
    /// What a deletion means.
    pub deletes: Deletes,
    /// The columns that are more than a register with the entity's strategy.
    pub columns: BTreeMap<String, ColumnRule>,
}

impl Rules {
    /// What a column's values are.
    pub fn merge(&self, column: &str) -> ColumnMerge {
        self.columns.get(column).copied().unwrap_or_default().merge
    }

    /// A column's strategy.
    pub fn strategy(&self, column: &str) -> FieldMergeStrategy {
        let rule = self.columns.get(column);
        rule.and_then(|rule| rule.strategy).unwrap_or(self.strategy)
    }

    /// Whether values that lost a conflict are kept in some column.
    pub fn keeps_both(&self) -> bool {
        let mut strategies = self.columns.values().filter_map(|rule| rule.strategy);
        self.strategy == FieldMergeStrategy::KeepBoth
            || strategies.any(|strategy| strategy == FieldMergeStrategy::KeepBoth)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_written_as_clients_read_them() {
        let columns = [
            (ColumnMerge::Register, json!("register")),
            (ColumnMerge::Counter, json!("counter")),
            (ColumnMerge::Set, json!("set")),
            (ColumnMerge::Text, json!("text")),
            (
                ColumnMerge::Max(Comparison::Number),
                json!({"max": "number"}),
            ),
            (
                ColumnMerge::Max(Comparison::Timestamp),
                json!({"max": "timestamp"}),
            ),
            (ColumnMerge::Min(Comparison::Date), json!({"min": "date"})),
            (ColumnMerge::Min(Comparison::Json), json!({"min": "json"})),
        ];
        for (merge, written) in columns {
            let strategy = Some(FieldMergeStrategy::KeepBoth);
            let rule = ColumnRule { merge, strategy };
            let rules = Rules {
                strategy: FieldMergeStrategy::ServerWins,
                deletes: Deletes::Revive,
                columns: BTreeMap::from([("a".to_owned(), rule)]),
            };
            let json = json!({
                "strategy": "server_wins",
                "deletes": "revive",
                "columns": {"a": {"merge": written, "strategy": "keep_both"}},
            });
            assert_eq!(serde_json::to_value(&rules).expect("JSON"), json);
            assert_eq!(serde_json::from_value::<Rules>(json).expect("rules"), rules);
        }
    }

    #[test]
    fn rules_that_are_not_written_are_the_ordinary_ones() {
        let rules: Rules = serde_json::from_str(r#"{"columns": {"a": {}}}"#).expect("rules");
        let columns = BTreeMap::from([("a".to_owned(), ColumnRule::default())]);
        let expected = Rules {
            columns,
            ..Rules::default()
        };
        assert_eq!(rules, expected);
    }
}
