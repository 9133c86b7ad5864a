//! A joining subscription's read: a snapshot, taken at some moment, and pages to send.

use std::collections::VecDeque;

use protocol::{Change, RefetchReason, SelectionRequest, SubscriptionId};
use rhtmx_sync_core::cursor::{CommitId, Position};
use rhtmx_sync_core::effect::Effect;
use rhtmx_sync_core::session::{ReadEnd, ReadFrom};
use rhtmx_sync_core::shape::Shape;

use crate::database::Item;
use crate::frames::{Frame, Target};
use crate::shapes::Resolved;
use crate::world::{EPOCH, Fault, Shared};

/// A read for one subscription. It has an `end` once its snapshot is taken.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) id: SubscriptionId,
    pub(crate) shape: Shape,
    /// What its subscription requests.
    request: SelectionRequest,
    pub(crate) from: Option<ReadFrom>,
    pub(crate) frames: VecDeque<Frame>,
    pub(crate) end: Option<ReadEnd>,
    /// It failed once, so the client may have received some of it.
    repeated: bool,
}

impl Reading {
    pub(crate) fn new(
        id: SubscriptionId,
        shape: Shape,
        request: SelectionRequest,
        from: Option<ReadFrom>,
    ) -> Self {
        Self {
            id,
            shape,
            request,
            from,
            frames: VecDeque::new(),
            end: None,
            repeated: false,
        }
    }

    /// The database was out of reach: the read starts again, with a later snapshot.
    pub(crate) fn fail(&mut self, shared: &mut Shared) {
        shared.note(|| format!("the read for {} fails", self.id));
        self.frames.clear();
        self.end = None;
        self.repeated = true;
    }

    /// Takes the snapshot and prepares the pages.
    pub(crate) fn begin(&mut self, shared: &mut Shared) {
        let position = shared.database.now();
        shared.note(|| format!("the read for {} has its snapshot at {position}", self.id));
        let id = self.id.clone();
        let entity = self.shape.entity();
        let (selection, made_for) = shared.shapes.resolved(&self.shape);
        // In the table at the snapshot, the request may resolve to another shape.
        let generation = shared.database.generation(entity, &position);
        let found = shared.shapes.resolve(entity, &self.request, generation);
        let stale = found.as_ref() != Ok(&self.shape);
        if stale {
            shared.count("stale");
        }
        let stale = stale && shared.fault != Some(Fault::ReadsStaleShapes);
        let Some(from) = &self.from else {
            if stale {
                self.end = Some(ReadEnd::Refetch(RefetchReason::Schema));
                return;
            }
            let rows = shared.database.table(entity, selection, &position);
            let rows: Vec<_> = rows.into_iter().collect();
            let pages = rows.chunks(2).map(|rows| rows.to_vec());
            self.frames = pages
                .map(|rows| Frame::Snapshot {
                    id: id.clone(),
                    rows,
                })
                .collect();
            self.end = Some(ReadEnd::Complete(position));
            return;
        };
        let foreign = matches!(from, ReadFrom::Cursor(cursor) if cursor.epoch.as_str() != EPOCH);
        let from: &Position = match from {
            ReadFrom::Cursor(cursor) => &cursor.position,
            ReadFrom::Position(position) => position,
        };
        let items = shared.database.changes(from, &position);
        let items = items.iter().filter(|item| item.entity == entity);
        let refetch = if foreign || !position.covers(from) {
            Some(RefetchReason::Epoch)
        } else if !from.covers(shared.database.floor()) {
            Some(RefetchReason::Expired)
        } else if stale
            || items
                .clone()
                .any(|item| matches!(item.effect, Effect::SchemaChanged))
        {
            Some(RefetchReason::Schema)
        } else {
            None
        };
        if let Some(reason) = refetch {
            self.end = Some(ReadEnd::Refetch(reason));
            return;
        }
        shared.count("resumed");
        let transients = self.repeated && shared.fault != Some(Fault::RepeatsWithoutTransients);
        let transients = transients || shared.resumes_with_transients;
        let changes = changes_for((selection, made_for), items, None, transients);
        let pages = changes.chunks(2).map(|changes| changes.to_vec());
        let target = Target::Subscription(id);
        let frame = |changes| Frame::Changes {
            target: target.clone(),
            changes,
        };
        self.frames = pages.map(frame).collect();
        self.end = Some(ReadEnd::Complete(position));
    }
}

/// What a reader of this shape that has seen `since` is sent for `items`.
pub(crate) fn changes_for<'a>(
    shape: Resolved,
    items: impl Iterator<Item = &'a Item>,
    since: Option<&Position>,
    transients: bool,
) -> Vec<(CommitId, Change)> {
    let new = items.filter(|item| !since.is_some_and(|since| since.contains(item.commit_id)));
    new.filter_map(|item| match item.effect_on(shape) {
        Effect::Change { change, transient } if transients || !transient => {
            Some((item.commit_id, change))
        }
        _ => None,
    })
    .collect()
}
