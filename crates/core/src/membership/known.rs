//! What sets hold, with each value once however many sets hold it.
//!
//! The values of all sets of one family are in one map, with the sets that hold each. So a set has no map of its own, and
//! the sets that hold a value are found at once.
//!
//! A set that is forgotten leaves its values behind, under a number that no set has any more. Once they are as many as those
//! of the sets that are known, all of them go together: forgetting a set takes time proportional to its values, on average.
//!
//! Invariants:
//! 1. A number is given to another set only when nothing is filed under it.
//! 2. A value without holders is not in the map.

use std::collections::BTreeMap;
use std::hash::RandomState;

use filter::{Lookup, Scalar, Set, SetChange};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::contents::{Contents, Difference};
use super::values::{LookedUp, Sign, Values};
use super::window::WindowRows;

/// Sets whose values come from the same columns.
pub type Family = (Box<str>, Vec<usize>);

/// The family of a set.
pub fn family(set: &Set) -> Family {
    (set.entity().into(), set.rows().columns.clone())
}

/// Known states of sets.
#[derive(Debug, Default)]
pub(super) struct Known {
    sets: HashMap<Set, KnownSet, RandomState>,
    names: BTreeMap<Family, usize>,
    families: Vec<FamilyValues>,
    /// Those of `families` that are not in use.
    unused: Vec<usize>,
    /// How many different values the sets hold together.
    values: usize,
}

#[derive(Debug)]
struct KnownSet {
    family: usize,
    number: u32,
    rows: u64,
    with_null: u64,
    /// The number of different values.
    values: usize,
    /// Of a window: its rows in their order.
    window: Box<WindowRows>,
}

/// The values of the sets of one family.
#[derive(Debug, Default)]
struct FamilyValues {
    holders: HashMap<Values, Holders, RandomState>,
    lists: Lists,
    /// The sets by their numbers.
    sets: Vec<Option<Set>>,
    /// The numbers that no set has and nothing is filed under.
    free: Vec<u32>,
    /// The weight of the sets that are known, each its different values and one for itself, and of those that are forgotten.
    known: usize,
    forgotten: usize,
}

/// The sets that hold a value, where there are several, or one from several rows: ordered by their numbers, each with the
/// number of its rows.
#[derive(Debug, Default)]
struct Lists {
    several: Vec<Vec<(u32, u64)>>,
    /// Those of `several` that are not in use.
    unused: Vec<u32>,
}

/// The sets that hold a value, by their numbers. It is small, because there is one for each value.
#[derive(Debug, Clone, Copy)]
enum Holders {
    /// One set, from one row.
    One(u32),
    /// At this place of [`Lists`].
    Several(u32),
}

impl Known {
    pub(super) fn contains(&self, set: &Set) -> bool {
        self.sets.contains_key(set)
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.sets.keys()
    }

    /// The number of sets.
    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    /// How many different values the sets hold together.
    pub(super) fn values(&self) -> usize {
        self.values
    }

    /// How many rows give a set these values.
    pub(super) fn count(&self, set: &Set, values: &[&Scalar]) -> u64 {
        let Some(known) = self.sets.get(set) else {
            return 0;
        };
        self.families[known.family].count(known.number, values)
    }

    /// How many rows a set has, and how many of them with a null.
    pub(super) fn rows(&self, set: &Set) -> Option<(u64, u64)> {
        let known = self.sets.get(set)?;
        Some((known.rows, known.with_null))
    }

    /// The rows of a window. None when it is not known.
    pub(super) fn window(&self, set: &Set) -> Option<&WindowRows> {
        Some(&*self.sets.get(set)?.window)
    }

