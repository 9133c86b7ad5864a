//! The groups whose sets are in use, and when each must be asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use filter::{AskedSource as _, Set};

use super::asked::{AskedGroup, Reads};
use crate::log::NetChange;

/// The groups whose sets are in use.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Box<str>, GroupSets>);

#[derive(Debug)]
struct GroupSets {
    group: Arc<AskedGroup>,
    sets: BTreeSet<Set>,
    /// None until it has been asked.
    reads: Option<Reads>,
    is_due: bool,
    /// How often it has begun to be denied, or ceased to be.
    turns: u64,
}

/// Groups that see nothing, because they could not be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials {
    /// Their names.
    pub groups: BTreeSet<Box<str>>,
    /// Differs when a group was denied in between, or was not.
    pub turns: u64,
}

/// Why a group is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What it read has changed at most once, or time has passed: its sets were nothing else in between.
    Once,
    /// What it read has changed in several commits, or nobody knows in how many.
    Often,
}

impl Groups {
    /// Notes that a set is in use, if it is one that is asked for. Returns whether it is.
    pub(super) fn insert(&mut self, set: &Set) -> bool {
        let Some(group) = AskedGroup::of(set) else {
            return false;
        };
        let known = self.0.entry(group.name().into());
        let known = known.or_insert_with(|| GroupSets {
            group,
            sets: BTreeSet::new(),
            reads: None,
            is_due: false,
            turns: 0,
        });
        known.sets.insert(set.clone());
        true
    }

    /// Notes that a set is in use no more.
    pub(super) fn remove(&mut self, set: &Set) {
        let Some(asked) = set.asked() else {
            return;
        };
        let name = asked.source.name();
        if let Some(known) = self.0.get_mut(name) {
            known.sets.remove(set);
            if known.sets.is_empty() {
                self.0.remove(name);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those of its sets that are in use.
    pub(super) fn sets(&self, group: &AskedGroup) -> impl Iterator<Item = &Set> {
        let known = self.0.get(group.name());
        known.into_iter().flat_map(|known| &known.sets)
    }

    /// The sets of groups whose plans others have taken the place of.
    pub(super) fn outdated(&self) -> impl Iterator<Item = &Set> {
        let groups = self.0.values().filter(|known| known.group.is_outdated());
        groups.flat_map(|known| &known.sets)
    }

    /// The entities whose changes have a group asked again.
    pub(super) fn entities(&self) -> impl Iterator<Item = &str> {
        let reads = self.0.values().filter_map(|known| known.reads.as_ref());
        reads.flat_map(|reads| reads.entities.iter().map(String::as_str))
    }

    /// Has those asked again whose answers change as time passes, and if `failed` those of which something failed. Returns
    /// whether there are any.
    pub(super) fn ask_again(&mut self, failed: bool) -> bool {
        let mut any = false;
        for known in self.0.values_mut() {
            let is_due = |reads: &Reads| reads.is_timed || failed && reads.has_failed;
            known.is_due |= known.reads.as_ref().is_some_and(is_due);
            any |= known.is_due;
        }
        any
    }

    /// Whether a group is to be asked again at the next drain, whatever it reads.
    pub(super) fn is_asking(&self) -> bool {
        self.0.values().any(|known| known.is_due)
    }

    /// The groups that must be asked because of these entries, or for another reason.
    pub(super) fn due(&self, entries: &[NetChange]) -> Vec<(Arc<AskedGroup>, Cause)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut of_entities: BTreeMap<&str, Vec<&NetChange>> = BTreeMap::new();
        for entry in entries {
            let of_entity = of_entities.entry(entry.entity.as_str()).or_default();
            of_entity.push(entry);
        }
        let due = self.0.values().filter_map(|known| {
            let reads = known.reads.as_ref()?;
            let read = reads.entities.iter();
            let read = read.filter_map(|entity| of_entities.get(entity.as_str()));
            let read: Vec<&NetChange> = read.flatten().copied().collect();
            if read.is_empty() && !known.is_due {
                return None;
            }
            let cause = if is_of_one_commit(&read) {
                Cause::Once
            } else {
                Cause::Often
            };
            Some((known.group.clone(), cause))
        });
        due.collect()
    }

    /// Those of these sets' groups that are denied.
    pub(super) fn denials<'a>(&self, sets: impl Iterator<Item = &'a Set>) -> Denials {
        let names = sets.filter_map(|set| Some(set.asked()?.source.name()));
        let names: BTreeSet<&str> = names.collect();
        let mut denials = Denials::default();
        for (name, known) in names.iter().filter_map(|name| self.0.get_key_value(*name)) {
            denials.turns += known.turns;
            if known.reads.as_ref().is_some_and(|reads| reads.is_denied) {
                denials.groups.insert(name.clone());
            }
        }
        denials
    }

    /// Notes what a group's answers depend on.
    pub(super) fn asked(&mut self, group: &AskedGroup, reads: Reads) {
        if let Some(known) = self.0.get_mut(group.name()) {
            let was_denied = known.reads.as_ref().is_some_and(|reads| reads.is_denied);
            known.turns += u64::from(was_denied != reads.is_denied);
            known.reads = Some(reads);
            known.is_due = false;
        }
    }
}

/// Whether one commit has made all these entries.
fn is_of_one_commit(entries: &[&NetChange]) -> bool {
    let Some(first) = entries.first() else {
        return true;
    };
    entries.iter().all(|entry| {
        let undo = entry.undo.as_deref();
        let is_single = undo.is_some_and(|undo| undo.len() <= 1);
        is_single && entry.commit_id == first.commit_id
    })
}
