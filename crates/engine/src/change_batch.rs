//! A batch of changes for Rust code in the same process.

use protocol::Change;
use sync_core::cursor::Cursor;
use sync_core::effect::Effect;
use sync_core::log::NetChange;

/// A change and its entity.
#[derive(Debug, Clone)]
pub struct TrackedChange {
    /// The entity.
    pub entity: String,
    /// What happened.
    pub change: Change,
}

/// Changes that belong together, and the cursor that contains them.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// In the log's order, each row once.
    pub changes: Vec<TrackedChange>,
    /// Entities to read again: their schema changed, or changes of them were missed.
    pub schema_changed: Vec<String>,
    /// The cursor to continue from, with [`ChangeTracker::changes_since`]. None when the next batch belongs to
    /// the same position.
    pub cursor: Option<Cursor>,
}

impl ChangeBatch {
    /// Adds what `entries` mean. A reader that resumes needs no transient changes.
    pub(crate) fn take(&mut self, entries: Vec<NetChange>, resumes: bool) {
        for entry in entries {
            let entity = entry.entity.clone();
            match entry.effect() {
                Effect::Nothing | Effect::Unclear => {}
                Effect::SchemaChanged => self.schema_changed.push(entity),
                Effect::Change {
                    transient: true, ..
                } if resumes => {}
                Effect::Change { change, .. } => {
                    self.changes.push(TrackedChange { entity, change })
                }
            }
        }
    }
}
