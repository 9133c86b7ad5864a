//! Backfills: a new set is asked for at the snapshot of a drain, but behind it, because the answer may take long.
//!
//! The drain is published meanwhile, and so are later ones. From the drain's position on the differences of the set are
//! kept, as if it were known: they follow from the log's entries and from the sets inside it, not from what it holds. What
//! was answered, with the differences since, is what the set holds at the stream's position.
//!
//! Invariant: an answer and the differences that are added to it begin at the same position.

use std::collections::BTreeMap;

use filter::Set;

use super::contents::{Contents, Difference};
use super::question::Question;
use super::window::{ChangedRows, Unclear};

/// How many sets one backfill asks for.
pub const BACKFILL_SETS_MAX: usize = 256;
/// How many values the difference of a set may have before the set is asked for again.
pub const BACKFILL_CHANGES_MAX: usize = 100_000;
/// How often a set is backfilled whose differences do not follow. After that it is asked for in a drain.
pub(super) const BACKFILL_ATTEMPTS_MAX: u32 = 3;

/// How long the answers of a backfill may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A moment each, for many sets.
    Brief,
    /// Long, for a set that took longer than a moment.
    Long,
}

impl Lane {
    /// How many backfills may be under way at once. Neither lane waits for the other.
    pub const fn backfills_max(self) -> usize {
        2
    }

    pub(super) fn sets_max(self) -> usize {
        match self {
            Self::Brief => BACKFILL_SETS_MAX,
            Self::Long => 1,
        }
    }
}

/// What is asked behind a drain.
#[derive(Debug)]
pub struct Backfill {
    /// Names it.
    pub ticket: u64,
    /// How long the answers may take.
    pub lane: Lane,
    /// One for each set, to be answered at the drain's snapshot.
    pub questions: Vec<Question>,
}

/// The backfills under way.
#[derive(Debug, Default)]
pub(super) struct Backfills {
    under_way: BTreeMap<u64, UnderWay>,
    /// Their sets, at the stream's position.
    started: BTreeMap<Set, Started>,
    newest: u64,
}

#[derive(Debug)]
struct UnderWay {
    lane: Lane,
    sets: Vec<Set>,
}

/// A set whose answer, or the rest of it, is yet to come.
#[derive(Debug, Default)]
pub(super) struct Started {
    pub(super) ticket: u64,
    pub(super) answer: Option<Contents>,
    /// How it has changed since the position of the answer.
    pub(super) since: Since,
}

/// How a set has changed that is not known.
#[derive(Debug)]
pub(super) enum Since {
    Set(Difference),
    /// The rows of a window.
    Window(ChangedRows),
}

impl Default for Since {
    fn default() -> Self {
        Self::Set(Difference::default())
    }
}

impl Since {
    /// Adds what follows.
    pub(super) fn add(&mut self, next: Self) {
        match (self, next) {
            (Self::Set(since), Self::Set(next)) => since.add(&next),
            (Self::Window(since), Self::Window(next)) => since.add(next),
            // The first of a window.
            (since, next) => *since = next,
        }
    }

    /// How many values, or rows, have changed.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Set(difference) => difference.counts.len(),
            Self::Window(changed) => changed.len(),
        }
    }

    /// What a set holds after it that held these before.
    ///
    /// # Errors
    /// When only the database knows what is in a window now.
    fn after(&self, set: &Set, mut contents: Contents) -> Result<Contents, Unclear> {
        match (self, &set.rows().window) {
            (Self::Window(changed), Some(window)) => {
                let rows = contents.window.with(window, changed)?;
                Ok(Contents::of_window(window, rows))
            }
            (Self::Window(_), None) => Err(Unclear),
            (Self::Set(difference), _) => {
                contents.add(difference);
                Ok(contents)
            }
        }
    }
}

impl Backfills {
    /// None, with other tickets than those of `before`.
    pub(super) fn after(before: &Self) -> Self {
        Self {
            newest: before.newest,
            ..Self::default()
        }
    }

    /// Begins one. Its sets are [started](Backfills::start) when the drain has been published.
    pub(super) fn begin(&mut self, lane: Lane, sets: Vec<Set>) -> u64 {
        self.newest += 1;
        self.under_way.insert(self.newest, UnderWay { lane, sets });
        self.newest
    }

    /// Whether another one may begin.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        let of_lane = self.under_way.values().filter(|it| it.lane == lane);
        of_lane.count() < lane.backfills_max()
    }

    /// A set of a backfill under way, and how long its answer may take.
    pub(super) fn asked(&self, ticket: u64, index: usize) -> Option<(Set, Lane)> {
        let under_way = self.under_way.get(&ticket)?;
        Some((under_way.sets.get(index)?.clone(), under_way.lane))
    }

    /// Ends one. Returns its sets.
    pub(super) fn end(&mut self, ticket: u64) -> Vec<Set> {
        let ended = self.under_way.remove(&ticket);
        ended.map_or_else(Vec::new, |ended| ended.sets)
    }

    pub(super) fn start(&mut self, set: Set, started: Started) {
        self.started.insert(set, started);
    }

    pub(super) fn contains(&self, set: &Set) -> bool {
        self.started.contains_key(set)
    }

    pub(super) fn get_mut(&mut self, set: &Set) -> Option<&mut Started> {
        self.started.get_mut(set)
    }

    /// Gives a set up. Whatever is answered about it is of no use any more.
    pub(super) fn remove(&mut self, set: &Set) {
        self.started.remove(set);
    }

    /// Gives all sets up.
    pub(super) fn clear(&mut self) {
        self.started.clear();
    }

    /// What the sets hold that have been answered. None when only the database knows.
    pub(super) fn take_answered(&mut self) -> Vec<(Set, Option<Contents>)> {
        let is_answered = |(_, started): &(&Set, &Started)| started.answer.is_some();
        let answered = self.started.iter().filter(is_answered);
        let answered: Vec<Set> = answered.map(|(set, _)| set.clone()).collect();
        let contents = answered.into_iter().filter_map(|set| {
            let Started { answer, since, .. } = self.started.remove(&set)?;
            let contents = since.after(&set, answer?).ok();
            Some((set, contents))
        });
        contents.collect()
    }
}
