//! Whether those who were queued for have begun to take it.
//!
//! A drain that comes sooner than sessions can write out the one before only makes work: each session is
//! woken and writes once more for a handful of changes that could have come together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Who took longer than this the last time is not waited for the next time.
const SLOW: Duration = Duration::from_millis(10);

/// All sessions of a hub.
#[derive(Debug)]
pub(super) struct Crowd {
    began: Instant,
    /// Sessions that have something queued, have not looked since, and are not slow.
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
    /// `HEARD`, `COUNTED` or `LEFT_OUT`.
    state: AtomicU8,
    /// When something was first queued, in microseconds of the crowd.
    called_at: AtomicU64,
    slow: AtomicBool,
    /// The queue could not take everything, and nothing after that is queued.
    pub(super) overflowed: AtomicBool,
}

/// Nothing is queued that the session has not looked for.
const HEARD: u8 = 0;
/// Something is, and it is waited for.
const COUNTED: u8 = 1;
/// Something is, and the session is slow.
const LEFT_OUT: u8 = 2;

impl Default for Crowd {
    fn default() -> Self {
        Self {
            began: Instant::now(),
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

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
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
            state: AtomicU8::new(HEARD),
            called_at: AtomicU64::new(0),
            slow: AtomicBool::new(false),
            overflowed: AtomicBool::new(false),
        }
    }

    /// Something is about to be queued.
    pub(super) fn call(&self) {
        if self.state.load(Ordering::Acquire) != HEARD {
            return;
        }
        self.called_at.store(self.crowd.now(), Ordering::Release);
        let state = match self.slow.load(Ordering::Acquire) {
            true => LEFT_OUT,
            false => COUNTED,
        };
        // Counted first, so that whoever hears at once finds himself counted.
        if state == COUNTED {
            self.crowd.unheard.fetch_add(1, Ordering::AcqRel);
        }
        self.state.store(state, Ordering::Release);
    }

    /// The session looks, or will never look again.
    pub(super) fn hear(&self) {
        let state = self.state.swap(HEARD, Ordering::AcqRel);
        if state == HEARD {
            return;
        }
        let called_at = self.called_at.load(Ordering::Acquire);
        let took = Duration::from_micros(self.crowd.now().saturating_sub(called_at));
        self.slow.store(took > SLOW, Ordering::Release);
        if state == COUNTED {
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
        let crowd = Arc::new(Crowd {
            began: Instant::now() - 2 * SLOW,
            ..Crowd::default()
        });
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
    async fn who_was_slow_is_left_out_until_he_is_quick_again() {
        let (crowd, ears) = ears::<2>();
        tell(&crowd, &ears);
        ears[0].hear();
        // As long ago as the crowd, which is old.
        ears[1].called_at.store(0, Ordering::Release);
        ears[1].hear();
        tell(&crowd, &ears);
        ears[0].hear();
        assert!(crowd.heard().now_or_never().is_some());
        ears[1].hear();
        tell(&crowd, &ears);
        ears[0].hear();
        assert!(crowd.heard().now_or_never().is_none());
        ears[1].hear();
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
