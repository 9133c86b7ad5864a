//! Changes for Rust code in the same process.

use protocol::Change;
use sync_core::cursor::Cursor;
use sync_core::effect::Effect;
use sync_core::log::NetChange;

/// A change with the entity whose row it is.
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
    /// Entities whose schema changed, or of which something was missed: read them again.
    pub schema_changed: Vec<String>,
    /// Pass it to [`ChangeTracker::changes_since`] to go on from here. None while more of the same
    /// instant follows.
    pub cursor: Option<Cursor>,
}

impl ChangeBatch {
    /// Adds what `entries` mean. A reader that resumes needs no rows that were created and deleted meanwhile.
    pub(crate) fn take(&mut self, entries: Vec<NetChange>, resumes: bool) {
        for entry in entries {
            let entity = entry.entity.clone();
            match entry.effect() {
                Effect::Nothing => {}
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
