//! The rows that a drain moves into shapes, or out of them, and how many questions they take.

use std::collections::{BTreeMap, HashMap};

use filter::{Condition, Filter, SetChange};
use sync_core::shape::{Selection, Shape};

/// The most rows that one drain publishes because a set moved them, for each question. The sessions of a shape with more
/// read them from the log, at their own pace.
pub(super) const MOVED_ROWS_MAX: usize = 1000;

/// The most questions about rows that one drain asks. The sessions of the other shapes read the log.
pub(super) const QUESTIONS_MAX: usize = 64;

/// Those of one table that match the same filter are asked for once, however many shapes they may move into.
#[derive(Debug, Default)]
pub(super) struct MovedByFilter {
    entities: HashMap<Box<str>, ByFilter>,
    questions: usize,
}

/// The shapes of one entity, by the filter of what may move.
type ByFilter = BTreeMap<Condition, (Filter, Vec<Shape>)>;

impl MovedByFilter {
    /// Adds the rows that may move into a shape, or out of it. Returns whether they can be asked for.
    pub(super) fn add(&mut self, shape: &Shape, filter: Filter) -> bool {
        let questions = self.entities.get_mut(shape.entity());
        if let Some((_, shapes)) = questions.and_then(|it| it.get_mut(filter.condition())) {
            shapes.push(shape.clone());
            return true;
        }
        if self.questions == QUESTIONS_MAX {
            return false;
        }
        self.questions += 1;
        let questions = self.entities.entry(shape.entity().into()).or_default();
        questions.insert(filter.condition().clone(), (filter, vec![shape.clone()]));
        true
    }

    /// What must be asked: of which entity, which rows, and for which shapes.
    pub(super) fn into_questions(self) -> impl Iterator<Item = (Box<str>, Filter, Vec<Shape>)> {
        let entities = self.entities.into_iter();
        entities.flat_map(|(entity, questions)| {
            let questions = questions.into_values();
            questions.map(move |(filter, shapes)| (entity.clone(), filter, shapes))
        })
    }
}

/// Those of all windows of a table are asked for together: one row may move many windows.
#[derive(Debug, Default)]
pub(super) struct MovedWindows(BTreeMap<Table, Vec<(SetChange, Vec<Shape>)>>);

/// An entity, and the fingerprint of its table.
type Table = (Box<str>, Box<str>);

impl MovedWindows {
    /// Adds the keys that come into the window of a shape, or leave it.
    pub(super) fn add(&mut self, shape: &Shape, selection: &Selection, change: &SetChange) {
        let table = (shape.entity().into(), selection.fingerprint().into());
        let questions = self.0.entry(table).or_default();
        match questions.last_mut() {
            Some((keys, shapes)) if keys.values.len() + change.values.len() <= MOVED_ROWS_MAX => {
                keys.values.extend(change.values.iter().cloned());
                shapes.push(shape.clone());
            }
            _ => questions.push((change.clone(), vec![shape.clone()])),
        }
    }

    /// What must be asked: of which entity, which rows, and for which shapes.
    pub(super) fn into_questions(self) -> impl Iterator<Item = (Box<str>, Filter, Vec<Shape>)> {
        let tables = self.0.into_iter();
        let questions = tables.flat_map(|((entity, _), questions)| {
            let questions = questions.into_iter();
            questions.map(move |(keys, shapes)| (entity.clone(), keys, shapes))
        });
        questions.filter_map(|(entity, keys, shapes)| {
            let selection = shapes.first()?.selection()?;
            let filter = selection.filter().touched(&|_| Some(&keys))?;
            Some((entity, filter, shapes))
        })
    }
}
