//! A session's mailbox: a queue for what is sent to it, bounded in items and in bytes.
//!
//! A sender never waits. When the queue is full, everything in it is dropped, so that a session that takes
//! nothing holds nothing. What that means is for the owner of the queue to say: rows are read from the log
//! instead; other items may be dropped and counted.

mod backpressure;
mod bell;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) use backpressure::Backpressure;
use backpressure::Recipient;
pub(crate) use bell::{Bell, CROWD_MIN, ring_in_turns};

/// Identifies a session within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

impl SessionId {
    /// Returns an id that no other session of this process has.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a mailbox holds at most. A single item is taken whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// The receiving end of a session's queue.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    pub(crate) session: SessionId,
    shared: Arc<Shared<T>>,
}

/// The sending end. Dropping it drops everything that is queued.
#[derive(Debug)]
pub(crate) struct MailboxSender<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    capacity: Capacity,
    /// Something was queued, dropped or closed.
    changed: Notify,
    recipient: Recipient,
}

#[derive(Debug)]
struct Queue<T> {
    /// Each with its bytes.
    items: VecDeque<(T, usize)>,
    bytes: usize,
    overflowed: bool,
    closed: bool,
}

/// What a session finds in its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    Item(T),
    /// Items were dropped.
    Overflow,
}

/// The result of sending an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is queued.
    Queued,
    /// The queue is full: it is dropped with all that was queued, and so is every further item until
    /// [`MailboxSender::reopen`].
    Overflowed,
    /// It is dropped, because the queue overflowed earlier.
    Dropped,
    /// The session is gone.
    Closed,
}

/// Makes a mailbox and its sender.
pub(crate) fn mailbox<T>(
    session: SessionId,
    capacity: Capacity,
    backpressure: &Arc<Backpressure>,
) -> (MailboxSender<T>, Mailbox<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            items: VecDeque::new(),
            bytes: 0,
            overflowed: false,
            closed: false,
        }),
        capacity,
        changed: Notify::new(),
        recipient: Recipient::new(backpressure.clone()),
    });
    let sender = MailboxSender {
        shared: shared.clone(),
    };
    (sender, Mailbox { session, shared })
}

impl<T> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Queue<T> {
    fn clear(&mut self) -> VecDeque<(T, usize)> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }
}

impl<T> Mailbox<T> {
    /// Waits for the next item; none when the sender is gone. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Taken<T>> {
        loop {
            if let Some(taken) = self.take() {
                self.shared.recipient.taken();
                return taken;
            }
            self.shared.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Option<Taken<T>>> {
        let mut queue = self.shared.queue();
        if queue.closed {
            return Some(None);
        }
        if queue.overflowed {
            return Some(Some(Taken::Overflow));
        }
        let (item, bytes) = queue.items.pop_front()?;
        queue.bytes -= bytes;
        if queue.items.is_empty() {
            // An idle session keeps no memory.
            queue.items = VecDeque::new();
        }
        Some(Some(Taken::Item(item)))
    }

    /// Whether everything that was queued has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.queue().items.is_empty()
    }

    /// Whether items were dropped.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.shared.queue().overflowed
    }

    /// Whether the sender is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.queue().closed
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        // Closed first, so that for anything queued from here on the sender itself calls `taken`.
        let dropped = {
            let mut queue = self.shared.queue();
            queue.closed = true;
            queue.clear()
        };
        drop(dropped);
        self.shared.recipient.taken();
    }
}

impl<T> Drop for MailboxSender<T> {
    fn drop(&mut self) {
        let dropped = {
            let mut queue = self.shared.queue();
            queue.closed = true;
            queue.clear()
        };
        drop(dropped);
        self.shared.changed.notify_one();
    }
}

impl<T: Clone> MailboxSender<T> {
    /// Queues an item of this many bytes, without waiting.
    pub(crate) fn send(&self, item: &T, bytes: usize) -> Sent {
        let sent = self.send_silently(item, bytes);
        if sent == Sent::Queued {
            self.shared.changed.notify_one();
        }
        sent
    }

    /// The same, but the session learns of it when its [`Bell`] is rung, or something else is sent.
    pub(crate) fn send_silently(&self, item: &T, bytes: usize) -> Sent {
        let shared = &*self.shared;
        let Capacity {
            items: items_max,
            bytes: bytes_max,
        } = shared.capacity;
        let mut queue = shared.queue();
        if queue.closed {
            return Sent::Closed;
        }
        if queue.overflowed {
            return Sent::Dropped;
        }
        let is_full = queue.items.len() >= items_max.max(1) || queue.bytes + bytes > bytes_max;
        if is_full && !queue.items.is_empty() {
            drop(queue);
            self.overflow();
            return Sent::Overflowed;
        }
        // Before the session can take it.
        shared.recipient.queueing();
        queue.bytes += bytes;
        queue.items.push_back((item.clone(), bytes));
        Sent::Queued
    }

