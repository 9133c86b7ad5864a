//! What an advance asks the database, at the snapshot of the read of the log that caused it.

use std::collections::BTreeSet;
use std::sync::Arc;

use filter::{Filter, Set};
use protocol::RowMetadata;
use serde_json::value::RawValue;

use super::asked::{AskedGroup, GroupAnswer};
use super::window::kept;
use crate::cursor::Position;
use crate::log::NetChange;

/// The most rows that are read, at each level, because the sets inside a set have changed. Beyond it the set is asked
/// for as a whole.
pub const SET_ROWS_MAX: usize = 10_000;

/// Why a set that was asked for is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetFailure {
    /// Its table could not be read.
    Unread,
    /// The answer takes too long.
    TooSlow,
    /// All sets together would hold more values than they may.
    TooLarge,
}

/// One thing that the entries of the log do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What a set holds.
    Set(Set),
    /// The first rows of those among which a window is, the first first, whatever its limit.
    Window {
        /// The window.
        set: Set,
        /// How many.
        rows: usize,
    },
    /// What a group's sets hold.
    Group(GroupQuestion),
    /// The rows of an entity that match a filter without sets.
    Rows {
        /// The entity.
        entity: Box<str>,
        /// The filter, on its table as it is now.
        filter: Filter,
        /// With more rows than this the answer is [`Answer::TooMany`].
        rows_max: usize,
    },
    /// The same, with what is known of the rows beside their values.
    Fields {
        /// The entity.
        entity: Box<str>,
        /// The filter, on its table as it is now.
        filter: Filter,
        /// With more rows than this the answer is [`Answer::TooMany`].
        rows_max: usize,
    },
}

impl Question {
    /// What a set holds.
    pub(super) fn about(set: &Set) -> Self {
        let set = set.clone();
        match set.rows().window.as_ref().map(kept) {
            Some(rows) => Self::Window { set, rows },
            None => Self::Set(set),
        }
    }
}

/// What a group sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupQuestion {
    /// Whom to ask for.
    pub group: Arc<AskedGroup>,
    /// The canonical keys of the only rows that it is about, where the answer is that to the keys of the visible rows; none
    /// when it is about all. The answer may be about more than these.
    pub rows: Option<Arc<BTreeSet<String>>>,
}

impl GroupQuestion {
    /// About all rows.
    pub fn whole(group: Arc<AskedGroup>) -> Self {
        Self { group, rows: None }
    }
}

/// The answer to one question.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The different values of a set, each as a JSON object of the set's columns, with the number of rows that have
    /// them.
    Set(Vec<(Box<RawValue>, u64)>),
    /// What a group was answered.
    Group(Box<GroupAnswer>),
    /// The first rows of a window, each with its canonical key and the columns of the order.
    Window(Vec<(String, Box<RawValue>)>),
    /// Rows, with their canonical keys.
    Rows(Vec<(String, Box<RawValue>)>),
    /// Rows, with their canonical keys and what is known of them beside their values.
    Fields(Vec<(String, Box<RawValue>, Box<RowMetadata>)>),
    /// There are more than were asked for.
    TooMany,
    /// It took longer than it may.
    TooLong,
    /// The database could not say: a table is locked, has changed, or may not be read.
    Unknown,
}

/// Asks questions about a read of the log, in rounds.
pub trait Inquiry: Send {
    /// The position of the read, before it begins to ask.
    fn at(&mut self, position: &Arc<Position>) {
        let _ = position;
    }
    /// Takes the entries of the read. Returns the first questions; none when nothing has to be asked.
    fn begin(&mut self, entries: &[NetChange]) -> Vec<Question>;
    /// Takes the answers, in the order of the questions. Returns the next questions; none when all is known.
    fn answer(&mut self, answers: Vec<Answer>) -> Vec<Question>;
    /// When all is known: the rows that the sets have moved though they did not change, as filters on their entities.
    fn touched(&mut self) -> Vec<(String, Filter)> {
        Vec::new()
    }
}
