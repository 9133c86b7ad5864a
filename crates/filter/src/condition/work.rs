//! What a filter costs: in comparisons for each row, and in bytes.
//!
//! Both are estimates, good enough to say who costs how much. A comparison of two numbers is one step, a few
//! nanoseconds.

use std::collections::BTreeMap;

use super::{Condition, Window};
use crate::row::RowValues;
use crate::scalar::Scalar;

/// The most bytes that a filter may take. A value counts as often as it is named.
pub const FILTER_BYTES_MAX: usize = 512 * 1024;
/// What a `LIKE` costs besides the search in the text.
const LIKE_WORK: usize = 10;
/// What looking a value up in a set costs.
const LOOKUP_WORK: usize = 5;
/// A comparison of texts compares this many bytes at a time.
const TEXT_BYTES_AT_ONCE: usize = 64;

/// The cost of evaluating a filter for one version of a row, in comparisons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    base: usize,
    /// For each column that is searched, what 64 bytes of its text cost.
    searches: BTreeMap<usize, usize>,
}

impl Work {
    pub(crate) fn of(condition: &Condition) -> Self {
        let mut work = Self::default();
        work.add(condition);
        work
    }

    fn add(&mut self, condition: &Condition) {
        match condition {
            Condition::Constant(_) => {}
            Condition::Compare { value, .. } => self.base += 1 + comparing(value),
            Condition::In { values, .. } => {
                let depth = values.len().max(1).ilog2() as usize + 1;
                let longest = values.iter().map(comparing).max();
                self.base += depth * (1 + longest.unwrap_or_default());
            }
            Condition::IsNull { .. } => self.base += 1,
            Condition::Like {
                column, pattern, ..
            } => {
                self.base += LIKE_WORK;
                // Each also looks for a null character.
                *self.searches.entry(*column).or_default() += pattern.search_work() + 1;
            }
            Condition::Member { columns, set, .. } => {
                self.base += LOOKUP_WORK * (1 + columns.len());
                if let Some(window) = &set.rows().window {
                    // Nobody else asks for its rows as a rule, so it pays for their filter.
                    self.base += set.rows().filter.work().base() + window.order().len();
                }
            }
            Condition::Not(inner) => self.add(inner),
            Condition::And(parts) | Condition::Or(parts) => {
                for part in parts {
                    self.add(part);
                }
            }
        }
    }

    /// The cost without what depends on the length of the row's texts.
    pub fn base(&self) -> usize {
        self.base
    }

    /// The cost for one version of a row.
    pub fn on(&self, row: &RowValues) -> usize {
        let searches = self.searches.iter().map(|(column, cost)| {
            let bytes = match row.scalar(*column) {
                Some(Scalar::Text(text)) => text.len(),
                _ => 0,
            };
            cost.saturating_mul(bytes / TEXT_BYTES_AT_ONCE)
        });
        searches.fold(self.base, usize::saturating_add)
    }

    /// The most that it can cost for one version of a row of this many bytes.
    pub fn on_bytes(&self, bytes: usize) -> usize {
        let searches: usize = self.searches.values().sum();
        self.base
            .saturating_add(searches.saturating_mul(bytes / TEXT_BYTES_AT_ONCE))
    }
}

/// What a comparison with this value costs beyond one step.
fn comparing(value: &Scalar) -> usize {
    match value {
        Scalar::Text(text) => text.len() / TEXT_BYTES_AT_ONCE,
        _ => 0,
    }
}

/// The memory that a condition takes, in bytes. A value that is shared counts each time.
pub(crate) fn bytes(condition: &Condition) -> usize {
    let own = size_of::<Condition>();
    own + match condition {
        Condition::Constant(_) | Condition::IsNull { .. } => 0,
        Condition::Compare { value, .. } => bytes_of(value),
        Condition::In { values, .. } => {
            let values = values.iter();
            values
                .map(|value| size_of::<Scalar>() + bytes_of(value))
                .sum()
        }
        Condition::Like { pattern, .. } => pattern.bytes(),
        Condition::Member { columns, set, .. } => {
            let window = set.rows().window.as_ref();
            let window = window.map(Window::bytes).unwrap_or_default();
            size_of_val(&**columns) + set.name().len() + set.rows().filter.bytes() + window
        }
        Condition::Not(inner) => bytes(inner),
        Condition::And(parts) | Condition::Or(parts) => parts.iter().map(bytes).sum(),
    }
}

fn bytes_of(value: &Scalar) -> usize {
    match value {
        Scalar::Text(text) => text.len(),
        Scalar::Decimal(decimal) => decimal.to_string().len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use crate::testing::{raw, test_table};
    use crate::{Backend, FILTER_BYTES_MAX, Filter, FilterErrorKind, RowReader};

    fn filter(text: &str, params: &[Box<RawValue>]) -> Filter {
        let table = test_table(Backend::Postgres);
        Filter::new(text, params, table.table()).expect("a filter")
    }

    #[test]
    fn a_search_costs_more_in_a_longer_text() {
        let table = test_table(Backend::Postgres);
        let work = |text: &str, row: &str| {
            let filter = filter(text, &[]);
            let row = RowReader::new(table.table(), filter.columns()).read(&raw(row));
            filter.work().on(&row.expect("a row"))
        };
        let long = format!(r#"{{"t":"{}","n":1}}"#, "x".repeat(64_000));
        let short = r#"{"t":"x","n":1}"#;
        assert_eq!(work("n = 1", &long), 1);
        assert_eq!(work("t LIKE 'a%'", &long), 10 + 1000);
        assert_eq!(work("t LIKE '%ab%'", short), 10);
        assert_eq!(work("t LIKE '%ab%'", &long), 10 + 9 * 1000);
        assert_eq!(work("t LIKE '%a_b%'", &long), 10 + 65 * 1000);
        let two = "t LIKE '%a_b%' OR t LIKE '%a_c%'";
        assert_eq!(work(two, &long), 2 * work("t LIKE '%a_b%'", &long));
        assert_eq!(filter(two, &[]).work().base(), 20);
        assert_eq!(filter(two, &[]).work().on_bytes(64_000), work(two, &long));
        let listed: Vec<String> = (0..512).map(|n| n.to_string()).collect();
        assert_eq!(work(&format!("n IN ({})", listed.join(",")), short), 10);
    }

    #[test]
    fn a_parameter_is_kept_once_and_counted_as_often_as_it_is_named() {
        let param = [raw(&format!(r#""{}""#, "x".repeat(60_000)))];
        let named = |times: usize| {
            let parts: Vec<String> = (0..times).map(|n| format!("t IN ($1, '{n}')")).collect();
            parts.join(" AND ")
        };
        let table = test_table(Backend::Postgres);
        let five = filter(&named(5), &param);
        assert!(
            (300_000..310_000).contains(&five.bytes()),
            "{}",
            five.bytes()
        );
        let error = Filter::new(&named(300), &param, table.table()).expect_err("too large");
        assert_eq!(error.kind, FilterErrorKind::TooLarge);
        assert!(error.message.contains(&FILTER_BYTES_MAX.to_string()));
        // A pattern takes more than its text.
        let pattern = [raw(&format!(r#""%{}%""#, "_a".repeat(60)))];
        let parts: Vec<String> = (0..490).map(|n| format!("t LIKE $1 AND n > {n}")).collect();
        let error = Filter::new(&parts.join(" OR "), &pattern, table.table());
        assert_eq!(
            error.expect_err("too large").kind,
            FilterErrorKind::TooLarge
        );
    }
}
