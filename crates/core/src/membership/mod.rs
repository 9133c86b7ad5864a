//! Membership: sets that rows of other tables make, and how they change.

mod advance;
mod contents;
mod live;
mod past;
mod question;
mod set_index;
#[cfg(test)]
mod tests;

use filter::{NoSets, Sets};

pub use advance::SetView;
pub use contents::Contents;
pub use live::{Family, LiveSets, SET_ROWS_MAX, SetFailure, family};
pub use past::PastSets;
pub use question::{Answer, Inquiry, Question};

/// The sets at a reader's position and now.
#[derive(Clone, Copy)]
pub struct SetsAtBoth<'a> {
    /// As they were at the reader's position.
    pub before: &'a dyn Sets,
    /// As they are.
    pub now: &'a dyn Sets,
}

impl SetsAtBoth<'static> {
    /// No set is known. For filters that name none.
    pub const NONE: Self = Self {
        before: &NoSets,
        now: &NoSets,
    };
}
