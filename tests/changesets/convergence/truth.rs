//! What rows that are never created again must have become, from every write that was accepted, wherever. It knows the promise and
//! not the merge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use merge::Deletes;
use rhtmx_sync_tests::Dice;
use serde_json::Value;

use super::sites::Held;
use super::{FIXED, MORTALS};

/// Below every clock: what was there from the beginning.
const NO_CLOCK: &str = "";

pub(super) struct Truth {
    deletes: Deletes,
    rows: Mutex<BTreeMap<String, Row>>,
    texts: Mutex<u64>,
}

/// What was written to a row.
#[derive(Debug, Default)]
struct Row {
    /// Of a column of which the later value stands: each value with its clock.
    values: BTreeMap<&'static str, BTreeMap<String, BTreeSet<String>>>,
    likes: i64,
    best: Option<i64>,
    least: Option<i64>,
    tags: BTreeSet<String>,
    untagged: BTreeSet<String>,
    /// When it was edited, and deleted, last.
    edited: Option<String>,
    died: Option<String>,
}

impl Truth {
    pub(super) fn new(deletes: Deletes) -> Self {
        let rows = (1..=FIXED).map(|id| (id.to_string(), Row::default()));
        Self {
            deletes,
            rows: Mutex::new(rows.collect()),
            texts: Mutex::default(),
        }
    }

    /// Rows have come into being everywhere that will be deleted, and not created again.
    pub(super) fn are_born(&self, keys: std::ops::Range<u64>) {
        let rows = keys.map(|id| (id.to_string(), Row::default()));
        self.rows().extend(rows);
    }

    /// The key of a row that is new in this round, and may be dead.
    pub(super) fn mortal(&self, dice: &mut Dice) -> u64 {
        let keys: Vec<u64> = self
            .rows()
            .keys()
            .filter_map(|key| key.parse().ok())
            .collect();
        let newest = keys.into_iter().max().expect("a row");
        newest - dice.pick(0..MORTALS)
    }

    /// A text that nobody else writes.
    pub(super) fn new_text(&self) -> String {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        *texts += 1;
        format!("text {texts}")
    }

    /// A value of a register was written at this clock.
    pub(super) fn wrote(&self, key: &str, column: &'static str, clock: &str, value: &str) {
        self.of(key, |row| {
            let values = row.values.entry(column).or_default();
            let at = values.entry(clock.to_owned()).or_default();
            at.insert(value.to_owned());
            row.edited = row.edited.take().max(Some(clock.to_owned()));
        });
    }

    /// The row was deleted at this clock.
    pub(super) fn died(&self, key: &str, clock: &str) {
        self.of(key, |row| {
            row.died = row.died.take().max(Some(clock.to_owned()))
        });
    }

    pub(super) fn liked(&self, key: &str, likes: i64) {
        self.of(key, |row| row.likes += likes);
    }

    /// A number was written to `best` and to `least`.
    pub(super) fn scored(&self, key: &str, number: i64) {
        self.of(key, |row| {
            row.best = row.best.max(Some(number));
            row.least = Some(row.least.map_or(number, |least| least.min(number)));
        });
    }

    pub(super) fn tagged(&self, key: &str, tag: &str) {
        self.of(key, |row| {
            row.tags.insert(tag.to_owned());
        });
    }

    /// A tag that somebody saw was taken out. No other has the same text.
    pub(super) fn untagged(&self, key: &str, tag: &str) {
        self.of(key, |row| {
            row.untagged.insert(tag.to_owned());
        });
    }

    fn of(&self, key: &str, write: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows().get_mut(key) {
            write(row);
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares all rows that are known here with what was written.
    pub(super) fn holds(&self, held: &BTreeMap<String, Held>) {
        for (key, row) in self.rows().iter() {
            let held = &held[key];
            let lives = match self.deletes {
                Deletes::Win => row.died.is_none(),
                Deletes::Revive => row.died.is_none() || row.edited > row.died,
            };
            assert_eq!(
                !held.row.is_null(),
                lives,
                "{key} is there: {row:?}: {held:?}"
            );
            let died = held.metadata["died"].as_str();
            assert!(died >= row.died.as_deref(), "{key} died: {row:?}: {held:?}");
            if !lives {
                continue;
            }
            for (column, values) in &row.values {
                let (clock, values) = values.last_key_value().expect("a value");
                // Of two with one clock, the greater stands.
                let value = values.last().map(String::as_str);
                assert_eq!(
                    held.row[*column].as_str(),
                    value,
                    "{column} of {key}, written at {clock}: {held:?}"
                );
            }
            let number = |column: &str| held.row[column].as_i64();
            assert_eq!(number("likes"), Some(row.likes), "likes of {key}: {held:?}");
            assert_eq!(number("best"), row.best, "best of {key}: {held:?}");
            assert_eq!(number("least"), row.least, "least of {key}: {held:?}");
            let tags = held.row["tags"].as_array().into_iter().flatten();
            let tags: BTreeSet<&str> = tags.filter_map(Value::as_str).collect();
            let expected = row.tags.difference(&row.untagged).map(String::as_str);
            let expected: BTreeSet<&str> = expected.collect();
            assert_eq!(tags, expected, "tags of {key}: {held:?}");
        }
    }

    /// Fails where too little was written to show anything.
    pub(super) fn was_a_test(&self) {
        let rows = self.rows();
        let written: usize = rows
            .values()
            .flat_map(|row| row.values.values())
            .map(BTreeMap::len)
            .sum();
        let likes = rows.values().filter(|row| row.likes != 0).count();
        let died = rows.values().filter(|row| row.died.is_some()).count();
        assert!(
            written > 20 && likes > 0 && died > 0,
            "a test of {written} values shows little"
        );
    }
}

/// The clock of a register in a row's metadata.
pub(super) fn clock_of(metadata: &Value, column: &str) -> String {
    let own = &metadata["fields"][column];
    let clocks = [own, &metadata["base"], &metadata["born"]];
    let clock = clocks.into_iter().find_map(Value::as_str);
    clock.unwrap_or(NO_CLOCK).to_owned()
}
