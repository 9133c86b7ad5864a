//! Tells clients that somebody else's write, made without knowing of it, has replaced a value of theirs.
//!
//! Such a message may be lost, and is for those who are connected: what the field holds comes with the rows, and where both
//! values are kept, so does the one that lost. So it goes over the bus.

use bytes::Bytes;
use merge::{Clock, NodeId};
use protocol::Conflict;
use sync_core::policy::Principal;
use tracing::warn;
use uuid::Uuid;

use crate::bus::BusSubscription;
use crate::state::EngineState;

/// A message of more bytes is not sent: a session that does not read holds [`crate::TOPIC_MESSAGES_MAX`] of them.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Tells those whose values these were.
pub(crate) fn tell(state: &EngineState, conflicts: &[Conflict]) {
    for conflict in conflicts {
        let Ok(clock) = Clock::read(&conflict.lost.hlc) else {
            continue;
        };
        match serde_json::to_vec(conflict) {
            Ok(message) if message.len() <= MESSAGE_BYTES_MAX => {
                let topic = topic(&clock.node());
                state.config.bus.publish(&topic, Bytes::from(message));
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "a conflict cannot be written"),
        }
    }
}

/// What is told to a client from now on.
pub(crate) fn listen(state: &EngineState, client_id: Uuid) -> BusSubscription {
    let node = NodeId::of_client(client_id.as_bytes());
    state.config.bus.subscribe(&topic(&node))
}

/// Reads a message, if this principal may know it: only who may read the column in every row. A client chooses its own
/// id, of which the node is a part that others see, so a topic is no secret.
pub(crate) fn read(state: &EngineState, principal: &Principal, message: &[u8]) -> Option<Conflict> {
    let conflict: Conflict = serde_json::from_slice(message).ok()?;
    let authorizer = &state.config.auth.authorizer;
    if authorizer.is_closed(&conflict.entity) {
        return None;
    }
    let scope = authorizer.read(principal, &conflict.entity);
    let may_know = scope.reads_every_row() && scope.reads_column(&conflict.field);
    may_know.then_some(conflict)
}

fn topic(node: &NodeId) -> String {
    format!("lost_values:{node}")
}
