//! A session's mailbox: a bounded queue for what is sent to it.
//!
//! A sender never waits. The owner of the queue decides what an overflow means: rows are read from the log
//! instead; other items may be dropped and counted.

mod backpressure;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

pub(crate) use backpressure::Backpressure;
use backpressure::Recipient;

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

#[cfg(test)]
impl SessionId {
    /// The id with this number.
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// The receiving end of a session's queue.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    pub(crate) session: SessionId,
    queue: mpsc::Receiver<T>,
    recipient: Arc<Recipient>,
    overflowed: Arc<AtomicBool>,
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct MailboxSender<T> {
    queue: mpsc::Sender<T>,
    recipient: Arc<Recipient>,
    overflowed: Arc<AtomicBool>,
}

/// The result of sending an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is queued.
    Queued,
    /// The queue is full: the item is dropped, and so is every further one until
    /// [`MailboxSender::reopen`].
    Overflowed,
    /// It is dropped, because the queue overflowed earlier.
    Dropped,
    /// The session is gone.
    Closed,
}

/// Makes a mailbox for at most `capacity` items, and its sender.
pub(crate) fn mailbox<T>(
    session: SessionId,
    capacity: usize,
    backpressure: &Arc<Backpressure>,
) -> (MailboxSender<T>, Mailbox<T>) {
    let (sender, queue) = mpsc::channel(capacity.max(1));
    let recipient = Arc::new(Recipient::new(backpressure.clone()));
    let overflowed = Arc::new(AtomicBool::new(false));
    let sender = MailboxSender {
        queue: sender,
        recipient: recipient.clone(),
        overflowed: overflowed.clone(),
    };
    let mailbox = Mailbox {
        session,
        queue,
        recipient,
        overflowed,
    };
    (sender, mailbox)
}

impl<T> Mailbox<T> {
    /// Waits for the next item; none when the sender is gone. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<T> {
        let item = self.queue.recv().await;
        self.recipient.taken();
        item
    }

    /// Whether everything that was queued has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether everything that was queued has been taken and something was dropped after it.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire) && self.is_empty()
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        // Closed first, so that for anything queued from here on the sender itself calls `taken`.
        self.queue.close();
        self.recipient.taken();
    }
}

impl<T: Clone> MailboxSender<T> {
    /// Queues an item, without waiting.
    pub(crate) fn send(&self, item: &T) -> Sent {
        if self.overflowed.load(Ordering::Acquire) {
            return Sent::Dropped;
        }
        self.recipient.queueing();
        match self.queue.try_send(item.clone()) {
            Ok(()) => Sent::Queued,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.recipient.taken();
                Sent::Closed
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.overflowed.store(true, Ordering::Release);
                // The session may just have emptied its queue and gone to sleep; this wakes it.
                let _ = self.queue.try_send(item.clone());
                Sent::Overflowed
            }
        }
    }

    /// Queues again after an overflow.
    pub(crate) fn reopen(&self) {
        self.overflowed.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn open(capacity: usize) -> (MailboxSender<u32>, Mailbox<u32>) {
        mailbox(SessionId::next(), capacity, &Arc::default())
    }

    #[test]
    fn items_arrive_in_order() {
        let (sender, mut mailbox) = open(2);
        assert_eq!(
            (sender.send(&1), sender.send(&2)),
            (Sent::Queued, Sent::Queued)
        );
        assert!(!mailbox.is_empty());
        let taken = [mailbox.next().now_or_never(), mailbox.next().now_or_never()];
        assert_eq!(taken, [Some(Some(1)), Some(Some(2))]);
        assert!(mailbox.is_empty() && !mailbox.has_overflowed());
    }

    #[test]
    fn an_overflowed_mailbox_drops_items_until_it_is_reopened() {
        let (sender, mut mailbox) = open(1);
        sender.send(&1);
        assert_eq!(sender.send(&2), Sent::Overflowed);
        assert!(!mailbox.has_overflowed(), "queued items come first");
        assert_eq!(mailbox.next().now_or_never(), Some(Some(1)));
        assert!(mailbox.has_overflowed());
        assert_eq!(sender.send(&3), Sent::Dropped);
        sender.reopen();
        assert_eq!(sender.send(&4), Sent::Queued);
        assert_eq!(mailbox.next().now_or_never(), Some(Some(4)));
        assert!(!mailbox.has_overflowed());
    }

    #[test]
    fn each_end_notices_that_the_other_is_gone() {
        let (sender, mailbox) = open(1);
        drop(mailbox);
        assert_eq!(sender.send(&1), Sent::Closed);
        let (sender, mut mailbox) = open(1);
        sender.send(&1);
        drop(sender);
        assert_eq!(mailbox.next().now_or_never(), Some(Some(1)));
        assert_eq!(mailbox.next().now_or_never(), Some(None));
    }
}
