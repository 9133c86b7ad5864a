//! Values by key, served one after another.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by key, in the order in which they are served.
#[derive(Debug)]
pub(super) struct RoundRobin<K, V> {
    next: u64,
    order: BTreeMap<u64, K>,
    values: HashMap<K, (u64, V)>,
}

impl<K, V> Default for RoundRobin<K, V> {
    fn default() -> Self {
        Self {
            next: 0,
            order: BTreeMap::new(),
            values: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Default> RoundRobin<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The keys and their values, the one that is served next first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let values = self.order.values();
        values.filter_map(|key| Some((key, &self.values.get(key)?.1)))
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        Some(&self.values.get(key)?.1)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        Some(&mut self.values.get_mut(key)?.1)
    }

    /// The value of a key, which is served last when it is new.
    pub(super) fn enter(&mut self, key: &K) -> &mut V {
        let place = self.next;
        let value = self.values.entry(key.clone()).or_insert_with(|| {
            self.next += 1;
            self.order.insert(place, key.clone());
            (place, V::default())
        });
        &mut value.1
    }

    /// Serves a key after all others.
    pub(super) fn put_last(&mut self, key: &K) {
        let Some((place, _)) = self.values.get_mut(key) else {
            return;
        };
        self.order.remove(place);
        *place = self.next;
        self.order.insert(self.next, key.clone());
        self.next += 1;
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((place, _)) = self.values.remove(key) {
            self.order.remove(&place);
        }
    }
}
