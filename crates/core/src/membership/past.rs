//! The sets of a reader that resumes: as they are at the snapshot of its read, and as they were at its position.
//!
//! What they are is asked; what they were follows by undoing the log's entries on their tables.

use std::collections::BTreeSet;

use filter::{Filter, RowError, Set, Window};
use serde_json::value::RawValue;

use super::advance::{Advance, SetView};
use super::contents::Contents;
use super::known::Known;
use super::live::SET_ROWS_MAX;
use super::question::{Answer, Question};
use super::values::Sign;
use super::window::kept;
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
    asked: Vec<Set>,
    is_unknown: bool,
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
            is_unknown: false,
        }
    }

    /// All of them.
    pub fn sets(&self) -> &BTreeSet<Set> {
        &self.sets
    }

    /// The entities whose rows make them.
    pub fn entities(&self) -> BTreeSet<String> {
        let entities = self.sets.iter().map(Set::entity);
        entities.map(str::to_owned).collect()
    }

    /// Whether it cannot be said what those of this shape were: then the reader must refetch.
    pub fn is_unknown(&self, shape: &Shape) -> bool {
        let unknown = &self.advance.unknown;
        self.is_unknown || shape.all_sets().any(|set| unknown.contains(&set))
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
        let is_deciding =
            |entry: &&NetChange| self.sets.iter().any(|it| it.entity() == entry.entity);
        self.entries = entries.iter().filter(is_deciding).cloned().collect();
        self.asked = self.sets.iter().cloned().collect();
        self.asked.iter().map(|set| self.question(set)).collect()
    }

    fn question(&self, set: &Set) -> Question {
        let Some(window) = &set.rows().window else {
            return Question::Set(set.clone());
        };
        Question::Window {
            set: set.clone(),
            rows: self.rows_asked(set, window),
        }
    }

    /// How many rows are asked for to know a window. Each of those that are first now may have come since.
    fn rows_asked(&self, set: &Set, window: &Window) -> usize {
        let entries = self.entries.iter();
        let changed = entries.filter(|entry| entry.entity == set.entity()).count();
        kept(window) + changed.min(CHANGED_ROWS_MAX)
    }

    /// Takes the answers, in the order of the questions. Returns the next questions; none when all is known, or cannot
    /// be.
    pub fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        let asked = std::mem::take(&mut self.asked);
        let mut answers = answers.into_iter();
        for set in asked {
            let answer = answers.next().unwrap_or(Answer::Unknown);
            if self.take(set, answer).is_err() {
                self.is_unknown = true;
                return Vec::new();
            }
        }
        let mut questions = Vec::new();
        let deepest = self.sets.iter().map(Set::depth).max().unwrap_or_default();
        while questions.is_empty() && self.level < deepest {
            self.level += 1;
            let at_level = self.sets.iter().filter(|set| set.depth() == self.level);
            for set in at_level.cloned().collect::<Vec<Set>>() {
                if let Some(filter) = self.advance.touched_rows(&set) {
                    questions.push(Question::Rows {
                        entity: set.entity().into(),
                        filter,
                        rows_max: SET_ROWS_MAX,
                    });
                    self.asked.push(set);
                } else if self.take_difference(&set, &[]).is_err() {
                    self.is_unknown = true;
                    return Vec::new();
                }
            }
        }
        questions
    }

    fn take(&mut self, set: Set, answer: Answer) -> Result<(), Unanswered> {
        match answer {
            Answer::Set(values) if self.level == 0 => {
                let contents = match &set.rows().window {
                    None => Contents::read(set.rows(), &values)?,
                    Some(window) => {
                        let asked = self.rows_asked(&set, window);
                        Contents::read_window(set.rows(), window, &values, asked)?
                    }
                };
                self.known.insert(set, contents);
                Ok(())
            }
            Answer::Rows(rows) => self.take_difference(&set, &rows),
            _ => Err(Unanswered),
        }
    }

    /// Takes the difference of a set that follows from the entries and from these rows, which did not change.
    fn take_difference(
        &mut self,
        set: &Set,
        touched: &[(String, Box<RawValue>)],
    ) -> Result<(), Unanswered> {
        let taken = self.advance.take(set, &self.known, &self.entries, touched);
        if taken.is_err() && set.rows().window.is_some() {
            // What a window was is nothing to other sets.
            self.advance.unknown.insert(set.clone());
            return Ok(());
        }
        taken.map_err(|_| Unanswered)
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
