//! Backpressure: whether the recipients of a batch have begun to take it.
//!
//! A drain that begins before sessions have written out the previous one only causes work: each session wakes
//! and writes once more for a handful of changes that could have been sent together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A recipient that took longer than this is not waited for the next time.
const SLOW: Duration = Duration::from_millis(10);

/// All recipients of a hub.
#[derive(Debug)]
pub(crate) struct Backpressure {
    began: Instant,
    /// The number of recipients that have something queued, have not begun to take it, and are not slow.
    pending: AtomicUsize,
    /// How many of them were already pending when the last batch was queued; those are not waited for.
    lagging: AtomicUsize,
    /// When all others had begun to take the last batch; none while they have not.
    taken_at: watch::Sender<Option<Instant>>,
}

/// The state of one recipient, shared by a mailbox and its sender.
#[derive(Debug)]
pub(crate) struct Recipient {
    backpressure: Arc<Backpressure>,
    /// `TAKEN`, `PENDING` or `SKIPPED`.
    state: AtomicU8,
    /// When the first pending item was queued, in microseconds since `Backpressure::began`.
    queued_at: AtomicU64,
    slow: AtomicBool,
}

/// The recipient has begun to take everything that was queued.
const TAKEN: u8 = 0;
/// Something is queued, and the recipient is waited for.
const PENDING: u8 = 1;
/// Something is queued, and the recipient is slow.
const SKIPPED: u8 = 2;

impl Default for Backpressure {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            pending: AtomicUsize::new(0),
            lagging: AtomicUsize::new(0),
            taken_at: watch::Sender::new(Some(Instant::now())),
        }
    }
}

impl Backpressure {
    /// Prepares for a batch. Recipients that still have earlier ones are not waited for.
    pub(crate) fn begin_batch(&self) {
        let pending = self.pending.load(Ordering::Acquire);
        self.lagging.store(pending, Ordering::Release);
    }

    /// Starts the wait. Call this after the batch has been queued for every recipient: a fast recipient may
    /// take it before it is queued for a slow one.
    pub(crate) fn batch_queued(&self) {
        self.taken_at.send_replace(None);
        self.update();
    }

    /// Waits until the recipients of the last batch have begun to take it, and returns when they had.
    pub(crate) async fn wait_taken(&self) -> Instant {
        let mut taken_at = self.taken_at.subscribe();
        let taken = taken_at.wait_for(Option::is_some).await;
        taken.ok().and_then(|at| *at).unwrap_or_else(Instant::now)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Records the time when no recipient is waited for any more.
    fn update(&self) {
        if self.pending.load(Ordering::Acquire) <= self.lagging.load(Ordering::Acquire) {
            self.taken_at.send_if_modified(|at| {
                let is_new = at.is_none();
                at.get_or_insert_with(Instant::now);
                is_new
            });
        }
    }
}

impl Recipient {
    pub(crate) fn new(backpressure: Arc<Backpressure>) -> Self {
        Self {
            backpressure,
            state: AtomicU8::new(TAKEN),
            queued_at: AtomicU64::new(0),
            slow: AtomicBool::new(false),
        }
    }

    /// Call this before something is queued.
    pub(crate) fn queueing(&self) {
        if self.state.load(Ordering::Acquire) != TAKEN {
            return;
        }
        self.queued_at
            .store(self.backpressure.now(), Ordering::Release);
        let state = if self.slow.load(Ordering::Acquire) {
            SKIPPED
        } else {
            PENDING
        };
        // Increment first: a session may take the batch at once, and decrements the same counter.
        if state == PENDING {
            self.backpressure.pending.fetch_add(1, Ordering::AcqRel);
        }
        self.state.store(state, Ordering::Release);
    }

    /// Call this when the recipient takes an item, or will never take one again.
    pub(crate) fn taken(&self) {
        let state = self.state.swap(TAKEN, Ordering::AcqRel);
        if state == TAKEN {
            return;
        }
        let queued_at = self.queued_at.load(Ordering::Acquire);
        let took = Duration::from_micros(self.backpressure.now().saturating_sub(queued_at));
        self.slow.store(took > SLOW, Ordering::Release);
        if state == PENDING {
            let before = self.backpressure.pending.fetch_sub(1, Ordering::AcqRel);
            if before <= self.backpressure.lagging.load(Ordering::Acquire) + 1 {
                self.backpressure.update();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn recipients<const N: usize>() -> (Arc<Backpressure>, [Recipient; N]) {
        let backpressure = Arc::new(Backpressure {
            began: Instant::now() - 2 * SLOW,
            ..Backpressure::default()
        });
        let recipients = std::array::from_fn(|_| Recipient::new(backpressure.clone()));
        (backpressure, recipients)
    }

    fn queue(backpressure: &Backpressure, recipients: &[Recipient]) {
        backpressure.begin_batch();
        recipients.iter().for_each(Recipient::queueing);
        backpressure.batch_queued();
    }

    #[tokio::test]
    async fn a_batch_without_recipients_is_taken_at_once() {
        let (backpressure, []) = recipients();
        queue(&backpressure, &[]);
        assert!(backpressure.wait_taken().now_or_never().is_some());
    }

    #[tokio::test]
    async fn every_recipient_is_waited_for() {
        let (backpressure, recipients) = recipients::<3>();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        recipients[0].taken();
        recipients[1].taken();
        assert!(backpressure.wait_taken().now_or_never().is_none());
        recipients[2].taken();
        assert!(backpressure.wait_taken().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_slow_recipient_is_skipped_until_it_recovers() {
        let (backpressure, recipients) = recipients::<2>();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        // Queued when the backpressure began, longer ago than `SLOW`.
        recipients[1].queued_at.store(0, Ordering::Release);
        recipients[1].taken();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        assert!(backpressure.wait_taken().now_or_never().is_some());
        recipients[1].taken();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        assert!(backpressure.wait_taken().now_or_never().is_none());
        recipients[1].taken();
        assert!(backpressure.wait_taken().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_lagging_recipient_is_not_waited_for() {
        let (backpressure, recipients) = recipients::<3>();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        recipients[1].taken();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        assert!(backpressure.wait_taken().now_or_never().is_none());
        recipients[1].taken();
        assert!(backpressure.wait_taken().now_or_never().is_some());
        // Once it has caught up, it is waited for again.
        recipients[2].taken();
        queue(&backpressure, &recipients);
        recipients[0].taken();
        recipients[1].taken();
        assert!(backpressure.wait_taken().now_or_never().is_none());
    }
}
