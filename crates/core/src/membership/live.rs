//! The sets of the live stream: each is known exactly, at every position that the stream reaches.
//!
//! A set that somebody wants is [asked for](super::backfill) at the snapshot of a drain, so what is known of it begins at
//! one of the stream's own positions, and every later difference is that between two of them.
//!
//! Invariants:
//! 1. After [`LiveSets::commit_at`] each known set is what the database answers at the drain's snapshot.
//! 2. A drain that fails, or is read again, changes nothing.
//! 3. A set is known only while all sets inside it are.
//! 4. [`LiveSets::holders`] names every set that holds the values, or held them before the drain under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use filter::{AskedSource as _, Scalar, Set, SetChange};

use super::advance::{Advance, SetView};
use super::asked::AskedGroup;
use super::backfill::{
    BACKFILL_ATTEMPTS_MAX, BACKFILL_CHANGES_MAX, Backfill, Backfills, Lane, Started,
};
use super::columns::SetColumns;
use super::contents::Contents;
use super::groups::{Cause, Denials, Groups};
use super::history::{History, Lately};
use super::known::{Family, Known};
use super::question::{Answer, GroupQuestion, Question, SetFailure};
use super::running::{Asked, Running, Why, read_window};
use super::set_index::SetIndex;
use super::values::Sign;
use crate::cursor::Position;
use crate::log::NetChange;

/// The sets that are in use, as they are at the stream's position.
#[derive(Debug, Default)]
pub struct LiveSets {
    /// How often each is wanted: by shapes, and by sets that have it inside.
    wanted: BTreeMap<Set, usize>,
    /// Those of them that are not known, with their places in the order in which they were wanted.
    missing: BTreeMap<Set, Missing>,
    /// The last of these places.
    last_place: u64,
    backfills: Backfills,
    /// How many of them are made of the rows of each entity.
    entities: BTreeMap<Box<str>, usize>,
    index: SetIndex,
    columns: SetColumns,
    /// Those that the database is asked for.
    groups: Groups,
    /// How many sets there are of each depth.
    depths: BTreeMap<usize, usize>,
    /// The sets that have each inside.
    outer: BTreeMap<Set, BTreeSet<Set>>,
    known: Known,
    /// How those that the database is asked for have changed lately.
    history: History,
    /// Those that are not known though they were asked for.
    failed: BTreeMap<Set, SetFailure>,
    /// How many values the known sets may hold together when another is added.
    values_max: Option<usize>,
    /// The sets that have become known, or failed, since that was [taken](LiveSets::take_settled).
    settled: Vec<Set>,
    running: Option<Running>,
}

/// A set that is not known.
#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    place: u64,
    /// Whether the answer takes longer than a moment.
    takes_long: bool,
    /// How often it was backfilled for nothing, because its differences did not follow.
    attempts: u32,
}

impl LiveSets {
    /// No sets yet. Together they may hold so many values when another is added.
    pub fn with_values_max(values_max: usize) -> Self {
        Self {
            values_max: Some(values_max),
            ..Self::default()
        }
    }

    /// Starts again, without sets. What is still answered about earlier ones is not taken for theirs.
    pub fn reset(&mut self) {
        *self = Self {
            backfills: Backfills::after(&self.backfills),
            values_max: self.values_max,
            ..Self::default()
        };
    }

    /// The sets that have become known, or failed, since the last time.
    pub fn take_settled(&mut self) -> Vec<Set> {
        std::mem::take(&mut self.settled)
    }

    /// Notes that somebody uses a set from now on. It is asked for, after those inside it, behind one of the next drains.
    pub fn want(&mut self, set: &Set) {
        let users = self.wanted.entry(set.clone()).or_default();
        *users += 1;
        if *users == 1 {
            self.miss(set);
            if !self.groups.insert(set) {
                self.index.insert(set);
                self.columns.add(set);
                *self.entities.entry(set.entity().into()).or_default() += 1;
            }
            *self.depths.entry(set.depth()).or_default() += 1;
            for inner in set.rows().filter.sets() {
                self.outer
                    .entry(inner.clone())
                    .or_default()
                    .insert(set.clone());
                self.want(inner);
            }
        }
    }

