//! What goes over the wire, both ways, as values.

use std::sync::Arc;

use protocol::{Change, ErrorCode, Push, SelectionRequest, Subscribe, SubscriptionId};
use rhtmx_sync_core::cursor::{CommitId, Position};
use rhtmx_sync_core::shape::Shape;

use crate::shapes::Ask;

/// What a client sends.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Subscribe(Subscribe),
    Unsubscribe(SubscriptionId),
    Push(Push),
}

/// What the server sends; the cursors in it as positions, the changes with what made them.
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
    /// On the wire like the one before; but what comes from the log may have been sent before.
    CaughtUp(Shape),
}

pub(crate) fn subscribe(
    id: &SubscriptionId,
    entity: &str,
    (ask, otherwise): (Ask, bool),
    cursor: Option<String>,
) -> Message {
    let mut subscribe = Subscribe {
        id: id.clone(),
        entity: entity.to_owned(),
        selection: SelectionRequest::default(),
        mode: None,
        cursor,
    };
    ask.write(&mut subscribe.selection, otherwise);
    Message::Subscribe(subscribe)
}

pub(crate) fn push(mutation: u64) -> Message {
    Message::Push(Push {
        mutation,
        writes: Vec::new(),
    })
}
