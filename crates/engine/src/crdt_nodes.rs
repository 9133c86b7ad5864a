//! Which nodes are connected. Two connections of one name may be two devices with a copied database: what one of them has, the
//! other need not have.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A user and a node.
type Name = (String, String);

/// The nodes that are connected to this server.
#[derive(Debug, Default)]
pub(crate) struct OpenNodes {
    open: Mutex<BTreeMap<Name, Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: usize,
    /// The number of the newest connection.
    newest: Arc<AtomicU64>,
    /// Whether an earlier one has been heard after a later one had come.
    is_shared: Arc<AtomicBool>,
}

/// A connection of a node.
#[derive(Debug)]
pub(crate) struct OpenNode {
    nodes: Arc<OpenNodes>,
    name: Name,
    number: u64,
    newest: Arc<AtomicU64>,
    is_shared: Arc<AtomicBool>,
    was_shared: bool,
}

impl OpenNodes {
    /// Enters a connection, for as long as the result lives.
    pub(crate) fn enter(self: &Arc<Self>, user: &str, node: &str) -> OpenNode {
        let name = (user.to_owned(), node.to_owned());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = open.entry(name.clone()).or_default();
        shared.connections += 1;
        OpenNode {
            nodes: self.clone(),
            name,
            number: shared.newest.fetch_add(1, Ordering::Relaxed) + 1,
            newest: shared.newest.clone(),
            is_shared: shared.is_shared.clone(),
            was_shared: shared.is_shared.load(Ordering::Relaxed),
        }
    }
}

impl OpenNode {
    /// Something has come from the node. Of two connections that are both heard, each is of a device of its own; one that a
    /// device has left for another is not heard any more.
    pub(crate) fn hear(&self) {
        if self.number < self.newest.load(Ordering::Relaxed) {
            self.is_shared.store(true, Ordering::Relaxed);
        }
    }

    /// Whether several devices have the name.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// Whether that has been found out since the connection began, by one that was there before.
    pub(crate) fn must_begin_again(&self) -> bool {
        !self.was_shared && self.number > 1 && self.is_shared()
    }
}

impl Drop for OpenNode {
    fn drop(&mut self) {
        let open = &self.nodes.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get_mut(&self.name) {
            shared.connections -= 1;
            if shared.connections == 0 {
                open.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_devices_of_one_name_are_told_from_one_that_comes_back() {
        let nodes = Arc::new(OpenNodes::default());
        let left = nodes.enter("ann", "a");
        let other_user = nodes.enter("ben", "a");
        let back = nodes.enter("ann", "a");
        back.hear();
        other_user.hear();
        assert!(
            !back.is_shared() && !left.is_shared(),
            "the first one is silent"
        );
        left.hear();
        assert!(back.is_shared() && back.must_begin_again());
        assert!(left.is_shared() && !left.must_begin_again() && !other_user.is_shared());
        let third = nodes.enter("ann", "a");
        assert!(
            third.is_shared() && !third.must_begin_again(),
            "it has begun so"
        );
        drop((left, back, third));
        assert!(!nodes.enter("ann", "a").is_shared());
    }
}