    /// Notes that somebody who wanted a set does no longer.
    pub fn release(&mut self, set: &Set) {
        let Some(users) = self.wanted.get_mut(set) else {
            return;
        };
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.wanted.remove(set);
        self.missing.remove(set);
        self.backfills.remove(set);
        self.groups.remove(set);
        if set.asked().is_none() {
            self.index.remove(set);
            self.columns.remove(set);
            if let Some(count) = self.entities.get_mut(set.entity()) {
                *count -= 1;
            }
            self.entities.retain(|_, count| *count > 0);
        }
        if let Some(count) = self.depths.get_mut(&set.depth()) {
            *count -= 1;
        }
        self.depths.retain(|_, count| *count > 0);
        self.failed.remove(set);
        self.forget(set);
        for inner in set.rows().filter.sets() {
            if let Some(outer) = self.outer.get_mut(inner) {
                outer.remove(set);
                if outer.is_empty() {
                    self.outer.remove(inner);
                }
            }
            self.release(inner);
        }
    }

    /// Whether a set is known at the stream's position.
    pub fn is_known(&self, set: &Set) -> bool {
        self.known.contains(set)
    }

    /// Why a set that was asked for is not known. It is not asked for again before [`LiveSets::ask_failed_again`].
    pub fn failure(&self, set: &Set) -> Option<SetFailure> {
        self.failed.get(set).copied()
    }

    /// Has the next drain ask for the sets that could not be read. A question that takes long holds up the stream, so it
    /// must not be asked at each drain.
    pub fn ask_failed_again(&mut self) {
        self.failed.clear();
    }

