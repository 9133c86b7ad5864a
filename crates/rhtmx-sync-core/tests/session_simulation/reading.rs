//! A joining subscription's read: a snapshot, taken at some moment, and pages that wait to be sent.

use std::collections::VecDeque;

use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::log::Learned;
use rhtmx_sync_core::protocol::{Change, RefetchReason, SubscriptionId};
use rhtmx_sync_core::session::{ReadEnd, ReadFrom};

use crate::database::Item;
use crate::frames::{Frame, Target};
use crate::world::{EPOCH, Fault, Shared};

/// A read for one subscription. It has no end until its snapshot is taken.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) id: SubscriptionId,
    pub(crate) entity: String,
    pub(crate) from: Option<ReadFrom>,
    pub(crate) frames: VecDeque<Frame>,
    pub(crate) end: Option<ReadEnd>,
    /// It failed once, so the client may have had some of it.
    repeated: bool,
}

impl Reading {
    pub(crate) fn new(id: SubscriptionId, entity: String, from: Option<ReadFrom>) -> Self {
        Self {
            id,
            entity,
            from,
            frames: VecDeque::new(),
            end: None,
            repeated: false,
        }
    }

    /// The database was out of reach: all over again, from a snapshot of later.
    pub(crate) fn fail(&mut self, shared: &mut Shared) {
        shared.note(|| format!("the read for {} fails", self.id));
        self.frames.clear();
        self.end = None;
        self.repeated = true;
    }

    /// Takes the snapshot and makes the pages.
    pub(crate) fn begin(&mut self, shared: &mut Shared) {
        let position = shared.database.now();
        shared.note(|| format!("the read for {} has its snapshot at {position}", self.id));
        let id = self.id.clone();
        let Some(from) = &self.from else {
            let rows: Vec<_> = shared
                .database
                .table(&self.entity, &position)
                .into_iter()
                .collect();
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
        let items = items.iter().filter(|item| item.entity == self.entity);
        let refused = if foreign || !position.covers(from) {
            Some(RefetchReason::Epoch)
        } else if !from.covers(shared.database.floor()) {
            Some(RefetchReason::Expired)
        } else if items
            .clone()
            .any(|item| matches!(item.learned, Learned::Reshaped))
        {
            Some(RefetchReason::Schema)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.end = Some(ReadEnd::Refused(reason));
            return;
        }
        shared.count("resumed");
        let transients = self.repeated && shared.fault != Some(Fault::RepeatsWithoutTransients);
        let changes = learned(items, None, transients || shared.resumes_with_transients);
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

/// What `items` mean for somebody who has seen `since`.
pub(crate) fn learned<'a>(
    items: impl Iterator<Item = &'a Item>,
    since: Option<&Position>,
    transients: bool,
) -> Vec<(Mark, Change)> {
    let news = items.filter(|item| !since.is_some_and(|since| since.contains(item.mark)));
    news.filter_map(|item| match &item.learned {
        Learned::Change { change, transient } if transients || !transient => {
            Some((item.mark, change.clone()))
        }
        _ => None,
    })
    .collect()
}