    /// Looks values up in a set, as it is with this difference. None when it is not known.
    pub(super) fn look_up(
        &self,
        set: &Set,
        values: &[&Scalar],
        difference: Option<(&Difference, Sign)>,
    ) -> Option<Lookup> {
        let known = self.sets.get(set)?;
        let count = self.families[known.family].count(known.number, values);
        let by = |count: u64, changed: &dyn Fn(&Difference) -> i64| match difference {
            None => count > 0,
            Some((difference, sign)) => sign.add(count, changed(difference)) > 0,
        };
        Some(Lookup {
            found: by(count, &|difference| difference.count(values)),
            is_empty: !by(known.rows, &|difference| difference.rows),
            has_null: by(known.with_null, &|difference| difference.with_null),
        })
    }

    /// Adds a set that is not known yet.
    pub(super) fn insert(&mut self, set: Set, contents: Contents) {
        self.remove(&set);
        let family = self.family_of(&set);
        let of_family = &mut self.families[family];
        let number = of_family.number(&set);
        let known = KnownSet {
            family,
            number,
            rows: contents.rows,
            with_null: contents.with_null,
            values: contents.counts.len(),
            window: Box::new(contents.window),
        };
        for (values, count) in contents.counts {
            of_family.put(number, values, Some(count));
        }
        of_family.known += known.values + 1;
        self.values += known.values;
        self.sets.insert(set, known);
    }

    /// Forgets a set. Returns whether it was known.
    pub(super) fn remove(&mut self, set: &Set) -> bool {
        let Some(known) = self.sets.remove(set) else {
            return false;
        };
        self.values -= known.values;
        let of_family = &mut self.families[known.family];
        of_family.sets[known.number as usize] = None;
        of_family.known -= known.values + 1;
        of_family.forgotten += known.values + 1;
        if of_family.known == 0 {
            *of_family = FamilyValues::default();
            self.names.remove(&family(set));
            self.unused.push(known.family);
        } else if of_family.forgotten > of_family.known {
            of_family.sweep();
        }
        true
    }

    /// Adds a difference to a set.
    pub(super) fn add(&mut self, set: &Set, difference: Difference) {
        let Some(known) = self.sets.get_mut(set) else {
            return;
        };
        let of_family = &mut self.families[known.family];
        known.rows = Sign::Plus.add(known.rows, difference.rows);
        known.with_null = Sign::Plus.add(known.with_null, difference.with_null);
        if let Some(window) = difference.window {
            *known.window = window;
        }
        for (values, change) in difference.counts {
            let wanted: Vec<&Scalar> = values.as_slice().iter().collect();
            let before = of_family.count(known.number, &wanted);
            let now = Sign::Plus.add(before, change);
            match (before > 0, now > 0) {
                (false, true) => {
                    known.values += 1;
                    of_family.known += 1;
                    self.values += 1;
                }
                (true, false) => {
                    known.values -= 1;
                    of_family.known -= 1;
                    self.values -= 1;
                }
                _ => {}
            }
            of_family.put(known.number, values, (now > 0).then_some(now));
        }
    }

    /// Files a set under values, though it may not hold them.
    pub(super) fn file(&mut self, set: &Set, values: Values) {
        if let Some(known) = self.sets.get(set) {
            self.families[known.family].file(known.number, values);
        }
    }

    /// Takes a set from values that it does not hold.
    pub(super) fn unfile(&mut self, set: &Set, values: Values) {
        let Some(known) = self.sets.get(set) else {
            return;
        };
        let of_family = &mut self.families[known.family];
        let wanted: Vec<&Scalar> = values.as_slice().iter().collect();
        if of_family.count(known.number, &wanted) == 0 {
            of_family.put(known.number, values, None);
        }
    }

    /// The sets of a family that are filed under values.
    pub(super) fn holders(
        &self,
        family: &Family,
        values: &[&Scalar],
    ) -> impl Iterator<Item = &Set> {
        let of_family = self.names.get(family).map(|family| &self.families[*family]);
        of_family
            .into_iter()
            .flat_map(|of_family| of_family.find(values))
    }

