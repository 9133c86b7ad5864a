//! The groups whose sets are in use, and when each must be asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use filter::{AskedSource as _, Set};

use super::asked::{AskedGroup, AskedPlan, Reads};
use super::columns::SetColumns;
use super::guard::{Concerned, EntityGuard, Readers};
use super::question::GroupQuestion;
use crate::log::{ChangeKind, NetChange};

/// The most rows that a group is asked about one by one; with more it is asked about all.
const ROWS_MAX: usize = 1_000;

/// The groups whose sets are in use, by name. A drain must not look at those that it does not concern.
#[derive(Debug, Default)]
pub(super) struct Groups {
    known: BTreeMap<Box<str>, GroupSets>,
    /// The groups that are asked again when an entity has changed.
    readers: BTreeMap<String, Readers>,
    /// The columns by which it is told whom a change concerns.
    columns: SetColumns,
    /// Those that are to be asked at the next drain, whatever they read.
    due: BTreeSet<Box<str>>,
    /// The groups by plan, which is known by its place in memory.
    plans: BTreeMap<usize, PlanGroups>,
}

#[derive(Debug)]
struct PlanGroups {
    plan: Arc<AskedPlan>,
    groups: BTreeSet<Box<str>>,
}

#[derive(Debug)]
struct GroupSets {
    group: Arc<AskedGroup>,
    sets: BTreeSet<Set>,
    /// None until it has been asked.
    reads: Option<Reads>,
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
    /// What it read has changed once: its sets were nothing else in between.
    Once,
    /// What it read has changed in several commits, or nobody knows when: as time passes, or where something failed.
    Often,
}

