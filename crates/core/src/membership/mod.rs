//! Membership: sets that rows of other tables make, and how they change.

mod advance;
mod asked;
mod backfill;
mod columns;
mod contents;
mod groups;
mod guard;
mod history;
mod known;
mod live;
mod past;
mod question;
mod running;
mod set_index;
#[cfg(test)]
mod tests;
mod values;
mod window;

pub use advance::SetView;
pub use asked::{
    AskedGroup, AskedPlan, GroupAnswer, KnownRelations, Reads, Relations, TableGuards,
};
pub use backfill::{BACKFILL_CHANGES_MAX, BACKFILL_SETS_MAX, Backfill, Lane};
pub use contents::Contents;
pub use groups::Denials;
pub use guard::EntityGuard;
pub use history::{HISTORY_VALUES_MAX, Lately};
pub use known::{Family, family};
pub use live::LiveSets;
pub use past::PastSets;
pub use question::{Answer, GroupQuestion, Inquiry, Question, SET_ROWS_MAX, SetFailure};
