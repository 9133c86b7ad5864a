//! Wakes the sessions of a large audience some at a time.
//!
//! All at once they would stand in line before everybody whom the next batch concerns, and that may be a few who wait for
//! one row. What is in their mailboxes is in order, whenever they wake.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::Shared;

/// A batch for so many sessions wakes some of them at a time.
pub(crate) const CROWD_MIN: usize = 2048;
/// How many of those. They take a fraction of a millisecond, and what a drain brings to others meanwhile waits for them at
/// each step on its way.
const AWAKE_TOGETHER: usize = 16;

/// Tells a session that something is in its mailbox. It rings when it is dropped, so that it is never forgotten.
#[derive(Debug)]
pub(crate) struct Bell<T>(Arc<Shared<T>>);

impl<T> Bell<T> {
    pub(super) fn of(shared: &Arc<Shared<T>>) -> Self {
        Self(shared.clone())
    }
}

impl<T> Drop for Bell<T> {
    fn drop(&mut self) {
        self.0.changed.notify_one();
    }
}

/// Rings all of them, some at a time.
pub(crate) fn ring_in_turns<T: Send + 'static>(mut bells: Vec<Bell<T>>) {
    if bells.is_empty() {
        return;
    }
    // Without a runtime all ring now.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move {
            while !bells.is_empty() {
                bells.truncate(bells.len().saturating_sub(AWAKE_TOGETHER));
                // Until all who are ready have had their turn.
                yield_now().await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::mailbox::{Capacity, Sent, SessionId, mailbox};

    use super::*;

    #[tokio::test]
    async fn all_are_woken_but_not_at_once() {
        let capacity = Capacity { items: 9, bytes: 9 };
        let (begun, woken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = 3 * AWAKE_TOGETHER + 1;
        let mut senders = Vec::new();
        for _ in 0..count {
            let (sender, mut mailbox) = mailbox(SessionId::next(), capacity, &Arc::default());
            senders.push(sender);
            let (begun, woken) = (begun.clone(), woken.clone());
            tokio::spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                mailbox.next().await;
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        while begun.load(Ordering::Relaxed) < count {
            yield_now().await;
        }
        let bells = senders.iter().map(|sender| {
            assert_eq!(sender.send_silently(&1, 1), Sent::Queued);
            sender.bell()
        });
        let bells = bells.collect();
        yield_now().await;
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        ring_in_turns(bells);
        let mut seen = vec![0];
        while seen.last() < Some(&count) {
            yield_now().await;
            seen.push(woken.load(Ordering::Relaxed));
        }
        seen.dedup();
        assert!(seen.len() > 2, "{seen:?}");
    }
}
