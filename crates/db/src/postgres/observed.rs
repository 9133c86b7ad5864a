//! What the catalog says of a table beside its form: when each column's entry was written, which file holds the
//! rows, which triggers write the log. It is stored when a capture is installed, and tells later whether rows may
//! have changed without an entry in the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A table, its partitions, and the tables of which it is a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Observed {
    /// For each column's number the transaction that last wrote its entry in the catalog.
    pub(super) columns: BTreeMap<i32, String>,
    /// By oid.
    pub(super) members: BTreeMap<i64, Member>,
}

/// One of those tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// The number of the file that holds its rows.
    pub(super) file: i64,
    /// The identity of its capture triggers. It changes when one is disabled, and when it is enabled again.
    pub(super) triggers: String,
    /// Whether its rows are rows of the entity; those of a table of which the entity is a partition need not be.
    pub(super) has_rows: bool,
}

/// What happened to a table between two observations.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Nothing that concerns rows.
    None,
    /// These partitions are new. Unless they are empty, their rows are new, too.
    Joined(Vec<i64>),
    /// Rows may have changed without an entry in the log.
    RowsMayHaveChanged,
}

impl Observed {
    /// What happened since `before`.
    pub(super) fn since(&self, before: &Self) -> Difference {
        let mut joined = Vec::new();
        for (oid, member) in &self.members {
            match before.members.get(oid) {
                None if member.has_rows => joined.push(*oid),
                // A table became one of whose partitions the entity is: what came through it was not captured.
                None => return Difference::RowsMayHaveChanged,
                Some(known)
                    if known.triggers != member.triggers || known.has_rows != member.has_rows =>
                {
                    return Difference::RowsMayHaveChanged;
                }
                Some(_) => {}
            }
        }
        let left =
            |(oid, member): (&i64, &Member)| member.has_rows && !self.members.contains_key(oid);
        if before.members.iter().any(left) || self.is_rewritten_since(before) {
            return Difference::RowsMayHaveChanged;
        }
        if joined.is_empty() {
            Difference::None
        } else {
            Difference::Joined(joined)
        }
    }

    /// Whether an `ALTER TABLE` has computed new values: it writes a column's entry, and the rows into a new file.
    /// Either alone changes no value: statistics and defaults are in the entry, and `VACUUM FULL` and
    /// `TRUNCATE` make a new file.
    fn is_rewritten_since(&self, before: &Self) -> bool {
        let moved = self.members.iter().any(|(oid, member)| {
            let known = before.members.get(oid);
            member.has_rows && known.is_some_and(|known| known.file != member.file)
        });
        moved && self.columns != before.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(file: i64, triggers: &str, has_rows: bool) -> Member {
        Member {
            file,
            triggers: triggers.to_owned(),
            has_rows,
        }
    }

    /// A table with a partition.
    fn observed() -> Observed {
        Observed {
            columns: BTreeMap::from([(1, "700".to_owned()), (2, "700".to_owned())]),
            members: BTreeMap::from([(10, member(0, "a", true)), (11, member(101, "b", true))]),
        }
    }

    #[test]
    fn only_a_rewrite_changes_both_a_column_and_a_file() {
        let before = observed();
        let mut now = before.clone();
        now.columns.insert(2, "701".to_owned());
        assert_eq!(
            now.since(&before),
            Difference::None,
            "statistics, a default, a grant"
        );
        now.members.insert(11, member(102, "b", true));
        assert_eq!(now.since(&before), Difference::RowsMayHaveChanged);
        now.columns = before.columns.clone();
        assert_eq!(now.since(&before), Difference::None, "a truncate");
    }

    #[test]
    fn a_partition_brings_its_rows_and_takes_them_along() {
        let before = observed();
        let mut now = before.clone();
        now.members.insert(12, member(103, "", true));
        assert_eq!(now.since(&before), Difference::Joined(vec![12]));
        assert_eq!(before.since(&now), Difference::RowsMayHaveChanged);
        let mut attached = before.clone();
        attached.members.insert(9, member(0, "", false));
        assert_eq!(attached.since(&before), Difference::RowsMayHaveChanged);
        assert_eq!(
            before.since(&attached),
            Difference::None,
            "detached from its parent"
        );
    }

    #[test]
    fn triggers_that_were_away_may_have_missed_something() {
        let before = observed();
        let mut now = before.clone();
        now.members.insert(11, member(101, "b2", true));
        assert_eq!(now.since(&before), Difference::RowsMayHaveChanged);
    }
}
