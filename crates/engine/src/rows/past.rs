//! The sets of a read that resumes: found out by the read itself, and used to evaluate what it returns.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use db::read::{Inquiring, QuestionTime};
use filter::{Filter, Set, SetsAtBoth};
use protocol::json;
use sync_core::cursor::Position;
use sync_core::log::NetChange;
use sync_core::membership::{Answer, Inquiry, PastSets, Question};
use sync_core::shape::Shape;

use super::hub::Hub;

/// The sets of the shapes of one read, shared with the read.
#[derive(Debug, Clone)]
pub(super) struct ReadSets(Arc<Mutex<PastSets>>);

/// Asks on behalf of a read.
struct Asking(ReadSets);

impl Inquiry for Asking {
    fn begin(&mut self, entries: &[NetChange]) -> Vec<Question> {
        self.0.sets().begin(entries)
    }

    fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question> {
        self.0.sets().answer(answers)
    }

    fn touched(&mut self) -> Vec<(String, Filter)> {
        let touched = self.0.sets().touched().into_iter();
        touched
            .map(|(shape, filter)| (shape.entity().to_owned(), filter))
            .collect()
    }
}

impl ReadSets {
    /// The sets of these shapes; none when they name none.
    fn of<'a>(shapes: impl IntoIterator<Item = &'a Shape>) -> Option<Self> {
        let sets = PastSets::new(shapes);
        (!sets.sets().is_empty()).then(|| Self(Arc::new(Mutex::new(sets))))
    }

    /// The sets of these shapes for readers at a position, with what the hub knows of how they have changed since; none when
    /// the shapes name none. The read must begin later, so that it knows all that the hub does.
    pub(super) fn at<'a>(
        shapes: impl IntoIterator<Item = &'a Shape>,
        position: &Position,
        hub: &Hub,
    ) -> Option<Self> {
        let read = Self::of(shapes)?;
        let asked: BTreeSet<Set> = {
            let sets = read.sets();
            let sets = sets.sets().iter();
            sets.filter(|set| set.asked().is_some()).cloned().collect()
        };
        if !asked.is_empty() {
            read.sets().note_lately(hub.lately(&asked, position));
        }
        Some(read)
    }

    fn sets(&self) -> MutexGuard<'_, PastSets> {
        // What a panic leaves is not used: the read fails.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the read finds them out, when the answer to each question may take so long.
    pub(super) fn inquiring(&self, timeout: Duration) -> Inquiring {
        let questions = u32::try_from(self.sets().sets().len()).unwrap_or(u32::MAX);
        let time = QuestionTime {
            each: timeout,
            total: timeout.saturating_mul(questions.saturating_mul(2)),
        };
        Inquiring::new(self.entities(), Box::new(Asking(self.clone())), time)
    }

    /// The entities whose rows make them.
    pub(super) fn entities(&self) -> BTreeSet<String> {
        self.sets().entities()
    }

    /// The entities about which the database is asked as a role.
    pub(super) fn asked_entities(&self) -> BTreeSet<String> {
        self.sets().asked_entities()
    }

    /// Whether the read has not found out what those of this shape were.
    pub(super) fn is_unknown(&self, shape: &Shape) -> bool {
        self.sets().is_unknown(shape)
    }

    /// The keys of the rows of a shape's window in their order, as JSON, where their values do not tell it.
    pub(super) fn order(&self, shape: &Shape) -> Option<String> {
        self.sets().order(shape).map(|keys| json::text(&keys))
    }

    /// Whether a set of this shape may have changed since the read's position, even if it changed back.
    pub(super) fn is_stirred(&self, shape: &Shape) -> bool {
        self.sets().is_stirred(shape)
    }
}

/// Evaluates something with the sets of a read, if it has any.
pub(super) fn with_sets<T>(
    sets: Option<&ReadSets>,
    evaluate: impl FnOnce(SetsAtBoth<'_>) -> T,
) -> T {
    let Some(sets) = sets else {
        return evaluate(SetsAtBoth::NONE);
    };
    let sets = sets.sets();
    let (before, now) = sets.views();
    evaluate(SetsAtBoth {
        before: &before,
        now: &now,
    })
}
