//! What goes over the wire, both ways, as values.

use std::sync::Arc;

use rhtmx_sync_core::cursor::{Mark, Position};
use rhtmx_sync_core::protocol::{Change, ErrorCode, Push, Subscribe, SubscriptionId};
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
        changes: Vec<(Mark, Change)>,
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
    Pulled(Shape),
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
        filter: None,
        params: None,
        columns: None,
        mode: None,
        cursor,
    };
    ask.write(&mut subscribe, otherwise);
    Message::Subscribe(subscribe)
}

pub(crate) fn push(mutation: u64) -> Message {
    Message::Push(Push {
        mutation,
        writes: Vec::new(),
    })
}
