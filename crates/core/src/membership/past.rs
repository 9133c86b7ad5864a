//! The sets of a reader that resumes: as they are at the snapshot of its read, and as they were at its position.
//!
//! What they are is asked; what they were follows by undoing the log's entries on their tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use filter::{Filter, RowError, Set, Window};
use serde_json::value::RawValue;

use super::advance::{Advance, SetView};
use super::asked::AskedGroup;
use super::contents::{Contents, Difference};
use super::history::Lately;
use super::known::Known;
use super::question::{Answer, GroupQuestion, Question, SET_ROWS_MAX};
use super::values::Sign;
use super::window::kept;
use crate::cursor::Position;
use crate::log::NetChange;
use crate::shape::Shape;

/// The most rows that are asked for beyond a window because rows have changed. With more changes it may be unknown what
/// the window was.
const CHANGED_ROWS_MAX: usize = 1000;

/// The sets of some shapes, now and at a position before.
#[derive(Debug)]
pub struct PastSets {
    shapes: Vec<Shape>,
    /// With those inside each other.
    sets: BTreeSet<Set>,
    known: Known,
    advance: Advance,
    entries: Vec<NetChange>,
    level: usize,
    asked: Vec<Asked>,
    /// The rows that the sets inside a window have moved.
    touched: BTreeMap<Set, Vec<(String, Box<RawValue>)>>,
    /// How those that the database is asked for have changed since the position, as far as the live stream knows.
    lately: HashMap<Set, Lately>,
    is_unknown: bool,
}

/// A question that was asked.
#[derive(Debug)]
enum Asked {
    About(Set),
    Group(Arc<AskedGroup>),
}

