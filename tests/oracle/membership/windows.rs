//! Random windows: the first rows in some order.

use serde_json::{Value, json};

use super::tables::RandomTable;
use crate::filters::random::Random;

#[derive(Debug, Clone)]
pub(super) struct RandomWindow {
    /// Columns, and whether the greatest values come first.
    order: Vec<(String, bool)>,
    limit: usize,
}

impl RandomWindow {
    pub(super) fn new(random: &mut Random, table: &RandomTable) -> Self {
        let mut columns = table.all_columns();
        let count = random.below(3).min(columns.len());
        let mut order = Vec::new();
        for _ in 0..count {
            let (name, _) = columns.remove(random.below(columns.len()));
            order.push((name.to_owned(), random.once_in(2)));
        }
        Self {
            order,
            limit: 1 + random.below(6),
        }
    }

    pub(super) fn add_to(&self, frame: &mut Value) {
        let order = self.order.iter();
        let order =
            order.map(|(name, descending)| json!([name, if *descending { "desc" } else { "asc" }]));
        frame["order"] = order.collect();
        frame["limit"] = self.limit.into();
    }

    /// The end of a query.
    pub(super) fn sql(&self) -> String {
        let mut order = self.order.clone();
        let last = order.last().is_some_and(|(_, descending)| *descending);
        if order.iter().all(|(name, _)| name != "id") {
            order.push(("id".to_owned(), last));
        }
        let order = order.iter().map(|(name, descending)| match descending {
            true => format!("{name} DESC NULLS FIRST"),
            false => format!("{name} NULLS LAST"),
        });
        let order: Vec<String> = order.collect();
        format!(" ORDER BY {} LIMIT {}", order.join(", "), self.limit)
    }
}