    /// What a set holds. Takes time proportional to its family.
    pub(super) fn contents(&self, set: &Set) -> Option<Contents> {
        let known = self.sets.get(set)?;
        let of_family = &self.families[known.family];
        let values = of_family.holders.iter().filter_map(|(values, holders)| {
            let count = of_family.count_of(*holders, known.number);
            (count > 0).then(|| (values.clone(), count))
        });
        Some(Contents {
            rows: known.rows,
            with_null: known.with_null,
            counts: values.collect(),
            window: (*known.window).clone(),
        })
    }

    /// What of a difference a condition could tell, where the set is known without it (plus) or with it (minus).
    pub(super) fn change(&self, set: &Set, difference: &Difference, sign: Sign) -> SetChange {
        let differs = |count: u64, change: i64| (count > 0) != (sign.add(count, change) > 0);
        let values = difference.counts.iter().filter(|(values, change)| {
            let wanted: Vec<&Scalar> = values.as_slice().iter().collect();
            differs(self.count(set, &wanted), **change)
        });
        let (rows, with_null) = self.rows(set).unwrap_or_default();
        SetChange {
            values: values.map(|(values, _)| values.as_slice().into()).collect(),
            emptiness: differs(rows, difference.rows),
            null: differs(with_null, difference.with_null),
        }
    }

    /// The difference between what a set holds and what it will hold.
    pub(super) fn difference(&self, set: &Set, now: &Contents) -> Difference {
        let Some(known) = self.sets.get(set) else {
            return Difference::default();
        };
        if let Some(window) = &set.rows().window {
            return Difference::of_windows(window, &known.window, &now.window);
        }
        let of_family = &self.families[known.family];
        let held = |values: &&Values| {
            let wanted: Vec<&Scalar> = values.as_slice().iter().collect();
            of_family.count(known.number, &wanted) > 0
        };
        let kept = now.counts.keys().filter(held).count();
        // Only the values that are gone take a look at all values of the family.
        if kept == known.values {
            let wanted = |values: &Values| -> u64 {
                let wanted: Vec<&Scalar> = values.as_slice().iter().collect();
                of_family.count(known.number, &wanted)
            };
            let counts = now.counts.keys();
            let counts = counts.map(|values| (values.clone(), wanted(values)));
            let before = Contents {
                rows: known.rows,
                with_null: known.with_null,
                counts: counts.filter(|(_, count)| *count > 0).collect(),
                ..Contents::default()
            };
            return Difference::between(&before, now);
        }
        let before = self.contents(set).unwrap_or_default();
        Difference::between(&before, now)
    }

    /// The difference between what a set holds and will hold, in some values alone.
    pub(super) fn difference_among(
        &self,
        set: &Set,
        among: &Contents,
        now: &Contents,
    ) -> Difference {
        let of = |holds: &dyn Fn(&[Scalar]) -> bool| {
            let values = among.values().filter(|values| holds(values));
            Contents::of_values(values.map(|values| values.iter().cloned().collect()), false)
        };
        let held = of(&|values| {
            let wanted: Vec<&Scalar> = values.iter().collect();
            self.count(set, &wanted) > 0
        });
        let will_hold = of(&|values| now.holds(values));
        Difference::between(&held, &will_hold)
    }

    /// Under how many values sets are filed.
    #[cfg(test)]
    pub(super) fn filed(&self) -> usize {
        let of_families = self.families.iter();
        let filed = of_families.flat_map(|of_family| {
            let holders = of_family.holders.values();
            holders.map(|holders| of_family.sets_of(*holders).count())
        });
        filed.sum()
    }

    fn family_of(&mut self, set: &Set) -> usize {
        *self.names.entry(family(set)).or_insert_with(|| {
            self.unused.pop().unwrap_or_else(|| {
                self.families.push(FamilyValues::default());
                self.families.len() - 1
            })
        })
    }
}

impl FamilyValues {
    /// Gives a set a number.
    fn number(&mut self, set: &Set) -> u32 {
        if let Some(number) = self.free.pop() {
            self.sets[number as usize] = Some(set.clone());
            return number;
        }
        self.sets.push(Some(set.clone()));
        self.sets.len() as u32 - 1
    }

