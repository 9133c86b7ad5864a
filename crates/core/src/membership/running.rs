//! The advance of the live sets that is under way: what the answers make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use filter::{RowError, Set};
use rls::Answers;
use serde_json::value::RawValue;

use super::advance::Advance;
use super::asked::{AskedGroup, Reads};
use super::backfill::{Backfills, Since, Started};
use super::contents::Contents;
use super::groups::Cause;
use super::known::Known;
use super::question::{Answer, GroupQuestion, Question, SET_ROWS_MAX, SetFailure};
use super::window::kept;
use crate::log::NetChange;

/// The advance under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) advance: Advance,
    /// Whether the drain ends at a position of its own.
    pub(super) advances: bool,
    /// The entries that may concern each set.
    pub(super) entries: BTreeMap<Set, Vec<Arc<NetChange>>>,
    /// The depth of the sets that are taken now.
    pub(super) level: usize,
    pub(super) deepest: usize,
    pub(super) asked: Vec<Asked>,
    /// What the groups that were asked have read.
    pub(super) reads: Vec<(GroupQuestion, Reads)>,
    /// The sets that are known from this drain on.
    pub(super) new: BTreeMap<Set, Contents>,
    pub(super) failed: BTreeMap<Set, SetFailure>,
    /// The sets whose backfill begins with this drain.
    pub(super) started: BTreeMap<Set, Started>,
    /// How the sets have changed whose backfill began before.
    pub(super) since: BTreeMap<Set, Since>,
    /// Those of them of which that does not follow.
    pub(super) inexact: BTreeSet<Set>,
}

/// A question that was asked.
#[derive(Debug)]
pub(super) enum Asked {
    About(Set, Why),
    /// For these of its sets.
    Group(GroupQuestion, Cause),
}

/// Why a question about a set was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is not known yet, and backfills have not made it so.
    New,
    /// Its difference does not follow from the entries.
    Inexact,
    /// For the rows that the sets inside it have moved.
    Moved,
}

impl Running {
    pub(super) fn ask(
        &mut self,
        set: &Set,
        why: Why,
        question: Question,
        questions: &mut Vec<Question>,
    ) {
        self.asked.push(Asked::About(set.clone(), why));
        questions.push(question);
    }

    /// Takes what a group was answered. What is not known is not visible.
    pub(super) fn take_group(
        &mut self,
        question: GroupQuestion,
        sets: Vec<Set>,
        cause: Cause,
        answer: Answer,
        known: &Known,
    ) {
        let Answer::Group(answer) = answer else {
            for set in sets {
                if known.contains(&set) {
                    if self.advances {
                        self.advance.unknown.insert(set);
                    }
                } else {
                    self.failed.insert(set, SetFailure::Unread);
                }
            }
            return;
        };
        let group = &question.group;
        // What could not be answered about some rows is not known of any.
        let is_visible = matches!(answer.answers, Answers::Visible(_));
        let rows = question.rows.as_ref().filter(|_| is_visible);
        for set in sets {
            let contents = group.contents(&set, &answer.answers);
            if !known.contains(&set) {
                self.new.insert(set, contents);
                continue;
            }
            // It stays as it is, or its plan is outdated.
            if !self.advances || self.advance.unknown.contains(&set) {
                continue;
            }
            let difference = match rows.filter(|_| AskedGroup::is_visible_rows(&set)) {
                Some(rows) => {
                    let among = group.contents(&set, &Answers::Visible((**rows).clone()));
                    known.difference_among(&set, &among, &contents)
                }
                None => known.difference(&set, &contents),
            };
            let is_next = cause == Cause::Once;
            self.advance
                .take_difference(&set, known, difference, is_next);
        }
        let reads = group.plan().reads(&answer);
        self.reads.push((question, reads));
    }

    /// Takes the sets that follow from what is known by now, level by level, until something has to be asked.
    pub(super) fn take_levels(
        &mut self,
        (known, backfills, outer): (&Known, &Backfills, &BTreeMap<Set, BTreeSet<Set>>),
        questions: &mut Vec<Question>,
    ) {
        while self.level <= self.deepest && questions.is_empty() {
            let changed = self.advance.changes().map(|(set, _)| set);
            let inner = changed.chain(&self.advance.unknown);
            let moved = inner.filter_map(|set| outer.get(set)).flatten();
            let concerned: BTreeSet<Set> = moved.chain(self.entries.keys()).cloned().collect();
            for set in concerned {
                let counts = known.contains(&set) || backfills.contains(&set);
                if set.depth() == self.level && counts {
                    self.take_set(&set, known, questions);
                }
            }
            self.level += 1;
        }
    }

