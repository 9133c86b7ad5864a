//! The frames of both directions, as values.

use std::sync::Arc;

use protocol::{Change, ErrorCode, Push, SelectionRequest, Subscribe, SubscriptionId};
use rhtmx_sync_core::cursor::{CommitId, Position};
use rhtmx_sync_core::shape::Shape;

use crate::shapes::Selection;

/// A frame from a client.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Subscribe(Subscribe),
    Unsubscribe(SubscriptionId),
    Push(Push),
}

/// A frame from the server. Cursors are positions here, and each change comes with its commit id.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Snapshot {
        id: SubscriptionId,
        rows: Vec<(String, String)>,
    },
    Changes {
        target: Target,
        changes: Vec<(CommitId, Change)>,
    },
    Subscribed {
        id: SubscriptionId,
        shape: Shape,
        position: Arc<Position>,
    },
    Refetch {
        id: SubscriptionId,
    },
    Cursor(Arc<Position>),
    Ack(u64),
    Reject(u64),
    Error {
        code: ErrorCode,
        id: Option<SubscriptionId>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Target {
    Subscription(SubscriptionId),
    Shape(Shape),
    /// In the protocol the same as `Shape`; but changes read from the log may have been sent before.
    CaughtUp(Shape),
}

pub(crate) fn subscribe(
    id: &SubscriptionId,
    entity: &str,
    (selection, other_spelling): (Selection, bool),
    cursor: Option<String>,
) -> Message {
    let mut subscribe = Subscribe {
        id: id.clone(),
        entity: entity.to_owned(),
        selection: SelectionRequest::default(),
        cursor,
    };
    selection.write(&mut subscribe.selection, other_spelling);
    Message::Subscribe(subscribe)
}

pub(crate) fn push(mutation: u64) -> Message {
    Message::Push(Push {
        mutation,
        chain: None,
        writes: Vec::new().into(),
    })
}