    /// Whether no set is in use.
    pub fn is_unused(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether something would be asked with the next drain, even if the log had nothing new.
    pub fn is_asking(&self) -> bool {
        let lanes = [Lane::Brief, Lane::Long];
        let room = lanes.map(|lane| (lane, self.backfills.has_room(lane)));
        let are_missing = self.missing.iter().any(|(set, missing)| {
            let has_room = room.contains(&(missing.lane(), true));
            let is_asked = set.asked().is_some() || missing.is_asked_in_drains();
            (has_room || is_asked) && self.is_ready(set)
        });
        are_missing || self.groups.is_asking()
    }

    /// Whether a set that is missing can be asked for: the sets inside it are known.
    fn is_ready(&self, set: &Set) -> bool {
        let running = self.running.as_ref();
        let is_known = |inner: &Set| {
            let unknown = running.is_some_and(|running| running.advance.unknown.contains(inner));
            self.known.contains(inner) && !unknown
        };
        !self.failed.contains_key(set)
            && !self.backfills.contains(set)
            && running.is_none_or(|running| !running.started.contains_key(set))
            && set.rows().filter.sets().all(is_known)
    }

    fn miss(&mut self, set: &Set) {
        self.last_place += 1;
        let missing = Missing {
            place: self.last_place,
            ..Missing::default()
        };
        self.missing.insert(set.clone(), missing);
    }

    /// What is to be asked behind the drain under way, at its snapshot. Called when the drain has no more questions.
    pub fn begin_backfill(&mut self) -> Option<Backfill> {
        if self.missing.is_empty() || self.running.is_none() {
            return None;
        }
        let lanes = [Lane::Brief, Lane::Long];
        for lane in lanes.into_iter().filter(|it| self.backfills.has_room(*it)) {
            let missing = self.missing.iter();
            let missing = missing.filter(|(_, missing)| missing.lane() == lane);
            // A group is asked for in drains.
            let ready = missing.filter(|(set, _)| set.asked().is_none() && self.is_ready(set));
            let mut ready: Vec<(u64, &Set)> = ready.map(|(set, it)| (it.place, set)).collect();
            if ready.is_empty() {
                continue;
            }
            ready.sort_unstable_by_key(|(place, _)| *place);
            ready.truncate(lane.sets_max());
            let sets: Vec<Set> = ready.into_iter().map(|(_, set)| set.clone()).collect();
            let questions = sets.iter().map(Question::about).collect();
            let ticket = self.backfills.begin(lane, sets.clone());
            for set in sets {
                let started = Started {
                    ticket,
                    ..Started::default()
                };
                let running = self.running.as_mut();
                running.and_then(|running| running.started.insert(set, started));
            }
            return Some(Backfill {
                ticket,
                lane,
                questions,
            });
        }
        None
    }

    /// Takes an answer of a backfill, whenever it comes.
    pub fn backfilled(&mut self, ticket: u64, index: usize, answer: Answer) {
        let Some((set, lane)) = self.backfills.asked(ticket, index) else {
            return;
        };
        let Some(started) = self.started_of(&set, ticket) else {
            return;
        };
        let contents = match &answer {
            Answer::Set(values) => Contents::read(set.rows(), values).ok(),
            Answer::Window(first) => read_window(&set, first),
            _ => None,
        };
        if contents.is_some() {
            started.answer = contents;
            if self.running.is_none() {
                self.settle();
            }
            return;
        }
        let failure = match answer {
            Answer::TooMany => SetFailure::TooLarge,
            Answer::TooLong => SetFailure::TooSlow,
            _ => SetFailure::Unread,
        };
        self.give_up(&set);
        let missing = self.missing.get_mut(&set);
        match missing.filter(|_| failure == SetFailure::TooSlow && lane == Lane::Brief) {
            Some(missing) => missing.takes_long = true,
            None => self.fail(set, failure),
        }
    }

    /// Ends a backfill. Its sets without an answer are asked for again.
    pub fn end_backfill(&mut self, ticket: u64) {
        for set in self.backfills.end(ticket) {
            if self
                .started_of(&set, ticket)
                .is_some_and(|started| started.answer.is_none())
            {
                self.give_up(&set);
            }
        }
    }

    fn started_of(&mut self, set: &Set, ticket: u64) -> Option<&mut Started> {
        let running = self.running.as_mut();
        let started = running.and_then(|running| running.started.get_mut(set));
        let started = started.or_else(|| self.backfills.get_mut(set));
        started.filter(|started| started.ticket == ticket)
    }

    /// Gives up a set's backfill.
    fn give_up(&mut self, set: &Set) {
        self.backfills.remove(set);
        if let Some(running) = &mut self.running {
            running.started.remove(set);
        }
    }

    /// Gives up a set's backfill whose difference is not known, so that it is asked for again.
    fn restart(&mut self, set: &Set) {
        self.backfills.remove(set);
        if let Some(missing) = self.missing.get_mut(set) {
            missing.attempts += 1;
            if missing.attempts >= BACKFILL_ATTEMPTS_MAX && missing.takes_long {
                self.fail(set.clone(), SetFailure::TooSlow);
            }
        }
    }

    fn fail(&mut self, set: Set, failure: SetFailure) {
        self.settled.push(set.clone());
        self.failed.insert(set, failure);
    }

    /// Makes the sets known that have been answered. Only between drains.
    fn settle(&mut self) {
        for (set, contents) in self.backfills.take_answered() {
            match contents {
                Some(contents) => self.learn(set, contents),
                None => self.restart(&set),
            }
        }
    }

    /// A set is known, if all sets together do not hold too much then.
    fn learn(&mut self, set: Set, contents: Contents) {
        // Released meanwhile.
        if !self.wanted.contains_key(&set) {
            return;
        }
        let values = self.known.values() + contents.len();
        if self.values_max.is_some_and(|max| values > max) {
            self.fail(set, SetFailure::TooLarge);
            return;
        }
        self.failed.remove(&set);
        self.missing.remove(&set);
        self.settled.push(set.clone());
        if set.asked().is_some() {
            self.history.learn(&set);
        }
        self.known.insert(set, contents);
    }

    /// The entities whose rows make the sets in use, or decide what the database answers.
    pub fn entities(&self) -> impl Iterator<Item = &str> {
        let made = self.entities.keys().map(|entity| &**entity);
        made.chain(self.groups.entities())
    }

    /// Has the next drain ask the groups whose answers change as time passes, and if `failed` those of which something
    /// failed. Returns whether there are any.
    pub fn ask_groups_again(&mut self, failed: bool) -> bool {
        self.groups.ask_again(failed)
    }

    /// Those of these sets' groups that see nothing, because they could not be asked.
    pub fn denials<'a>(&self, sets: impl Iterator<Item = &'a Set>) -> Denials {
        self.groups.denials(sets)
    }