    /// What tells the session to look.
    pub(crate) fn bell(&self) -> Bell<T> {
        Bell::of(&self.shared)
    }

    /// Drops everything that is queued, as if the queue were full.
    pub(crate) fn overflow(&self) {
        self.drop_queued(|queue| queue.overflowed = true);
    }

    /// Drops everything that is queued, and ends the mailbox.
    pub(crate) fn close(&self) {
        self.drop_queued(|queue| queue.closed = true);
    }

    fn drop_queued(&self, mark: impl FnOnce(&mut Queue<T>)) {
        let dropped = {
            let mut queue = self.shared.queue();
            mark(&mut queue);
            queue.clear()
        };
        drop(dropped);
        self.shared.recipient.taken();
        self.shared.changed.notify_one();
    }

    /// How many items are queued.
    pub(crate) fn len(&self) -> usize {
        self.shared.queue().items.len()
    }

    /// Queues again after an overflow.
    pub(crate) fn reopen(&self) {
        self.shared.queue().overflowed = false;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn open(items: usize, bytes: usize) -> (MailboxSender<u32>, Mailbox<u32>) {
        let capacity = Capacity { items, bytes };
        mailbox(SessionId::next(), capacity, &Arc::default())
    }

    fn taken(mailbox: &mut Mailbox<u32>) -> Option<Option<Taken<u32>>> {
        mailbox.next().now_or_never()
    }

    #[test]
    fn items_arrive_in_order() {
        let (sender, mut mailbox) = open(2, 10);
        assert_eq!(
            (sender.send(&1, 5), sender.send(&2, 5)),
            (Sent::Queued, Sent::Queued)
        );
        assert!(!mailbox.is_empty());
        for item in [1, 2] {
            assert_eq!(taken(&mut mailbox), Some(Some(Taken::Item(item))));
        }
        assert!(mailbox.is_empty() && !mailbox.has_overflowed());
        assert_eq!(taken(&mut mailbox), None);
    }

    #[test]
    fn an_overflowed_mailbox_holds_nothing_until_it_is_reopened() {
        for (items, bytes) in [(1, 10), (9, 3)] {
            let (sender, mut mailbox) = open(items, bytes);
            sender.send(&1, 2);
            assert_eq!(sender.send(&2, 2), Sent::Overflowed);
            assert!(mailbox.has_overflowed() && mailbox.is_empty());
            assert_eq!(taken(&mut mailbox), Some(Some(Taken::Overflow)));
            assert_eq!(sender.send(&3, 2), Sent::Dropped);
            sender.reopen();
            assert_eq!(sender.send(&4, 2), Sent::Queued);
            assert_eq!(taken(&mut mailbox), Some(Some(Taken::Item(4))));
            assert!(!mailbox.has_overflowed());
        }
    }

    #[test]
    fn an_item_that_is_larger_than_the_queue_is_queued_alone() {
        let (sender, mut mailbox) = open(9, 3);
        assert_eq!(sender.send(&1, 100), Sent::Queued);
        assert_eq!(taken(&mut mailbox), Some(Some(Taken::Item(1))));
        assert_eq!(sender.send(&2, 3), Sent::Queued, "the bytes are free again");
    }

    #[test]
    fn a_waiting_session_learns_of_an_overflow() {
        let (sender, mut mailbox) = open(9, 9);
        let mut next = std::pin::pin!(mailbox.next());
        assert_eq!(next.as_mut().now_or_never(), None);
        sender.overflow();
        assert_eq!(next.now_or_never(), Some(Some(Taken::Overflow)));
    }

    #[test]
    fn what_was_sent_silently_is_found_when_the_bell_rings() {
        let (sender, mut mailbox) = open(9, 9);
        let mut next = std::pin::pin!(mailbox.next());
        assert_eq!(next.as_mut().now_or_never(), None);
        let bell = sender.bell();
        assert_eq!(sender.send_silently(&1, 1), Sent::Queued);
        assert_eq!(next.as_mut().now_or_never(), None);
        drop(bell);
        assert_eq!(next.now_or_never(), Some(Some(Taken::Item(1))));
    }

    #[test]
    fn each_end_notices_that_the_other_is_gone() {
        let (sender, mailbox) = open(1, 9);
        drop(mailbox);
        assert_eq!(sender.send(&1, 1), Sent::Closed);
        // What was queued is not given out afterwards: it belongs to another epoch by then.
        let (sender, mut mailbox) = open(1, 9);
        sender.send(&1, 1);
        drop(sender);
        assert!(mailbox.is_closed());
        assert_eq!(taken(&mut mailbox), Some(None));
    }
}
