//! How far a node is, by the cursors of this database. The protocol acknowledges nothing, so what counts is the answer to a ping
//! that was sent behind the rows.

use db::crdt_node::CrdtNode;
use merge::Clock;

/// What a node has, while it is connected.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest clock that it was sent before.
    before: Option<Clock>,
    /// Up to where it has been sent everything; none before that is so.
    cursor: Option<String>,
    /// The newest clock that it has been sent.
    sent: Option<Clock>,
    /// What the answer to the ping that is under way will say.
    pinged: Option<Point>,
    /// What has arrived.
    arrived: Option<Point>,
}

#[derive(Debug, Clone, PartialEq)]
struct Point {
    cursor: String,
    sent: Option<Clock>,
}

/// Whether a node can go on from what it had when it was here last: what it says of itself must not be older than what it was
/// sent, or its database is another one.
pub(super) fn can_go_on(known: &CrdtNode, last_modified: &Clock) -> bool {
    let sent = known.sent.as_deref().map(Clock::read_foreign);
    match sent {
        None => true,
        Some(Ok(sent)) => last_modified.millis() >= sent.millis(),
        Some(Err(_)) => false,
    }
}

impl Progress {
    /// Of a node that goes on from what it had, or has nothing.
    pub(super) fn new(before: &CrdtNode) -> Self {
        let sent = before.sent.as_deref();
        Self {
            before: sent.and_then(|sent| Clock::read_foreign(sent).ok()),
            ..Self::default()
        }
    }

    /// A record was sent.
    pub(super) fn sent(&mut self, hlc: &Clock) {
        if self.sent.as_ref() < Some(hlc) {
            self.sent = Some(hlc.clone());
        }
    }

    /// Everything up to a cursor was sent. Returns whether to ask if it has arrived.
    pub(super) fn reached(&mut self, cursor: String) -> bool {
        self.cursor = Some(cursor);
        self.pinged.is_none()
    }

    /// A ping was sent behind all that.
    pub(super) fn pinged(&mut self) {
        if let (None, Some(cursor)) = (&self.pinged, &self.cursor) {
            self.pinged = Some(Point {
                cursor: cursor.clone(),
                sent: self.sent.clone(),
            });
        }
    }

    /// Whether a ping is under way.
    pub(super) fn is_asked(&self) -> bool {
        self.pinged.is_some()
    }

    /// A ping was answered.
    pub(super) fn answered(&mut self) {
        self.arrived = self.pinged.take().or_else(|| self.arrived.take());
    }

    /// What is to be remembered of the node, with the clock up to which its own records are taken.
    pub(super) fn known(&self, taken: Option<&Clock>) -> CrdtNode {
        let arrived = self.arrived.as_ref();
        let sent = arrived.and_then(|arrived| arrived.sent.as_ref().max(self.before.as_ref()));
        CrdtNode {
            reached: arrived.map(|arrived| arrived.cursor.clone()),
            sent: sent.map(Clock::to_string),
            taken: taken.map(Clock::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use merge::NodeId;

    use super::*;

    fn clock(millis: u64) -> Clock {
        Clock::new(millis, 0, &NodeId::new("n").expect("a node"))
    }

    #[test]
    fn only_what_has_arrived_is_remembered() {
        let before = CrdtNode {
            reached: Some("a".to_owned()),
            sent: Some(clock(5).to_string()),
            taken: None,
        };
        let mut progress = Progress::new(&before);
        progress.sent(&clock(3));
        assert!(progress.reached("b".to_owned()));
        progress.pinged();
        progress.sent(&clock(9));
        assert!(!progress.reached("c".to_owned()), "a ping is under way");
        assert_eq!(progress.known(None), CrdtNode::default());
        progress.answered();
        let known = progress.known(Some(&clock(1)));
        assert_eq!(known.reached.as_deref(), Some("b"));
        assert_eq!(known.sent, Some(clock(5).to_string()), "it had a newer one");
        assert_eq!(known.taken, Some(clock(1).to_string()));
        progress.answered();
        assert_eq!(progress.known(None).reached.as_deref(), Some("b"));
        assert!(progress.reached("d".to_owned()));
        progress.pinged();
        progress.answered();
        assert_eq!(progress.known(None).sent, Some(clock(9).to_string()));
    }

    #[test]
    fn a_node_that_is_behind_what_it_was_sent_begins_again() {
        let known = CrdtNode {
            sent: Some(clock(7).to_string()),
            ..CrdtNode::default()
        };
        assert!(!can_go_on(&known, &clock(6)));
        assert!(can_go_on(&known, &clock(7)));
        assert!(can_go_on(&CrdtNode::default(), &clock(0)));
    }
}
