//! Compares two answers, and reports the difference.

use serde_json::Value;

use super::Oracle;
use super::asking::Answer;
use super::writer::Written;

impl Oracle {
    pub(super) fn assert_same(
        &self,
        source: &str,
        written: &Written,
        ours: &str,
        theirs: &Answer,
        wanted: char,
    ) {
        let Answer::Rows(keys) = theirs else {
            panic!("core parses {written:?}\nand {source} rejects it: {theirs:?}");
        };
        for (truth, (key, (_, row))) in ours.chars().zip(&self.rows) {
            let found = keys.contains(key);
            assert_eq!(
                truth == wanted,
                found,
                "{source} returns the row: {found}, core says {truth}\n{written:#?}\n{}",
                self.named(written, row)
            );
        }
        assert!(
            keys.iter().all(|key| self.rows.contains_key(key)),
            "unknown rows: {keys:?}"
        );
    }

    pub(super) fn assert_same_truths(&self, written: &Written, ours: &str, theirs: &str) {
        assert_eq!(ours.len(), theirs.len(), "{written:?}");
        let differs = ours.chars().zip(theirs.chars()).zip(self.rows.values());
        for ((ours, theirs), (_, row)) in differs {
            assert_eq!(
                ours,
                theirs,
                "core and the database differ\n{written:#?}\n{}",
                self.named(written, row)
            );
        }
    }

    /// The columns of a row that a filter may use.
    fn named(&self, written: &Written, row: &Value) -> Value {
        let text = written.text.to_lowercase();
        let names = self.subjects.iter().map(|subject| subject.name);
        names
            .filter(|name| *name == "k" || text.contains(&name.to_lowercase()))
            .map(|name| (name.to_owned(), row[name].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}