impl Groups {
    /// Notes that a set is in use, if it is one that is asked for. Returns whether it is.
    pub(super) fn insert(&mut self, set: &Set) -> bool {
        let Some(group) = AskedGroup::of(set) else {
            return false;
        };
        let name: Box<str> = group.name().into();
        let known = self.known.entry(name.clone()).or_insert_with(|| {
            let plan = group.plan();
            let of_plan = self.plans.entry(place_of(plan));
            let of_plan = of_plan.or_insert_with(|| PlanGroups {
                plan: plan.clone(),
                groups: BTreeSet::new(),
            });
            of_plan.groups.insert(name);
            // Their previous values are read before the group has been asked once.
            for (entity, column) in plan.guard_columns() {
                self.columns.add_one(entity, column);
            }
            GroupSets {
                group,
                sets: BTreeSet::new(),
                reads: None,
                turns: 0,
            }
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
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        known.sets.remove(set);
        if !known.sets.is_empty() {
            return;
        }
        let Some(known) = self.known.remove(name) else {
            return;
        };
        self.due.remove(name);
        for (entity, column) in known.group.plan().guard_columns() {
            self.columns.remove_one(entity, column);
        }
        if let Some(reads) = &known.reads {
            for entity in &reads.entities {
                let guard = reads.guards.get(entity);
                take_from(&mut self.readers, entity, name, guard);
            }
        }
        let place = place_of(known.group.plan());
        if let Some(of_plan) = self.plans.get_mut(&place) {
            of_plan.groups.remove(name);
            if of_plan.groups.is_empty() {
                self.plans.remove(&place);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Those of its sets that are in use.
    pub(super) fn sets(&self, group: &AskedGroup) -> impl Iterator<Item = &Set> {
        let known = self.known.get(group.name());
        known.into_iter().flat_map(|known| &known.sets)
    }

    /// The sets of groups whose plans others have taken the place of.
    pub(super) fn outdated(&self) -> impl Iterator<Item = &Set> {
        let plans = self.plans.values();
        let plans = plans.filter(|of_plan| of_plan.plan.is_outdated.load(Ordering::Relaxed));
        let names = plans.flat_map(|of_plan| &of_plan.groups);
        let groups = names.filter_map(|name| self.known.get(name));
        groups.flat_map(|known| &known.sets)
    }

    /// The columns by which it is told whom a change concerns.
    pub(super) fn columns(&self) -> &SetColumns {
        &self.columns
    }

    /// The entities whose changes have a group asked again.
    pub(super) fn entities(&self) -> impl Iterator<Item = &str> {
        self.readers.keys().map(String::as_str)
    }

    /// Has those asked again whose answers change as time passes, and if `failed` those of which something failed. Returns
    /// whether there are any.
    pub(super) fn ask_again(&mut self, failed: bool) -> bool {
        for (name, known) in &self.known {
            let is_due = |reads: &Reads| reads.is_timed || failed && reads.has_failed;
            if known.reads.as_ref().is_some_and(is_due) {
                self.due.insert(name.clone());
            }
        }
        !self.due.is_empty()
    }

    /// Whether a group is to be asked again at the next drain, whatever it reads.
    pub(super) fn is_asking(&self) -> bool {
        !self.due.is_empty()
    }

    /// The groups that must be asked because of these entries, or where the drain advances for another reason, by name.
    pub(super) fn due(
        &self,
        entries: &[NetChange],
        advances: bool,
    ) -> BTreeMap<Box<str>, (GroupQuestion, Cause)> {
        let mut of_entities: BTreeMap<&str, Vec<&NetChange>> = BTreeMap::new();
        if !self.known.is_empty() {
            for entry in entries {
                let of_entity = of_entities.entry(entry.entity.as_str()).or_default();
                of_entity.push(entry);
            }
        }
        let mut names: BTreeSet<&str> = BTreeSet::new();
        if advances {
            names.extend(self.due.iter().map(|name| &**name));
        }
        let mut concerned: BTreeMap<&str, Concerned<'_>> = BTreeMap::new();
        for (entity, entries) in &of_entities {
            let Some(readers) = self.readers.get(*entity) else {
                continue;
            };
            names.extend(readers.of_any_row().iter().map(|name| &**name));
            let of_entity = readers.concerned(entries);
            if of_entity.is_everybody {
                names.extend(readers.guarded().iter().map(|name| &**name));
            }
            names.extend(of_entity.guarded.keys());
            concerned.insert(entity, of_entity);
        }
        // Thousands of groups read the same tables.
        let mut causes: BTreeMap<Vec<&str>, Cause> = BTreeMap::new();
        let mut rows: BTreeMap<&str, Option<Arc<BTreeSet<String>>>> = BTreeMap::new();
        let due = names.into_iter().filter_map(|name| {
            let (name, known) = self.known.get_key_value(name)?;
            let read = known.reads.iter().flat_map(|reads| &reads.entities);
            let read = read.filter_map(|entity| Some(*of_entities.get_key_value(&**entity)?.0));
            let read: Vec<&str> = read.collect();
            let is_guarded = |entity: &str| {
                let mut guards = known.reads.iter().map(|reads| &reads.guards);
                let is_everybody = concerned.get(entity).is_some_and(|it| it.is_everybody);
                guards.any(|guards| guards.contains_key(entity)) && !is_everybody
            };
            // The entities of which any change concerns it, and the changes of others that do.
            let whole: Vec<&str> = read.iter().copied().filter(|it| !is_guarded(it)).collect();
            let guarded = read.iter().filter(|entity| is_guarded(entity));
            let guarded = guarded.filter_map(|it| concerned.get(it)?.guarded.get(&**name));
            let guarded: Vec<&NetChange> = guarded.flatten().copied().collect();
            let plan = known.group.plan();
            let is_about_rows = whole == [plan.entity()]
                && guarded.is_empty()
                && !self.due.contains(name)
                && known.reads.as_ref().is_some_and(|reads| !reads.has_failed)
                && plan.decides_row_by_row();
            let about = is_about_rows.then(|| {
                let of_entity = of_entities.get(plan.entity()).into_iter().flatten();
                let rows = rows.entry(plan.entity());
                rows.or_insert_with(|| keys_of(of_entity.copied())).clone()
            });
            let question = GroupQuestion {
                group: known.group.clone(),
                rows: about.flatten(),
            };
            let is_uncertain = |reads: &Reads| reads.is_timed || reads.has_failed;
            if known.reads.as_ref().is_some_and(is_uncertain) {
                return Some((name.clone(), (question, Cause::Often)));
            }
            // The values of guards are what they were, so nothing else concerned it in between.
            if whole.is_empty() && !guarded.is_empty() {
                return Some((name.clone(), (question, cause_of(&guarded))));
            }
            let cause = causes.entry(read).or_insert_with_key(|read| {
                let entries = read.iter().filter_map(|entity| of_entities.get(entity));
                let entries: Vec<&NetChange> = entries.flatten().copied().collect();
                cause_of(&entries)
            });
            Some((name.clone(), (question, *cause)))
        });
        due.collect()
    }

    /// Those of these sets' groups that are denied.
    pub(super) fn denials<'a>(&self, sets: impl Iterator<Item = &'a Set>) -> Denials {
        let names = sets.filter_map(|set| Some(set.asked()?.source.name()));
        let names: BTreeSet<&str> = names.collect();
        let mut denials = Denials::default();
        for (name, known) in names
            .iter()
            .filter_map(|name| self.known.get_key_value(*name))
        {
            denials.turns += known.turns;
            if known.reads.as_ref().is_some_and(|reads| reads.is_denied) {
                denials.groups.insert(name.clone());
            }
        }
        denials
    }

    /// Notes what a group's answers depend on, or if the question was about some rows alone, what else they depend on.
    pub(super) fn asked(&mut self, question: &GroupQuestion, mut reads: Reads, advances: bool) {
        let group = &question.group;
        let Some(known) = self.known.get_mut(group.name()) else {
            return;
        };
        if let (Some(before), true) = (&known.reads, question.rows.is_some()) {
            for entity in &before.entities {
                if reads.entities.insert(entity.clone()) {
                    let guard = before.guards.get(entity);
                    let guard = guard.map(|guard| (entity.clone(), guard.clone()));
                    reads.guards.extend(guard);
                }
            }
            reads.is_timed |= before.is_timed;
        }
        let was_denied = known.reads.as_ref().is_some_and(|reads| reads.is_denied);
        known.turns += u64::from(was_denied != reads.is_denied);
        if advances {
            self.due.remove(group.name());
        }
        let before = known.reads.take().unwrap_or_default();
        let name = group.name();
        let is_same = |entity: &String| {
            let are_read = [&before, &reads].map(|reads| reads.entities.contains(entity));
            are_read == [true, true] && before.guards.get(entity) == reads.guards.get(entity)
        };
        for entity in before.entities.iter().filter(|entity| !is_same(entity)) {
            take_from(&mut self.readers, entity, name, before.guards.get(entity));
        }
        for entity in reads.entities.iter().filter(|entity| !is_same(entity)) {
            let readers = self.readers.entry(entity.clone()).or_default();
            readers.insert(name, reads.guards.get(entity));
        }
        known.reads = Some(reads);
    }
}

fn place_of(plan: &Arc<AskedPlan>) -> usize {
    Arc::as_ptr(plan).addr()
}

fn take_from(
    readers: &mut BTreeMap<String, Readers>,
    entity: &str,
    group: &str,
    guard: Option<&EntityGuard>,
) {
    if let Some(of_entity) = readers.get_mut(entity) {
        of_entity.remove(group, guard);
        if of_entity.is_empty() {
            readers.remove(entity);
        }
    }
}

fn cause_of(entries: &[&NetChange]) -> Cause {
    match is_of_one_commit(entries) {
        true => Cause::Once,
        false => Cause::Often,
    }
}

/// The keys of the rows that have changed; none when there are too many, or when that is not all that has happened.
fn keys_of<'a>(entries: impl Iterator<Item = &'a NetChange>) -> Option<Arc<BTreeSet<String>>> {
    let mut keys = BTreeSet::new();
    for entry in entries {
        let is_of_row = matches!(
            entry.kind,
            ChangeKind::Create | ChangeKind::Update | ChangeKind::Delete
        );
        if !is_of_row || entry.truncated_at.is_some() || keys.len() == ROWS_MAX {
            return None;
        }
        keys.insert(entry.key.clone()?);
    }
    Some(keys.into())
}

/// Whether one commit has made all these entries.
fn is_of_one_commit(entries: &[&NetChange]) -> bool {
    let Some(first) = entries.first() else {
        return false;
    };
    entries.iter().all(|entry| {
        let undo = entry.undo.as_deref();
        let is_single = undo.is_some_and(|undo| undo.len() <= 1);
        is_single && entry.commit_id == first.commit_id
    })
}
