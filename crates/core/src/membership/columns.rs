//! The columns of tables that decide what sets hold, or whom a row concerns, counted, so that another set costs no look at all of them.

use std::collections::BTreeMap;

use filter::Set;

type Counts = BTreeMap<Box<str>, usize>;

/// The columns that some sets look at.
#[derive(Debug, Default)]
pub(super) struct SetColumns {
    /// How many sets look at each, by entity.
    counts: BTreeMap<Box<str>, Counts>,
    /// Differs when there are other columns.
    version: u64,
}

impl SetColumns {
    pub(super) fn add(&mut self, set: &Set) {
        for name in set.rows().evaluated_column_names() {
            self.add_one(set.entity(), name);
        }
    }

    pub(super) fn remove(&mut self, set: &Set) {
        for name in set.rows().evaluated_column_names() {
            self.remove_one(set.entity(), name);
        }
    }

    pub(super) fn add_one(&mut self, entity: &str, name: &str) {
        let of_entity = self.counts.entry(entity.into()).or_default();
        let count = of_entity.entry(name.into()).or_default();
        self.version += u64::from(*count == 0);
        *count += 1;
    }

    pub(super) fn remove_one(&mut self, entity: &str, name: &str) {
        let Some(of_entity) = self.counts.get_mut(entity) else {
            return;
        };
        if let Some(count) = of_entity.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                of_entity.remove(name);
                self.version += 1;
            }
        }
        if of_entity.is_empty() {
            self.counts.remove(entity);
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Each with its entity.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.counts.iter().flat_map(|(entity, counts)| {
            let names = counts.keys();
            names.map(|name| (&**entity, &**name))
        })
    }
}