impl PastSets {
    /// The sets of these shapes, none of them known yet.
    pub fn new<'a>(shapes: impl IntoIterator<Item = &'a Shape>) -> Self {
        let shapes: Vec<Shape> = shapes.into_iter().cloned().collect();
        let sets = shapes.iter().flat_map(Shape::all_sets).collect();
        Self {
            shapes,
            sets,
            known: Known::default(),
            advance: Advance::new(Sign::Minus),
            entries: Vec::new(),
            level: 0,
            asked: Vec::new(),
            touched: BTreeMap::new(),
            lately: HashMap::new(),
            is_unknown: false,
        }
    }

    /// Notes how sets that the database is asked for have changed since the reader's position. This must have been found out
    /// before the read began, so that the read knows all of it.
    pub fn note_lately(&mut self, lately: HashMap<Set, Lately>) {
        self.lately = lately;
    }

    /// All of them.
    pub fn sets(&self) -> &BTreeSet<Set> {
        &self.sets
    }

    /// The entities whose rows make them, or may decide what the database answers.
    pub fn entities(&self) -> BTreeSet<String> {
        let made = self.sets.iter().filter(|set| set.asked().is_none());
        let made = made.map(|set| set.entity().to_owned());
        let groups = self.groups().into_iter();
        made.chain(groups.flat_map(|group| group.plan().named_entities()))
            .collect()
    }

    /// The entities about which the database is asked as a role.
    pub fn asked_entities(&self) -> BTreeSet<String> {
        let groups = self.groups().into_iter();
        groups
            .map(|group| group.plan().entity().to_owned())
            .collect()
    }

    /// Whether it cannot be said what those of this shape were: then the reader must refetch.
    pub fn is_unknown(&self, shape: &Shape) -> bool {
        let unknown = &self.advance.unknown;
        self.is_unknown || shape.all_sets().any(|set| unknown.contains(&set))
    }

    /// The groups that the database is asked for.
    fn groups(&self) -> Vec<Arc<AskedGroup>> {
        let mut groups: Vec<Arc<AskedGroup>> = Vec::new();
        for group in self.sets.iter().filter_map(AskedGroup::of) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// Whether a set of this shape may have changed, even if it changed back.
    pub fn is_stirred(&self, shape: &Shape) -> bool {
        let mut sets = shape.all_sets();
        sets.any(|set| self.advance.stirred.contains(&set))
    }

    /// The sets at the position and now.
    pub fn views(&self) -> (SetView<'_>, SetView<'_>) {
        self.advance.views(&self.known)
    }

    /// Takes the entries since the position. Returns the first questions.
    pub fn begin(&mut self, entries: &[NetChange]) -> Vec<Question> {
        let deciding = self.entities();
        let is_deciding = |entry: &&NetChange| deciding.contains(&entry.entity);
        self.entries = entries.iter().filter(is_deciding).cloned().collect();
        // A window is asked for when it is known how many of its rows may have changed.
        let made = self.sets.iter().filter(|set| set.asked().is_none());
        let whole = made.filter(|set| set.rows().window.is_none());
        let whole: Vec<Set> = whole.cloned().collect();
        let mut questions = Vec::new();
        for set in whole {
            self.ask(&set, Question::about(&set), &mut questions);
        }
        for group in self.groups() {
            questions.push(Question::Group(GroupQuestion::whole(group.clone())));
            self.asked.push(Asked::Group(group));
        }
        if questions.is_empty() {
            return self.take_levels();
        }
        questions
    }

    /// Takes the answers, in the order of the questions. Returns the next questions; none when all is known, or cannot
    /// be.
    pub fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        let asked = std::mem::take(&mut self.asked);
        let mut answers = answers.into_iter();
        let mut questions = Vec::new();
        for asked in asked {
            let answer = answers.next().unwrap_or(Answer::Unknown);
            let taken = match asked {
                Asked::Group(group) => self.take_group(&group, answer),
                Asked::About(set) => match &set.rows().window {
                    None => self.take(&set, answer),
                    Some(window) => self.take_window(&set, window, answer, &mut questions),
                },
            };
            if taken.is_err() {
                return self.end_unknown();
            }
        }
        if questions.is_empty() {
            return self.take_levels();
        }
        questions
    }

    /// Takes the sets that follow from what is known by now, level by level, until something has to be asked.
    fn take_levels(&mut self) -> Vec<Question> {
        let mut questions = Vec::new();
        let deepest = self.sets.iter().map(Set::depth).max().unwrap_or_default();
        while questions.is_empty() && self.level < deepest {
            self.level += 1;
            let at_level = self.sets.iter().filter(|set| set.asked().is_none());
            let at_level = at_level.filter(|set| set.depth() == self.level);
            for set in at_level.cloned().collect::<Vec<Set>>() {
                if let Some(filter) = self.advance.touched_rows(&set) {
                    let question = Question::Rows {
                        entity: set.entity().into(),
                        filter,
                        rows_max: SET_ROWS_MAX,
                    };
                    self.ask(&set, question, &mut questions);
                } else if let Some(window) = &set.rows().window {
                    self.ask_window(&set, window, &mut questions);
                } else if self.take_difference(&set, &[]).is_err() {
                    return self.end_unknown();
                }
            }
        }
        questions
    }

    fn end_unknown(&mut self) -> Vec<Question> {
        self.is_unknown = true;
        self.asked.clear();
        Vec::new()
    }

    fn ask(&mut self, set: &Set, question: Question, questions: &mut Vec<Question>) {
        self.asked.push(Asked::About(set.clone()));
        questions.push(question);
    }

    fn ask_window(&mut self, set: &Set, window: &Window, questions: &mut Vec<Question>) {
        let rows = self.rows_asked(set, window);
        let set = set.clone();
        self.ask(&set.clone(), Question::Window { set, rows }, questions);
    }

    /// How many rows are asked for to know a window. Each of those that are first now may have come since.
    fn rows_asked(&self, set: &Set, window: &Window) -> usize {
        let entries = self.entries.iter();
        let changed = entries.filter(|entry| entry.entity == set.entity()).count();
        let touched = self.touched.get(set).map_or(0, Vec::len);
        kept(window) + (changed + touched).min(CHANGED_ROWS_MAX)
    }

    /// Takes what a group is answered now. It is what it was unless something that it reads has entries since then, or
    /// changes without any; then the live stream may know how it differs.
    fn take_group(&mut self, group: &Arc<AskedGroup>, answer: Answer) -> Result<(), Unanswered> {
        let Answer::Group(answer) = answer else {
            return Err(Unanswered);
        };
        let named = group.plan().named_entities();
        let reads = group.plan().reads(&answer);
        let is_deciding =
            |entity: &String| named.contains(entity) || reads.entities.contains(entity);
        let has_changed = |since: Option<&Position>| {
            let is_new = |entry: &&NetChange| since.is_none_or(|it| !it.contains(entry.commit_id));
            let entries = self.entries.iter().filter(is_new);
            let mut guards = reads.guards.iter();
            // The values of guards were the same, unless something else has changed.
            let is_unguarded = |entry: &NetChange| !reads.guards.contains_key(&entry.entity);
            let mut unguarded = entries.clone().filter(|entry| is_unguarded(entry));
            unguarded.any(|entry| is_deciding(&entry.entity))
                || guards.any(|(entity, guard)| {
                    guard.is_concerned(entries.clone().filter(|entry| entry.entity == *entity))
                })
        };
        let is_unread = reads.entities.iter().any(|entity| !named.contains(entity));
        let is_uncertain = is_unread || reads.is_timed || reads.has_failed;
        let is_same = !is_uncertain && !has_changed(None);
        let sets = self.sets.iter();
        let sets = sets.filter(|set| AskedGroup::of(set).as_ref() == Some(group));
        let sets = sets.map(|set| {
            let lately = self.lately.get(set).filter(|_| !is_uncertain);
            // What the stream has reached is what is answered, unless more has changed since then.
            let lately = lately.filter(|lately| !has_changed(Some(&lately.until)));
            (set.clone(), lately.map(|lately| lately.difference.clone()))
        });
        let sets: Vec<(Set, Option<Difference>)> = sets.collect();
        for (set, difference) in sets {
            let contents = group.contents(&set, &answer.answers);
            self.known.insert(set.clone(), contents);
            match difference {
                _ if is_same => {}
                Some(difference) => {
                    let known = &self.known;
                    self.advance.take_difference(&set, known, difference, false);
                }
                None => drop(self.advance.unknown.insert(set)),
            }
        }
        Ok(())
    }

    fn take(&mut self, set: &Set, answer: Answer) -> Result<(), Unanswered> {
        match answer {
            Answer::Set(values) if self.level == 0 => {
                let contents = Contents::read(set.rows(), &values)?;
                self.known.insert(set.clone(), contents);
                Ok(())
            }
            Answer::Rows(rows) => self.take_difference(set, &rows),
            _ => Err(Unanswered),
        }
    }

    /// Takes the rows that the sets inside a window have moved, then those that are first now. Where they do not say
    /// what the window was, it is unknown: that is nothing to other sets.
    fn take_window(
        &mut self,
        set: &Set,
        window: &Window,
        answer: Answer,
        questions: &mut Vec<Question>,
    ) -> Result<(), Unanswered> {
        match answer {
            Answer::Rows(rows) => {
                self.touched.insert(set.clone(), rows);
                self.ask_window(set, window, questions);
                return Ok(());
            }
            Answer::Window(rows) => {
                let asked = self.rows_asked(set, window);
                let contents = Contents::read_window(set.rows(), window, &rows, asked)?;
                self.known.insert(set.clone(), contents);
                let touched = self.touched.remove(set).unwrap_or_default();
                if self.take_difference(set, &touched).is_ok() {
                    return Ok(());
                }
            }
            Answer::Set(_)
            | Answer::TooMany
            | Answer::TooLong
            | Answer::Unknown
            | Answer::Fields(_)
            | Answer::Group(_) => {}
        }
        self.advance.unknown.insert(set.clone());
        Ok(())
    }

    /// Takes the difference of a set that follows from the entries and from these rows, which did not change.
    fn take_difference(
        &mut self,
        set: &Set,
        touched: &[(String, Box<RawValue>)],
    ) -> Result<(), Unanswered> {
        let taken = self.advance.take(set, &self.known, &self.entries, touched);
        taken.map_err(|_| Unanswered)
    }

    /// The keys of the rows of a shape's window as they are ordered now, where a client cannot tell it from the values.
    pub fn order(&self, shape: &Shape) -> Option<Vec<&str>> {
        let set = shape.selection()?.filter().window()?;
        self.known.window(set)?.order(set.rows().window.as_ref()?)
    }

    /// For each shape the rows that the sets have moved in or out, as a filter on its entity.
    pub fn touched(&self) -> Vec<(Shape, Filter)> {
        let touched = self.shapes.iter().filter_map(|shape| {
            let selection = shape.selection()?;
            let filter = selection
                .filter()
                .touched(&|set| self.advance.change(set))?;
            Some((shape.clone(), filter))
        });
        touched.collect()
    }
}

/// A question has no answer that helps.
struct Unanswered;

impl From<RowError> for Unanswered {
    fn from(_: RowError) -> Self {
        Self
    }
}