    fn take_set(&mut self, set: &Set, known: &Known, questions: &mut Vec<Question>) {
        let mut inner = set.rows().filter.sets();
        if inner.any(|inner| self.advance.unknown.contains(inner)) {
            self.lose(set.clone(), known);
            return;
        }
        match self.advance.touched_rows(set) {
            // The window has fewer rows than they may have moved.
            Some(_) if set.rows().window.is_some() && !known.contains(set) => {
                self.inexact.insert(set.clone());
                return;
            }
            Some(_) if set.rows().window.is_some() => {
                self.ask(set, Why::Inexact, Question::about(set), questions);
                return;
            }
            Some(filter) => {
                let question = Question::Rows {
                    entity: set.entity().into(),
                    filter,
                    rows_max: SET_ROWS_MAX,
                };
                self.ask(set, Why::Moved, question, questions);
                return;
            }
            None => {}
        }
        self.take_entries(set, known, &[], questions);
    }

    /// Takes the difference of a set that follows from the entries, and from these rows. Asks for the set where it does
    /// not.
    fn take_entries(
        &mut self,
        set: &Set,
        known: &Known,
        touched: &[(String, Box<RawValue>)],
        questions: &mut Vec<Question>,
    ) {
        let entries = self.entries.get(set).into_iter().flatten();
        let entries = entries.map(|entry| &**entry);
        if known.contains(set) {
            if self.advance.take(set, known, entries, touched).is_err() {
                self.ask(set, Why::Inexact, Question::about(set), questions);
            }
            return;
        }
        match self.advance.since(set, known, entries, touched) {
            Ok(since) => drop(self.since.insert(set.clone(), since)),
            Err(_) => drop(self.inexact.insert(set.clone())),
        }
    }

    /// What a set will hold cannot be known.
    fn lose(&mut self, set: Set, known: &Known) {
        match known.contains(&set) {
            true => self.advance.unknown.insert(set),
            false => self.inexact.insert(set),
        };
    }

    pub(super) fn take(
        &mut self,
        set: Set,
        why: Why,
        answer: Answer,
        known: &Known,
        questions: &mut Vec<Question>,
    ) {
        let read =
            |values: &[_]| -> Result<Contents, RowError> { Contents::read(set.rows(), values) };
        match (why, answer) {
            (Why::New, Answer::Set(values)) => match read(&values) {
                Ok(contents) => drop(self.new.insert(set, contents)),
                Err(_) => drop(self.failed.insert(set, SetFailure::Unread)),
            },
            (Why::New, Answer::Window(first)) => match read_window(&set, &first) {
                Some(contents) => drop(self.new.insert(set, contents)),
                None => drop(self.failed.insert(set, SetFailure::Unread)),
            },
            (Why::New, Answer::TooMany) => drop(self.failed.insert(set, SetFailure::TooLarge)),
            (Why::New, _) => drop(self.failed.insert(set, SetFailure::Unread)),
            (Why::Moved, Answer::Rows(rows)) => self.take_entries(&set, known, &rows, questions),
            (Why::Moved, Answer::TooMany) if known.contains(&set) => {
                self.ask(&set, Why::Inexact, Question::about(&set), questions);
            }
            (Why::Inexact, Answer::Set(values)) => match read(&values) {
                Ok(contents) => self.advance.take_contents(&set, known, &contents),
                Err(_) => self.lose(set, known),
            },
            (Why::Inexact, Answer::Window(first)) => match read_window(&set, &first) {
                Some(contents) => self.advance.take_contents(&set, known, &contents),
                None => self.lose(set, known),
            },
            _ => self.lose(set, known),
        }
    }
}

/// What a window holds whose first rows the database was asked for.
pub(super) fn read_window(set: &Set, first: &[(String, Box<RawValue>)]) -> Option<Contents> {
    let window = set.rows().window.as_ref()?;
    Contents::read_window(set.rows(), window, first, kept(window)).ok()
}
