//! Whether those who were queued for have begun to take it.
//!
//! A drain that comes sooner than sessions can write out the one before only makes work: each session is
//! woken and writes once more for a handful of changes that could have come together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

/// All sessions of a hub.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Sessions that have something queued and have not looked since.
    unheard: AtomicUsize,
    /// So many of them were already behind when the last news came, and are not waited for.
    behind: AtomicUsize,
    /// When all others had heard the last news; none while they have not.
    heard_at: watch::Sender<Option<Instant>>,
}

/// What the hub and a session both know of its queue.
#[derive(Debug)]
pub(super) struct Ear {
    crowd: Arc<Crowd>,
    unheard: AtomicBool,
    /// The queue could not take everything, and nothing more is queued.
    pub(super) overflowed: AtomicBool,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            unheard: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            heard_at: watch::Sender::new(Some(Instant::now())),
        }
    }
}

impl Crowd {
    /// News come, and those who are not yet through with earlier ones need not hear them.
    pub(super) fn news(&self) {
        let unheard = self.unheard.load(Ordering::Acquire);
        self.behind.store(unheard, Ordering::Release);
    }

    /// The news are queued for everybody they concern. Only now: some may have heard them before others
    /// were queued for.
    pub(super) fn queued(&self) {
        self.heard_at.send_replace(None);
        self.look();
    }

    /// When those who could hear the last news had done so; waits until they have.
    pub(super) async fn heard(&self) -> Instant {
        let mut heard_at = self.heard_at.subscribe();
        let heard = heard_at.wait_for(Option::is_some).await;
        heard.ok().and_then(|at| *at).unwrap_or_else(Instant::now)
    }

    fn look(&self) {
        if self.unheard.load(Ordering::Acquire) <= self.behind.load(Ordering::Acquire) {
            self.heard_at.send_if_modified(|at| {
                let is_news = at.is_none();
                at.get_or_insert_with(Instant::now);
                is_news
            });
        }
    }
}

impl Ear {
    pub(super) fn new(crowd: Arc<Crowd>) -> Self {
        Self {
            crowd,
            unheard: AtomicBool::new(false),
            overflowed: AtomicBool::new(false),
        }
    }

    /// Something is about to be queued.
    pub(super) fn call(&self) {
        if !self.unheard.swap(true, Ordering::AcqRel) {
            self.crowd.unheard.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The session looks, or will never look again.
    pub(super) fn hear(&self) {
        if self.unheard.swap(false, Ordering::AcqRel) {
            let before = self.crowd.unheard.fetch_sub(1, Ordering::AcqRel);
            if before <= self.crowd.behind.load(Ordering::Acquire) + 1 {
                self.crowd.look();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn ears<const N: usize>() -> (Arc<Crowd>, [Ear; N]) {
        let crowd = Arc::new(Crowd::default());
        let ears = std::array::from_fn(|_| Ear::new(crowd.clone()));
        (crowd, ears)
    }

    fn tell(crowd: &Crowd, ears: &[Ear]) {
        crowd.news();
        ears.iter().for_each(Ear::call);
        crowd.queued();
    }

    #[tokio::test]
    async fn news_for_nobody_are_heard_at_once() {
        let (crowd, []) = ears();
        tell(&crowd, &[]);
        assert!(crowd.heard().now_or_never().is_some());
    }

    #[tokio::test]
    async fn everybody_has_to_hear() {
        let (crowd, ears) = ears::<3>();
        tell(&crowd, &ears);
        ears[0].hear();
        ears[0].hear();
        ears[1].hear();
        assert!(crowd.heard().now_or_never().is_none());
        ears[2].hear();
        assert!(crowd.heard().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_was_behind_is_not_waited_for() {
        let (crowd, ears) = ears::<3>();
        tell(&crowd, &ears);
        ears[0].hear();
        ears[1].hear();
        tell(&crowd, &ears);
        ears[0].hear();
        assert!(crowd.heard().now_or_never().is_none());
        ears[1].hear();
        assert!(crowd.heard().now_or_never().is_some());
        // When he comes back he belongs to the others again.
        ears[2].hear();
        tell(&crowd, &ears);
        ears[0].hear();
        ears[1].hear();
        assert!(crowd.heard().now_or_never().is_none());
    }
}