    fn count(&self, number: u32, values: &[&Scalar]) -> u64 {
        let holders = self.holders.get(&LookedUp(values));
        holders.map_or(0, |holders| self.count_of(*holders, number))
    }

    fn count_of(&self, holders: Holders, number: u32) -> u64 {
        match holders {
            Holders::One(only) => u64::from(only == number),
            Holders::Several(place) => {
                let several = &self.lists.several[place as usize];
                let found = several.binary_search_by_key(&number, |(number, _)| *number);
                found.map_or(0, |found| several[found].1)
            }
        }
    }

    fn find(&self, values: &[&Scalar]) -> impl Iterator<Item = &Set> {
        let holders = self.holders.get(&LookedUp(values)).copied();
        holders
            .into_iter()
            .flat_map(|holders| self.sets_of(holders))
    }

    fn sets_of(&self, holders: Holders) -> impl Iterator<Item = &Set> {
        let (one, several): (_, &[(u32, u64)]) = match holders {
            Holders::One(number) => (Some(number), &[]),
            Holders::Several(place) => (None, &self.lists.several[place as usize]),
        };
        let numbers = one.into_iter().chain(several.iter().map(|(it, _)| *it));
        numbers.filter_map(|number| self.sets[number as usize].as_ref())
    }

    /// Files a set under values that it does not hold, unless it is filed there.
    fn file(&mut self, number: u32, values: Values) {
        let wanted: Vec<&Scalar> = values.as_slice().iter().collect();
        if self.count(number, &wanted) == 0 {
            self.put(number, values, Some(0));
        }
    }

    /// Files a set under values that so many rows give it, or takes it from them.
    fn put(&mut self, number: u32, values: Values, count: Option<u64>) {
        match self.holders.entry(values) {
            Entry::Vacant(entry) => {
                if let Some(count) = count {
                    entry.insert(self.lists.holders(vec![(number, count)]));
                }
            }
            Entry::Occupied(mut entry) => {
                let mut list = self.lists.take(*entry.get());
                let found = list.binary_search_by_key(&number, |(number, _)| *number);
                match (found, count) {
                    (Ok(at), Some(count)) => list[at].1 = count,
                    (Ok(at), None) => drop(list.remove(at)),
                    (Err(at), Some(count)) => list.insert(at, (number, count)),
                    (Err(_), None) => {}
                }
                if list.is_empty() {
                    entry.remove();
                } else {
                    entry.insert(self.lists.holders(list));
                }
            }
        }
    }

    /// Takes away everything that is filed under forgotten sets.
    fn sweep(&mut self) {
        let (sets, lists) = (&self.sets, &mut self.lists);
        self.holders.retain(|_, holders| {
            let mut list = lists.take(*holders);
            list.retain(|(number, _)| sets[*number as usize].is_some());
            let is_held = !list.is_empty();
            if is_held {
                *holders = lists.holders(list);
            }
            is_held
        });
        self.holders.shrink_to_fit();
        let free = (0..).zip(&self.sets).filter(|(_, set)| set.is_none());
        self.free = free.map(|(number, _)| number).collect();
        self.forgotten = 0;
    }
}

impl Lists {
    /// Keeps what is not empty.
    fn holders(&mut self, list: Vec<(u32, u64)>) -> Holders {
        if let [(only, 1)] = list[..] {
            return Holders::One(only);
        }
        if let Some(place) = self.unused.pop() {
            self.several[place as usize] = list;
            return Holders::Several(place);
        }
        self.several.push(list);
        Holders::Several(self.several.len() as u32 - 1)
    }

    /// Takes holders out.
    fn take(&mut self, holders: Holders) -> Vec<(u32, u64)> {
        match holders {
            Holders::One(only) => vec![(only, 1)],
            Holders::Several(place) => {
                self.unused.push(place);
                std::mem::take(&mut self.several[place as usize])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_one_set_takes_forty_bytes() {
        assert_eq!(size_of::<(Values, Holders)>(), 40);
    }
}