    /// How many groups are asked.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The columns that decide what the sets hold which rows make, or whom a row concerns, each with its entity.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.columns.iter().chain(self.groups.columns().iter())
    }

    /// Differs when the [columns](LiveSets::columns) are others.
    pub fn columns_version(&self) -> u64 {
        // Neither ever becomes less.
        self.columns.version() + self.groups.columns().version()
    }

    /// The sets in use.
    pub fn sets(&self) -> impl Iterator<Item = &Set> {
        self.wanted.keys()
    }

    /// How many sets are known, and how many values they hold together.
    pub fn size(&self) -> (usize, usize) {
        (self.known.len(), self.known.values())
    }

    /// What a known set holds.
    #[cfg(test)]
    pub(super) fn contents(&self, set: &Set) -> Option<Contents> {
        self.known.contents(set)
    }

    /// Under how many values sets are filed.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.known.filed()
    }

    /// How many sets the entries of the drain under way may concern.
    #[cfg(test)]
    pub(super) fn concerned(&self) -> usize {
        let running = self.running.as_ref();
        running.map_or(0, |running| running.entries.len())
    }

    /// Takes the entries of a drain. Returns the first questions; none when nothing has to be asked.
    ///
    /// A drain that does not `advance` ends where the one before it ended. What it moved would have no position of its
    /// own, and nobody would receive it; so nothing that is known changes with it, and what is due waits.
    pub fn begin(&mut self, entries: &[NetChange], advances: bool) -> Vec<Question> {
        self.abort();
        let mut of_sets: BTreeMap<Set, Vec<Arc<NetChange>>> = BTreeMap::new();
        for entry in entries {
            let sets = self.index.find(entry, &self.known);
            if sets.is_empty() {
                continue;
            }
            let entry = Arc::new(entry.clone());
            for set in sets {
                of_sets.entry(set.clone()).or_default().push(entry.clone());
            }
        }
        let mut running = Running {
            advance: Advance::new(Sign::Plus),
            advances,
            entries: of_sets,
            level: 1,
            deepest: self.depths.keys().copied().max().unwrap_or_default(),
            asked: Vec::new(),
            reads: Vec::new(),
            new: BTreeMap::new(),
            failed: BTreeMap::new(),
            started: BTreeMap::new(),
            since: BTreeMap::new(),
            inexact: BTreeSet::new(),
        };
        let mut questions = Vec::new();
        let mut groups = self.groups.due(entries, advances);
        for (set, missing) in &self.missing {
            match AskedGroup::of(set) {
                _ if !self.is_ready(set) => {}
                Some(group) => {
                    let due = groups.entry(group.name().into());
                    let (question, _) = due.or_insert((GroupQuestion::whole(group), Cause::Often));
                    question.rows = None;
                }
                None if missing.is_asked_in_drains() => {
                    running.ask(set, Why::New, Question::about(set), &mut questions);
                }
                None => {}
            }
        }
        // By another plan they may be others: their readers begin again with that one.
        let outdated = self.groups.outdated();
        let outdated = outdated.filter(|set| advances && self.known.contains(set));
        running.advance.unknown.extend(outdated.cloned());
        for (question, cause) in groups.into_values() {
            questions.push(Question::Group(question.clone()));
            running.asked.push(Asked::Group(question, cause));
        }
        if questions.is_empty() {
            let sets = (&self.known, &self.backfills, &self.outer);
            running.take_levels(sets, &mut questions);
        }
        self.run(running, questions)
    }

    /// Takes the answers, in the order of the questions. Returns the next questions; none when all is known.
    pub fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        let Some(mut running) = self.running.take() else {
            return Vec::new();
        };
        let mut questions = Vec::new();
        let asked = std::mem::take(&mut running.asked);
        let mut answers = answers.into_iter();
        for asked in asked {
            let answer = answers.next().unwrap_or(Answer::Unknown);
            match asked {
                Asked::About(set, why) => {
                    running.take(set, why, answer, &self.known, &mut questions);
                }
                Asked::Group(question, cause) => {
                    let sets = self.groups.sets(&question.group).cloned().collect();
                    running.take_group(question, sets, cause, answer, &self.known);
                }
            }
        }
        if questions.is_empty() {
            let sets = (&self.known, &self.backfills, &self.outer);
            running.take_levels(sets, &mut questions);
        }
        self.run(running, questions)
    }

    fn run(&mut self, running: Running, questions: Vec<Question>) -> Vec<Question> {
        if questions.is_empty() {
            // From here on the rows that the values concern are evaluated, so they must be found.
            for (set, change) in running.advance.changes() {
                for values in &change.values {
                    let values = values.iter().cloned().collect();
                    self.known.file(set, values);
                }
            }
        }
        self.running = Some(running);
        questions
    }

    /// The sets before the drain under way and after it.
    pub fn views(&self) -> (SetView<'_>, SetView<'_>) {
        match &self.running {
            Some(running) => running.advance.views(&self.known),
            None => (SetView::of(&self.known), SetView::of(&self.known)),
        }
    }

    /// The keys of the rows of a window as they are ordered after the drain under way, where a client cannot tell it from
    /// the values.
    pub fn order(&self, set: &Set) -> Option<Vec<&str>> {
        let running = self.running.as_ref();
        let changed = running.and_then(|running| running.advance.changed_window(set));
        let rows = changed.or_else(|| self.known.window(set))?;
        rows.order(set.rows().window.as_ref()?)
    }

    /// How a set changes with the drain under way, if it does.
    pub fn change(&self, set: &Set) -> Option<&SetChange> {
        self.running.as_ref()?.advance.change(set)
    }

    /// The sets that change with the drain under way.
    pub fn changed(&self) -> impl Iterator<Item = &Set> {
        let running = self.running.iter();
        running.flat_map(|running| running.advance.changes().map(|(set, _)| set))
    }

    /// The sets that may have changed in the drain under way, even if they changed back, and those that have one inside.
    pub fn stirred(&self) -> BTreeSet<&Set> {
        let mut stirred = BTreeSet::new();
        let running = self.running.iter();
        let mut next: Vec<&Set> = running
            .flat_map(|running| &running.advance.stirred)
            .collect();
        while let Some(set) = next.pop() {
            if stirred.insert(set) {
                next.extend(self.outer.get(set).into_iter().flatten());
            }
        }
        stirred
    }

    /// The sets that are not known any more after the drain under way.
    pub fn lost(&self) -> impl Iterator<Item = &Set> {
        let running = self.running.iter();
        running.flat_map(|running| &running.advance.unknown)
    }

    /// The sets of a family that hold these values, or held them before the drain under way.
    pub fn holders(&self, family: &Family, values: &[&Scalar]) -> impl Iterator<Item = &Set> {
        self.known.holders(family, values)
    }

    /// How a set that the database is asked for has changed since a position.
    pub fn lately(&self, set: &Set, position: &Position) -> Option<Lately> {
        self.history.since(set, position)
    }

    /// The drain, which ends at `position`, has been published: its sets are the known ones. Returns whether others can be
    /// asked for than before.
    pub fn commit_at(&mut self, position: &Arc<Position>) -> bool {
        let Some(running) = self.running.take() else {
            return false;
        };
        let Running {
            advance,
            new,
            failed,
            reads,
            started,
            since,
            inexact,
            advances,
            ..
        } = running;
        for (question, reads) in reads {
            self.groups.asked(&question, reads, advances);
        }
        let unknown = advance.unknown.clone();
        let changes = advance.changes();
        let changed: Vec<(Set, SetChange)> = changes
            .map(|(set, change)| (set.clone(), change.clone()))
            .collect();
        let differences = advance.into_differences();
        let of_asked = differences.iter().filter(|(set, _)| set.asked().is_some());
        self.history.reach(position, of_asked);
        for (set, difference) in differences {
            self.known.add(&set, difference);
        }
        for (set, change) in changed {
            self.unfile(&set, &change);
        }
        for (set, difference) in since {
            let Some(started) = self.backfills.get_mut(&set) else {
                continue;
            };
            started.since.add(difference);
            if started.since.len() > BACKFILL_CHANGES_MAX {
                self.restart(&set);
            }
        }
        inexact.iter().for_each(|set| self.restart(set));
        unknown.iter().for_each(|set| self.forget(set));
        let settled = self.settled.len();
        for (set, contents) in new {
            self.learn(set, contents);
        }
        for (set, failure) in failed {
            self.fail(set, failure);
        }
        for (set, started) in started {
            if self.wanted.contains_key(&set) {
                self.backfills.start(set, started);
            }
        }
        self.settle();
        self.forget_orphans();
        let are_missing = !(unknown.is_empty() && inexact.is_empty());
        are_missing || self.settled.len() > settled
    }

    /// The same, where it does not matter at which position.
    #[cfg(test)]
    pub(super) fn commit(&mut self) -> bool {
        self.commit_at(&Arc::new(Position::log_id(0)))
    }

    /// Forgets the drain under way.
    pub fn abort(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        for (set, change) in running.advance.changes() {
            self.unfile(set, change);
        }
        self.settle();
    }

    /// Forgets what the sets hold: they are asked for again.
    pub fn forget_known(&mut self) {
        self.running = None;
        self.known = Known::default();
        self.history.clear();
        self.backfills.clear();
        self.failed.clear();
        let wanted: Vec<Set> = self.wanted.keys().cloned().collect();
        wanted.iter().for_each(|set| self.miss(set));
    }

    /// A set with a set inside that is not known is not known either.
    fn forget_orphans(&mut self) {
        // Otherwise all are known, or none that another has inside is missing.
        while self.missing.keys().any(|set| self.outer.contains_key(set)) {
            let is_orphan = |set: &&Set| {
                let mut inner = set.rows().filter.sets();
                inner.any(|inner| !self.known.contains(inner))
            };
            let orphans: Vec<Set> = self.known.sets().filter(is_orphan).cloned().collect();
            if orphans.is_empty() {
                return;
            }
            for set in orphans {
                self.forget(&set);
            }
        }
    }

    /// Takes a set from the values of a change that it does not hold.
    fn unfile(&mut self, set: &Set, change: &SetChange) {
        for values in &change.values {
            self.known.unfile(set, values.iter().cloned().collect());
        }
    }

    /// A set is not known any more.
    fn forget(&mut self, set: &Set) {
        self.history.forget(set);
        if self.known.remove(set) && self.wanted.contains_key(set) {
            self.miss(set);
        }
        // What has it inside needs it to know its own differences.
        let outer = self.outer.get(set).cloned();
        outer
            .into_iter()
            .flatten()
            .for_each(|outer| self.backfills.remove(&outer));
    }
}

impl Missing {
    fn lane(&self) -> Lane {
        match self.takes_long {
            true => Lane::Long,
            false => Lane::Brief,
        }
    }

    /// Whether it is asked for in a drain, which can only wait for what does not take long: its table changes so that its
    /// difference never follows.
    fn is_asked_in_drains(&self) -> bool {
        self.attempts >= BACKFILL_ATTEMPTS_MAX && !self.takes_long
    }
}
