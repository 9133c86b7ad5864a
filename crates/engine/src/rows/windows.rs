//! The rows that a drain moves into windows, or out of them.

use std::collections::BTreeMap;

use filter::{Filter, SetChange};
use sync_core::shape::{Selection, Shape};

/// The most rows that one drain publishes because a set moved them, for each question. The sessions of a shape with more
/// read them from the log, at their own pace.
pub(super) const MOVED_ROWS_MAX: usize = 1000;

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
